"""What optical flow of many videos will cost, from two stacks of a few of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rratag.video.flow import field_numbers
from rratag.video.plan import Sampling, wanted_indices
from rratag.video.pool import Decoded

TRIED = Sampling(frames=2)
"""What is tried of a video: a whole one may take minutes."""


def whole_cost(
    tried: Sequence[Decoded[Any]], size: float, sampling: Sampling, num_videos: float, workers: int
) -> tuple[float, float]:
    """Bytes and seconds for `num_videos` videos of which those of `tried` (by `TRIED`) are typical.

    Parameters
    ----------
    size : bytes that the features of `tried` take
    sampling : of the whole run
    num_videos : for each of `tried`
    workers : decode processes of the whole run
    """
    stacks_tried = fields_tried = stacks = fields = 0
    for one in tried:
        # frames=2 takes those at a quarter and three quarters
        num_frames = max(1, 2 * int(one.frame_index[-1] - one.frame_index[0]))
        length_s = one.receipt.duration_s or 0.0
        for plan in (TRIED, sampling):
            times = np.arange(num_frames, dtype=np.float64) * (length_s / num_frames)
            wanted = wanted_indices(plan, times, length_s)
            distinct = {number for index in wanted for number in field_numbers(int(index), num_frames)}
            if plan is TRIED:
                stacks_tried, fields_tried = stacks_tried + len(wanted), fields_tried + len(distinct)
            else:
                stacks, fields = stacks + len(wanted), fields + len(distinct)
    if not fields_tried:
        return 0.0, 0.0
    seconds = sum(one.receipt.seconds for one in tried) * fields / fields_tried
    at_once = min(workers, num_videos * len(tried))
    return size * num_videos * stacks / stacks_tried, seconds * num_videos / at_once
