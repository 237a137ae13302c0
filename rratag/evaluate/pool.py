"""Predictions as one flat list of (video, label, score), held against a ground truth of (video, label) pairs.

Any number of labels per video, of predictions per video, and videos that only one of the two knows. Arrays; no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Pool:
    """P predictions.

    Parameters
    ----------
    videos, labels : names, each once
    video, label : of shape (P,), positions in `videos` and `labels`
    score : of shape (P,), finite; higher is likelier
    """

    videos: Sequence[str]
    labels: Sequence[str]
    video: NDArray[np.int64]
    label: NDArray[np.int64]
    score: NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """A pool in the numbers of a ground truth of V videos: G distinct pairs. C labels, of both, sorted by name.

    Parameters
    ----------
    video : of shape (P,); V for a video that the ground truth does not have
    label : of shape (P,), in [0, C)
    threshold : of shape (P,), by which they enter a list, the highest first: equal for equal scores, but for what
        repeats a right prediction at its own score, which enters right after them
    right : of shape (P,), whether it is one of the pairs and the first (highest) prediction of it
    place : of shape (P,), position in the ranking of its video, 0 for the first
    positive : of shape (P,), whether its score is above 0
    true_video, true_label : of shape (G,), in [0, V) and [0, C)
    labels : the C names
    """

    video: NDArray[np.int64]
    label: NDArray[np.int64]
    threshold: NDArray[np.int64]
    right: NDArray[np.bool_]
    place: NDArray[np.int64]
    positive: NDArray[np.bool_]
    true_video: NDArray[np.int64]
    true_label: NDArray[np.int64]
    labels: Sequence[str]

    @property
    def labels_per_video(self) -> NDArray[np.int64]:
        """Of shape (V,), from 1."""
        return np.bincount(self.true_video)

    def kept(self, num: int) -> Judged:
        """The `num` first predictions of each video alone."""
        keep = self.place < num
        parts = {
            name: getattr(self, name)[keep] for name in ("video", "label", "threshold", "right", "place", "positive")
        }
        return replace(self, **parts)


def judge(pool: Pool, truth: Mapping[str, Iterable[str]]) -> Judged:
    """Hold predictions against the labels of each video of the ground truth.

    Parameters
    ----------
    truth : of each video its labels, at least one; their order and repetition mean nothing

    Notes
    -----
    Equal scores of a video stand in the order of the labels' names.
    """
    labels = sorted({*pool.labels, *(label for own in truth.values() for label in own)})
    number = {name: place for place, name in enumerate(labels)}
    video_number = {name: place for place, name in enumerate(truth)}
    pairs = [(video_number[video], number[label]) for video, own in truth.items() for label in set(own)]
    true_video, true_label = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
    video = np.array([video_number.get(name, len(truth)) for name in pool.videos], np.int64)[pool.video]
    label = np.array([number[name] for name in pool.labels], np.int64)[pool.label]
    order = np.lexsort((label, -pool.score, pool.video))
    ranked = pool.video[order]
    begins = np.flatnonzero(np.diff(ranked, prepend=-1))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - np.repeat(begins, np.diff(begins, append=len(order)))
    pair = video * len(labels) + label
    _, first, inverse = np.unique(pair[order], return_index=True, return_inverse=True)
    right = np.zeros(len(order), bool)
    right[order[first]] = True
    right &= np.isin(pair, true_video * len(labels) + true_label)
    threshold = 2 * np.unique(pool.score, return_inverse=True)[1]
    # a repeat of the right prediction at its own score: after it in every order, as no other repeat is
    head = order[first][inverse]  # of each of `order`, the first prediction of its pair
    threshold[order] -= right[head] & ~right[order] & (pool.score[order] == pool.score[head])
    return Judged(video, label, threshold, right, place, pool.score > 0, true_video, true_label, labels)
