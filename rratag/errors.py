"""Every error a user can cause and mend. Each carries one line: what was found, what is accepted, the way out.

Programming mistakes raise ``ValueError`` or ``TypeError`` instead.
"""

from __future__ import annotations


class RratagError(Exception):
    """Base of the errors that the command line prints as one line; ``exit_code`` is what it then returns."""

    exit_code = 1


class UsageError(RratagError):
    """The call itself is wrong: an unknown option value, a path that does not exist, no input."""

    exit_code = 2


class LabelError(RratagError):
    """The labels cannot be used: too few classes, an unreadable file, rows that contradict each other."""


class CacheError(RratagError):
    """The feature cache is missing, damaged, newer than this version, or does not fit the request."""


class DamagedError(CacheError):
    """A file of cached features has gone or is not what was written; the video can be extracted again."""


class ModelError(RratagError):
    """A model folder is missing, not ours, damaged, or does not fit the features."""


class WeightsError(RratagError):
    """Backbone weights are missing, not the expected file, or do not fit the network."""


class StoppedError(RratagError):
    """The run had to stop: disk full, loss not finite."""
