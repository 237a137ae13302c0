"""The scores of YouTube-8M: Hit@1, PERR and GAP.

Source: Abu-El-Haija et al., YouTube-8M: A Large-Scale Video Classification Benchmark (2016), section 5.1.1, for Hit@1
and PERR; the evaluation code that came with the data set for GAP. A video outside the ground truth is left out, since
the set has none; a label that no video has is simply wrong. Ties: of equal scores of one video the earlier label name
stands first; in GAP's list equal scores enter together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rratag.evaluate.precision import weighted_average_precision, weighted_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rratag.evaluate.pool import Judged

GAP_TOP = 20
"""Predictions of each video that GAP pools."""


def hit_at_1(judged: Judged) -> NDArray[np.float64]:
    """Whether the highest prediction of each video is one of its labels: of shape (V,), 1 or 0."""
    return _found(judged, np.ones(len(judged.labels_per_video), np.int64), np.ones(len(judged.right), bool))


def precisions_at_equal_recall(judged: Judged) -> NDArray[np.float64]:
    """PERR of each video: of its n labels the share among its n highest predictions; of shape (V,), in [0, 1].

    As in the set's code a prediction counts only if its score is above 0.
    """
    return _found(judged, judged.labels_per_video, judged.positive) / judged.labels_per_video


def _found(judged: Judged, taken: NDArray[np.int64], counts: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Labels of each video among as many of its highest predictions as `taken`, of shape (V,), says."""
    hits = judged.right & counts & (judged.place < np.append(taken, 0)[judged.video])
    return np.bincount(judged.video[hits], minlength=len(taken)).astype(np.float64)


def global_average_precision(judged: Judged, weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """GAP: one average precision over the 20 highest predictions of all videos, without interpolation; of shape (R,).

    The denominator of recall is the number of all labels of all videos, those beyond the 20 too.

    Parameters
    ----------
    weights : of shape (R, V), how often each video is there
    """
    own = judged.kept(GAP_TOP)
    inside = own.video < weights.shape[1]
    return weighted_average_precision(
        own.threshold[inside], own.right[inside], own.video[inside], judged.true_video, weights, interpolate=False
    )


def youtube8m(judged: Judged, weights: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """All three; each of shape (R,). Parameters as of `global_average_precision`."""
    return {
        "Hit@1": weighted_mean(hit_at_1(judged), weights),
        "PERR": weighted_mean(precisions_at_equal_recall(judged), weights),
        "GAP": global_average_precision(judged, weights),
    }
