"""Judge a file of tags, without model or cache."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rratag.data.labels import from_file, from_folders, whole_videos
from rratag.errors import LabelError
from rratag.evaluate.report import Evaluation, evaluate_scores, numbers
from rratag.records import Instance
from rratag.tag.writers import TagRow, read_tags

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WHOLE = 1e-3  # how far the scores of all tags may be from 1 after rounding to six digits
_ROUNDED = 5e-6  # how far a weighted mean of scores of six digits may be from one that was rounded after it


def evaluate_tags(path: Path, labels: Path | None = None, columns: dict[str, str] | None = None) -> Evaluation:
    """Figures of a file that ``predict`` wrote.

    Parameters
    ----------
    labels : label file; by default the first folder of each video's id is the tag. What it says of an interval is said
        of the whole video, of which the tags are; a video with several labels counts once for each

    Raises
    ------
    LabelError
        If no tagged video is labelled, or the file does not hold every tag's score: figures need the whole ranking.
    """
    rows: dict[str, list[TagRow]] = defaultdict(list)
    for row in read_tags(path):
        if row.rank is not None:
            rows[row.video].append(row)
    ids = {video: f"{number:032x}" for number, video in enumerate(rows)}
    found = from_folders(ids) if labels is None else from_file(labels, ids, columns, alone=True).instances
    instances = whole_videos(one for one in found if one.label is not None)
    if not instances:
        raise LabelError(f"{path}: no tagged video has a label; give --labels FILE, or tag one folder per tag")
    class_names = sorted({row.label for video in rows.values() for row in video})
    _check_whole(path, rows, class_names)
    return _evaluate(rows, instances, class_names)


def _check_whole(path: Path, rows: dict[str, list[TagRow]], class_names: list[str]) -> None:
    short = next((video for video in rows if len(rows[video]) < len(class_names)), None)
    total = max(abs(sum(row.score or 0 for row in video) - 1) for video in rows.values())
    if short is not None or total > _WHOLE:
        raise LabelError(
            f"{path}: holds only the highest tags of each video; run predict with --top {max(len(class_names), 1000)},"
            " or evaluate without a file, from model and cache"
        )


def _evaluate(rows: dict[str, list[TagRow]], instances: list[Instance], class_names: list[str]) -> Evaluation:
    number = {name: position for position, name in enumerate(class_names)}
    num_glimpses = len(next(iter(rows.values()))[0].glimpses)
    scores = np.zeros((len(instances), len(class_names)))
    glimpses = np.zeros((len(instances), num_glimpses, len(class_names)))
    for place, one in enumerate(instances):
        for row in rows[one.video]:
            scores[place, number[row.label]] = row.score or 0
            glimpses[place, :, number[row.label]] = row.glimpses
    truth = numbers([str(one.label) for one in instances], class_names)
    ensemble = glimpses.mean(axis=1)  # Eq. 6; what `score` holds unless the file was made with --score concat
    if np.abs(scores - ensemble).max() < _WHOLE:
        return evaluate_scores(ensemble, None, glimpses, truth, class_names)
    if _is_weighted_mean(scores, glimpses):
        return evaluate_scores(scores, None, glimpses, truth, class_names)
    return evaluate_scores(ensemble, scores, glimpses, truth, class_names)


def _is_weighted_mean(scores: NDArray[np.float64], glimpses: NDArray[np.float64]) -> bool:
    """Whether the same weights of the glimpses give all scores: a fusion of models, or glimpses with weights.

    Parameters
    ----------
    scores : of shape (B, classes)
    glimpses : of shape (B, K, classes)

    Notes
    -----
    Least squares over all scores. Fewer free equations than twice the glimpses prove nothing.
    """
    videos, num_glimpses, num_classes = glimpses.shape
    if videos * (num_classes - 1) < 2 * num_glimpses:
        return False
    known = glimpses.transpose(0, 2, 1).reshape(-1, num_glimpses)
    weights = np.linalg.lstsq(known, scores.ravel(), rcond=None)[0]
    return bool(np.abs(known @ weights - scores.ravel()).max() < _ROUNDED)
