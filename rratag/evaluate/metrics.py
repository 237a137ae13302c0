"""Scores and true labels become figures. Arrays in, numbers out; no files.

Ties have one rule everywhere: of equal scores the lower class number (the earlier class name) stands first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rratag.evaluate.precision import weighted_average_precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

CALIBRATION_BINS = 15


def ranks(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Position of each video's true class in its ranking, 0 for the first.

    Parameters
    ----------
    scores : of shape (B, classes), higher is likelier
    labels : of shape (B,), in [0, classes)

    Returns
    -------
    Of shape (B,).

    Raises
    ------
    ValueError
        If shapes or labels do not fit, there is no video, or a score is not finite.
    """
    scores, labels = _checked(scores, labels)
    own = scores[np.arange(len(labels)), labels][:, None]
    ahead = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < labels[:, None]))
    return np.asarray(ahead.sum(axis=1), np.int64)


def top_k_accuracy(scores: NDArray[np.floating], labels: NDArray[np.integer], k: int = 1) -> float:
    """Share of videos whose true class is among the k first, in [0, 1]. Parameters as in `ranks`; k >= 1."""
    if k < 1:
        raise ValueError(f"k of at least 1 expected, got {k}")
    return float((ranks(scores, labels) < k).mean())


def mean_per_class_accuracy(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Top-1 accuracy of each class that has videos, then the plain mean over these classes, in [0, 1]."""
    right = ranks(scores, labels) == 0
    labels = np.asarray(labels)
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def average_precision(scores: NDArray[np.floating], relevant: NDArray[np.bool_]) -> float:
    """Area under the precision-recall steps of one class, sum of (R_n - R_{n-1}) P_n over falling thresholds.

    Parameters
    ----------
    scores : of shape (B,)
    relevant : of shape (B,), at least one True

    Returns
    -------
    In (0, 1]. Videos of equal score enter together, so their order does not matter.
    """
    relevant = np.asarray(relevant, bool)
    if scores.shape != relevant.shape or relevant.ndim != 1 or not relevant.any():
        raise ValueError(
            f"scores and relevant of shape (B,), one of them True, expected; got {scores.shape}, {relevant.shape}"
        )
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    last_of_equals = np.append(falling[1:] != falling[:-1], True)
    found = relevant[order].cumsum()[last_of_equals]
    precision = found / (np.flatnonzero(last_of_equals) + 1)
    return float((np.diff(found, prepend=0) * precision).sum() / found[-1])


def macro_mean_average_precision(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Average precision of each class that has videos, then the plain mean over these classes, in (0, 1]."""
    scores, labels = _checked(scores, labels)
    return float(np.mean([average_precision(scores[:, label], labels == label) for label in np.unique(labels)]))


def calibration_error(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> float | None:
    """Expected calibration error: how far the scores of the first tags are from how often they are right, in [0, 1].

        ECE = sum_b (n_b / B) |accuracy_b - mean score_b|

    over `CALIBRATION_BINS` bins of equal width of the first tag's score, each without its lower edge but with its upper
    one (0 is in the first): Guo et al., On Calibration of Modern Neural Networks (2017), Eq. 3.

    Parameters
    ----------
    scores, labels : as in `ranks`

    Returns
    -------
    None where scores are not shares, outside [0, 1].
    """
    scores, labels = _checked(scores, labels)
    if scores.min() < 0 or scores.max() > 1:
        return None
    first = scores.max(axis=1)
    edges = np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS
    place = np.searchsorted(edges, first, side="left")
    gaps = np.bincount(place, (ranks(scores, labels) == 0) - first, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def weighted_figures(
    scores: NDArray[np.floating], labels: NDArray[np.integer], weights: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """The other figures of this file where each video counts as often as its weight says.

    Parameters
    ----------
    scores, labels : as in `ranks`
    weights : of shape (R, B), whole numbers from 0

    Returns
    -------
    By the names of `rratag.evaluate.report.ScoreMetrics`, of shape (R,) each.
    """
    scores, labels = _checked(scores, labels)
    place = ranks(scores, labels)
    total = weights.sum(axis=1, dtype=np.float64)
    figures = {f"top{k}": weights.astype(np.float64) @ (place < k) / total for k in (1, 3, 5)}
    seen = np.unique(labels)
    of_class = (labels[:, None] == seen).astype(np.float32)
    with np.errstate(invalid="ignore"):
        # NaN of a class without videos
        right = (weights @ (of_class * (place == 0)[:, None])).astype(np.float64) / (weights @ of_class)
    figures["mean_per_class_accuracy"] = np.nanmean(right, axis=1)
    videos = np.arange(len(labels))
    areas = [
        weighted_average_precision(
            scores[:, label], labels == label, videos, np.flatnonzero(labels == label), weights, interpolate=False
        )
        for label in seen
    ]
    figures["mean_average_precision"] = np.nanmean(areas, axis=0)
    return figures


def _checked(
    scores: NDArray[np.floating], labels: NDArray[np.integer]
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    scores, numbers = np.asarray(scores), np.asarray(labels, np.int64)
    if scores.ndim != 2 or numbers.shape != scores.shape[:1] or not len(numbers):
        raise ValueError(
            f"scores (B, classes) and labels (B,) of at least one video expected; got {scores.shape}, {numbers.shape}"
        )
    if numbers.min() < 0 or numbers.max() >= scores.shape[1]:
        raise ValueError(f"labels in [0, {scores.shape[1]}) expected, got {numbers.min()} to {numbers.max()}")
    if not np.isfinite(scores).all():
        raise ValueError("scores that are not finite")
    return scores, numbers
