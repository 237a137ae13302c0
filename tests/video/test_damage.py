"""Damage is named, never hidden; and decord is believed only where it agrees."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import av
import numpy as np
import pytest

from rratag.records import Video
from rratag.video import decode
from rratag.video.decode import DistrustError, Notes, decode_decord, decode_in_order, decode_pyav
from rratag.video.plan import Sampling, wanted_indices
from rratag.video.pool import Decoded, DecodePool, PoolOptions
from rratag.video.probe import Probe, probe

MAX_PIXELS = 1 << 26
needs_decord = pytest.mark.skipif(importlib.util.find_spec("decord") is None, reason="decord is not installed")


def run(path: Path, decoder: str = "auto", frames: int = 1000) -> Decoded:
    options = PoolOptions(workers=1, decoder=decoder, max_pixels=1 << 20)
    with DecodePool(options, Sampling(frames=frames), np.copy, lambda _: False) as pool:
        (result,) = pool.run([Video(path.parent, path.name, path)])
    return result


def packet_span(path: Path, number: int) -> tuple[int, int]:
    """Position and size in the file of a packet of an mp4, in decoding order."""
    with av.open(str(path)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
        return packets[number].pos, packets[number].size


def spoil(path: Path, number: int) -> None:
    """Overwrite the body of one packet (its length field stays)."""
    position, size = packet_span(path, number)
    data = bytearray(path.read_bytes())
    start = position + size // 3
    data[start : position + size] = (
        np.random.default_rng(5).integers(0, 256, position + size - start, np.uint8).tobytes()
    )
    path.write_bytes(data)


def test_a_spoilt_packet_is_counted_and_right_pictures_stay_right(clips):
    path = clips.make("a.mp4", "h264", num_frames=80)
    spoil(path, 23)
    result = run(path)
    assert (result.receipt.status, result.receipt.reason) in {("partial", "damaged"), ("partial", "frames")}
    assert 0 < result.receipt.frames_damaged <= 20
    assert "[h264] " in result.receipt.message  # what the decoder said of it
    assert len(result.receipt.message) < 700
    numbers = dict(zip(result.frame_index.tolist(), result.frames, strict=True))
    for index in [*range(20), *range(40, 80)]:
        assert clips.number(numbers[index]) == index


def test_packets_that_hold_no_picture_are_missing_not_repeated(clips):
    path = clips.make("a.mp4", "h264", num_frames=80)
    data = bytearray(path.read_bytes())
    for number in range(50, 80):
        position, size = packet_span(path, number)
        data[position : position + size] = (size - 4).to_bytes(4, "big") + b"\x0c" + b"\xff" * (size - 5)  # filler
    path.write_bytes(data)
    result = run(path)
    assert (result.receipt.status, result.receipt.reason) == ("partial", "frames")
    assert result.receipt.frames_wanted == 80
    assert result.receipt.frames_decoded == len(result.frames) < 60
    assert f"{len(result.frames)} of 80 frames" in result.receipt.message
    for index, frame in zip(result.frame_index, result.frames, strict=True):
        if index < 40:
            assert clips.number(frame) == index


def test_a_spoilt_stream_without_time_stamps_is_doubted_from_there_on(clips):
    path = clips.make("a.avi", "h264", num_frames=80)
    data = bytearray(path.read_bytes())
    position, size = packet_span(path, 30)
    data[position + 8 : position + 8 + size] = b"\xff" * size
    path.write_bytes(data)
    result = run(path)
    assert result.receipt.status == "partial"
    assert result.receipt.frames_damaged >= result.receipt.frames_decoded - 30
    for index, frame in zip(result.frame_index[:14], result.frames, strict=False):
        assert clips.number(frame) == index


def test_a_decoder_that_leaves_pictures_out_without_a_word_is_found_out(clips, monkeypatch):
    """Where frames are told apart by counting, a missing one would give all later ones another's place."""
    path = clips.make("a.avi", "h264", num_frames=40)
    real = decode._Feed.decode
    monkeypatch.setattr(
        decode._Feed, "decode", lambda feed, at, packet: real(feed, at, packet)[: 0 if at == 20 else 99]
    )
    found, notes = probe(path, MAX_PIXELS), Notes()
    assert not found.timed
    frames = {f.index: clips.number(f.image) for f in decode_in_order(found, np.arange(40), notes, MAX_PIXELS)}
    wrong = {index for index, number in frames.items() if number != index}
    assert wrong
    assert wrong <= notes.damaged


def test_key_frames_that_are_none_are_found_out(clips):
    """A container that calls every packet a key frame must not make decoding start in the middle of a group."""
    path = clips.make("a.mp4", "mpeg4", num_frames=60, options={"g": "60", "bf": "0"})
    data = bytearray(path.read_bytes())
    at = data.index(b"stss")
    data[at : at + 4] = b"free"  # no table of key frames: all are
    path.write_bytes(data)
    found = probe(path, MAX_PIXELS)
    assert found.packets.key.all()
    with pytest.raises(DistrustError, match="key frame that is none"):
        list(decode_pyav(found, np.array([30]), Notes(), MAX_PIXELS))
    result = run(path, frames=3)
    assert [clips.number(frame) for frame in result.frames] == [10, 30, 50]


def test_only_what_is_needed_is_decoded(clips, monkeypatch):
    path = clips.make("a.mp4", "h264", num_frames=100)
    sent = []
    real = decode._Feed.decode

    def counting(feed, position, packet):
        sent.append(position if packet is not None else None)
        return real(feed, position, packet)

    monkeypatch.setattr(decode._Feed, "decode", counting)
    found = probe(path, MAX_PIXELS)
    frames = list(decode_pyav(found, np.array([41, 80]), Notes(), MAX_PIXELS))
    assert [clips.number(frame.image) for frame in frames] == [41, 80]
    fed = [position for position in sent if position is not None]
    assert min(fed) == 40
    assert len(fed) < 10


def test_skipping_gives_the_same_pixels_as_decoding_everything(clips):
    for kind in ["h264", "h264_open", "h264_one_gop"]:
        path = clips.make(f"{kind}.mp4", kind, num_frames=90)
        found = probe(path, MAX_PIXELS)
        every = {f.index: f.image for f in decode_in_order(found, np.arange(90), Notes(), MAX_PIXELS)}
        for frames in [1, 4, 7, 25, 60]:
            wanted = wanted_indices(Sampling(frames=frames), found.times_s, found.end_s)
            for frame in decode_pyav(found, wanted, Notes(), MAX_PIXELS):
                assert np.array_equal(frame.image, every[frame.index])


@needs_decord
@pytest.mark.parametrize(
    ("name", "kind"), [("a.mp4", "h264"), ("a.mkv", "h264"), ("a.mp4", "mpeg4_plain"), ("a.webm", "vp9")]
)
def test_decord_where_it_is_right(clips, name, kind):
    result = run(clips.make(name, kind, num_frames=60), "decord", frames=7)
    assert (result.receipt.decoder, result.receipt.fallback_from) == ("decord", "")
    assert (
        [clips.number(frame) for frame in result.frames] == result.frame_index.tolist() == [4, 12, 21, 30, 38, 47, 55]
    )


@needs_decord
def test_decord_turns_pictures_upright(clips):
    result = run(clips.make("a.mp4", "h264", num_frames=20, rotation=90), "decord", frames=4)
    assert (result.receipt.decoder, result.receipt.rotation) == ("decord", 90)
    assert [clips.number(frame) for frame in result.frames] == [2, 7, 12, 17]


@needs_decord
@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        ("a.ts", "h264", "mpegts files"),
        ("a.mp4", "hevc", "hevc video"),
        ("a.mp4", "h264_open", "open groups of pictures"),
        ("a.wmv", "wmv2", "asf files"),
        ("a.avi", "mpeg4", "avi files"),
    ],
)
def test_decord_is_not_asked_what_it_gets_wrong(clips, name, kind, why):
    result = run(clips.make(name, kind, num_frames=60), "decord", frames=7)
    assert (result.receipt.decoder, result.receipt.fallback_from) == ("pyav", "decord")
    assert result.receipt.message == f"decord is not used for {why}"
    assert (
        [clips.number(frame) for frame in result.frames] == result.frame_index.tolist() == [4, 12, 21, 30, 38, 47, 55]
    )


@pytest.fixture
def lying_decord(monkeypatch):
    """Put a decord in place that is some frames off, and counts them wrong if told so."""

    def install(shift: int, count_off: int = 0) -> None:
        class Reader:
            def __init__(self, path: str, ctx: object, num_threads: int) -> None:
                found = probe(Path(path), MAX_PIXELS)
                frames = decode_in_order(found, np.arange(len(found.pts)), Notes(), MAX_PIXELS)
                self.images = [frame.image for frame in frames]

            def __len__(self) -> int:
                return len(self.images) + count_off

            def __getitem__(self, index: int) -> object:
                image = self.images[max(0, index - shift)]
                return types.SimpleNamespace(asnumpy=lambda: image)

        fake = types.ModuleType("decord")
        fake.VideoReader, fake.cpu, fake.DECORDError = Reader, lambda _: None, type("DECORDError", (RuntimeError,), {})
        monkeypatch.setitem(sys.modules, "decord", fake)

    return install


def by_decord(path: Path, frames: int) -> list[decode.Frame]:
    found: Probe = probe(path, MAX_PIXELS)
    wanted = wanted_indices(Sampling(frames=frames), found.times_s, found.end_s)
    return list(decode_decord(found, wanted, Notes(), MAX_PIXELS))


def test_decord_that_is_off_is_caught(clips, lying_decord):
    path = clips.make("a.mp4", "h264", num_frames=40)
    lying_decord(0)
    assert [clips.number(frame.image) for frame in by_decord(path, 4)] == [5, 15, 25, 35]
    lying_decord(1)
    with pytest.raises(DistrustError, match="another picture for frame 25"):
        by_decord(path, 4)
    lying_decord(0, count_off=3)
    with pytest.raises(DistrustError, match="counts 43 frames where there are 40"):
        by_decord(path, 4)


@needs_decord
def test_decord_is_wrong_on_the_kinds_that_it_is_kept_from(clips, monkeypatch):
    """The reason for the list of kinds, and the check behind it: without the list, the pixels tell."""
    path = clips.make("a.ts", "h264_open", num_frames=60)
    monkeypatch.setattr(decode, "_decord_objection", lambda probe: "")
    with pytest.raises(DistrustError, match=r"decord (gave another picture|counts|failed)"):
        by_decord(path, 25)
