"""Label files of every kind. In: a path. Out: annotations, before any video is known. Imports nothing of `features`."""
