"""Figures against slow loops, scikit-learn, and cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rratag.evaluate.metrics import calibration_error, figures, ranks, weighted_figures
from rratag.evaluate.precision import average_precision

SCORES = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.4, 0.5, 0.1], [0.6, 0.3, 0.1]])
LABELS = np.array([0, 1, 0, 0])


def test_ranks_by_hand() -> None:
    assert ranks(SCORES, LABELS).tolist() == [0, 1, 1, 0]


def test_equal_scores_go_to_the_lower_class_number() -> None:
    tied = np.full((3, 3), 0.25)
    assert ranks(tied, np.array([0, 1, 2])).tolist() == [0, 1, 2]


def precision(scores: np.ndarray, relevant: np.ndarray) -> float:
    return float(average_precision(scores, relevant, np.ones((1, len(scores)), np.float32))[0])


def test_top_k_by_hand() -> None:
    found = figures(SCORES, LABELS)
    assert (found["top1"], found["top3"], found["top5"]) == (0.5, 1, 1)
    falling = np.tile([0.4, 0.3, 0.2, 0.06, 0.03, 0.01], (6, 1))
    assert figures(falling, np.arange(6))["top3"] == 0.5
    assert figures(falling, np.arange(6))["top5"] == pytest.approx(5 / 6)


def test_mean_per_class_accuracy_counts_classes_not_videos_and_only_those_with_videos() -> None:
    # class 0: 2 of 3; class 1: 0 of 1; class 2 has no video
    assert figures(SCORES, LABELS)["mean_per_class_accuracy"] == pytest.approx((2 / 3 + 0) / 2)


def test_average_precision_by_hand() -> None:
    # found at places 1 and 3: (1/1 + 2/3) / 2
    assert precision(np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False])) == pytest.approx(5 / 6)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_average_precision_equals_that_of_scikit_learn_with_ties(data: st.DataObject) -> None:
    from sklearn.metrics import average_precision_score

    scores = data.draw(hnp.arrays(np.float64, st.integers(1, 12), elements=st.sampled_from([0.0, 0.1, 0.5, 0.9])))
    relevant = data.draw(hnp.arrays(np.bool_, len(scores)))
    if relevant.any():
        assert precision(scores, relevant) == pytest.approx(average_precision_score(relevant, scores))


def test_mean_average_precision_is_the_mean_over_classes_with_videos() -> None:
    first, second = precision(SCORES[:, 0], LABELS == 0), precision(SCORES[:, 1], LABELS == 1)
    assert figures(SCORES, LABELS)["mean_average_precision"] == pytest.approx((first + second) / 2)
    assert first != second


# --- several labels of a video ---


def slow_figures(scores: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """By loops over videos and classes, mAP by scikit-learn."""
    from sklearn.metrics import average_precision_score

    places = []
    first = []
    for row, own in zip(scores.tolist(), truth.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda label: (-row[label], label))
        places.append(min(order.index(label) for label in range(len(row)) if own[label]))
        first.append(order[0])
    seen = [label for label in range(truth.shape[1]) if truth[:, label].any()]
    right = [np.mean([first[video] == label for video in np.flatnonzero(truth[:, label])]) for label in seen]
    areas = [average_precision_score(truth[:, label], scores[:, label]) for label in seen]
    found = {f"top{k}": float(np.mean([place < k for place in places])) for k in (1, 3, 5)}
    return {
        **found,
        "mean_per_class_accuracy": float(np.mean(right)),
        "mean_average_precision": float(np.mean(areas)),
    }


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_figures_of_several_labels_equal_those_of_slow_loops(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 8), st.integers(1, 7)))
    scores = data.draw(hnp.arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])))
    truth = data.draw(hnp.arrays(np.bool_, shape))
    truth[np.arange(shape[0]), data.draw(hnp.arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))] = True
    assert figures(scores, truth) == pytest.approx(slow_figures(scores, truth))
    one = truth.argmax(axis=1)
    alone = np.zeros(shape, bool)
    alone[np.arange(shape[0]), one] = True
    assert figures(scores, one) == figures(scores, alone)


def test_a_video_ranked_perfectly_has_no_wrong_place_in_the_list_of_its_other_label() -> None:
    scores = np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])
    truth = scores > 0
    found = figures(scores, truth)
    assert (found["top1"], found["mean_average_precision"]) == (1, 1)
    assert found["mean_per_class_accuracy"] == pytest.approx((1 + 1 / 2 + 0) / 3)  # a: both; b: w alone; c: a is first
    assert ranks(scores, np.array([[0, 1, 0], [1, 0, 1], [0, 1, 1]], bool)).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        (SCORES, LABELS[:3]),
        (SCORES[0], LABELS),
        (SCORES[:0], LABELS[:0]),
        (SCORES, np.array([0, 1, 0, 3])),
        (SCORES, np.array([0, 1, 0, -1])),
        (np.where(SCORES > 0.6, np.nan, SCORES), LABELS),
        (SCORES, SCORES),
        (SCORES, SCORES > 0.55),
    ],
)
def test_arrays_that_do_not_fit_are_refused(scores: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected|finite"):
        figures(scores, labels)


def slow_calibration_error(scores: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """From its definition: each video into the bin ((b - 1) / bins, b / bins] that holds its first tag's score."""
    members: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        first = max(row)
        place = next(b for b in range(bins) if first <= (b + 1) / bins)
        members[place].append((first, row.index(first) == label))
    error = 0.0
    for own in filter(None, members):
        accuracy = sum(right for _, right in own) / len(own)
        error += len(own) / len(labels) * abs(accuracy - sum(score for score, _ in own) / len(own))
    return error


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_calibration_error_equals_that_of_slow_loops(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 4)))
    edges = st.integers(0, 15).map(lambda edge: edge / 15)
    scores = data.draw(hnp.arrays(np.float64, shape, elements=st.one_of(st.floats(0, 1), edges)))
    labels = data.draw(hnp.arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))
    assert calibration_error(scores, labels) == pytest.approx(slow_calibration_error(scores, labels), abs=1e-9)


def test_calibration_error_by_hand() -> None:
    # the bin of 0.9: accuracy 1/2; of 0.5: 1; a sign or a bin that is shared would show
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.5, 0.4]])
    assert calibration_error(scores, np.array([0, 1, 0])) == pytest.approx(2 / 3 * 0.4 + 1 / 3 * 0.5)
    assert calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0
    assert calibration_error(np.array([[-1.0, 2.0]]), np.array([1])) is None


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_video_of_weight_n_is_n_videos(data: st.DataObject) -> None:
    scores = data.draw(hnp.arrays(np.float64, (6, 6), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])))
    labels = data.draw(hnp.arrays(np.int64, 6, elements=st.integers(0, 5)))
    times = data.draw(hnp.arrays(np.int64, 6, elements=st.integers(0, 3)))
    if not times.any():
        return
    found = weighted_figures(scores, labels, times[None].astype(np.float32))
    assert {name: value[0] for name, value in found.items()} == pytest.approx(
        figures(np.repeat(scores, times, axis=0), np.repeat(labels, times))
    )
