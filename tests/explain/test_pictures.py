"""Heat over frames: its scale, its colours, its place in the strip."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rratag.explain.pictures import STOPS, STRONGEST, blended, coloured, strip
from rratag.explain.strips import smoothed


def test_colours_at_and_between_the_stops() -> None:
    for place, colour in STOPS:
        assert tuple(coloured(np.array(place))) == colour
    (low, cold), (high, warm) = STOPS[:2]
    assert coloured(np.array((low + high) / 2)).tolist() == [
        round((a + b) / 2) for a, b in zip(cold, warm, strict=True)
    ]


def test_heat_is_of_one_scale_over_all_frames_and_cold_frames_stay() -> None:
    frames = np.full((3, 4, 5, 3), 200, np.uint8)
    heat = np.zeros((3, 4, 5))
    heat[1], heat[2] = 2.0, 1.0
    found = blended(frames, heat)
    assert (found[0] == 200).all()
    for frame, share in ((1, 1.0), (2, 0.5)):
        wanted = (1 - STRONGEST * share) * 200 + STRONGEST * share * coloured(np.array(share)).astype(float)
        assert np.abs(found[frame] - wanted).max() <= 0.5
    assert (blended(frames, np.zeros_like(heat)) == 200).all()


def test_a_strip_holds_every_picture_once_in_order() -> None:
    rng = np.random.default_rng(0)
    rows = [(name, rng.integers(0, 256, (2, 9, 14, 3), dtype=np.uint8)) for name in ("frames", "glimpse 1")]
    sheet = np.asarray(strip(rows, ["0.10 s", "0.20 s"], "a.mp4"))
    corners = []
    for _, pictures in rows:
        for picture in pictures:
            windows = np.lib.stride_tricks.sliding_window_view(sheet, picture.shape)[:, :, 0]
            places = np.argwhere((windows == picture).all((2, 3, 4)))
            assert len(places) == 1
            corners.append(tuple(places[0]))
    (y0, x0), (y1, x1), (y2, x2), (y3, x3) = corners
    assert y0 == y1 < y2 == y3
    assert x0 == x2 < x1 == x3


@pytest.mark.parametrize("shape", [(64, 96), (96, 64), (3, 2)])
def test_the_filter_keeps_the_sum_and_the_middle(shape: tuple[int, int]) -> None:
    heat = torch.zeros(2, 3, *shape)
    heat[1, 2, shape[0] // 2, shape[1] // 2] = 1
    found = smoothed(heat)
    assert found.shape == heat.shape
    assert found[0].abs().sum() == 0
    assert found[1, 2].argmax() == heat[1, 2].argmax()
    if min(shape) > 10:
        assert found.sum().item() == pytest.approx(1, abs=1e-3)
        assert found.max() < 0.5
