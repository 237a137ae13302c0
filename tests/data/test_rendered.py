"""The rendered set: same call, same files; boxes are where the bird is; the background knows no class."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rratag.data.rendered import CLASSES, Job, Rendered, render_set, render_video
from rratag.data.rendered.birds import COATS, MARKINGS, Pose, paint_bird
from rratag.data.rendered.film import SHARE, Plan, film, plan_video, stretches
from rratag.data.rendered.paint import Pen, mix, smooth

SIZE = (240, 136)
FRAMES = 20


def small_plan(seed: int) -> Plan:
    return plan_video(np.random.default_rng(seed), *SIZE, FRAMES)


def decode(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def changed(a: np.ndarray, b: np.ndarray, least: int = 1) -> np.ndarray:
    return np.abs(a.astype(int) - b.astype(int)).max(2) >= least


def pixels(box: tuple[float, float, float, float], grow: int = 0) -> tuple[slice, slice]:
    x0, y0, x1, y1 = (round(v * side) for v, side in zip(box, SIZE * 2, strict=True))
    return slice(max(0, y0 - grow), y1 + grow), slice(max(0, x0 - grow), x1 + grow)


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Rendered]]:
    out = tmp_path_factory.mktemp("set")
    options = {"classes": ["red_capped", "yellow_tailed"], "videos_per_class": 2, "size": SIZE, "seconds": 2.0}
    return out, list(render_set(out, seed=5, **options))


def test_set_is_one_folder_per_class(small_set: tuple[Path, list[Rendered]]) -> None:
    out, rendered = small_set
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    names = [f"{label}/{label}_{number:03d}.mp4" for label in ("red_capped", "yellow_tailed") for number in (0, 1)]
    assert files == sorted([*names, "truth.csv"])
    assert [item.video for item in rendered] == names
    assert len({(out / name).read_bytes() for name in names}) == 4


def test_videos_are_h264_of_the_size_and_rate_asked_for(small_set: tuple[Path, list[Rendered]]) -> None:
    out, rendered = small_set
    with av.open(str(out / rendered[0].video)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", *SIZE)
        times = [float(frame.pts * frame.time_base) for frame in container.decode(stream)]
    np.testing.assert_allclose(times, np.arange(20) / 10, atol=1e-6)


def test_truth_file_says_what_the_records_say(small_set: tuple[Path, list[Rendered]]) -> None:
    out, rendered = small_set
    with (out / "truth.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == ["video", "label", "frame", "time_s", "x0", "y0", "x1", "y1"]
    assert [(row["video"], int(row["frame"])) for row in rows] == [
        (r.video, f) for r in rendered for f in sorted(r.boxes)
    ]
    for row in rows:
        item = next(r for r in rendered if r.video == row["video"])
        assert row["label"] == row["video"].split("/")[0] == item.label
        assert float(row["time_s"]) == pytest.approx(int(row["frame"]) / 10)
        written = [float(row[side]) for side in ("x0", "y0", "x1", "y1")]
        np.testing.assert_allclose(written, item.boxes[int(row["frame"])], atol=1e-5)


def test_a_video_does_not_depend_on_its_company(small_set: tuple[Path, list[Rendered]], tmp_path: Path) -> None:
    out, rendered = small_set
    alone = Job("yellow_tailed", 1, 5, SIZE, 10, 20)
    (tmp_path / "yellow_tailed").mkdir()
    assert render_video(tmp_path, alone) == rendered[3]
    assert (tmp_path / alone.video).read_bytes() == (out / alone.video).read_bytes()


@pytest.mark.slow
def test_processes_write_the_same_bytes(small_set: tuple[Path, list[Rendered]], tmp_path: Path) -> None:
    out, rendered = small_set
    labels = ["yellow_tailed", "red_capped"]
    again = list(render_set(tmp_path, classes=labels, videos_per_class=2, seed=5, size=SIZE, seconds=2.0, workers=2))
    assert {item.video: item for item in again} == {item.video: item for item in rendered}
    for item in rendered:
        assert (tmp_path / item.video).read_bytes() == (out / item.video).read_bytes()


def test_another_seed_gives_another_video(small_set: tuple[Path, list[Rendered]], tmp_path: Path) -> None:
    out, rendered = small_set
    list(render_set(tmp_path, classes=["red_capped"], videos_per_class=1, seed=6, size=SIZE, seconds=2.0))
    first = rendered[0].video
    assert changed(decode(tmp_path / first)[0], decode(out / first)[0], 40).mean() > 0.05


@pytest.mark.parametrize("seed", range(4))
def test_boxes_are_tight_around_what_the_bird_changes(seed: int) -> None:
    plan = small_plan(seed)
    visible = 0
    for (with_bird, box), (without, none) in zip(film(plan, MARKINGS["red_capped"]), film(plan, None), strict=True):
        assert none is None
        difference = changed(with_bird, without)
        if box is None:
            assert not difference.any()
            continue
        visible += 1
        outside = difference.copy()
        outside[pixels(box, grow=2)] = False
        assert not outside.any(), "the bird sticks out of its box"
        rows, columns = pixels(box)
        inside = difference[rows, columns]
        height, width = inside.shape
        assert height >= 3
        assert width >= 3
        for edge in (inside[:2], inside[-2:], inside[:, :2], inside[:, -2:]):
            assert edge.any(), "the box is larger than the bird"
    assert SHARE[0] <= visible / FRAMES <= SHARE[1]


def test_encoded_frames_show_the_bird_where_the_truth_says(small_set: tuple[Path, list[Rendered]]) -> None:
    out, rendered = small_set
    item = rendered[0]
    rng = np.random.default_rng(Job(item.label, 0, 5, SIZE, 10, 20).draws)
    empty = [picture for picture, _ in film(plan_video(rng, *SIZE, 20), None)]
    for number, picture in enumerate(decode(out / item.video)):
        difference = changed(picture, empty[number], 60)
        if number in item.boxes:
            assert difference[pixels(item.boxes[number])].mean() > 3 * difference.mean()
        else:
            assert difference.mean() < 0.02


@pytest.mark.parametrize("label", [name for name in CLASSES if name != "blue_throated"])
def test_classes_differ_inside_the_bird_alone(label: str) -> None:
    plan = small_plan(11)
    differing = 0
    for (a, box_a), (b, box_b) in zip(film(plan, MARKINGS[label]), film(plan, MARKINGS["blue_throated"]), strict=True):
        assert box_a == box_b
        difference = changed(a, b)
        if box_a is not None:
            differing += bool(difference[pixels(box_a, grow=2)].any())
            difference[pixels(box_a, grow=2)] = False
        assert not difference.any()
    assert differing >= 2


def test_outline_of_a_bird_does_not_depend_on_its_class() -> None:
    for flap in (None, 0.9, 0.0, -0.7):
        pose = Pose(60, 60, 36, -0.3, 1, flap)
        masks = {paint_bird(pose, COATS[0], marking, (1, 1, 1))[1].tobytes() for marking in MARKINGS.values()}
        assert len(masks) == 1


def test_a_marking_is_a_small_part_of_the_bird() -> None:
    pose = Pose(90, 90, 60, -0.4, 1, None)
    plain, mask, _ = paint_bird(pose, COATS[1], type(MARKINGS["red_capped"])(), (1, 1, 1))
    bird = np.asarray(mask) > 128
    for marking in MARKINGS.values():
        marked = paint_bird(pose, COATS[1], marking, (1, 1, 1))[0]
        share = (changed(np.asarray(marked), np.asarray(plain), 30) & bird).sum() / bird.sum()
        assert 0.015 < share < 0.15


def test_a_bird_that_faces_left_is_the_mirror_image() -> None:
    right, mask, _ = paint_bird(Pose(60, 60, 36, -0.4, 1, None), COATS[0], MARKINGS["blue_throated"], (1, 1, 1))
    left, mirrored, _ = paint_bird(Pose(60, 60, 36, -0.4, -1, None), COATS[0], MARKINGS["blue_throated"], (1, 1, 1))
    assert changed(np.asarray(left), np.asarray(right)[:, ::-1], 60).mean() < 0.02
    assert changed(np.asarray(mirrored)[..., None], np.asarray(mask)[:, ::-1, None], 60).mean() < 0.02
    throat = (np.asarray(right)[..., 2].astype(int) - np.asarray(right)[..., 0] > 100) & (np.asarray(mask) > 128)
    assert np.flatnonzero(throat.any(0)).mean() > mask.width / 2 + 0.3 * 36


@settings(deadline=None, max_examples=200)
@given(num_frames=st.integers(12, 120), seed=st.integers(0, 2**32 - 1))
def test_stretches_hold_29_to_50_percent_of_the_frames(num_frames: int, seed: int) -> None:
    found = stretches(num_frames, np.random.default_rng(seed))
    shown = [frame for stretch in found for frame in range(stretch.start, stretch.stop)]
    assert 1 <= len(found) <= 2
    assert SHARE[0] <= len(shown) / num_frames <= SHARE[1]
    assert len(set(shown)) == len(shown)
    assert min(shown) >= 0
    assert max(shown) < num_frames
    assert all(b.start > a.stop for a, b in itertools.pairwise(found))


def test_birds_are_small_and_anywhere_in_the_picture() -> None:
    places, heights = [], []
    for seed in range(16):
        plan = small_plan(100 + seed)
        heights += [pose.length / plan.height for pose in plan.poses.values()]
        places += [pose.x / plan.width for pose in plan.poses.values()]
    assert min(heights) >= 0.15
    assert max(heights) <= 0.30
    share_left, share_right = np.mean(np.array(places) < 0.3), np.mean(np.array(places) > 0.7)
    assert share_left > 0.1
    assert share_right > 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["red_capped", "pink_toed"]}, "each must be one of black_masked"),
        ({"classes": ["red_capped", "red_capped"]}, "once"),
        ({"size": (241, 136)}, "even size"),
        ({"seconds": 1.0}, "at least 12 frames"),
    ],
)
def test_wrong_calls_say_what_is_accepted(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        next(render_set(tmp_path, videos_per_class=1, seed=0, **options))


def test_pen_turns_clockwise() -> None:
    pen = Pen(40, 10.0, np.pi / 2, 1, (1, 1, 1))
    pen.fill([(1.0, -0.2), (1.5, 0.0), (1.0, 0.2)], (255, 0, 0))
    mask = np.asarray(pen.finish()[1])
    rows, columns = np.nonzero(mask)
    assert rows.min() >= 28  # forward has become down
    assert abs(columns.mean() - 19.5) < 1


def test_smooth_passes_through_its_points() -> None:
    corners = [(0.0, 0.0), (2.0, 0.5), (1.0, 3.0)]
    np.testing.assert_allclose(smooth(corners, 6)[::6], corners, atol=1e-12)
    assert mix((0, 100, 200), (100, 0, 200), 0.25) == (25, 75, 200)
