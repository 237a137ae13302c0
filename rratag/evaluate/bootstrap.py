"""How far a difference on the same videos may be chance. Arrays in, numbers out; no files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 2000


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
