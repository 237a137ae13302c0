"""ActivityNet's classification scores, and those of Kinetics, which are made from them.

Source: the evaluation script of the ActivityNet challenge, `eval_classification.py`, which the paper used on
ActivityNet and Kinetics (section 5.1). Its facts, each of which a test holds:

- The ground truth are the distinct (video, label) pairs of one subset, and the classes those that occur in it.
- Average precision of a class: its predictions over all videos by falling score; one is right if its video carries
  the class and was not found before; a second one for the same video is wrong, as is one for a video outside the
  subset. The denominator of recall is the number of videos with the class. All-points interpolation (VOC 2011). A class
  without any prediction has 0. mAP is the plain mean over the classes.
- Nothing is cut off: all scores of the file count, unless it is asked for.
- Average hit@k: of each video of the ground truth the share of its labels among its k highest predictions, 0 for a
  video without predictions; the mean over videos. Hit@k: the same, any label found counting 1.

The script breaks ties as its sort happens to. Here, of equal scores of one video the earlier label name stands first;
in the list of a class equal scores enter together (`rratag.evaluate.precision`), but for a repeat of a right prediction
with the same score: it comes after its first in every order, and here after all of that score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rratag.errors import LabelError
from rratag.evaluate.precision import weighted_average_precision, weighted_mean
from rratag.untrusted import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rratag.evaluate.pool import Judged

K = 3
"""Of hit@k, the script's default, and the top-3 of the paper's Table 5."""


def average_precisions(judged: Judged, weights: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """Interpolated average precision of each class of the ground truth.

    Parameters
    ----------
    weights : of shape (R, V), how often each video of the ground truth is there; others are there once

    Returns
    -------
    Of each class, by name, of shape (R,); NaN where a class has no video.

    Raises
    ------
    LabelError
        If a label is predicted that no video of the ground truth has: the script fails on it.
    """
    check_labels(judged)
    weights = np.column_stack([weights, np.ones(len(weights), np.float32)])  # the last one is of all other videos
    order = np.argsort(judged.label, kind="stable")
    begins = np.searchsorted(judged.label[order], np.arange(len(judged.labels) + 1))
    found = {}
    for number in np.unique(judged.true_label):
        own = order[begins[number] : begins[number + 1]]
        positives = judged.true_video[judged.true_label == number]
        found[judged.labels[number]] = weighted_average_precision(
            judged.threshold[own], judged.right[own], judged.video[own], positives, weights, interpolate=True
        )
    return found


def check_labels(judged: Judged) -> None:
    """Refuse labels that no video of the ground truth has.

    Raises
    ------
    LabelError
        Naming the first of them.
    """
    absent = np.setdiff1d(judged.label, judged.true_label)
    if len(absent):
        raise LabelError(
            f"label {shown(judged.labels[absent[0]])} is predicted, but no video of the ground truth has it"
            f" ({len(absent)} such labels); ActivityNet's script fails on that: judge by a subset that has all labels"
        )


def found_shares(judged: Judged, k: int) -> NDArray[np.float64]:
    """Share of each video's labels among its k highest predictions: of shape (V,), in [0, 1]."""
    hits = judged.video[judged.right & (judged.place < k)]
    return np.asarray(np.bincount(hits, minlength=len(judged.labels_per_video)) / judged.labels_per_video)


def mean_average_precision(judged: Judged, weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """mAP: of shape (R,). Parameters and errors as of `average_precisions`."""
    return np.asarray(np.nanmean(list(average_precisions(judged, weights).values()), axis=0))


def activitynet(judged: Judged, weights: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """mAP, and hit@k and average hit@k for k = 1 and 3; each of shape (R,). Else as `average_precisions`."""
    figures = {"mAP": mean_average_precision(judged, weights)}
    for k in (1, K):
        shares = found_shares(judged, k)
        figures[f"hit@{k}"] = weighted_mean(np.ceil(shares), weights)
        figures[f"average hit@{k}"] = weighted_mean(shares, weights)
    return figures


def kinetics(judged: Judged, weights: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """mAP, and error@k = 1 - hit@k for k = 1 and 5; each of shape (R,). Else as `average_precisions`."""
    figures = {"mAP": mean_average_precision(judged, weights)}
    for k in (1, 5):
        figures[f"error@{k}"] = 1 - weighted_mean(np.ceil(found_shares(judged, k)), weights)
    return figures
