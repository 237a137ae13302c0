"""Small frames of a report: the right moments, upright, of bounded size."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rratag.explain.thumbnails import AREA, BLOCK, MOST_BYTES, encoded, small_size, strips_of
from rratag.features.request import Request
from rratag.records import Video
from rratag.video.plan import Sampling
from tests.clips import Clips


def test_each_frame_is_that_of_its_time(tmp_path: Path) -> None:
    clips = Clips(tmp_path)
    videos = []
    for name, rotation in (("a.mp4", 0), ("b.mp4", 0), ("turned.mp4", 90)):
        clips.make(name, num_frames=50, rate=25, rotation=rotation)
        videos.append(Video(tmp_path, name, tmp_path / name))
    # of ten frames the middles of equal slices: 2, 7, 12 ...
    times = {"a.mp4": {0: 2 / 25, 3: 17 / 25, 9: 47 / 25}, "b.mp4": {1: 7 / 25}, "turned.mp4": {2: 12 / 25, 4: 99.0}}
    found = list(strips_of(videos, times, Request(sampling=Sampling(10)), 1))
    assert [list(one.positions) for one in found] == [[0, 3, 9], [1], [2]]
    for strip, wanted in zip(found, ([2, 17, 47], [7], [12]), strict=True):
        picture = np.asarray(Image.open(io.BytesIO(strip.jpeg)))
        assert picture.shape == (len(wanted) * strip.height, strip.width, 3)
        cells = picture.reshape(len(wanted), strip.height, strip.width, 3)
        assert [Clips.number(cell) for cell in cells] == wanted


def test_a_video_that_cannot_be_decoded_any_more_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"gone bad")
    (found,) = strips_of([Video(tmp_path, "a.mp4", tmp_path / "a.mp4")], {"a.mp4": {0: 0.1}}, Request(), 1)
    assert not found.positions
    assert "unreadable" in found.message


@pytest.mark.parametrize(
    ("height", "width"), [(1080, 1920), (1920, 1080), (480, 640), (64, 64), (100, 9000), (9000, 100)]
)
def test_small_frames_keep_their_shape_and_size(height: int, width: int) -> None:
    tall, wide = small_size(height, width)
    assert tall % BLOCK == 0
    assert wide / tall == pytest.approx(width / height, rel=0.02, abs=1 / tall)
    assert AREA / 2 < tall * wide < 2 * AREA


def test_busy_pictures_are_coded_coarser_and_plain_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: 8 * 96, :171]
    plain = np.stack([x, y % 96, 255 - x], axis=2).astype(np.uint8)
    busy = np.clip(plain + rng.normal(0, 24, plain.shape), 0, 255).astype(np.uint8)
    errors = []
    for picture in (plain, busy):
        jpeg = encoded(picture)
        assert len(jpeg) <= MOST_BYTES
        errors.append(np.abs(np.asarray(Image.open(io.BytesIO(jpeg))).astype(int) - picture).mean())
    assert errors[0] < 3 < errors[1]
