"""Everything `rratag evaluate` says about aligned predictions and labels, in one record that JSON can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rratag.errors import LabelError
from rratag.evaluate.bootstrap import Interval, interval, weights
from rratag.evaluate.confusion import ClassFigures, ConfusedPair, class_figures, confused_pairs, confusions
from rratag.evaluate.metrics import calibration_error, checked, figures, ranks, weighted_figures

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rratag.evaluate.redundancy import Redundancy
    from rratag.tag.predict import Scored


@dataclass(frozen=True, slots=True)
class ScoreMetrics:
    """Figures of one kind of score, all in [0, 1].

    Mean per-class accuracy and mAP are means over the classes that have videos. ``calibration_error`` (the lower the
    better) is None where scores are not shares.
    """

    top1: float
    top3: float
    top5: float
    mean_per_class_accuracy: float
    mean_average_precision: float
    calibration_error: float | None = None


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """Figures of one model of a fusion by itself, on the same videos; ``name`` and ``weight`` as given."""

    name: str
    weight: float
    ensemble: ScoreMetrics


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a model tags labelled videos.

    ``ensemble`` are the figures of Eq. 6, ``concatenation`` of Eq. 4. Where only one kind of score is known, its
    figures are in ``ensemble``, ``concatenation`` is None, and ``score`` says which kind it is: ``ensemble``,
    ``concat``, or empty for a file that does not say. ``glimpse_accuracy`` is the top-1 accuracy of each of the K
    glimpses by itself; ``confused_pairs`` (as all that follows, by the scores of ``ensemble``) come most frequent
    first. ``num_classes`` counts the model's classes, ``num_classes_seen`` those that the labels hold. ``models`` has
    one entry for each of several fused models. ``redundancy`` is None where attention and maps are not known, or there
    is one glimpse alone. ``intervals`` holds the 95 % interval of
    ``ensemble``'s figures by name, from `num_draws` resamples of the groups of videos
    (:func:`rratag.evaluate.bootstrap.weights`); empty without groups. ``num_several`` counts the videos that have more
    than one label. ``per_class`` has every class, in order.
    ``confusion`` (row = true class, column = first tag) is no part of JSON.
    """

    num_videos: int
    num_classes: int
    num_classes_seen: int
    ensemble: ScoreMetrics
    concatenation: ScoreMetrics | None
    glimpse_accuracy: list[float]
    confused_pairs: list[ConfusedPair]
    models: list[ModelMetrics] = field(default_factory=list)
    redundancy: Redundancy | None = None
    intervals: dict[str, Interval] = field(default_factory=dict)
    num_draws: int = 0
    num_several: int = 0
    score: str = "ensemble"
    per_class: list[ClassFigures] = field(default_factory=list)
    confusion: NDArray[np.int64] | None = field(default=None, compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers; ``models`` for a fusion alone."""
        left_out = ["confusion", *([] if self.models else ["models"])]
        return {name: value for name, value in asdict(self).items() if name not in left_out}


def evaluate(
    predictions: Sequence[Scored],
    labels: Sequence[str] | Sequence[Sequence[str]],
    top_pairs: int = 10,
    groups: Sequence[str] | None = None,
) -> Evaluation:
    """Judge predictions by true labels.

    Parameters
    ----------
    predictions : of one model, or of the same models fused
    labels : the true class name of each, or a list of them, in the same order
    top_pairs : confused pairs to keep
    groups : of each video, for intervals; see :func:`rratag.evaluate.bootstrap.group_names`

    Raises
    ------
    LabelError
        If there is no video, or a label is not one of the model's tags.
    ValueError
        If the two have different lengths.
    """
    if len(predictions) != len(labels):
        raise ValueError(f"{len(predictions)} predictions and {len(labels)} labels")
    if not predictions:
        raise LabelError("no labelled video to evaluate; label some: one folder per tag, or --labels FILE")
    class_names = list(predictions[0].class_names)
    return evaluate_scores(
        np.stack([prediction.scores for prediction in predictions]),
        np.stack([prediction.concatenation_scores for prediction in predictions]),
        np.stack([prediction.glimpse_scores for prediction in predictions]),
        truth_of(labels, class_names),
        class_names,
        top_pairs,
        groups,
    )


def evaluate_scores(
    ensemble: NDArray[np.floating],
    concatenation: NDArray[np.floating] | None,
    glimpses: NDArray[np.floating],
    labels: NDArray[np.integer] | NDArray[np.bool_],
    class_names: Sequence[str],
    top_pairs: int = 10,
    groups: Sequence[str] | None = None,
) -> Evaluation:
    """Judge scores by true class numbers.

    Parameters
    ----------
    ensemble, concatenation : of shape (B, classes); None if unknown
    glimpses : of shape (B, K, classes)
    labels : of shape (B,) or (B, classes); see :func:`rratag.evaluate.metrics.ranks`
    groups : of each video, for intervals
    """
    _, truth = checked(ensemble, labels)
    matrix = confusions(ensemble, truth)
    return Evaluation(
        num_videos=len(truth),
        num_classes=len(class_names),
        num_classes_seen=int(truth.any(axis=0).sum()),
        num_several=int((truth.sum(axis=1) > 1).sum()),
        ensemble=score_metrics(ensemble, truth),
        concatenation=None if concatenation is None else score_metrics(concatenation, truth),
        glimpse_accuracy=[float((ranks(glimpses[:, k], truth) == 0).mean()) for k in range(glimpses.shape[1])],
        confused_pairs=confused_pairs(matrix, class_names, top_pairs),
        per_class=class_figures(ensemble, truth, class_names),
        confusion=matrix,
        **_intervals(ensemble, truth, groups),
    )


def _intervals(scores: NDArray[np.floating], truth: NDArray[np.bool_], groups: Sequence[str] | None) -> dict[str, Any]:
    """The fields of an `Evaluation` that say how far its figures may be chance."""
    drawn = None if groups is None else weights(groups, scores.size)
    if drawn is None or not len(drawn):
        return {}
    once = weighted_figures(scores, truth, np.ones((1, len(truth)), np.float32))
    draws = weighted_figures(scores, truth, drawn)
    found = {name: interval(values, float(once[name][0])) for name, values in draws.items()}
    return {"intervals": {name: both for name, both in found.items() if both}, "num_draws": len(drawn)}


def truth_of(
    labels: Sequence[str] | Sequence[Sequence[str]], class_names: Sequence[str], whose: str = "the model"
) -> NDArray[np.bool_]:
    """Whether each video has each class: of shape (B, classes).

    Parameters
    ----------
    labels : of each video its label, or a list of its labels, at least one
    whose : what has these classes, for the message

    Raises
    ------
    LabelError
        If a label is not among `class_names`.
    """
    number = {name: position for position, name in enumerate(class_names)}
    each = [[own] if isinstance(own, str) else own for own in labels]
    unknown = sorted({name for own in each for name in own} - number.keys())
    if unknown:
        shown = ", ".join(class_names[:8]) + (", ..." if len(class_names) > 8 else "")
        raise LabelError(f"label {unknown[0]!r} is not a tag of {whose} ({shown}); leave out its videos or train anew")
    truth = np.zeros((len(each), len(class_names)), bool)
    for video, own in enumerate(each):
        truth[video, [number[name] for name in own]] = True
    return truth


def score_metrics(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> ScoreMetrics:
    """Figures of one kind of score; parameters as of :func:`rratag.evaluate.metrics.ranks`."""
    return ScoreMetrics(**figures(scores, truth), calibration_error=calibration_error(scores, truth))
