"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """Videos of class `label` that got `predicted`: how many, and as a share of the class's videos in (0, 1]."""

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
