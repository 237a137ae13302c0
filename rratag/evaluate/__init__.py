"""Predictions and labels become figures. Imports records, errors, data and what tag reads."""
