"""Which frames are wanted: by exact indices, and against the slow definition."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rratag.errors import UsageError
from rratag.video.plan import (
    Sampling,
    _is_constant_rate,
    chosen_frames,
    middle_frames,
    random_frames,
    slice_bounds,
    wanted_indices,
)

counts = st.integers(1, 400)


def shown_at(times: np.ndarray, moment: float) -> int:
    """Slow definition: the last frame whose time is not later (a microsecond of rounding is no matter)."""
    shown = 0
    for index, time in enumerate(times):
        if time <= moment + 1e-6:
            shown = index
    return shown


@st.composite
def irregular(draw):
    """Times in whole milliseconds with gaps of 1 ms to 1 s, and an end."""
    gaps = draw(st.lists(st.integers(1, 1000), min_size=1, max_size=60))
    start = draw(st.integers(-5000, 5000))
    edges = start + np.concatenate([[0], np.cumsum(gaps)])
    return edges[:-1] / 1000, float(edges[-1] / 1000)


@given(counts, st.integers(1, 60), st.sampled_from([1.0, 12.5, 24000 / 1001, 25.0, 30.0, 60000 / 1001, 240.0]))
@settings(deadline=None, max_examples=150)
def test_constant_rate_is_the_integer_formula(num_frames, frames, rate):
    times = np.arange(num_frames) / rate + 1.4
    expected = sorted({(2 * i + 1) * num_frames // (2 * frames) for i in range(frames)})
    assert wanted_indices(Sampling(frames=frames), times, 1.4 + num_frames / rate).tolist() == expected


@given(counts, st.integers(1, 60), st.sampled_from([24000 / 1001, 25.0, 30.0, 50.0]))
@settings(deadline=None, max_examples=80)
def test_rounding_to_milliseconds_changes_nothing(num_frames, frames, rate):
    times = np.round(np.arange(num_frames) / rate, 3)
    expected = sorted({(2 * i + 1) * num_frames // (2 * frames) for i in range(frames)})
    end_s = float(times[-1]) + np.floor(1000 / rate) / 1000
    assert wanted_indices(Sampling(frames=frames), times, end_s).tolist() == expected


@given(irregular(), st.integers(1, 40))
@settings(deadline=None, max_examples=150)
def test_variable_rate_is_the_frame_shown_at_the_middle(video, frames):
    times, end_s = video
    wanted = wanted_indices(Sampling(frames=frames), times, end_s)
    if _is_constant_rate(times, end_s):
        return  # the formula above
    span = end_s - times[0]
    middles = [times[0] + (2 * i + 1) * span / (2 * frames) for i in range(frames)]
    assert wanted.tolist() == sorted({shown_at(times, middle) for middle in middles})


@given(irregular(), st.sampled_from([0.1, 0.5, 1.0, 3.0, 29.97]))
@settings(deadline=None, max_examples=100)
def test_frames_per_second_is_the_frame_shown_at_each_step(video, rate):
    times, end_s = video
    moments = []
    while times[0] + (len(moments) + 0.5) / rate < end_s - 1e-6:
        moments.append(times[0] + (len(moments) + 0.5) / rate)
    expected = {shown_at(times, moment) for moment in moments}
    wanted = wanted_indices(Sampling(frames=None, fps=rate), times, end_s)
    if moments:
        assert wanted.tolist() == sorted(expected)
    assert wanted.dtype == np.int64
    assert (np.diff(wanted) > 0).all()
    assert len(wanted) >= 1
    assert wanted[0] >= 0
    assert wanted[-1] < len(times)


def test_the_paper_s_25_frames_of_a_video_of_100():
    times = np.arange(100) / 25
    wanted = wanted_indices(Sampling(frames=25), times, 4.0)
    assert wanted.tolist() == list(range(2, 100, 4))
    assert wanted[12] == 50


def test_what_counts_as_constant():
    times = np.arange(10) / 25
    assert _is_constant_rate(times, 0.4)
    assert _is_constant_rate(times + np.array([0, 1, -1, 0, 0, 0, 0, 0, 0, 0]) * 1e-3, 0.4)
    assert not _is_constant_rate(times + np.array([0, 0, 0, 2, 0, 0, 0, 0, 0, 0]) * 1e-3, 0.4)
    assert not _is_constant_rate(times, 0.9)
    assert not _is_constant_rate(np.array([0.0, 0.001, 0.003, 0.004]), 0.005)


def test_frames_per_second_by_hand():
    times = np.arange(100) / 25
    assert wanted_indices(Sampling(frames=None, fps=1), times, 4.0).tolist() == [12, 37, 62, 87]
    assert wanted_indices(Sampling(frames=None, fps=1, max_frames=4), times, 4.0).tolist() == [12, 37, 62, 87]
    assert wanted_indices(Sampling(frames=None, fps=1, max_frames=2), times, 4.0).tolist() == [25, 75]
    assert wanted_indices(Sampling(frames=None, fps=0.1), times, 4.0).tolist() == [50]


def test_fewer_frames_than_asked_for_are_kept_once():
    assert wanted_indices(Sampling(frames=25), np.array([0.0]), 0.04).tolist() == [0]
    assert wanted_indices(Sampling(frames=25), np.array([0.0, 0.04, 0.08]), 0.12).tolist() == [0, 1, 2]
    assert wanted_indices(Sampling(frames=4), np.array([3.0]), 3.0).tolist() == [0]


def test_a_long_picture_is_taken_once():
    times = np.array([0.0, 1.0, 9.0])
    assert wanted_indices(Sampling(frames=5), times, 10.0).tolist() == [1, 2]


@given(counts, st.integers(1, 50))
@settings(deadline=None, max_examples=100)
def test_slices_cover_the_frames(num_cached, num_slices):
    bounds = slice_bounds(num_cached, num_slices)
    assert bounds.shape == (num_slices, 2)
    sizes = bounds[:, 1] - bounds[:, 0]
    assert (sizes >= 1).all()
    assert bounds[0, 0] == 0
    assert bounds[-1, 1] == num_cached
    covered = [index for low, high in bounds for index in range(low, high)]
    assert set(covered) == set(range(num_cached))
    if num_cached >= num_slices:
        assert covered == list(range(num_cached))
        assert sizes.max() - sizes.min() <= 1


def test_slices_by_hand():
    assert slice_bounds(25, 4).tolist() == [[0, 6], [6, 12], [12, 18], [18, 25]]
    assert slice_bounds(2, 4).tolist() == [[0, 1], [0, 1], [1, 2], [1, 2]]


@given(counts, st.integers(1, 50))
@settings(deadline=None, max_examples=100)
def test_the_middle_frame_of_each_slice(num_cached, num_slices):
    chosen = middle_frames(num_cached, num_slices).tolist()
    if num_cached <= num_slices:
        assert chosen == list(range(num_cached))
    else:
        length = Fraction(num_cached, num_slices)
        assert chosen == [math.floor(length * number + length / 2) for number in range(num_slices)]


def test_middle_frames_by_hand():
    assert middle_frames(10, 4).tolist() == [1, 3, 6, 8]
    assert middle_frames(5, 1).tolist() == [2]
    assert middle_frames(3, 25).tolist() == [0, 1, 2]


def test_a_test_looks_at_the_middle_frames_of_an_interval():
    times = np.arange(10) / 2
    assert chosen_frames(times).tolist() == list(range(10))
    assert chosen_frames(times, 1.0, 4.0).tolist() == [2, 3, 4, 5, 6, 7]
    assert chosen_frames(times, 1.0, 4.0, most=2).tolist() == [3, 6]
    assert chosen_frames(times, 1.0, 4.0, most=7).tolist() == [2, 3, 4, 5, 6, 7]
    assert chosen_frames(times, most=2).tolist() == [2, 7]


@given(counts, st.integers(1, 20), st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_one_random_frame_in_each_slice(num_cached, num_slices, seed):
    drawn = random_frames(num_cached, num_slices, np.random.default_rng(seed))
    bounds = slice_bounds(num_cached, num_slices)
    assert drawn.shape == (num_slices,)
    assert ((bounds[:, 0] <= drawn) & (drawn < bounds[:, 1])).all()
    assert drawn.tolist() == random_frames(num_cached, num_slices, np.random.default_rng(seed)).tolist()


def test_random_frames_reach_every_frame_of_a_slice():
    rng = np.random.default_rng(0)
    drawn = np.stack([random_frames(10, 2, rng) for _ in range(300)])
    assert set(drawn[:, 0]) == {0, 1, 2, 3, 4}
    assert set(drawn[:, 1]) == {5, 6, 7, 8, 9}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 0}, "number of frames is 0"),
        ({"frames": None}, "not neither"),
        ({"frames": 5, "fps": 1.0}, "not both"),
        ({"frames": None, "fps": 0.0}, "above 0"),
        ({"frames": None, "fps": float("nan")}, "above 0"),
        ({"frames": 5, "max_frames": 5}, "goes with frames per second"),
        ({"frames": None, "fps": 1.0, "max_frames": 0}, "1 or more"),
    ],
)
def test_samplings_that_make_no_sense(arguments, message):
    with pytest.raises(UsageError, match=message):
        Sampling(**arguments)


def test_descriptions_tell_samplings_apart():
    samplings = [Sampling(), Sampling(frames=24), Sampling(frames=None, fps=25), Sampling(None, 25, 100)]
    assert len({str(sampling.describe()) for sampling in samplings}) == 4


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"shape \(0,\)"):
        wanted_indices(Sampling(), np.empty(0), 1.0)
    with pytest.raises(ValueError, match="got 0 and 4"):
        slice_bounds(0, 4)
