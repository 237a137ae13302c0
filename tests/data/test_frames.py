"""Frames for training end to end: the drawn ones and no others, whoever decodes; what cannot be read is said."""

from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from rratag.data.datasets import CachedDataset, draw_generator
from rratag.data.frames import FrameDataset
from rratag.errors import StoppedError
from rratag.records import Instance
from rratag.video.augment import parse_views
from rratag.video.plan import RandomDraw, Sampling, slice_bounds, wanted_indices
from rratag.video.views import ViewRule
from tests.clips import Clips

WHOLE = ViewRule("full", 96, 96, "bilinear")  # pictures of 160x96 as they are
NUM_FRAMES = 40


def key_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Numbered clips, the last one of three frames. Read only."""
    clips = Clips(tmp_path_factory.mktemp("films"))
    paths = [clips.make(f"{name}.mp4", num_frames=NUM_FRAMES) for name in ("a", "b", "c")]
    return {path.name: path for path in [*paths, clips.make("short.mp4", num_frames=3)]}


def dataset(
    films: dict[str, Path], instances: list[Instance], rule: ViewRule = WHOLE, workers: int = 1
) -> FrameDataset:
    return FrameDataset(CachedDataset(None, instances, ["x"]), films, rule, workers)  # type: ignore[arg-type]


def whole(films: dict[str, Path]) -> list[Instance]:
    return [Instance(name, key_of(path), "x") for name, path in films.items()]


def numbers(pictures: np.ndarray | None) -> list[int]:
    assert pictures is not None
    return [Clips.number(picture) for picture in pictures]


@pytest.mark.parametrize("workers", [1, 2])
def test_one_drawn_frame_in_each_segment_of_all_frames(films: dict[str, Path], workers: int) -> None:
    data = dataset(films, whole(films), workers=workers)
    order = [2, 0, 1, 0]
    found = [numbers(pictures) for pictures in data.drawn(order, 4, seed=5, epoch=3, ahead=9)]
    for index, shown in zip(order, found, strict=True):
        seed = int(draw_generator(5, 3, data.instances[index].video).integers(2**63))
        assert shown == np.random.default_rng(seed).integers([0, 10, 20, 30], [10, 20, 30, 40]).tolist()
    assert found[1] == found[3]
    assert found[0] != found[1]


def test_draws_reach_every_frame_and_differ_by_epoch_seed_and_video() -> None:
    times = np.arange(12) / 25
    drawn = np.array([wanted_indices(RandomDraw(4, seed), times, 12 / 25) for seed in range(200)])
    for place, (start, end) in enumerate(slice_bounds(12, 4)):
        assert set(drawn[:, place]) == set(range(start, end))
    seeds = {int(draw_generator(s, e, v).integers(2**63)) for s in (0, 1) for e in (1, 2) for v in ("a", "b")}
    assert len(seeds) == 8


def test_a_draw_stays_in_its_interval(films: dict[str, Path]) -> None:
    one = Instance("a.mp4", key_of(films["a.mp4"]), "x", start_s=0.4, end_s=0.8)  # frames 10 to 19
    data = dataset(films, [one])
    seen = set()
    for epoch in range(3):
        (shown,) = (numbers(pictures) for pictures in data.drawn([0], 2, 0, epoch, 1))
        assert 10 <= shown[0] < 15 <= shown[1] < 20
        seen.add(tuple(shown))
    assert len(seen) > 1
    (regular,) = data.regular(Sampling(frames=8))  # frames 2, 7, 12, 17, ...
    assert regular is not None
    assert regular.shape == (2, 1, 96, 160, 3)
    assert numbers(regular[:, 0]) == [12, 17]


def test_fewer_frames_than_segments_are_repeated_in_order(films: dict[str, Path]) -> None:
    data = dataset(films, whole(films))
    (pictures,) = data.drawn([3], 4, 0, 1, 1)
    assert numbers(pictures) == [0, 0, 1, 2]  # as slices of 3 frames overlap: floor(i * 3 / 4)
    assert [start for start, _ in slice_bounds(3, 4)] == [0, 0, 1, 2]


def test_one_view_is_drawn_for_all_frames_of_a_video(films: dict[str, Path]) -> None:
    rule = ViewRule("3", 96, 96, "bilinear")  # left, centre, right
    data = dataset(films, whole(films)[:1], rule)
    seen = set()
    for epoch in range(6):
        (pictures,) = data.drawn([0], 2, 0, epoch, 1)
        assert pictures is not None
        assert pictures.shape == (2, 96, 96, 3)
        # the red corner ends and the green one begins at 80 pixels of the whole picture
        sides = {round(int((picture[4, :, 0] > picture[4, :, 1]).sum()) / 16) for picture in pictures}
        assert len(sides) == 1
        seen |= sides
    assert seen <= {5, 3, 1}  # 80, 48 and 16 pixels
    assert len(seen) > 1


def copies(films: dict[str, Path], views: str | None = None) -> FrameDataset:
    """Sixteen videos of one content, whose draws differ by their names."""
    names = [f"{number}.mp4" for number in range(16)]
    instances = [Instance(name, key_of(films["a.mp4"]), "x") for name in names]
    cached = CachedDataset(None, instances, ["x"])  # type: ignore[arg-type]
    return FrameDataset(cached, dict.fromkeys(names, films["a.mp4"]), WHOLE, 1, parse_views(views))


def drawn(data: FrameDataset, epoch: int) -> list[np.ndarray]:
    found = list(data.drawn(range(len(data)), 2, 0, epoch, 4))
    return [pictures for pictures in found if pictures is not None]


def test_mirror_images_are_drawn_as_often_as_the_base(films: dict[str, Path]) -> None:
    """The red corner of the clips is at the left, the green one at the right."""
    mirrored = []
    for base, pictures in zip(drawn(copies(films), 1), drawn(copies(films, "flip"), 1), strict=True):
        mirrored.append(bool((pictures[:, 4, -5, 0] > pictures[:, 4, -5, 1]).all()))
        assert np.array_equal(pictures, base[:, :, ::-1] if mirrored[-1] else base)
    assert 4 <= sum(mirrored) <= 12


def test_crops_are_drawn_anew_in_each_epoch(films: dict[str, Path]) -> None:
    data = copies(films, "tsn:3")
    first, again, second = drawn(data, 1), drawn(data, 1), drawn(data, 2)
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    shapes = [pictures.shape[1:3] for pictures in first]
    assert set(shapes) == {(96, 160), (96, 96)}
    assert 8 <= shapes.count((96, 96)) <= 15  # three of four, on average
    base = list(data.drawn(range(16), 2, 0, 1, 4, base_only=True))
    assert {pictures.shape for pictures in base if pictures is not None} == {(2, 96, 160, 3)}
    crops = {pictures[0, ::8, ::8].tobytes() for pictures in [*first, *second] if pictures.shape[2] == 96}
    assert len(crops) > 12
    (regular, *_) = data.regular(Sampling(frames=2))
    assert regular is not None
    assert regular.shape == (2, 1, 96, 160, 3)


def test_regular_frames_are_those_that_extraction_takes(films: dict[str, Path]) -> None:
    data = dataset(films, whole(films), workers=2)
    found = list(data.regular(Sampling(frames=4)))
    assert [numbers(pictures[:, 0]) for pictures in found if pictures is not None] == [[5, 15, 25, 35]] * 3 + [
        [0, 1, 2]
    ]


def test_a_video_that_cannot_be_decoded_is_left_out_and_named_once(
    films: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.mp4"
    content = bytearray(films["a.mp4"].read_bytes())
    place = content.index(b"mdat") + 4
    content[place : content.index(b"moov") - 4] = bytes(content.index(b"moov") - 4 - place)
    broken.write_bytes(content)
    films = {**films, "broken.mp4": broken}
    data = dataset(films, [*whole(films)[:1], Instance("broken.mp4", key_of(broken), "x")])
    with caplog.at_level(logging.WARNING, "rratag"):
        for epoch in range(2):
            first, second = data.drawn([1, 0], 2, 0, epoch, 2)
            assert first is None
            assert len(numbers(second)) == 2
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"{broken}: left out, it cannot be decoded" in line


@pytest.mark.parametrize(("change", "words"), [("gone", "vanished; fine-tuning reads"), ("other", "is not the video")])
def test_a_video_that_is_no_longer_the_one_extracted_stops(
    change: str, words: str, films: dict[str, Path], tmp_path: Path
) -> None:
    path = Path(shutil.copy(films["a.mp4"], tmp_path))
    data = dataset({"a.mp4": path}, [Instance("a.mp4", key_of(path), "x")])
    if change == "gone":
        path.unlink()
    else:
        shutil.copy(films["short.mp4"], path)
    with pytest.raises(StoppedError, match=f"{path}: {words}"):
        list(data.drawn([0], 2, 0, 1, 1))
