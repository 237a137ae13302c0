"""Rows are true classes, columns predictions; the pairs come in one order."""

from __future__ import annotations

import numpy as np
import pytest

from rratag.evaluate.confusion import (
    ConfusedPair,
    class_figures,
    confused_pairs,
    confusion_matrix,
    confusions,
    mean_confidences,
)

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


def test_a_video_of_several_classes_is_taken_for_none_if_its_first_tag_is_one_of_them() -> None:
    scores = np.array([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6], [0.2, 0.7, 0.1]])
    truth = np.array([[1, 1, 0], [1, 1, 0], [0, 1, 0]], bool)
    assert confusions(scores, truth).tolist() == [[1, 0, 1], [0, 1, 1], [0, 0, 0]]
    cat, dog, fox = class_figures(scores, truth, NAMES)
    assert [(one.num_videos, one.num_right, one.num_predicted) for one in (cat, dog, fox)] == [
        (2, 1, 1),
        (3, 1, 1),
        (0, 0, 1),
    ]
    assert (cat.accuracy, dog.accuracy) == (0.5, pytest.approx(1 / 3))
    assert dog.confidence == pytest.approx(1.3 / 3)
    assert (cat.average_precision, dog.average_precision) == (pytest.approx((1 + 2 / 3) / 2), 1)


def test_mean_confidences_equal_those_of_slow_loops() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.random((20, 4)), rng.integers(0, 3, 20)
    found = mean_confidences(scores, labels, 4)
    for true in range(3):
        own = [row for row, label in zip(scores.tolist(), labels.tolist(), strict=True) if label == true]
        for said in range(4):
            assert found[true, said] == pytest.approx(sum(row[said] for row in own) / len(own))
    assert np.isnan(found[3]).all()


def test_figures_of_each_class_by_hand() -> None:
    scores = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1]])
    cat, dog, fox = class_figures(scores, np.array([0, 0, 0, 1]), NAMES)
    assert (cat.num_videos, cat.num_right, cat.num_predicted) == (3, 2, 2)
    assert (dog.num_videos, dog.num_right, dog.num_predicted) == (1, 1, 2)
    assert cat.accuracy == pytest.approx(2 / 3)
    # cat by its own score: 0.6, 0.5, 0.2 of cats, then the dog
    assert (cat.average_precision, dog.average_precision) == (1, 1)
    assert cat.confidence == pytest.approx(1.3 / 3)
    assert [one.label for one in cat.top_confidences] == ["dog", "cat", "fox"]
    assert [one.confidence for one in cat.top_confidences] == pytest.approx([1.4 / 3, 1.3 / 3, 0.1])
    assert cat.most_confusing is not None
    assert cat.most_confusing.label == "dog"
    assert cat.gap == pytest.approx(-0.1 / 3)
    assert dog.most_confusing is not None
    assert dog.most_confusing.label == "cat"
    assert dog.gap == pytest.approx(0.7)
    assert (fox.num_videos, fox.accuracy, fox.average_precision, fox.gap, fox.top_confidences) == (
        0,
        None,
        None,
        None,
        [],
    )


def test_average_precision_of_a_class_is_by_its_own_column() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    _, dog = class_figures(scores, np.array([0, 1, 1]), ["cat", "dog"])
    assert dog.average_precision == 1
    cat, _ = class_figures(scores, np.array([1, 0, 1]), ["cat", "dog"])
    assert cat.average_precision == 0.5


def test_a_single_class_has_nothing_to_be_confused_with() -> None:
    (only,) = class_figures(np.array([[1.0]]), np.array([0]), ["cat"])
    assert (only.accuracy, only.most_confusing, only.gap) == (1, None, None)
