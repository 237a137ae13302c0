"""A file becomes upright RGB frames with true time stamps. In: paths. Out: uint8 arrays or a status.

Imports config, records, errors; no torch in anything a worker runs.
"""
