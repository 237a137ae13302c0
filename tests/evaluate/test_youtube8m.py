"""Hit@1, PERR and GAP against slow loops and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from rratag.evaluate import youtube8m as module
from rratag.evaluate.pool import judge
from rratag.evaluate.youtube8m import youtube8m
from tests.evaluate import slow
from tests.evaluate.slow import LABELS, OTHER_LABELS, Row, pool_of


def figures(rows: list[Row], truth: slow.Truth) -> dict[str, float]:
    found = youtube8m(judge(pool_of(rows), truth), np.ones((1, len(truth)), np.float32))
    return {name: float(value[0]) for name, value in found.items()}


@pytest.mark.parametrize("pooled", [1, 2, 20])
def test_figures_equal_those_of_slow_loops(monkeypatch: pytest.MonkeyPatch, pooled: int) -> None:
    monkeypatch.setattr(module, "GAP_TOP", pooled)

    @settings(deadline=None, max_examples=60)
    @given(slow.predictions([*LABELS, *OTHER_LABELS]), slow.truths())
    def check(rows: list[Row], truth: dict[str, list[str]]) -> None:
        found = figures(rows, truth)
        assert found["Hit@1"] == pytest.approx(slow.hit(rows, truth, 1), abs=1e-12)
        assert found["PERR"] == pytest.approx(slow.equal_recall_precision(rows, truth), abs=1e-12)
        assert found["GAP"] == pytest.approx(slow.global_precision(rows, truth, pooled), abs=1e-12)

    check()


def test_figures_by_hand() -> None:
    truth = {"va": ["ant", "bee"], "vb": ["cat"]}
    rows: list[Row] = [
        ("va", "ant", 0.9),
        ("va", "cat", 0.6),
        ("va", "bee", 0.5),
        ("vb", "bee", 0.8),
        ("vb", "cat", 0.7),
    ]
    found = figures(rows, truth)
    assert found["Hit@1"] == 0.5
    assert found["PERR"] == pytest.approx((1 / 2 + 0) / 2)  # of ant, cat one is right; of bee none
    # pooled: ant right, vb bee wrong, vb cat right, va cat wrong, va bee right
    assert found["GAP"] == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)


def test_a_hit_of_perr_has_a_score_above_0() -> None:
    """As the set's code has it; its Hit@1 takes the highest whatever it is."""
    truth = {"va": ["ant", "bee"], "vb": ["bee"]}
    rows: list[Row] = [("va", "ant", 0.9), ("va", "bee", 0.0), ("vb", "bee", 0.0), ("vb", "cat", -1.0)]
    found = figures(rows, truth)
    assert found["PERR"] == pytest.approx((1 / 2 + 0) / 2)
    assert found["Hit@1"] == 1


def test_a_repeated_wrong_prediction_enters_with_its_equals() -> None:
    rows: list[Row] = [("va", "cat", 0.5), ("va", "cat", 0.5), ("va", "ant", 0.5)]
    assert figures(rows, {"va": ["ant"]})["GAP"] == pytest.approx(1 / 3)
    assert figures([*rows, rows[-1]], {"va": ["ant"]})["GAP"] == pytest.approx(1 / 3)  # of a right one after them


def test_twenty_predictions_of_a_video_are_pooled_and_all_its_labels_count() -> None:
    names = [f"label {number:02}" for number in range(22)]
    rows: list[Row] = [("va", name, 1 - number / 100) for number, name in enumerate(names)]
    assert figures(rows, {"va": names[:1]})["GAP"] == 1
    assert figures(rows, {"va": names[19:20]})["GAP"] == pytest.approx(1 / 20)
    assert figures(rows, {"va": names[20:21]})["GAP"] == 0
    assert figures(rows, {"va": [names[0], names[20]]})["GAP"] == 0.5


def test_a_label_that_no_video_has_is_wrong_and_no_error() -> None:
    assert figures([("va", "zzz", 0.9), ("va", "ant", 0.5)], {"va": ["ant"]}) == {"Hit@1": 0, "PERR": 0, "GAP": 0.5}
