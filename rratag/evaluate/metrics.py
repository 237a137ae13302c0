"""Scores and true labels become figures. Arrays in, numbers out; no files.

Ties have one rule everywhere: of equal scores the lower class number (the earlier class name) stands first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rratag.evaluate.precision import average_precision, weighted_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

CALIBRATION_BINS = 15


def ranks(scores: NDArray[np.floating], labels: NDArray[np.integer] | NDArray[np.bool_]) -> NDArray[np.int64]:
    """Position of each video's true class in its ranking, 0 for the first; of several the best position.

    Parameters
    ----------
    scores : of shape (B, classes), higher is likelier
    labels : of shape (B,), in [0, classes); or of shape (B, classes), whether the video has the class, one at least

    Returns
    -------
    Of shape (B,).

    Raises
    ------
    ValueError
        If shapes or labels do not fit, there is no video, or a score is not finite.
    """
    scores, truth = checked(scores, labels)
    best = np.where(truth, scores, -np.inf).argmax(axis=1)[:, None]  # the lower number among equals
    own = np.take_along_axis(scores, best, axis=1)
    ahead = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < best))
    return np.asarray(ahead.sum(axis=1), np.int64)


def figures(scores: NDArray[np.floating], labels: NDArray[np.integer] | NDArray[np.bool_]) -> dict[str, float]:
    """`weighted_figures` where each video counts once."""
    once = np.ones((1, len(scores)), np.float32)
    return {name: float(value[0]) for name, value in weighted_figures(scores, labels, once).items()}


def calibration_error(scores: NDArray[np.floating], labels: NDArray[np.integer] | NDArray[np.bool_]) -> float | None:
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
    scores, truth = checked(scores, labels)
    if scores.min() < 0 or scores.max() > 1:
        return None
    first = scores.max(axis=1)
    edges = np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS
    place = np.searchsorted(edges, first, side="left")
    gaps = np.bincount(place, (ranks(scores, truth) == 0) - first, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(scores))


def weighted_figures(
    scores: NDArray[np.floating], labels: NDArray[np.integer] | NDArray[np.bool_], weights: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """Top-k accuracy, mean per-class accuracy and mAP where each video counts as often as its weight says.

    - ``top1``, ``top3``, ``top5``: share of videos that have one of their classes among the k first.
    - ``mean_per_class_accuracy``: of each class the share of its videos that have it first; the mean over classes.
    - ``mean_average_precision``: of each class the area under the precision-recall steps, sum of (R_n - R_{n-1}) P_n
      over falling thresholds, where videos of equal score enter together; the mean over classes.

    Both means are over the classes that have videos.

    Parameters
    ----------
    scores, labels : as in `ranks`
    weights : of shape (R, B), whole numbers from 0

    Returns
    -------
    By the names of `rratag.evaluate.report.ScoreMetrics`, of shape (R,) each, in [0, 1].
    """
    scores, truth = checked(scores, labels)
    place = ranks(scores, truth)
    figures = {f"top{k}": weighted_mean(place < k, weights) for k in (1, 3, 5)}
    seen = np.flatnonzero(truth.any(axis=0))
    of_class = truth[:, seen].astype(np.float32)
    first = scores.argmax(axis=1)[:, None] == seen
    with np.errstate(invalid="ignore"):
        # NaN of a class without videos
        right = (weights @ (of_class * first)).astype(np.float64) / (weights @ of_class)
    figures["mean_per_class_accuracy"] = np.nanmean(right, axis=1)
    areas = [average_precision(scores[:, label], truth[:, label], weights) for label in seen]
    figures["mean_average_precision"] = np.nanmean(areas, axis=0)
    return figures


def checked(
    scores: NDArray[np.floating], labels: NDArray[np.integer] | NDArray[np.bool_]
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Scores, and whether each video has each class: both of shape (B, classes). Parameters and errors of `ranks`."""
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != 2 or not len(scores) or labels.shape not in (scores.shape[:1], scores.shape):
        raise ValueError(
            "scores (B, classes) and labels (B,) or (B, classes) of at least one video expected;"
            f" got {scores.shape}, {labels.shape}"
        )
    truth = labels if labels.ndim == 2 else labels[:, None] == np.arange(scores.shape[1])
    if truth.dtype != bool or not truth.any(axis=1).all():
        raise ValueError(f"of each video a label in [0, {scores.shape[1]}) expected")
    if not np.isfinite(scores).all():
        raise ValueError("scores that are not finite")
    return scores, np.asarray(truth, bool)
