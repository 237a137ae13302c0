"""Resamples of groups of videos: whole groups, always the same, and intervals as wide as they should be."""

from __future__ import annotations

import numpy as np
import pytest

from rratag.evaluate.bootstrap import DRAWS, FEWER_DRAWS, MANY, interval, weights
from rratag.evaluate.report import evaluate_scores


def test_groups_are_drawn_whole_and_as_many_as_there_are() -> None:
    groups = ["b", "a", "b", "c", "a", "d"]
    drawn = weights(groups)
    assert drawn.shape == (DRAWS, 6)
    assert (drawn[:, 0] == drawn[:, 2]).all()
    assert (drawn[:, 1] == drawn[:, 4]).all()
    assert (drawn[:, [0, 1, 3, 5]].sum(axis=1) == 4).all()
    assert not (drawn[:, 0] == drawn[:, 1]).all()
    assert drawn[:, [0, 1, 3, 5]].mean(axis=0) == pytest.approx(np.ones(4), abs=0.1)
    assert (weights(groups) == drawn).all()


def test_one_group_says_nothing_and_many_scores_are_drawn_less() -> None:
    assert weights(["a", "a"]).shape == (0, 2)
    assert weights(["a", "b"], MANY).shape == (DRAWS, 2)
    assert weights(["a", "b"], MANY + 1).shape == (FEWER_DRAWS, 2)


def test_interval_is_that_of_theory() -> None:
    """The mean of n coins: 1.96 standard errors to both sides."""
    right = np.random.default_rng(3).random(400) < 0.7
    drawn = weights([str(number) for number in range(400)])
    found = interval(drawn @ right / drawn.sum(axis=1), right.mean())
    assert found is not None
    half = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 400)
    assert found.low == pytest.approx(right.mean() - half, abs=0.006)
    assert found.high == pytest.approx(right.mean() + half, abs=0.006)


def test_videos_of_one_group_are_less_proof() -> None:
    right = np.repeat(np.random.default_rng(4).random(50) < 0.5, 8)
    alone, grouped = (
        interval(drawn @ right / drawn.sum(axis=1), right.mean())
        for drawn in (weights([str(place // size) for place in range(400)]) for size in (1, 8))
    )
    assert alone is not None
    assert grouped is not None
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_draws_without_the_figure_are_left_out() -> None:
    found = interval(np.array([np.nan, 0.0, 1.0, 0.5, np.nan]), 0.5)
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(0.025), pytest.approx(0.975))
    assert interval(np.array([np.nan]), 0.5) is None
    assert interval(np.zeros(0), 0.5) is None


def test_the_interval_holds_the_figure_though_draws_lie_above_it() -> None:
    found = interval(np.array([0.3, 0.4, 0.5]), 0.2)
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(0.105), pytest.approx(0.295))
    for estimate, least, ends in ((0.05, 0.0, (0.0, 0.145)), (-0.95, -1.0, (-1.0, -0.855)), (0.96, 0.0, (0.865, 1.0))):
        found = interval(np.array([0.3, 0.4, 0.5]), estimate, least)
        assert found is not None
        assert (found.low, found.high) == pytest.approx(ends)


def test_average_precision_by_chance_lies_within_its_interval() -> None:
    rng = np.random.default_rng(5)
    scores, truth = rng.random((300, 10)), np.eye(10, dtype=bool)[rng.integers(10, size=300)]
    found = evaluate_scores(
        scores,
        None,
        np.zeros((300, 0, 10)),
        truth,
        [str(number) for number in range(10)],
        groups=[str(n) for n in range(300)],
    )
    between = found.intervals["mean_average_precision"]
    assert between.low < found.ensemble.mean_average_precision < between.high
