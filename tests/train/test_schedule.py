"""Learning rates by hand, batches by example."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rratag.train.schedule import batches, default_batch_size, default_epochs, rate_factor


def test_cosine_after_a_warm_up_of_a_twentieth() -> None:
    rates = [rate_factor("cosine", step, 10, 10) for step in range(100)]
    assert rates[:5] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
    assert rates[5] == 1
    assert rates[5 + 19] == pytest.approx(0.5 * (1 + math.cos(math.pi * 19 / 95)))
    assert rates[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 94 / 95)))
    assert rates[5:] == sorted(rates[5:], reverse=True)


def test_the_warm_up_is_at_most_five_epochs() -> None:
    rates = [rate_factor("cosine", step, 1, 200) for step in range(200)]
    assert rates.index(max(rates)) == 5


def test_step_divides_by_ten_every_thirty_epochs() -> None:
    rates = [rate_factor("step", epoch * 7, 7, 90) for epoch in range(90)]
    assert rates == pytest.approx([1.0] * 30 + [0.1] * 30 + [0.01] * 30)
    assert rate_factor("step", 30 * 7 - 1, 7, 90) == 1


def test_or_every_so_many_steps() -> None:
    rates = [rate_factor("step", step, 7, 1, decay_every=20) for step in range(60)]
    assert rates == pytest.approx([1.0] * 20 + [0.1] * 20 + [0.01] * 20)


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_one_step_trains(schedule: str) -> None:
    assert 0 < rate_factor(schedule, 0, 1, 1) <= 1


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 60), st.integers(1, 60))
def test_rates_are_above_zero_and_at_most_one(steps: int, epochs: int) -> None:
    assert all(0 < rate_factor("cosine", step, steps, epochs) <= 1 for step in range(steps * epochs))


@pytest.mark.parametrize(
    ("videos", "size", "sizes"),
    [
        (12, 4, [4, 4, 4]),
        (15, 4, [4, 4, 7]),
        (16, 6, [6, 6, 4]),
        (13, 6, [6, 7]),
        (3, 8, [3]),
        (5, 2, [2, 3]),
        (0, 4, []),
    ],
)
def test_a_last_batch_under_four_joins_the_one_before(videos: int, size: int, sizes: list[int]) -> None:
    cut = batches(list(range(videos)), size)
    assert [len(one) for one in cut] == sizes
    assert [video for one in cut for video in one] == list(range(videos))


@pytest.mark.parametrize(
    ("videos", "batch_size", "epochs"),
    [(2, 8, 80), (40, 8, 50), (96, 8, 25), (300, 16, 25), (3000, 32, 25), (20_000, 32, 13), (300_000, 32, 8)],
)
def test_defaults_by_the_number_of_videos(videos: int, batch_size: int, epochs: int) -> None:
    assert default_batch_size(videos) == batch_size
    assert default_epochs(videos, batch_size) == epochs
