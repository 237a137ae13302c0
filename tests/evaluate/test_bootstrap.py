"""Resamples of groups of videos: whole groups, always the same, and intervals as wide as they should be."""

from __future__ import annotations

import numpy as np
import pytest

from rratag.evaluate.bootstrap import DRAWS, FEWER_DRAWS, MANY, interval, weights


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
    found = interval(drawn @ right / drawn.sum(axis=1))
    assert found is not None
    half = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 400)
    assert found.low == pytest.approx(right.mean() - half, abs=0.006)
    assert found.high == pytest.approx(right.mean() + half, abs=0.006)


def test_videos_of_one_group_are_less_proof() -> None:
    right = np.repeat(np.random.default_rng(4).random(50) < 0.5, 8)
    alone, grouped = (
        interval(drawn @ right / drawn.sum(axis=1))
        for drawn in (weights([str(place // size) for place in range(400)]) for size in (1, 8))
    )
    assert alone is not None
    assert grouped is not None
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_draws_without_the_figure_are_left_out() -> None:
    found = interval(np.array([np.nan, 0.0, 1.0, 0.5, np.nan]))
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(0.025), pytest.approx(0.975))
    assert interval(np.array([np.nan])) is None
    assert interval(np.zeros(0)) is None
