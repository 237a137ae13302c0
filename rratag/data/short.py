"""Labelled instances that have too few cached frames, and the frame rate that gives them enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from rratag.records import Instance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rratag.features.h5 import Header

MOST = 0.95
"""Share of the instances that a lower frame rate may content itself with."""


TINY_S = 1e-6
"""Seconds; a time stamp of a video is no finer, and no frame rate puts frames into less."""


class Source(Protocol):
    """What is needed of a store: :class:`rratag.features.store.SpecStore` is one."""

    def header(self, key: str) -> Header:
        """What the features of `key` say of themselves."""


@dataclass(frozen=True, slots=True)
class Short:
    """Labelled intervals with fewer than `num_frames` cached frames inside them.

    Attributes
    ----------
    num_instances : intervals that were counted
    num_short : of them, with too few frames
    fps_all : frames per second that give every instance enough, wherever it begins; rounded up to a tenth
    fps_most : those that give `MOST` of them enough
    """

    num_frames: int
    num_instances: int
    num_short: int
    fps_all: float
    fps_most: float

    def __str__(self) -> str:
        said = (
            f"{self.num_short} of {self.num_instances} instances have fewer than {self.num_frames} cached frames, so"
            " that training repeats some"
        )
        if self.fps_all:
            said += f"; extract --fps {self.fps_all:g} gives all instances that many"
        if self.fps_most < self.fps_all:
            said += f", --fps {self.fps_most:g} at least {MOST:.0%} of them"
        return said


def short_instances(
    instances: Iterable[Instance], times_of: Callable[[str], tuple[NDArray[np.float64], float]], num_frames: int
) -> Short | None:
    """Count the labelled intervals with fewer than `num_frames` cached frames inside them; None if there is none.

    Parameters
    ----------
    instances : those without bounds or label do not count
    times_of : key of a video to the times of its cached frames and its duration, both in seconds
    num_frames : N of training
    """
    counts, lengths = [], []
    for one in instances:
        if one.label is None or not is_bounded(one):
            continue
        time_s, duration_s = times_of(one.key)
        start, end = one.start_s or 0.0, math.inf if one.end_s is None else one.end_s
        counts.append(int(np.count_nonzero((time_s >= start) & (time_s < end))))
        lengths.append(min(end, duration_s) - start)
    num_short = sum(count < num_frames for count in counts)
    if not num_short:
        return None
    return Short(num_frames, len(counts), num_short, *sufficient_fps(lengths, num_frames))


def times_in(store: Source) -> Callable[[str], tuple[NDArray[np.float64], float]]:
    """Times of the cached frames and duration of a video, as `short_instances` wants them."""

    def times_of(key: str) -> tuple[NDArray[np.float64], float]:
        header = store.header(key)
        # a duration that is not known is at least that of the frames
        return header.time_s, header.receipt.duration_s or float(header.time_s[-1])

    return times_of


def is_bounded(one: Instance) -> bool:
    """Whether the instance is an interval rather than a whole video."""
    return one.start_s is not None or one.end_s is not None


def sufficient_fps(lengths_s: Iterable[float], num_frames: int) -> tuple[float, float]:
    """The least frame rates that put `num_frames` moments into all, and into `MOST`, of these intervals.

    Moments are 1/R apart, so that an interval of length L holds at least floor(L R) of them wherever it begins:
    R = N / L is enough, but for what the video's own frames, which are shown since before the moment, round away.
    Intervals without length, beyond the end of their video, count for neither rate.

    Returns
    -------
    Both rounded up to a tenth; 0 if no interval is longer than `TINY_S`.
    """
    needed = sorted(num_frames / length for length in lengths_s if length > TINY_S)
    if not needed:
        return 0.0, 0.0
    most = needed[math.ceil(MOST * len(needed)) - 1]
    return _tenth_up(needed[-1]), _tenth_up(most)


def _tenth_up(rate: float) -> float:
    return math.ceil(rate * 10 - 1e-6) / 10  # 2.0000000001 is 2
