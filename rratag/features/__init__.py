"""Frames become cached feature maps.

In: video results. Out: immutable HDF5 files keyed by content.
Imports video and below; only store.py opens HDF5."""
