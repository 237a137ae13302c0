"""Official scores by plain loops from their definitions, and cases to hold them against: no numpy, nothing of ours."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from hypothesis import strategies as st

from rratag.evaluate.pool import Pool

Row = tuple[str, str, float]
"""Video, label, score."""
Truth = Mapping[str, Sequence[str]]

VIDEOS, OTHER_VIDEOS = ["va", "vb", "vc", "vd", "ve"], ["vx", "a0"]
LABELS, OTHER_LABELS = ["ant", "bee", "cat"], ["aaa", "zzz"]
SCORES = [-1.0, 0.0, 0.25, 0.5, 0.5000001, 3.0]


def pool_of(rows: Sequence[Row]) -> Pool:
    """The flat list as arrays, names in the order of their first row."""
    videos, labels = (list(dict.fromkeys(row[part] for row in rows)) for part in (0, 1))
    return Pool(
        videos,
        labels,
        np.array([videos.index(row[0]) for row in rows], np.int64),
        np.array([labels.index(row[1]) for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64),
    )


def truths() -> st.SearchStrategy[dict[str, list[str]]]:
    """Videos with one or several labels; a label may be repeated, as in a video of several segments."""
    return st.dictionaries(
        st.sampled_from(VIDEOS), st.lists(st.sampled_from(LABELS), min_size=1, max_size=4), min_size=1
    )


def predictions(labels: Sequence[str]) -> st.SearchStrategy[list[Row]]:
    """Ties, duplicates, videos without a row and videos that no ground truth has."""
    row = st.tuples(st.sampled_from([*VIDEOS, *OTHER_VIDEOS]), st.sampled_from(labels), st.sampled_from(SCORES))
    return st.lists(row, max_size=25)


def ranked(rows: Sequence[Row], video: str) -> list[Row]:
    """Of one video, by falling score, then by label."""
    return sorted((row for row in rows if row[0] == video), key=lambda row: (-row[2], row[1]))


def top(rows: Sequence[Row], k: int) -> list[Row]:
    return [row for video in {row[0] for row in rows} for row in ranked(rows, video)[:k]]


def interpolated(order: Sequence[Row], positives: set[str]) -> float:
    """All-points interpolated average precision of one class, its predictions in this order."""
    found, points = set[str](), []
    for place, (video, _, _) in enumerate(order, start=1):
        if video in positives and video not in found:
            found.add(video)
        points.append((len(found) / len(positives), len(found) / place))
    area, before = 0.0, 0.0
    for recall in sorted({recall for recall, _ in points}):
        area += (recall - before) * max(precision for at, precision in points if at >= recall)
        before = recall
    return area


def all_orders(rows: Sequence[Row], label: str) -> Iterator[list[Row]]:
    """Every order of a class's predictions that falling scores allow."""
    own = sorted((row for row in rows if row[1] == label), key=lambda row: -row[2])
    equals = [list(group) for _, group in itertools.groupby(own, key=lambda row: row[2])]
    for order in itertools.product(*(set(itertools.permutations(group)) for group in equals)):
        yield [row for group in order for row in group]


def average_precision(rows: Sequence[Row], label: str, truth: Truth) -> float:
    """Of equal scores the wrong ones first, then the right ones, then what repeats a right one at its own score."""
    positives = {video for video, labels in truth.items() if label in labels}
    own, order = [row for row in rows if row[1] == label], list[Row]()
    for score in sorted({row[2] for row in own}, reverse=True):
        found = {row[0] for row in order}
        wrong, right, again = list[Row](), list[Row](), list[Row]()
        for row in own:
            if row[2] == score:
                (wrong if row[0] not in positives - found else again if row in right else right).append(row)
        order += wrong + right + again
    return interpolated(order, positives)


def mean_average_precision(rows: Sequence[Row], truth: Truth) -> float:
    classes = {label for labels in truth.values() for label in labels}
    return sum(average_precision(rows, label, truth) for label in classes) / len(classes)


def average_hit(rows: Sequence[Row], truth: Truth, k: int) -> float:
    total = 0.0
    for video, labels in truth.items():
        first = [label for _, label, _ in ranked(rows, video)[:k]]
        total += sum(label in first for label in set(labels)) / len(set(labels))
    return total / len(truth)


def hit(rows: Sequence[Row], truth: Truth, k: int) -> float:
    total = 0
    for video, labels in truth.items():
        first = [label for _, label, _ in ranked(rows, video)[:k]]
        total += any(label in first for label in labels)
    return total / len(truth)


def equal_recall_precision(rows: Sequence[Row], truth: Truth) -> float:
    total = 0.0
    for video, labels in truth.items():
        number = len(set(labels))
        first = {label for _, label, score in ranked(rows, video)[:number] if score > 0}
        total += len(first & set(labels)) / number
    return total / len(truth)


def global_precision(rows: Sequence[Row], truth: Truth, pooled: int) -> float:
    """Sum over falling thresholds of (R_n - R_{n-1}) P_n, of the `pooled` first predictions of each video.

    What repeats a right prediction at its own score enters after it.
    """
    kept = [row for row in top(rows, pooled) if row[0] in truth]
    total = sum(len(set(labels)) for labels in truth.values())
    area, before = 0.0, 0.0
    best = {row[:2]: max(score for *pair, score in kept if tuple(pair) == row[:2]) for row in kept}
    keyed = []
    for place, row in enumerate(kept):
        again = row in kept[:place] and row[1] in truth[row[0]] and row[2] == best[row[:2]]
        keyed.append(((row[2], -again), *row[:2]))
    for threshold in sorted({key for key, _, _ in keyed}, reverse=True):
        above = [(video, label) for key, video, label in keyed if key >= threshold]
        found = len({(video, label) for video, label in above if label in truth[video]})
        area += (found / total - before) * found / len(above)
        before = found / total
    assert math.isfinite(area)
    return area
