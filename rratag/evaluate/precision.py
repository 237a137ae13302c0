"""Means, and average precision of one ranking, under as many weightings of videos as wanted. Arrays in, numbers out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CELLS = 2**20  # of weights held at once: more leaves the processor's cache


def weighted_mean(
    values: NDArray[np.floating] | NDArray[np.bool_], weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Mean of one value a video, of shape (videos,), once for each row of weights (R, videos): of shape (R,)."""
    return np.asarray(weights.astype(np.float64) @ values / weights.sum(axis=1, dtype=np.float64))


def average_precision(
    scores: NDArray[np.floating], relevant: NDArray[np.bool_], weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Of one class that each video has a single score of, without interpolation: as scikit-learn's.

    Parameters
    ----------
    scores, relevant : of shape (videos,); one at least is relevant
    weights : as of `weighted_average_precision`, which is what this is otherwise
    """
    videos = np.arange(len(scores))
    return weighted_average_precision(scores, relevant, videos, np.flatnonzero(relevant), weights, interpolate=False)


def weighted_average_precision(
    scores: NDArray[np.floating] | NDArray[np.integer],
    right: NDArray[np.bool_],
    videos: NDArray[np.integer],
    positives: NDArray[np.integer],
    weights: NDArray[np.float32],
    *,
    interpolate: bool,
) -> NDArray[np.float64]:
    """Area under the precision-recall curve of a list of predictions, once for each row of weights.

    Parameters
    ----------
    scores : of shape (n,), of the predictions
    right : of shape (n,)
    videos : of shape (n,), whose weight a prediction has
    positives : of shape (p,), p > 0: the video of everything there is to find, found or not
    weights : of shape (R, videos), whole numbers from 0: how often each video is there. All ones is the plain figure
    interpolate : precision at a recall is the highest at that recall or any greater one (all-points, VOC 2011), not
        that at the recall itself

    Returns
    -------
    Of shape (R,), in [0, 1]; NaN where nothing that is to be found has a weight.

    Notes
    -----
    Predictions of equal score enter together, so their order does not matter. Interpolated, this is what the order that
    puts the wrong ones first would give: the lowest figure of all orders.
    """
    total = weights[:, positives].sum(axis=1, dtype=np.float64)
    if not right.any():
        return np.where(total > 0, 0.0, np.nan)
    order = np.argsort(-scores, kind="stable")
    falling, right, videos = scores[order], right[order], videos[order]
    last = np.append(falling[1:] != falling[:-1], True)
    threshold = np.cumsum(last) - last  # number of the threshold at which each prediction enters
    # recall moves at thresholds that find something; precision is highest there too
    telling, first_found = np.unique(threshold[right], return_index=True)
    ends = np.flatnonzero(last)[telling] + 1
    found_videos, videos = videos[right], videos[: ends[-1]]
    starts = np.append(0, ends[:-1])
    areas = np.empty(len(weights))
    step = max(1, _CELLS // len(videos))
    for at in range(0, len(weights), step):
        some = weights[at : at + step]
        entered = np.add.reduceat(some[:, videos], starts, axis=1).cumsum(axis=1, dtype=np.float64)
        gained = np.add.reduceat(some[:, found_videos], first_found, axis=1).astype(np.float64)
        precision = gained.cumsum(axis=1) / np.maximum(entered, 1)  # nothing is found where nothing entered
        if interpolate:
            precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        with np.errstate(invalid="ignore"):
            areas[at : at + step] = (gained * precision).sum(axis=1) / total[at : at + step]
    return areas
