"""One record of figures from aligned predictions and labels."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rratag.errors import LabelError
from rratag.evaluate.confusion import ConfusedPair
from rratag.evaluate.report import evaluate, evaluate_scores
from rratag.records import Receipt
from rratag.tag.predict import Prediction

NAMES = ["ant", "bee", "cat", "dog", "eel", "fox"]


def make_prediction(ensemble: list[int], concatenation: list[int], glimpses: list[int]) -> Prediction:
    """Scores that rank the classes as given; each glimpse's first class as given."""
    falling = np.arange(6, 0, -1) / 21
    scores, together = np.zeros(6), np.zeros(6)
    scores[ensemble], together[concatenation] = falling, falling
    return Prediction(
        receipt=Receipt("v", "ok"),
        class_names=NAMES,
        logits=np.zeros((1, 2, 6), np.float32),
        glimpse_scores=np.eye(6)[glimpses],
        scores=scores,
        concatenation_scores=together,
        attention=np.ones((2, 1)),
        time_s=np.zeros(1),
        peak_frames=np.zeros((1, 2), np.int64),
        peak_boxes=np.zeros((1, 2, 4)),
    )


PREDICTIONS = [
    make_prediction([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5], [0, 1]),
    make_prediction([1, 2, 0, 3, 4, 5], [0, 1, 2, 3, 4, 5], [0, 0]),
    make_prediction([1, 2, 3, 4, 0, 5], [0, 1, 2, 3, 4, 5], [1, 1]),
    make_prediction([5, 2, 3, 4, 0, 1], [0, 2, 3, 4, 5, 1], [1, 5]),
]
LABELS = ["ant", "ant", "ant", "bee"]


def test_figures_by_hand() -> None:
    found = evaluate(PREDICTIONS, LABELS)
    assert (found.num_videos, found.num_classes, found.num_classes_seen) == (4, 6, 2)
    assert (found.ensemble.top1, found.ensemble.top3, found.ensemble.top5) == (0.25, 0.5, 0.75)
    assert found.concatenation is not None
    assert (found.concatenation.top1, found.concatenation.top5) == (0.75, 0.75)
    assert found.ensemble.mean_per_class_accuracy == pytest.approx((1 / 3 + 0) / 2)
    assert found.concatenation.mean_per_class_accuracy == pytest.approx(0.5)
    assert found.glimpse_accuracy == [0.75, 0.25]  # first: ant, ant, bee, bee; second: bee, ant, bee, fox
    assert found.confused_pairs == [ConfusedPair("ant", "bee", 2, 2 / 3), ConfusedPair("bee", "fox", 1, 1.0)]


def test_record_is_plain_json() -> None:
    found = evaluate(PREDICTIONS, LABELS).to_json()
    assert json.loads(json.dumps(found)) == found
    assert found["confused_pairs"][0] == {"label": "ant", "predicted": "bee", "count": 2, "share": 2 / 3}


def test_arrays_give_the_same() -> None:
    by_arrays = evaluate_scores(
        np.stack([one.scores for one in PREDICTIONS]),
        np.stack([one.concatenation_scores for one in PREDICTIONS]),
        np.stack([one.glimpse_scores for one in PREDICTIONS]),
        np.array([0, 0, 0, 1]),
        NAMES,
    )
    assert by_arrays == evaluate(PREDICTIONS, LABELS)


def test_scores_of_one_kind_alone() -> None:
    found = evaluate_scores(np.eye(2), None, np.eye(2)[:, None], np.array([0, 1]), ["a", "b"])
    assert found.concatenation is None
    assert found.to_json()["concatenation"] is None
    assert found.ensemble.top1 == 1.0


def test_intervals_are_drawn_over_groups_of_videos() -> None:
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 60)
    scores = np.eye(2)[np.where(np.repeat(rng.random(12) < 0.6, 10), labels, 1 - labels)]
    arguments = (scores, None, scores[:, None], labels, ["a", "b"])
    alone = evaluate_scores(*arguments, groups=[str(place) for place in range(120)])
    grouped = evaluate_scores(*arguments, groups=[str(place // 10) for place in range(120)])
    assert alone.num_draws == grouped.num_draws == 1000
    narrow, wide = (one.intervals["top1"] for one in (alone, grouped))
    assert narrow.low <= alone.ensemble.top1 <= narrow.high
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert set(alone.intervals) == {"top1", "top3", "top5", "mean_per_class_accuracy", "mean_average_precision"}
    assert evaluate_scores(*arguments).intervals == {}
    assert json.loads(json.dumps(alone.to_json())) == alone.to_json()


def test_label_that_the_model_does_not_know_is_named() -> None:
    with pytest.raises(LabelError, match=r"label 'gnu' is not a tag of the model \(ant, bee, cat, dog, eel, fox\)"):
        evaluate(PREDICTIONS, ["ant", "ant", "gnu", "bee"])


def test_no_video_and_lists_that_do_not_align() -> None:
    with pytest.raises(LabelError, match="no labelled video"):
        evaluate([], [])
    with pytest.raises(ValueError, match="4 predictions and 1 labels"):
        evaluate(PREDICTIONS, ["ant"])
