"""Clips from files: which frames, which cut, the same whatever the workers do."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rratag.data.clips import ClipDataset, sources_of
from rratag.data.datasets import CachedDataset
from rratag.errors import StoppedError
from rratag.records import Instance
from rratag.video.plan import Window, wanted_indices
from rratag.video.views import ViewRule
from tests.conftest import encode

RULE = ViewRule("1", 32, 40, "bilinear")
LENGTHS = {"a.mp4": 20, "b.mp4": 5, "c.mp4": 9}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of 96x48 at 10 frames/s: red is 10 times the number of the frame, green grows to the right, blue down."""
    found = tmp_path_factory.mktemp("clips")
    picture = np.zeros((48, 96, 3), np.uint8)
    picture[:, :, 1] = np.linspace(0, 190, 96).round()
    picture[:, :, 2] = np.linspace(0, 190, 48).round()[:, None]
    for name, count in LENGTHS.items():
        pictures = [picture.copy() for _ in range(count)]
        for number, one in enumerate(pictures):
            one[:, :, 0] = 10 * number
        encode(found / name, pictures)
    return found


def dataset(folder: Path, num_frames: int = 8, workers: int = 1, **bounds: float) -> ClipDataset:
    instances = []
    for name in LENGTHS:
        key = hashlib.sha256((folder / name).read_bytes()).hexdigest()[:32]
        instances.append(Instance(name, key, "x", **bounds))  # type: ignore[arg-type]
    source: Any = None  # nothing is read from a cache
    cached = CachedDataset(source, instances, ["x", "y"])
    return ClipDataset(cached, sources_of(list(LENGTHS), [folder]), num_frames, RULE, workers)


def numbers(clip: np.ndarray) -> list[int]:
    """Number of each frame."""
    found: list[int] = (clip[..., 0].mean((1, 2)) / 10).round().astype(int).tolist()
    return found


def place(clip: np.ndarray) -> tuple[float, float]:
    """Top and left in the picture of 80x40 that the clip is cut from, the same for all of its frames."""
    lefts = clip[:, :, 15:17, 1].mean((1, 2)) / 190 * 79 - 15.5
    tops = clip[:, 15:17, :, 2].mean((1, 2)) / 190 * 39 - 15.5
    assert np.ptp(lefts) < 1
    assert np.ptp(tops) < 1
    return float(tops.mean()), float(lefts.mean())


@pytest.mark.parametrize(
    ("window", "wanted"),
    [
        (Window(4, 0.0), [0, 1, 2, 3]),
        (Window(4, 0.5), [3, 4, 5, 6]),
        (Window(4, 0.999), [6, 7, 8, 9]),
        (Window(3, 0.5), [4, 5, 6]),
        (Window(12, 0.5), list(range(10))),
        (Window(2, 0.0, 0.35, 0.75), [4, 5]),
        (Window(2, 0.999, 0.35, 0.75), [6, 7]),
        (Window(4, 0.5, 5.0, 6.0), [9]),
    ],
)
def test_a_window_is_consecutive_and_where_it_was_asked_for(window: Window, wanted: list[int]) -> None:
    assert wanted_indices(window, np.arange(10) / 10, 1.0).tolist() == wanted


def test_every_place_is_as_likely() -> None:
    starts = [int(wanted_indices(Window(8, place), np.arange(10) / 10, 1.0)[0]) for place in np.arange(0, 1, 0.001)]
    assert [starts.count(one) for one in range(3)] == pytest.approx([333, 333, 333], abs=2)


def test_the_middle_clip_is_the_middle_of_the_middle_frames(folder: Path) -> None:
    data = dataset(folder)
    clips = list(data.middle())
    assert [clip.shape for clip in clips] == [(8, 32, 32, 3)] * 3
    assert [clip.dtype for clip in clips] == [np.uint8] * 3
    assert [numbers(clip) for clip in clips] == [[*range(6, 14)], [0, 1, 2, 3, 4, 4, 4, 4], [*range(1, 9)]]
    for clip in clips:
        assert place(clip) == pytest.approx((4, 24), abs=1)


def test_drawn_clips_are_consecutive_and_cut_alike_and_belong_to_epoch_and_video(folder: Path) -> None:
    data = dataset(folder)
    starts, places = set(), set()
    for epoch in range(1, 7):
        order = [2, 0, 1] if epoch % 2 else [0, 1, 2]
        clips = dict(zip(order, data.drawn(order, 0, epoch, 4), strict=True))
        first = numbers(clips[0])
        assert first == [*range(first[0], first[0] + 8)]
        assert numbers(clips[1]) == [0, 1, 2, 3, 4, 4, 4, 4]
        assert numbers(clips[2])[0] in (0, 1)
        starts.add(first[0])
        top, left = place(clips[0])
        assert -1 < top < 9
        assert -1 < left < 49
        places.add(round(left))
    assert len(starts) > 2
    assert len(places) > 2


def test_a_cut_reaches_every_edge(folder: Path) -> None:
    data = dataset(folder)
    clip = np.random.default_rng(0).integers(0, 256, (2, 40, 80, 3), np.uint8)
    np.testing.assert_array_equal(data._cut(clip, 0.999, 0.0), clip[:, -32:, :32])
    np.testing.assert_array_equal(data._cut(clip, 0.0, 0.999), clip[:, :32, -32:])


def test_neither_workers_nor_order_change_a_clip(folder: Path) -> None:
    one = list(dataset(folder).drawn([0, 1, 2], 3, 1, 1))
    other = list(dataset(folder, workers=2).drawn([2, 1, 0], 3, 1, 9))[::-1]
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)
    again = list(dataset(folder).drawn([0, 1, 2], 4, 1, 1))
    assert any((left != right).any() for left, right in zip(one, again, strict=True))


def test_an_interval_gives_its_own_frames(folder: Path) -> None:
    clips = list(dataset(folder, num_frames=2, start_s=0.15, end_s=0.55).middle())
    assert [numbers(clip) for clip in clips] == [[3, 4], [3, 4], [3, 4]]


def test_middle_clips_are_kept(folder: Path, tmp_path: Path) -> None:
    data = dataset(folder)
    before = list(data.middle())
    data.sources = {}
    for left, right in zip(before, data.middle(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_video_that_is_gone_or_another_is_named(folder: Path, tmp_path: Path) -> None:
    data = dataset(folder)
    data.sources = {**data.sources, "b.mp4": tmp_path / "b.mp4"}
    with pytest.raises(StoppedError, match=r"b\.mp4: vanished"):
        list(data.middle())
    data.sources["b.mp4"] = folder / "c.mp4"
    with pytest.raises(StoppedError, match=r"c\.mp4: is not the video that was extracted"):
        list(data.drawn([0, 1], 0, 1, 1))


def test_sources_are_found_below_any_root(folder: Path, tmp_path: Path) -> None:
    found = sources_of(["a.mp4", "none.mp4"], [tmp_path, folder])
    assert found == {"a.mp4": folder / "a.mp4", "none.mp4": tmp_path / "none.mp4"}
