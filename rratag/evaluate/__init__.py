"""Predictions and labels become figures. Imports records, errors and tag's readers."""
