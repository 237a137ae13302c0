"""Instances and cached features become a trained head. Imports model, data and below."""
