"""The cost of optical flow: by fields, which stacks share, not by stacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rratag.features.flow_cost import whole_cost
from rratag.records import Receipt, Video
from rratag.video.plan import Sampling
from rratag.video.pool import Decoded


def tried(num_frames: int, seconds: float) -> Decoded[Any]:
    """What two stacks of a video at 10 frames a second gave."""
    index = np.array([num_frames // 4, 3 * num_frames // 4])
    receipt = Receipt("a.mp4", "ok", frames_distinct=2, duration_s=num_frames / 10, seconds=seconds)
    return Decoded(Video(Path("/"), "a.mp4", Path("/a.mp4")), receipt, "", 0, 0, index / 10, index, [], False)


@pytest.mark.parametrize(
    ("sampling", "stacks", "fields"),
    [
        (Sampling(frames=2), 2, 10),
        (Sampling(frames=8), 8, 39),  # apart by 10 frames: nothing is shared; the last begins at frame 75 of 80
        (Sampling(frames=40), 40, 78),  # apart by 2: all of the 79 fields but the one before the first stack
        (Sampling(frames=None, fps=1.0), 8, 39),
        (Sampling(frames=None, fps=1.0, max_frames=4), 4, 20),
    ],
)
def test_cost_grows_with_the_fields_and_bytes_with_the_stacks(sampling: Sampling, stacks: int, fields: int) -> None:
    size, seconds = whole_cost([tried(80, 5.0), tried(80, 7.0)], 1000.0, sampling, 30.0, 4)
    assert size == pytest.approx(1000 * 30 * stacks / 2)
    assert seconds == pytest.approx(12 * fields / 10 * 30 / 4)


def test_one_video_uses_one_process() -> None:
    assert whole_cost([tried(80, 5.0)], 10.0, Sampling(frames=2), 1.0, 8) == (10.0, 5.0)


def test_nothing_tried_costs_nothing_known() -> None:
    assert whole_cost([], 0.0, Sampling(), 3.0, 2) == (0.0, 0.0)
