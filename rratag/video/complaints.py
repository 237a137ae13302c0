"""What native code writes to the error stream, which in a worker is a file: the only trace that much damage leaves.

Where the error stream is no file, nothing is noticed here.
"""

from __future__ import annotations

import os
import re

_HARMLESS = re.compile(rb"mmco: unref short failure|unable to decode APP fields|\bSEI\b|DOVI")
"""Said of good pictures: of every H.264 part that starts with an open group, and of data about pictures."""
_TOO_LARGE = re.compile(rb"Picture size (\d+)x(\d+) exceeds specified max pixel count")
_MOST_BYTES = 1 << 16


def log_bytes() -> int:
    """Length of the log, 0 if there is none."""
    return os.fstat(2).st_size


def forget_log_above(max_bytes: int) -> None:
    """Empty a log that has become longer than that; only for a process whose error stream is such a log."""
    if log_bytes() > max_bytes:
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)


def complained(since: int) -> bool:
    """Whether the log grew by more than harmless lines after it had `since` bytes.

    Most decoders go on over broken data without an error or a flag, but not without a word.
    """
    return any(line and not _HARMLESS.search(line) for line in _text(since).splitlines())


def refused_size() -> tuple[int, int] | None:
    """Width and height of a picture that a decoder refused as too large for its limit, if it did."""
    found = _TOO_LARGE.search(_text(0))
    return None if found is None else (int(found[1]), int(found[2]))


def _text(since: int) -> bytes:
    size = log_bytes()
    return os.pread(2, min(size - since, _MOST_BYTES), since) if size > since else b""
