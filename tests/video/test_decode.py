"""Every picture given for a wanted time is the right one, upright, whatever the container and codec."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from rratag.video import decode
from rratag.video.decode import DistrustError, Notes, routes
from rratag.video.plan import Sampling, wanted_indices
from rratag.video.probe import Probe, probe

MAX_PIXELS = 1 << 26
KINDS = [
    ("a.mp4", "h264"),
    ("a.mp4", "h264_open"),
    ("a.mp4", "h264_one_gop"),
    ("a.mkv", "h264_open"),
    ("a.mp4", "hevc"),
    ("a.mov", "hevc_layers"),
    ("a.ts", "h264"),
    ("a.ts", "h264_open"),
    ("a.ts", "hevc"),
    ("a.m2ts", "h264_open"),
    ("a.webm", "vp8"),
    ("a.webm", "vp9"),
    ("a.webm", "av1"),
    ("a.mp4", "av1"),
    ("a.avi", "mpeg4"),
    ("a.avi", "mpeg4_plain"),
    ("a.avi", "h264"),
    ("a.avi", "h264_open"),
    ("a.mp4", "mpeg4"),
    ("a.mpg", "mpeg1"),
    ("a.ts", "mpeg2"),
    ("a.wmv", "wmv2"),
    ("a.avi", "mjpeg"),
    ("a.mkv", "ffv1"),
    ("a.mov", "prores"),
    ("a.flv", "h264"),
    ("a.h264", "h264"),
    ("a.hevc", "hevc"),
]


def decoded(path: Path, frames: int = 25) -> tuple[Probe, np.ndarray, dict[int, decode.Frame], Notes]:
    """Take the routes as a worker does."""
    found = probe(path, MAX_PIXELS)
    for name, route, view in routes("auto", found):
        wanted = wanted_indices(Sampling(frames=frames), view.times_s, view.end_s)
        notes = Notes(decoder=name)
        try:
            return view, wanted, {frame.index: frame for frame in route(view, wanted, notes, MAX_PIXELS, noop)}, notes
        except DistrustError:
            continue
    raise AssertionError("no route was trusted")


def noop() -> None:
    pass


@pytest.mark.parametrize("frames", [25, 1000])
@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_every_wanted_frame_is_the_right_one(clips, name, kind, frames):
    path = clips.make(name, kind, num_frames=60)
    found, wanted, pictures, notes = decoded(path, frames)
    assert len(found.pts) == 60
    assert wanted.tolist() == (list(range(60)) if frames == 1000 else [(2 * i + 1) * 60 // 50 for i in range(25)])
    assert list(pictures) == wanted.tolist()
    for index, picture in pictures.items():
        assert clips.number(picture.image) == index
        assert picture.time_s == pytest.approx(index / 25, abs=0.0011)
    assert not notes.damaged
    assert notes.errors == 0


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
def test_variable_rate_gives_the_frame_shown_at_the_moment(clips, name):
    ticks = np.cumsum([0, *([40, 40, 7, 300, 40, 1, 90] * 9)]).tolist()  # ms
    kind = "vp9" if name.endswith("webm") else "h264_open"
    path = clips.make(name, kind, num_frames=len(ticks), pts=ticks, time_base=Fraction(1, 1000))
    found, wanted, pictures, _ = decoded(path)
    middles = [(2 * i + 1) * found.end_s / 50 for i in range(25)]
    expected = sorted({max(k for k, tick in enumerate(ticks) if tick / 1000 <= m + 1e-6) for m in middles})
    assert wanted.tolist() == expected
    for index, picture in pictures.items():
        assert clips.number(picture.image) == index
        assert picture.time_s == pytest.approx(ticks[index] / 1000, abs=1e-3)
    assert list(pictures) == expected


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_rotated_pictures_come_upright(clips, name, rotation):
    path = clips.make(name, "h264", num_frames=10, rotation=rotation)
    _, _, pictures, _ = decoded(path, 10)
    assert list(pictures) == list(range(10))
    for index, picture in pictures.items():
        assert picture.rotation == rotation
        assert picture.image.shape == (96, 160, 3)
        assert clips.number(picture.image) == index


def patch_edit(path: Path, first: int, count: int, rate: int = 25) -> None:
    """Trim an mp4 as a phone does: its edit list shows only `count` frames from frame `first` on."""
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 4
    version_flags, entries, _, media_time, _ = struct.unpack_from(">IIIII", data, at)
    assert (version_flags, entries) == (0, 1)
    movie_scale = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)[0]
    media_scale = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]
    struct.pack_into(">I", data, at + 8, count * movie_scale // rate)
    struct.pack_into(">I", data, at + 12, media_time + first * media_scale // rate)
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["h264", "h264_open", "hevc"])
@pytest.mark.parametrize("first", [7, 23, 40])
def test_trimmed_frames_stay_away(clips, kind, first):
    path = clips.make("a.mp4", kind, num_frames=60)
    patch_edit(path, first, 16)
    found, wanted, pictures, _ = decoded(path, 1000)
    assert found.has_edits
    assert wanted.tolist() == list(range(16))
    assert [clips.number(picture.image) for picture in pictures.values()] == list(range(first, first + 16))
    assert [picture.time_s for picture in pictures.values()] == pytest.approx([k / 25 for k in range(16)])
    assert found.end_s == pytest.approx(16 / 25)


def test_clock_that_starts_anywhere(clips):
    path = clips.make("a.mkv", "h264_open", num_frames=40, pts=[k + 2500 for k in range(40)])
    found, _, pictures, _ = decoded(path, 1000)
    assert [clips.number(picture.image) for picture in pictures.values()] == list(range(40))
    assert found.times_s[0] == pytest.approx(0.0)


def test_transport_stream_clock_wraps(clips):
    ticks = [2**33 - 30 * 3600 + k * 3600 for k in range(60)]  # 90 kHz, wraps in the middle
    path = clips.make("a.ts", "h264_open", num_frames=60, pts=ticks, time_base=Fraction(1, 90000))
    _, _, pictures, _ = decoded(path, 1000)
    assert [clips.number(picture.image) for picture in pictures.values()] == list(range(60))
    assert pictures[59].time_s - pictures[0].time_s == pytest.approx(59 / 25)


@pytest.mark.parametrize("kind", ["h264", "h264_open", "hevc", "mpeg2"])
@pytest.mark.parametrize("cut", [0.3, 0.41, 0.6])
def test_recording_that_starts_in_the_middle(clips, kind, cut):
    """Frames before the first key frame, and those that lead it, cannot be decoded and are no frames."""
    path = clips.make("a.ts", kind, num_frames=80)
    data = path.read_bytes()
    path.write_bytes(data[int(len(data) * cut) // 188 * 188 :])
    _found, wanted, pictures, notes = decoded(path, 1000)
    numbers = [clips.number(picture.image) for picture in pictures.values()]
    assert list(pictures) == wanted.tolist()
    assert numbers == list(range(80 - len(numbers), 80))
    assert len(numbers) > 5
    steps = np.diff([picture.time_s for picture in pictures.values()])
    assert steps == pytest.approx(np.full(len(steps), 1 / 25))
    assert not notes.damaged


def test_picture_size_that_changes(clips):
    small = clips.make("s.ts", "h264", num_frames=20)
    big = clips.make("b.ts", "h264", num_frames=20, size=(320, 192), pts=list(range(20, 40)))
    path = clips.folder / "joined.ts"
    path.write_bytes(small.read_bytes() + big.read_bytes())
    _, _, pictures, _ = decoded(path, 1000)
    assert {picture.image.shape for picture in pictures.values()} == {(96, 160, 3), (192, 320, 3)}
    for picture in pictures.values():
        assert clips.number(picture.image) == picture.index % 20


def test_joined_recordings_whose_clock_starts_again(clips):
    one = clips.make("a.ts", "h264_open", num_frames=30)
    path = clips.folder / "joined.ts"
    path.write_bytes(one.read_bytes() * 2)
    found, _, pictures, _ = decoded(path, 1000)
    assert [clips.number(picture.image) for picture in pictures.values()] == [*range(30), *range(30)]
    assert not found.timed
    assert (np.diff(found.times_s) > 0).all()
