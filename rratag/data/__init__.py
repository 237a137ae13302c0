"""Labelled videos.

In: listings, label files. Out: instances, splits, batches of cached features. Imports features and below."""
