"""Intervals with too few cached frames, and the frame rate that is enough, against counting."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rratag.data.short import short_instances, sufficient_fps, times_in
from rratag.records import Instance


def one(start: float | None, end: float | None, label: str | None = "x") -> Instance:
    return Instance("a.mp4", "k", label, start_s=start, end_s=end)


def times_of(key: str) -> Any:
    return np.arange(10) + 0.5, 10.0  # a frame a second


def test_intervals_are_counted_by_the_frames_inside_them() -> None:
    # 4, 4 (a frame at the start is inside), 3 (one at the end is not), 2 (the video ends), whole, unlabelled
    intervals = [one(2, 6), one(2.5, 6.5), one(2.6, 6.5), one(8, None), one(None, None), one(0, 0.1, None)]
    found = short_instances(intervals, times_of, 4)
    assert found is not None
    assert (found.num_instances, found.num_short) == (4, 2)
    assert (found.fps_all, found.fps_most) == (2.0, 2.0)  # the last has two seconds
    assert short_instances(intervals[:2], times_of, 4) is None
    assert str(found) == (
        "2 of 4 instances have fewer than 4 cached frames, so that training repeats some; extract --fps 2 gives all"
        " instances that many"
    )


def test_a_few_short_intervals_do_not_set_the_rate_for_most() -> None:
    intervals = [one(0, 8)] * 95 + [one(0, 4)] * 3 + [one(0, 0.5)] * 2
    found = short_instances(intervals, times_of, 4)
    assert found is not None
    assert (found.num_short, found.fps_all, found.fps_most) == (2, 8.0, 0.5)
    assert str(found).endswith("--fps 8 gives all instances that many, --fps 0.5 at least 95% of them")


@pytest.mark.parametrize("seed", range(5))
def test_the_rate_is_enough_wherever_an_interval_begins(seed: int) -> None:
    rng = np.random.default_rng(seed)
    starts, lengths = rng.uniform(0, 50, 200), rng.uniform(0.3, 20, 200)
    every, most = sufficient_fps(lengths.tolist(), 4)

    def share(fps: float) -> float:
        moments = (np.arange(int(80 * fps)) + 0.5) / fps
        inside = [
            np.count_nonzero((moments >= start) & (moments < start + length))
            for start, length in zip(starts, lengths, strict=True)
        ]
        return float(np.mean(np.array(inside) >= 4))

    assert share(every) == 1
    assert 0.95 <= share(most) < 1
    # a lower rate is not enough for the shortest, which may begin just after a moment
    shortest, lower = float(lengths.min()), every - 0.2
    start = 0.5 / lower + 1e-9
    moments = (np.arange(int(80 * lower)) + 0.5) / lower
    assert np.count_nonzero((moments >= start) & (moments < start + shortest)) < 4


def test_intervals_beyond_the_end_are_short_and_not_to_be_cured() -> None:
    found = short_instances([one(20, 30)], times_of, 1)
    assert found is not None
    assert (found.num_short, found.fps_all, found.fps_most) == (1, 0, 0)
    assert str(found) == "1 of 1 instances have fewer than 1 cached frames, so that training repeats some"


def test_times_come_from_the_headers_of_a_store() -> None:
    for duration, known in ((12.5, 12.5), (None, 9.5)):
        header = SimpleNamespace(time_s=np.arange(10) + 0.5, receipt=SimpleNamespace(duration_s=duration))
        time_s, found = times_in(SimpleNamespace(header=lambda key, header=header: header))("k")
        assert (len(time_s), found) == (10, known)
