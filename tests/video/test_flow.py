"""Optical flow: right sign, size and order of channels; each field once; what is missing or damaged stays so."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rratag.errors import UsageError
from rratag.records import Video
from rratag.video import pool as pool_module
from rratag.video.decode import Frame, Notes, decode_in_order
from rratag.video.flow import Stacks, check_opencv, field_numbers, frame_numbers, to_bytes
from rratag.video.plan import Sampling
from rratag.video.pool import Decoded, DecodePool, PoolOptions
from rratag.video.probe import probe
from rratag.video.views import ViewRule, mirrored
from tests.conftest import encode

X, Y = 3, -2
"""Motion of the texture, in pixels a frame: right and up."""
LEVEL = 255 / 40
RULE = ViewRule("full", 64, 64, "bilinear")


def texture(seed: int = 0) -> np.ndarray:
    """Soft blobs, so that motion can be seen everywhere."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(20, 235, (40, 52))
    rows, columns = np.linspace(0, 39, 240), np.linspace(0, 51, 312)
    tall = np.stack([np.interp(rows, np.arange(40), coarse[:, j]) for j in range(52)], axis=1)
    wide = np.stack([np.interp(columns, np.arange(52), tall[i]) for i in range(240)])
    return np.repeat(wide[:, :, None], 3, axis=2).astype(np.uint8)


def moving(num_frames: int, height: int = 64, width: int = 96, steps: Sequence[tuple[int, int]] = ()) -> list:
    """Pictures through which the texture moves by (X, Y), or by `steps`, from each frame to the next."""
    ground, x, y = texture(), 100, 80
    pictures = []
    for number in range(num_frames):
        pictures.append(ground[y : y + height, x : x + width].copy())
        right, down = steps[number] if number < len(steps) else (X, Y)
        x, y = x - right, y - down  # the window goes the other way
    return pictures


def frames(pictures: Sequence[np.ndarray]) -> list[Frame]:
    return [Frame(number, 0.1 * number, picture, 0) for number, picture in enumerate(pictures)]


def stacks_of(pictures: Sequence[np.ndarray], wanted: Sequence[int]) -> dict[int, np.ndarray]:
    stacks = Stacks(np.array(wanted), len(pictures), lambda height, width: (height, width))
    given = [frame for frame in frames(pictures) if frame.index in stacks.frames]
    return {stack.index: stack.image for frame in given for stack in stacks.add(frame)}


def motion(stack: np.ndarray) -> np.ndarray:
    """Median motion of each channel, in pixels, away from the borders."""
    return np.median(stack[8:-8, 8:-8].reshape(-1, stack.shape[2]), axis=0) / LEVEL - 20


# --- what a stack is ---


def test_motion_right_and_up_is_that_in_the_right_channels() -> None:
    steps = [(3, -2), (-4, 1), (0, 5), (2, 2), (-1, -3), (9, 9)]
    (stack,) = stacks_of(moving(7, steps=steps), [0]).values()
    assert stack.shape == (64, 96, 10)
    assert stack.dtype == np.uint8
    wanted = [value for step in steps[:5] for value in step]  # x, y, x, y... of five fields, the sixth is another's
    assert motion(stack) == pytest.approx(wanted, abs=0.2)


def test_bytes_are_linear_and_cut_at_the_bound() -> None:
    pixels = np.array([-50, -20, -10, -0.01, 0, 0.01, 1, 10, 20, 50], np.float32)
    assert to_bytes(pixels).tolist() == [0, 0, 64, 127, 128, 128, 134, 191, 255, 255]


def test_motion_beyond_the_bound_is_cut() -> None:
    flow = to_bytes(np.array([[30.0, -30.0]], np.float32))
    assert flow.tolist() == [[255, 0]]


@pytest.mark.parametrize(
    ("index", "num_frames", "fields", "needed"),
    [
        (0, 9, [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5]),
        (3, 9, [3, 4, 5, 6, 7], [3, 4, 5, 6, 7, 8]),
        (4, 9, [4, 5, 6, 7, 7], [4, 5, 6, 7, 8]),
        (7, 9, [7, 7, 7, 7, 7], [7, 8]),
        (8, 9, [7, 7, 7, 7, 7], [7, 8]),
        (0, 3, [0, 1, 1, 1, 1], [0, 1, 2]),
        (1, 2, [0, 0, 0, 0, 0], [0, 1]),
        (0, 1, [0, 0, 0, 0, 0], [0]),
    ],
)
def test_a_stack_past_the_end_repeats_the_last_field(
    index: int, num_frames: int, fields: list[int], needed: list[int]
) -> None:
    assert field_numbers(index, num_frames) == fields
    assert frame_numbers(index, num_frames) == needed


def test_a_short_video_repeats_its_last_field() -> None:
    found = stacks_of(moving(3, steps=[(4, 0), (0, -3)]), [0, 1, 2])
    assert motion(found[0]) == pytest.approx([4, 0, *([0, -3] * 4)], abs=0.2)
    assert motion(found[1]) == pytest.approx([0, -3] * 5, abs=0.2)
    assert np.array_equal(found[1], found[2])


def test_one_frame_has_no_motion() -> None:
    (stack,) = stacks_of(moving(1), [0]).values()
    assert (stack == 128).all()


# --- each field once ---


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """Pairs of pictures whose flow was computed; the flow itself is their means."""
    pairs: list[tuple[bytes, bytes]] = []

    def field(self: Stacks, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        pairs.append((before.tobytes(), after.tobytes()))
        return np.stack([before, after], axis=2)

    monkeypatch.setattr(Stacks, "_field", field)
    return pairs


def numbered(num_frames: int) -> list[np.ndarray]:
    return [np.full((8, 8, 3), 3 * number, np.uint8) for number in range(num_frames)]


@pytest.mark.parametrize("order", ["forward", "backward", "mixed"])
def test_every_field_is_computed_once_and_shared(counted: list, order: str) -> None:
    wanted = [1, 2, 4, 11, 18, 19]
    stacks = Stacks(np.array(wanted), 20, lambda height, width: (height, width))
    assert stacks.frames.tolist() == [*range(1, 10), *range(11, 17), 18, 19]
    given = [frame for frame in frames(numbered(20)) if frame.index in stacks.frames]
    given = {"forward": given, "backward": given[::-1], "mixed": given[1::2] + given[::2]}[order]
    found = {stack.index: stack for frame in given for stack in stacks.add(frame)}
    assert len(counted) == len(set(counted)) == 8 + 5 + 1
    assert sorted(found) == wanted
    for index, stack in found.items():
        fields = [min(index + step, 18) for step in range(5)]
        pairs = [value for field in fields for value in (3 * field, 3 * (field + 1))]
        assert stack.image[0, 0].tolist() == pairs
        assert stack.time_s == pytest.approx(0.1 * index)  # when its first frame is shown
    assert not stacks._pictures
    assert not stacks._fields


def test_little_is_held_at_a_time(counted: list) -> None:
    stacks = Stacks(np.arange(0, 300, 2), 300, lambda height, width: (height, width))
    most = 0
    for frame in frames([np.zeros((8, 8, 3), np.uint8)] * 300):
        list(stacks.add(frame))
        most = max(most, len(stacks._pictures) + len(stacks._fields))
    assert most <= 8


def test_a_frame_that_never_comes_takes_its_stacks_with_it(counted: list) -> None:
    stacks = Stacks(np.array([0, 3, 8]), 20, lambda height, width: (height, width))
    given = [frame for frame in frames(numbered(20)) if frame.index in stacks.frames and frame.index != 4]
    assert [stack.index for frame in given for stack in stacks.add(frame)] == [8]


def test_damage_of_a_frame_is_damage_of_its_stacks() -> None:
    stacks = Stacks(np.array([0, 3, 8, 19]), 20, lambda height, width: (height, width))
    assert stacks.damaged({5}) == {0, 3}
    assert stacks.damaged({14, 15}) == set()
    assert stacks.damaged({18}) == {19}


def test_pictures_of_other_sizes_are_scaled_to_the_first(counted: list) -> None:
    stacks = Stacks(np.array([0]), 2, lambda height, width: (height // 2, width // 4))
    pictures = [np.zeros((32, 64, 3), np.uint8), np.zeros((90, 90, 3), np.uint8)]
    (found,) = [stack for frame in frames(pictures) for stack in stacks.add(frame)]
    assert found.image.shape[:2] == (16, 16)


# --- views ---


def test_a_mirrored_view_turns_motion_to_the_right_into_motion_to_the_left() -> None:
    pictures = moving(2)
    (plain,) = stacks_of(pictures, [0]).values()
    (of_mirror,) = stacks_of([picture[:, ::-1] for picture in pictures], [0]).values()
    turned = mirrored(plain)
    assert motion(turned) == pytest.approx([-X, Y] * 5, abs=0.2)
    assert np.abs(turned.astype(int) - of_mirror)[8:-8, 8:-8].mean() < 1.5
    assert np.array_equal(mirrored(turned), plain)
    assert np.array_equal(turned[:, :, 1], plain[:, ::-1, 1])
    assert np.array_equal(turned[:, :, 0], 255 - plain[:, ::-1, 0])
    picture = pictures[0]
    assert np.array_equal(mirrored(picture), picture[:, ::-1])


def test_ten_crops_cut_stacks_without_scaling_them() -> None:
    rule = ViewRule("10", 32, 36, "bilinear")
    stack = np.random.default_rng(0).integers(0, 256, (36, 50, 10), np.uint8)
    views = rule.cut(stack)
    assert views.shape == (10, 32, 32, 10)
    for view, (top, left, turned) in zip(views, rule.offsets(36, 50), strict=True):
        for row, column, channel in product((0, 31), (0, 5, 31), range(10)):
            across = 31 - column if turned else column
            value = int(stack[top + row, left + across, channel])
            assert view[row, column, channel] == (255 - value if turned and channel % 2 == 0 else value)
    whole = ViewRule("full", 64, 72, "bilinear").cut(stack)
    assert np.array_equal(whole[0], stack)


# --- through the decode worker ---


def run(path: Path, sampling: Sampling, rule: ViewRule = RULE, **limits: float) -> Decoded[np.ndarray]:
    options = PoolOptions(workers=1, flow=rule, **limits)  # type: ignore[arg-type]
    with DecodePool(options, sampling, np.copy, lambda _: False) as pool:
        (result,) = pool.run([Video(path.parent, path.name, path)])
    return result


def test_stacks_of_a_file(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", moving(12, 128, 192))  # twice the size that flow is computed at
    found = run(path, Sampling(frames=3))
    assert (found.receipt.status, found.receipt.message) == ("ok", "")
    assert found.frame_index.tolist() == [2, 6, 10]
    assert found.time_s == pytest.approx([0.2, 0.6, 1.0])
    for stack in found.frames:
        assert stack.shape == (64, 96, 10)
        assert motion(stack) == pytest.approx([X / 2, Y / 2] * 5, abs=0.25)
    receipt = found.receipt
    assert (receipt.frames_wanted, receipt.frames_decoded, receipt.frames_distinct) == (3, 3, 3)
    assert (receipt.width, receipt.height) == (192, 128)  # of the picture: what boxes are fractions of


SLOW = """
import time
import numpy as np
from rratag.video.flow import Stacks
def field(self, before, after):
    self.computing(True)
    time.sleep(2)
    self.computing(False)
    return np.zeros((*before.shape, 2), np.uint8)
Stacks._field = field
"""


@pytest.fixture
def slow_flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that take 2 s for a field."""
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    search_path = [str(tmp_path), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, search_path)))


def test_the_time_of_flow_does_not_count_as_the_decoders(
    slow_flow: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "a.mp4", moving(5))
    found = run(path, Sampling(frames=1), deadline_s=3.0, no_progress_s=1.5)  # two fields, 2 to 3 and 3 to 4: 4 s
    assert found.receipt.status == "ok", found.receipt
    monkeypatch.setattr(pool_module, "FIELD_LIMIT_S", 0.5)
    found = run(path, Sampling(frames=1), deadline_s=3.0, no_progress_s=1.5)
    assert (found.receipt.status, found.receipt.reason) == ("timed_out", "no_progress")


def spoilt_file(path: Path, num_bytes: int) -> tuple[set[int], set[int]]:
    """A file with `num_bytes` wrong in the middle, the frames that still come, and those that are damaged."""
    content = encode(path, moving(30)).read_bytes()
    middle = len(content) // 2
    wrong = np.random.default_rng(0).bytes(num_bytes)
    path.write_bytes(content[:middle] + wrong + content[middle + num_bytes :])
    notes = Notes()
    pictures = decode_in_order(probe(path, 1 << 20), np.arange(30), notes, 1 << 20)
    return {frame.index for frame in pictures}, notes.damaged


@pytest.mark.parametrize("num_bytes", [20, 300])
def test_missing_and_damaged_frames_are_counted_by_the_stacks_they_spoil(num_bytes: int, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    came, damaged = spoilt_file(path, num_bytes)
    wanted = list(range(1, 30, 3))
    whole = [index for index in wanted if set(frame_numbers(index, 30)) <= came]
    spoilt = [index for index in whole if damaged & set(frame_numbers(index, 30))]
    found = run(path, Sampling(frames=10), ViewRule("full", 32, 32, "bilinear"))
    assert found.frame_index.tolist() == whole
    receipt = found.receipt
    counts = receipt.frames_wanted, receipt.frames_decoded, receipt.frames_distinct, receipt.frames_damaged
    assert counts == (10, len(whole), len(whole), len(spoilt))
    if num_bytes == 20:
        assert len(spoilt) > len(damaged & set(whole)), "a stack that begins before the damage must run into it"
        assert (receipt.status, receipt.reason) == ("partial", "damaged")
    else:
        assert 0 < len(spoilt) < len(whole) < len(wanted), "the file must lack a frame and have damaged ones"
        assert (receipt.status, receipt.reason) == ("partial", "frames")


# --- without OpenCV ---


def test_without_opencv_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_opencv()
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UsageError, match=r"pip install 'rratag\[flow\]'"):
        check_opencv()


def test_an_opencv_without_the_contrib_modules_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(__version__="4.10.0"))
    with pytest.raises(UsageError, match=r"4\.10\.0 here lacks; uninstall opencv-python"):
        check_opencv()
