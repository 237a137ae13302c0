"""Which moments of a video are looked at: times of all frames in, indices of the wanted ones out. Only numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rratag import config
from rratag.errors import UsageError

TIE_S = 1e-6
"""A frame whose time is this close after the moment asked for (seconds) counts as shown at it: rounding is no reason
to take the frame before."""

ROUNDING_S = 1.5e-3
"""How far containers round frame times, in seconds."""


@dataclass(frozen=True)
class Sampling:
    """How many frames of a video are taken, and where.

    Exactly one of ``frames`` (that many equal time slices, the middle of each) and ``fps`` (that many frames per
    second) is given; ``max_frames`` bounds the latter.

    Raises
    ------
    UsageError
        If the three do not fit together or are out of range.
    """

    frames: int | None = config.FRAMES
    fps: float | None = None
    max_frames: int | None = None

    def __post_init__(self) -> None:
        if (self.frames is None) == (self.fps is None):
            raise UsageError("give either a number of frames or frames per second, not both and not neither")
        if self.frames is not None and self.frames < 1:
            raise UsageError(f"the number of frames is {self.frames}; it must be 1 or more")
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise UsageError(f"frames per second is {self.fps}; it must be a number above 0")
        if self.max_frames is not None and self.fps is None:
            raise UsageError("a largest number of frames goes with frames per second only")
        if self.max_frames is not None and self.max_frames < 1:
            raise UsageError(f"the largest number of frames is {self.max_frames}; it must be 1 or more")

    def describe(self) -> dict[str, object]:
        """Everything that decides which frames are taken, as JSON values (part of the spec)."""
        if self.frames is not None:
            return {"rule": "middle of equal time slices", "frames": self.frames}
        return {"rule": "middle of equal time steps", "fps": self.fps, "max_frames": self.max_frames}


@dataclass(frozen=True)
class Window:
    """Consecutive frames of a video, as I3D takes them.

    ``frames`` of them, fewer where the video has fewer. ``place`` in [0, 1) of the room that the video leaves: 0.5 is
    its middle. ``start_s`` and ``end_s`` bound the frames, in seconds.
    """

    frames: int
    place: float
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class RandomDraw:
    """One random frame in each of ``slices`` equal slices of all frames of a video: training end to end (section 5.1).

    ``seed`` decides the draw and nothing else does; ``start_s`` and ``end_s`` bound the frames, in seconds.
    """

    slices: int
    seed: int
    start_s: float | None = None
    end_s: float | None = None


Choice = Sampling | RandomDraw | Window
"""How the frames of one video are chosen."""


def wanted_indices(sampling: Choice, times: NDArray[np.float64], end_s: float) -> NDArray[np.int64]:
    """Indices of the frames that `sampling` asks for.

    Parameters
    ----------
    sampling : a window, a random draw, or regular moments: frames=F looks at the middle of F equal slices of
        [times[0], end_s); fps=R at times[0] + (j + 0.5) / R. At each moment the frame shown is taken, the last one
        whose time is not later.
    times : of shape [M], presentation times in seconds, sorted, M >= 1
    end_s : when the last frame stops being shown, in seconds, not before times[-1]

    Returns
    -------
    Of shape [T], strictly increasing, in [0, M). Fewer than asked for where two moments show the same frame. At a
    constant frame rate, frames=F gives floor((2i + 1) * M / (2F)), also where the container rounded the times.
    """
    if times.ndim != 1 or times.size == 0:
        raise ValueError(f"times must be a vector with at least one entry, got shape {times.shape}")
    if isinstance(sampling, Window):
        inside = frames_inside(times, sampling.start_s, sampling.end_s)
        first = int(sampling.place * (max(len(inside) - sampling.frames, 0) + 1))
        return inside[first : first + sampling.frames]
    if isinstance(sampling, RandomDraw):
        inside = frames_inside(times, sampling.start_s, sampling.end_s)
        drawn = random_frames(len(inside), sampling.slices, np.random.default_rng(sampling.seed))
        return np.unique(inside[drawn])
    start, span = float(times[0]), max(end_s - float(times[0]), 0.0)
    count = sampling.frames
    if count is None:
        assert sampling.fps is not None
        rate = sampling.fps
        num_steps = math.ceil(span * rate - 0.5 - TIE_S * rate)  # number of j >= 0 with (j + 0.5) / rate < span
        if sampling.max_frames is None or num_steps <= sampling.max_frames:
            if num_steps >= 1:
                return _shown_at(times, start + (np.arange(num_steps) + 0.5) / rate)
            count = 1  # shorter than half a step: its middle
        else:
            count = sampling.max_frames
    if _is_constant_rate(times, end_s):
        return np.unique((2 * np.arange(count, dtype=np.int64) + 1) * len(times) // (2 * count))
    return _shown_at(times, start + (2 * np.arange(count) + 1) * (span / (2 * count)))


def _is_constant_rate(times: NDArray[np.float64], end_s: float) -> bool:
    """Whether the frames are equally long but for the rounding of their times (Matroska: to milliseconds)."""
    count = len(times)
    step = float(times[-1] - times[0]) / (count - 1) if count > 1 else end_s - float(times[0])
    last_error = abs(end_s - float(times[-1]) - step)
    error = float(np.abs(times - (times[0] + step * np.arange(count))).max())
    return max(error, last_error) <= min(ROUNDING_S, step / 4)


def _shown_at(times: NDArray[np.float64], moments: NDArray[Any]) -> NDArray[np.int64]:
    shown = np.searchsorted(times, moments + TIE_S, side="right") - 1
    return np.unique(np.clip(shown, 0, len(times) - 1)).astype(np.int64)


def slice_bounds(num_cached: int, num_slices: int) -> NDArray[np.int64]:
    """Equal slices of the cached frames, for the draws of training.

    Returns
    -------
    Of shape [num_slices, 2]: first index and one past the last. No slice is empty: with fewer frames than slices,
    neighbouring slices share a frame.
    """
    if num_cached < 1 or num_slices < 1:
        raise ValueError(f"need at least one frame and one slice, got {num_cached} and {num_slices}")
    edges = np.arange(num_slices + 1, dtype=np.int64) * num_cached // num_slices
    return np.stack([edges[:-1], np.maximum(edges[1:], edges[:-1] + 1)], axis=1)


def random_frames(num_cached: int, num_slices: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """One random index in each of `num_slices` equal slices: of shape [num_slices], not decreasing."""
    bounds = slice_bounds(num_cached, num_slices)
    return rng.integers(bounds[:, 0], bounds[:, 1])


def middle_frames(num_cached: int, num_slices: int) -> NDArray[np.int64]:
    """The middle index of each of `num_slices` equal slices, as TSN's tests take them; all where there are no more."""
    if num_cached <= num_slices:
        return np.arange(num_cached, dtype=np.int64)
    return (2 * np.arange(num_slices, dtype=np.int64) + 1) * num_cached // (2 * num_slices)


def frames_inside(time_s: NDArray[np.float64], start_s: float | None, end_s: float | None) -> NDArray[np.int64]:
    """Positions of the times in [start, end); the one nearest to the middle if there are none."""
    start = -np.inf if start_s is None else start_s
    end = np.inf if end_s is None else end_s
    inside = np.flatnonzero((time_s >= start) & (time_s < end))
    if len(inside):
        return inside
    # no frame inside means that both ends, or the only one given, lie beyond or between cached frames
    middle = np.clip((max(start, time_s[0]) + min(end, time_s[-1])) / 2, time_s[0], time_s[-1])
    return np.array([np.abs(time_s - middle).argmin()])


def chosen_frames(
    time_s: NDArray[np.float64],
    start_s: float | None = None,
    end_s: float | None = None,
    *,
    most: int | None = None,
) -> NDArray[np.int64]:
    """Positions of the cached frames that a test looks at: those inside the bounds, and of these the middle ones.

    Parameters
    ----------
    time_s : of shape [num_cached], seconds
    start_s, end_s : see `frames_inside`
    most : see `middle_frames`; all by default
    """
    inside = frames_inside(time_s, start_s, end_s)
    return inside if most is None else inside[middle_frames(len(inside), most)]
