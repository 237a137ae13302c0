"""What nasty inputs are made with: numbered films of any codec and container, edits of bytes, and the table's row.

A row says how a file is made and what must be answered. Pictures are 96x64 and carry their number, so a wrong, repeated
or turned one is visible.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.clips import ENCODERS, PIXELS, Clips

SIZE = (96, 64)
RATE = 25
RAW_PIXELS = {"ffv1": "yuv444p", "png": "rgb24", "gif": "rgb8", "qtrle": "rgb24", "rawvideo": "bgr24"}


@dataclass(frozen=True)
class Nasty:
    """One input and its answer.

    ``answers`` are the accepted (status, reason); ``shown`` the numbers drawn in the frames that a player presents, in
    order, None where pictures are too small to carry one; ``times`` and ``end`` in seconds where they are not equal
    steps of 1 / ``rate``; ``least`` how many frames must come at least; ``says`` a word of the message; ``exact`` says
    that the presented frames are exactly ``shown``, so that the wanted ones are known too; ``unnoticed`` is how many
    spoilt pictures a decoder cannot notice, for want of check sums.
    """

    name: str
    make: Callable[[Kitchen, Path], object]
    answers: tuple[tuple[str, str], ...]
    shown: Sequence[int] | None = None
    times: Sequence[float] | None = None
    end: float | None = None
    rate: float = RATE
    exact: bool = True
    least: int = 0
    rotation: int = 0
    size: tuple[int, int] | None = None
    says: str = ""
    unnoticed: int = 0


def bad(name: str, make: Callable[[Kitchen, Path], object], status: str, reason: str = "", says: str = "") -> Nasty:
    """Row of a file without pictures to use."""
    return Nasty(name, make, ((status, reason),), says=says)


def good(name: str, make: Callable[[Kitchen, Path], object], shown: Iterable[int] | None, **more: Any) -> Nasty:
    """Row of a video whose every frame must be right."""
    return Nasty(name, make, (("ok", ""),), None if shown is None else list(shown), **more)


def part(
    name: str, make: Callable[[Kitchen, Path], object], reasons: str, shown: Iterable[int], least: int, **more: Any
) -> Nasty:
    """Row of a video that gives some of its frames: `reasons` (words of ``partial``), right ones, at least `least`."""
    answers = tuple(("partial", reason) for reason in reasons.split())
    return Nasty(name, make, answers, list(shown), exact=False, least=least, **more)


class Kitchen(Clips):
    """Makes films and takes them apart; what several inputs are made from is made once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._films: dict[tuple[Any, ...], bytes] = {}

    def film(self, path: Path, kind: str, numbers: Iterable[int] = range(40), **more: Any) -> Path:
        """Encode pictures that show `numbers`.

        ``kind`` is one of ``ENCODERS`` or a codec's name; ``more`` is what `encode` takes.
        """
        numbers, size = tuple(numbers), more.pop("size", SIZE)
        key = (path.suffix, kind, numbers, size, repr(sorted(more.items())))
        if key not in self._films:
            scratch = self.folder / f"film{path.suffix}"
            encode(scratch, kind, [self.draw(number, *size) for number in numbers], **more)
            self._films[key] = scratch.read_bytes()
        path.write_bytes(self._films[key])
        return path

    def bytes_of(self, suffix: str, kind: str = "h264", numbers: Iterable[int] = range(40), **more: Any) -> bytes:
        """Bytes of such a film."""
        return self.film(self.folder / f"bytes{suffix}", kind, numbers, **more).read_bytes()


def encode(
    path: Path,
    kind: str,
    pictures: Sequence[np.ndarray],
    *,
    pix_fmt: str = "",
    rate: int = RATE,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    container: str | None = None,
    aspect: Fraction | None = None,
    sound: bool = False,
    turns: int = 0,
) -> None:
    """Write a film; `turns` quarter turns clockwise are asked of the player, and undone in what is stored."""
    codec, settings = ENCODERS.get(kind, (kind, {}))
    base = time_base or Fraction(1, rate)
    with av.open(str(path), "w", format=container, container_options=muxer or {}) as file:
        stream = file.add_stream(codec, rate=rate, options={**settings, **(options or {})})
        stream.height, stream.width = np.rot90(pictures[0], turns).shape[:2]
        stream.pix_fmt = pix_fmt or PIXELS.get(kind) or RAW_PIXELS.get(kind, "yuv420p")
        stream.codec_context.time_base = base
        stream.codec_context.thread_count = 1
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if turns:
            stream.set_display_rotation(-90 * turns)
        voice = file.add_stream("aac", rate=16000, layout="mono") if sound else None
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(picture, turns)), format="rgb24")
            frame.pts, frame.time_base = number if pts is None else pts[number], base
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if voice is not None:
            file.mux(voice.encode(silence(len(pictures) * 16000 // rate)))
            file.mux(voice.encode(None))


def silence(num_samples: int) -> av.AudioFrame:
    """Sound of 16 kHz."""
    frame = av.AudioFrame.from_ndarray(np.zeros((1, num_samples), np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts = 16000, 0
    return frame


def packets_of(path: Path, stream: int = 0) -> list[tuple[int, int]]:
    """Place and size in the file of each packet, in decoding order."""
    with av.open(str(path)) as file:
        return [(packet.pos, packet.size) for packet in file.demux(file.streams[stream]) if packet.size]


def remux(source: Path, path: Path, change: Callable[[int, Any], bool], muxer: dict[str, str] | None = None) -> None:
    """Copy the packets of a film's video; `change` edits each one and says whether it is kept."""
    with av.open(str(source)) as file, av.open(str(path), "w", container_options=muxer or {}) as out:
        stream = out.add_stream_from_template(file.streams.video[0])
        for number, packet in enumerate(packet for packet in file.demux(video=0) if packet.size):
            if change(number, packet):
                packet.stream = stream
                out.mux_one(packet)


def noise(num_bytes: int, seed: int = 0) -> bytes:
    """Random bytes, the same in every run."""
    return np.random.default_rng(seed).integers(0, 256, num_bytes, np.uint8).tobytes()


def box(kind: bytes, *content: bytes) -> bytes:
    """An mp4 box."""
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + kind + body


def content(data: bytes) -> Callable[[Kitchen, Path], object]:
    """Maker of a file of these bytes."""
    return lambda kitchen, path: path.write_bytes(data)


def film(kind: str = "h264", *numbers: int, **more: Any) -> Callable[[Kitchen, Path], object]:
    """Maker of a film in the container of the file's suffix; frames 0 to 39, or as many as said."""
    shown = range(*(numbers or (40,)))
    return lambda kitchen, path: kitchen.film(path, kind, shown, **more)


def cut(share: float, suffix: str, kind: str = "h264", **more: Any) -> Callable[[Kitchen, Path], object]:
    """Maker of the first `share` of a film's bytes."""

    def make(kitchen: Kitchen, path: Path) -> None:
        data = kitchen.bytes_of(suffix, kind, **more)
        path.write_bytes(data[: int(len(data) * share)])

    return make


def edited(
    suffix: str, kind: str, edit: Callable[[bytearray], object], **more: Any
) -> Callable[[Kitchen, Path], object]:
    """Maker of a film whose bytes `edit` changes in place."""

    def make(kitchen: Kitchen, path: Path) -> None:
        data = bytearray(kitchen.bytes_of(suffix, kind, **more))
        edit(data)
        path.write_bytes(data)

    return make
