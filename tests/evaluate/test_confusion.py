"""Rows are true classes, columns predictions; the pairs come in one order."""

from __future__ import annotations

import numpy as np
import pytest

from rratag.evaluate.confusion import ConfusedPair, confused_pairs, confusion_matrix

NAMES = ["cat", "dog", "fox"]


def test_matrix_has_true_classes_in_rows() -> None:
    matrix = confusion_matrix(np.array([1, 1, 0, 2]), np.array([0, 0, 0, 2]), 3)
    assert matrix.tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 1]]


def test_pairs_by_count_then_share_then_class() -> None:
    matrix = np.array([[5, 2, 0], [2, 0, 1], [1, 1, 9]])
    assert confused_pairs(matrix, NAMES, top=3) == [
        ConfusedPair("dog", "cat", 2, 2 / 3),
        ConfusedPair("cat", "dog", 2, 2 / 7),
        ConfusedPair("dog", "fox", 1, 1 / 3),
    ]


def test_no_confusion_no_pairs() -> None:
    assert confused_pairs(np.diag([3, 2, 0]), NAMES) == []


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="got"):
        confusion_matrix(np.array([0]), np.array([0, 1]), 2)
    with pytest.raises(ValueError, match="got 0 to 2"):
        confusion_matrix(np.array([2, 0]), np.array([0, 1]), 2)
    with pytest.raises(ValueError, match="3 x 3"):
        confused_pairs(np.zeros((2, 2), np.int64), NAMES)
