"""How far a figure, or a difference on the same videos, may be chance. Arrays in, numbers out; no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 2000
DRAWS, FEWER_DRAWS, MANY = 1000, 200, 500_000
"""Resamples of an interval; fewer of them above half a million scores (videos times classes)."""


def paired_gain(gains: Sequence[NDArray[np.float64]], groups: Sequence[Sequence[str]]) -> tuple[float, float, float]:
    """Mean gain over splits, and its 95 % interval by a paired bootstrap over groups of videos.

    Parameters
    ----------
    gains : for each split of shape (B,), what a video gains by one of two ways over the other, e.g. 1, 0 or -1
    groups : for each split the group of each video, as :func:`group_names` gives them

    Returns
    -------
    Mean, 2.5 % and 97.5 % quantile of the resampled means.
    """
    rng = np.random.default_rng(0)
    draws = np.zeros(RESAMPLES)
    mean = 0.0
    for gain, names in zip(gains, groups, strict=True):
        _, place = np.unique(np.asarray(names), return_inverse=True)
        sums, sizes = np.bincount(place, gain), np.bincount(place)
        drawn = rng.integers(len(sums), size=(RESAMPLES, len(sums)))
        draws += sums[drawn].sum(1) / sizes[drawn].sum(1) / len(gains)
        mean += gain.mean() / len(gains)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(mean), float(low), float(high)


def group_names(groups: Sequence[str], videos: Sequence[str]) -> list[str]:
    """The group of each video; a video without one ("") is one of its own."""
    return [group or f"\0{video}" for group, video in zip(groups, videos, strict=True)]


def weights(groups: Sequence[str], num_scores: int = 0) -> NDArray[np.float32]:
    """How often each video is there when its groups are drawn with replacement, as many as there are.

    Parameters
    ----------
    groups : of each of B videos, as `group_names` gives them
    num_scores : that the figures are made of: it decides the number of draws

    Returns
    -------
    Of shape (draws, B), always the same for equal groups; no draws of a single group, which says nothing.
    """
    place = _places(groups)
    count = int(place.max(initial=-1)) + 1
    draws = FEWER_DRAWS if num_scores > MANY else DRAWS
    if count < 2:
        return np.zeros((0, len(place)), np.float32)
    drawn = np.random.default_rng(0).integers(count, size=(draws, count))
    drawn += np.arange(draws)[:, None] * count
    return np.bincount(drawn.ravel(), minlength=draws * count).reshape(draws, count)[:, place].astype(np.float32)


@dataclass(frozen=True, slots=True)
class Interval:
    """95 % of the resamples lie between the two."""

    low: float
    high: float


def interval(values: NDArray[np.float64], estimate: float, least: float = 0.0) -> Interval | None:
    """2.5 % and 97.5 % quantile of a figure's draws, moved so that their mean is the figure itself.

    A draw holds some videos several times, and a right one that stands high in a list then counts as several: the mean
    of the draws of an average precision lies above it.

    Parameters
    ----------
    values : the figure in each draw, of shape (draws,); NaN in those that are without it
    estimate : the figure, at least `least` and at most 1
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    ends = np.quantile(known, [0.025, 0.975]) + (estimate - known.mean())
    low, high = np.clip(ends, least, 1.0)
    return Interval(float(low), float(high))


def _places(groups: Sequence[str]) -> NDArray[np.int64]:
    """Number of each video's group, by first appearance."""
    number = {name: place for place, name in enumerate(dict.fromkeys(groups))}
    return np.array([number[name] for name in groups], np.int64)
