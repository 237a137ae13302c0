"""The table of a stream's packets: which of them bring a picture to the screen, when, and where decoding may start."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

NO_PTS = int(np.iinfo(np.int64).min)

_H265_RASL = (8, 9)
_H265_LAST_PICTURE_TYPE = 31


@dataclass(frozen=True)
class Packets:
    """The packets of one stream in decoding order; P of them.

    ``pts``, ``dts`` and ``duration`` of shape [P], int64 in units of the stream's time base (``NO_PTS`` where there is
    no time, 0 where there is no duration); ``key``, ``shown``, ``edited`` and ``damaged`` of shape [P], bool: decoding
    may start here; it brings a picture to the screen; an edit list cuts it off; the container says that it is damaged.
    ``others_end`` is when the last packet of any other stream ends, in seconds on the container's clock; ``read_error``
    the demuxer's complaint, if it stopped early. ``encrypted`` says that the first packet cannot be read without a key.
    """

    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    duration: NDArray[np.int64]
    key: NDArray[np.bool_]
    shown: NDArray[np.bool_]
    edited: NDArray[np.bool_]
    damaged: NDArray[np.bool_]
    others_end: float
    read_error: str
    encrypted: bool

    def __len__(self) -> int:
        return len(self.pts)


def list_packets(container: Any, stream: Any, beat: Callable[[], None]) -> Packets:
    """Read all packets of `stream` once, without decoding.

    Not shown are: what an edit list cuts off; hidden reference pictures; everything before the first key frame; and
    what leads that key frame on screen but needs the pictures before it, which the file does not hold.
    """
    others_end = -math.inf
    rows = _Rows(stream.codec_context.name, stream.codec_context.extradata or b"")
    error, encrypted = "", False
    try:
        for number, packet in enumerate(container.demux()):
            if number % 256 == 0:
                beat()
            if not packet.size:
                continue  # the end, or an AVI placeholder that repeats a picture
            if packet.stream_index == stream.index:
                encrypted = encrypted or (not rows.times and _is_encrypted(packet))
                rows.add(packet)
            elif packet.pts is not None:
                others_end = max(others_end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    except av.FFmpegError as problem:
        error = str(getattr(problem, "strerror", problem))
    num_missing = len(stream.index_entries) - len(rows.times) if container.format.name.startswith("mov") else 0
    if not error and num_missing > 0:
        error = f"the index names {num_missing} packets that the file does not hold"
    return replace(rows.table(others_end, error), encrypted=encrypted)


def _is_encrypted(packet: Any) -> bool:
    """Whether a packet needs a key; False where PyAV is too old to say, and then nothing will decode."""
    has_sidedata = getattr(packet, "has_sidedata", None)
    return has_sidedata is not None and bool(has_sidedata("encryption_info"))


@dataclass
class _Rows:
    """Collects the table, packet by packet."""

    codec: str
    extradata: bytes
    times: list[tuple[int, int, int]] = field(default_factory=list)
    flags: list[tuple[bool, bool, bool, bool]] = field(default_factory=list)
    first_key: int | None = None

    def add(self, packet: Any) -> None:
        pts = NO_PTS if packet.pts is None else packet.pts
        dts = NO_PTS if packet.dts is None else packet.dts
        if self.first_key is None and packet.is_keyframe:
            self.first_key = pts
        shown = not packet.is_discard and not self._hidden(packet) and not self._lost_lead(packet, pts)
        self.times.append((pts, dts, packet.duration or 0))
        self.flags.append((packet.is_keyframe, shown, packet.is_discard, packet.is_corrupt))

    def table(self, others_end: float, error: str) -> Packets:
        times = np.array(self.times, np.int64).reshape(-1, 3).T
        key, shown, edited, damaged = np.array(self.flags, bool).reshape(-1, 4).T
        if key.any():
            shown[: int(np.argmax(key))] = False
        return Packets(times[0], times[1], times[2], key, shown, edited, damaged, others_end, error, False)

    def _hidden(self, packet: Any) -> bool:
        """VP8 stores hidden reference pictures as packets of their own; bit 4 of the first byte is "show"."""
        return self.codec in ("vp8", "libvpx") and not memoryview(packet)[0] & 0x10

    def _lost_lead(self, packet: Any, pts: int) -> bool:
        """Whether this leads the first key frame of an open group whose other half is not in the file.

        In H.265 such pictures are marked (RASL); other leading ones can be decoded.
        """
        if self.first_key is None or packet.is_keyframe or pts == NO_PTS or pts >= self.first_key:
            return False
        return self.codec != "hevc" or _h265_picture_type(bytes(packet), self.extradata) in _H265_RASL


def _h265_picture_type(data: bytes, extradata: bytes) -> int:
    """Type of the first unit in an H.265 packet that is a picture; -1 if there is none."""
    if extradata[:1] == b"\1" and len(extradata) > 21:  # units with their length before them
        width = (extradata[21] & 3) + 1
        at = 0
        while at + width < len(data):
            kind = data[at + width] >> 1 & 63
            if kind <= _H265_LAST_PICTURE_TYPE:
                return kind
            at += width + int.from_bytes(data[at : at + width], "big")
        return -1
    at = data.find(b"\0\0\1")
    while 0 <= at < len(data) - 3:
        kind = data[at + 3] >> 1 & 63
        if kind <= _H265_LAST_PICTURE_TYPE:
            return kind
        at = data.find(b"\0\0\1", at + 3)
    return -1
