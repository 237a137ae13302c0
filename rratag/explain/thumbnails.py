"""The few frames of a video that a report shows: decoded again, small, one JPEG a video, one frame below the other."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from rratag.video.pool import DecodePool, PoolOptions
from rratag.video.views import scaled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rratag.features.request import Request
    from rratag.records import Video

AREA = 16_000
"""Pixels of a small frame, of any shape: 171x96 of a picture of 16:9."""
QUALITIES = (70, 55, 40, 25)
"""Of JPEG: the first that needs no more than :data:`MOST_BYTES`, or the last."""
MOST_BYTES = 36_000
"""Of the frames of a video; as text inside a page they take a third more."""
BLOCK = 16
"""Of JPEG with halved colours: frames whose heights are multiples of it do not bleed into each other."""
SAME_S = 1e-3


@dataclass(frozen=True)
class Strip:
    """Frames of one video as a JPEG; ``width`` and ``height`` are of one frame, in pixels.

    ``positions`` says which of the times asked for are there, rising. Without any there is no JPEG, and ``message``
    says why.
    """

    jpeg: bytes
    width: int
    height: int
    positions: Sequence[int]
    message: str = ""


def strips_of(
    videos: Sequence[Video], times: Mapping[str, Mapping[int, float]], request: Request, workers: int
) -> Iterator[Strip]:
    """Frames of each video, in the order of `videos`.

    Parameters
    ----------
    times : of each id positions and their times in seconds, as `request` samples them
    """
    with DecodePool(PoolOptions(workers, request.decoder), request.sampling, small, lambda _: False) as pool:
        for decoded in pool.run(videos):
            there = {
                position: near[0]
                for position, time in sorted(times[decoded.video.id].items())
                if len(near := np.flatnonzero(np.abs(decoded.time_s - time) < SAME_S))
            }
            if not there:
                yield Strip(b"", 0, 0, (), f"the frames cannot be decoded now ({decoded.receipt.status})")
                continue
            frames = [decoded.frames[place] for place in there.values()]
            height, width = frames[0].shape[:2]
            same = [one for one, frame in zip(there, frames, strict=True) if frame.shape == frames[0].shape]
            stacked = np.concatenate([frame for frame in frames if frame.shape == frames[0].shape])
            yield Strip(encoded(stacked), width, height, same)


def small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) of about :data:`AREA` pixels; its memory is its own."""
    height, width = small_size(*picture.shape[:2])
    return np.array(scaled(picture[None], height, width, "bilinear")[0])


def small_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of a small frame of a picture of this size, all in pixels."""
    tall = BLOCK * max(1, round(math.sqrt(AREA * height / width) / BLOCK))
    return tall, max(1, round(tall * width / height))


def encoded(picture: NDArray[np.uint8]) -> bytes:
    """JPEG of a picture (H, W, 3), the coarser the more there is in it."""
    for quality in QUALITIES:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= MOST_BYTES:
            break
    return file.getvalue()
