"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from rratag.evaluate.metrics import checked
from rratag.evaluate.precision import average_precision

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """Videos of class `label` that got `predicted`: how many, and as a share of its row of `confusions`, in (0, 1]."""

    label: str
    predicted: str
    count: int
    share: float


def confusion_matrix(
    predicted: NDArray[np.integer], labels: NDArray[np.integer], num_classes: int
) -> NDArray[np.int64]:
    """Count pairs of true and predicted class.

    Parameters
    ----------
    predicted, labels : of shape (B,), in [0, num_classes)

    Returns
    -------
    Of shape (num_classes, num_classes): row = true class, column = predicted class.

    Raises
    ------
    ValueError
        If the shapes differ or a class number is out of range.
    """
    predicted, labels = np.asarray(predicted, np.int64), np.asarray(labels, np.int64)
    if predicted.shape != labels.shape or predicted.ndim != 1:
        raise ValueError(f"predicted and labels of shape (B,) expected, got {predicted.shape} and {labels.shape}")
    for numbers in (predicted, labels):
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < num_classes:
            raise ValueError(f"classes in [0, {num_classes}) expected, got {numbers.min()} to {numbers.max()}")
    matrix = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def confused_pairs(matrix: NDArray[np.integer], class_names: Sequence[str], top: int = 10) -> list[ConfusedPair]:
    """The `top` most frequent confusions, most videos first, then greatest share, then by class number.

    Parameters
    ----------
    matrix : of shape (classes, classes), row = true class
    class_names : of the rows and columns
    """
    if matrix.shape != (len(class_names), len(class_names)):
        raise ValueError(f"matrix of {len(class_names)} x {len(class_names)} classes expected, got {matrix.shape}")
    totals = matrix.sum(axis=1)
    wrong = [(int(row), int(column)) for row, column in np.argwhere(matrix) if row != column]
    wrong.sort(key=lambda place: (-matrix[place], totals[place[0]], place))
    return [
        ConfusedPair(
            class_names[row], class_names[column], int(matrix[row, column]), float(matrix[row, column] / totals[row])
        )
        for row, column in wrong[:top]
    ]


@dataclass(frozen=True, slots=True)
class Confidence:
    """Mean score of `label` over the videos of a class, in [0, 1] where scores are shares."""

    label: str
    confidence: float


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class.

    Attributes
    ----------
    num_videos, num_right : videos of the class, and those of them that got it
    num_predicted : videos of any class that got it
    accuracy : num_right / num_videos; None, as what follows, without videos
    average_precision : see :func:`rratag.evaluate.precision.average_precision`
    confidence : mean score of the class over its own videos
    top_confidences : the three classes of the highest mean score over its videos (Fig. 6, left), highest first
    most_confusing : the other class of the highest mean score (Fig. 6, right)
    gap : by how much `confidence` is above that; below 0 where the class is taken for another on average
    """

    label: str
    num_videos: int
    num_right: int
    num_predicted: int
    accuracy: float | None = None
    average_precision: float | None = None
    confidence: float | None = None
    top_confidences: list[Confidence] = field(default_factory=list)
    most_confusing: Confidence | None = None
    gap: float | None = None


def mean_confidences(
    scores: NDArray[np.floating], labels: NDArray[np.integer], num_classes: int
) -> NDArray[np.float64]:
    """Mean scores over the videos of each class: the confidences of section 5.3 and Fig. 6.

    Parameters
    ----------
    scores : of shape (B, num_classes)
    labels : of shape (B,), in [0, num_classes)

    Returns
    -------
    Of shape (num_classes, num_classes): row = true class; NaN in the row of a class without videos.
    """
    sums = np.zeros((num_classes, num_classes))
    np.add.at(sums, labels, scores)
    count = np.bincount(labels, minlength=num_classes)[:, None]
    return np.divide(sums, count, out=np.full_like(sums, np.nan), where=count > 0)


def confusions(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> NDArray[np.int64]:
    """`confusion_matrix` of first tags.

    A video of several classes stands in the row of its first tag alone if that is one of them: it is taken for nothing
    else. If not, it stands in the rows of all its classes.

    Parameters
    ----------
    scores, truth : of shape (B, classes)
    """
    predicted = np.argmax(scores, axis=1)
    rows = truth.copy()
    right = np.flatnonzero(truth[np.arange(len(truth)), predicted])
    rows[right] = False
    rows[right, predicted[right]] = True
    videos, labels = np.nonzero(rows)
    return confusion_matrix(predicted[videos], labels, scores.shape[1])


def class_figures(
    scores: NDArray[np.floating], labels: NDArray[np.integer] | NDArray[np.bool_], class_names: Sequence[str]
) -> list[ClassFigures]:
    """Figures of each class, in order; parameters as of :func:`rratag.evaluate.metrics.ranks`."""
    scores, truth = checked(scores, labels)
    predicted = np.argmax(scores, axis=1)
    owners, classes = np.nonzero(truth)
    means = mean_confidences(scores[owners], classes, len(class_names))
    once = np.ones((1, len(scores)), np.float32)
    found = []
    for number, name in enumerate(class_names):
        own, taken = truth[:, number], predicted == number
        videos, right = int(own.sum()), int((own & taken).sum())
        if not videos:
            found.append(ClassFigures(name, 0, 0, int(taken.sum())))
            continue
        order = [int(place) for place in np.argsort(-means[number], kind="stable")]
        said = [Confidence(class_names[place], float(means[number, place])) for place in order]
        other = next((one for one, place in zip(said, order, strict=True) if place != number), None)
        found.append(
            ClassFigures(
                name,
                videos,
                right,
                int(taken.sum()),
                right / videos,
                float(average_precision(scores[:, number], own, once)[0]),
                float(means[number, number]),
                said[:3],
                other,
                None if other is None else float(means[number, number]) - other.confidence,
            )
        )
    return found
