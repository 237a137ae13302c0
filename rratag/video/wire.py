"""Messages between the pool and its workers: a length, then a pickle. Both ends are this package, of one version."""

from __future__ import annotations

import os
import pickle
import struct
from dataclasses import dataclass
from typing import Any

from rratag.video.plan import Choice

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Job:
    """One video to decode."""

    path: str
    sampling: Choice
    decoder: str
    max_pixels: int


@dataclass
class Outcome:
    """How a job ended: the receipt's fields as far as the worker knows them."""

    status: str
    reason: str = ""
    message: str = ""
    decoder: str = ""
    fallback_from: str = ""
    frames_wanted: int = 0
    frames_decoded: int = 0
    frames_damaged: int = 0
    duration_s: float | None = None
    width: int = 0
    height: int = 0
    rotation: int = 0


def send(descriptor: int, message: tuple[Any, ...]) -> None:
    """Write one message, all of it.

    Raises
    ------
    BrokenPipeError
        If the other end is gone.
    """
    payload = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    view = memoryview(_LENGTH.pack(len(payload)) + payload)
    while view:
        view = view[os.write(descriptor, view) :]


class Inbox:
    """Collects bytes until messages are whole."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._buffer = bytearray()

    def fill(self) -> bool:
        """Read what is there, waiting for at least one byte; False at the end of the stream."""
        chunk = os.read(self.descriptor, 1 << 16)
        self._buffer += chunk
        return bool(chunk)

    def next(self) -> tuple[Any, ...] | None:
        """Return the next whole message, None if it is not there yet."""
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        message = pickle.loads(bytes(self._buffer[_LENGTH.size : end]))
        del self._buffer[:end]
        return tuple(message)
