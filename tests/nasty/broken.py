"""Videos that are cut, spoilt, locked, or whose headers lie."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.nasty.kitchen import (
    Kitchen,
    Nasty,
    bad,
    box,
    content,
    cut,
    edited,
    film,
    good,
    noise,
    packets_of,
    part,
    remux,
)

ANY_END = (("ok", ""), ("partial", "frames"), ("partial", "damaged"), ("partial", "cut_off"), ("unreadable", "corrupt"))
REFUSED = tuple(
    ("unreadable", reason) for reason in ("truncated", "not_media", "too_large", "too_small", "unsupported_codec")
)
REFUSED = (*REFUSED, ("no_video_stream", "no_frames"), ("no_video_stream", "audio_only"))
FASTSTART = {"muxer": {"movflags": "faststart"}}
FRAGMENTS = {"muxer": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}}
KEY = {"encryption_key": "76a6c65c5ea762046bd749a2e632ccbb", "encryption_kid": "a7e61c373e219033c21091fa607bf3b8"}


def _cut_data(share: int) -> Callable[[Kitchen, Path], None]:
    """The index first, then `share` percent of the pictures' data."""

    def make(kitchen: Kitchen, path: Path) -> None:
        data = kitchen.bytes_of(".mp4", "h264", range(200), **FASTSTART)
        start = data.index(b"mdat") + 4
        path.write_bytes(data[: start + (len(data) - start) * share // 100])

    return make


def _flipped(suffix: str, kind: str, seed: int, **more: Any) -> Callable[[Kitchen, Path], None]:
    """Flip one bit in each of eight pictures' data, the first one spared; the container stays whole."""

    def make(kitchen: Kitchen, path: Path) -> None:
        data = bytearray(kitchen.film(path, kind, **more).read_bytes())
        rng = np.random.default_rng(seed)
        for number in rng.choice(np.arange(1, 40), 8, replace=False):
            place = _place_of_data(path, int(number), data, rng)
            data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)

    return make


def _place_of_data(path: Path, number: int, data: bytearray, rng: np.random.Generator) -> int:
    """A random byte of the picture behind the headers of a packet."""
    with av.open(str(path)) as file:
        packet = [packet for packet in file.demux(video=0) if packet.size][number]
        if path.suffix == ".ts":
            return packet.pos + int(rng.integers(60, 180))
        body = bytes(packet)
        return data.index(body[-40:]) + int(rng.integers(min(40, len(body))))


def _blindly_flipped(suffix: str, kind: str, seed: int) -> Callable[[Kitchen, Path], None]:
    """Flip twelve bits anywhere, headers too."""

    def edit(data: bytearray) -> None:
        rng = np.random.default_rng(seed)
        for place in rng.integers(0, len(data), 12).tolist():
            data[place] ^= 1 << int(rng.integers(8))

    return edited(suffix, kind, edit)


def _hole(fill: Callable[[int], bytes], kind: str) -> Callable[[Kitchen, Path], None]:
    """Overwrite packets 12 to 24."""

    def make(kitchen: Kitchen, path: Path) -> None:
        data = bytearray(kitchen.film(path, kind).read_bytes())
        places = packets_of(path)
        first, last = places[12][0], places[24][0]
        data[first:last] = fill(last - first)
        path.write_bytes(data)

    return make


def _without_pictures(kitchen: Kitchen, path: Path) -> None:
    """The last packets hold filler only."""
    data = bytearray(kitchen.film(path, "h264").read_bytes())
    for place, size in packets_of(path)[25:]:
        data[place : place + size] = (size - 4).to_bytes(4, "big") + b"\x0c" + b"\xff" * (size - 5)
    path.write_bytes(data)


def _without_some_pictures(kitchen: Kitchen, path: Path) -> None:
    """Filler where pictures were, in a container without time stamps: where do the following ones belong?"""
    data = bytearray(kitchen.film(path, "h264").read_bytes())
    for place, size in packets_of(path)[12:16]:
        data[place + 8 : place + 8 + size] = b"\0\0\0\1\x0c" + b"\xff" * (size - 6) + b"\x80"
    path.write_bytes(data)


def _gaps(kitchen: Kitchen, path: Path) -> None:
    """Every packet of the second group is missing, as after a bad transfer that a tool patched up."""
    source = kitchen.film(kitchen.folder / "gaps.mkv", "h264")
    remux(source, path, lambda number, packet: not 20 <= number < 40 or number == 39)


def _no_key_first(kitchen: Kitchen, path: Path) -> None:
    source = kitchen.film(kitchen.folder / "keys.mkv", "h264")
    remux(source, path, lambda number, packet: number > 6)


def _lost_packets(suffix: str) -> Callable[[Kitchen, Path], None]:
    """A transport stream of bad reception: one packet of 188 bytes in 25 is lost."""

    def make(kitchen: Kitchen, path: Path) -> None:
        data = kitchen.bytes_of(".ts", "mpeg2")
        rows = [data[at : at + 188] for at in range(0, len(data), 188)]
        path.write_bytes(b"".join(row for number, row in enumerate(rows) if number % 25 != 24))

    return make


def _replaced(old: bytes, new: bytes) -> Callable[[bytearray], None]:
    def edit(data: bytearray) -> None:
        at = data.index(old)
        data[at : at + len(old)] = new

    return edit


def _boxes(*kept: bytes, **more: Any) -> Callable[[Kitchen, Path], None]:
    """Only some top-level boxes of an mp4."""

    def make(kitchen: Kitchen, path: Path) -> None:
        data, at, out = kitchen.bytes_of(".mp4", **more), 0, []
        while at < len(data):
            size = struct.unpack_from(">I", data, at)[0]
            if data[at + 4 : at + 8] in kept:
                out.append(data[at : at + size])
            at += size
        path.write_bytes(b"".join(out))

    return make


def _elsewhere(kitchen: Kitchen, path: Path) -> None:
    """A film whose media data is said to lie in another file."""
    data = bytearray(kitchen.bytes_of(".mov", "h264", **FASTSTART))
    at = data.index(b"dref") + 12  # its one entry: size, kind, flags; flag 1 says "in this very file"
    size = struct.unpack_from(">I", data, at)[0]
    name = b"target.mp4\0"
    entry = box(b"url ", bytes(4), name)
    data[at : at + size] = entry
    grown = len(entry) - size
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        place = data.index(kind) - 4
        struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + grown)
    path.write_bytes(data[: data.index(b"mdat") - 4])


def _png_header(width: int, height: int, container: str) -> Callable[[Kitchen, Path], None]:
    """A film of PNG pictures whose container promises others."""

    def make(kitchen: Kitchen, path: Path) -> None:
        data = bytearray(kitchen.bytes_of(container, "png", range(3)))
        if container == ".avi":
            strf = data.index(b"strf") + 8
            struct.pack_into("<ii", data, strf + 4, width, height)
        else:
            at = data.index(b"png ") + 4
            struct.pack_into(">HH", data, at + 24, width, height)
        path.write_bytes(data)

    return make


def _huge(kitchen: Kitchen, path: Path) -> None:
    _lying_pictures(kitchen, path)
    data = bytearray(path.read_bytes())
    struct.pack_into("<ii", data, data.index(b"strf") + 12, 16000, 16000)
    path.write_bytes(data)


def _lying_pictures(kitchen: Kitchen, path: Path) -> None:
    """The container says 96x64, its PNG pictures say 16000x16000."""
    data = bytearray(kitchen.bytes_of(".avi", "png", range(3)))
    at = -1
    while (at := data.find(b"IHDR", at + 1)) >= 0:
        struct.pack_into(">II", data, at + 4, 16000, 16000)
        struct.pack_into(">I", data, at + 17, zlib.crc32(data[at : at + 17]))
    path.write_bytes(data)


def _stsz_bomb(data: bytearray) -> None:
    struct.pack_into(">I", data, data.index(b"stsz") + 12, 0x3FFFFFFF)


def _long_matroska(data: bytearray) -> None:
    struct.pack_into(">d", data, data.index(b"\x44\x89\x88") + 3, 1e12)


def _nested(kitchen: Kitchen, path: Path) -> None:
    inner = b""
    for _ in range(3000):
        inner = box(b"moov", inner)
    path.write_bytes(box(b"ftyp", b"isom\0\0\2\0isom") + inner)


CUTS = [
    bad("cut_before_index.mp4", cut(0.9, ".mp4"), "unreadable", "truncated"),
    bad("cut_before_index.mov", cut(0.5, ".mov"), "unreadable", "truncated"),
    *(
        part(f"cut_{share}.mp4", _cut_data(share), "cut_off frames", range(200), least, says="the file ends after")
        for share, least in ((10, 5), (50, 20), (90, 24))
    ),
    *(
        part(
            f"cut_hevc_{share}.mp4",
            cut(share / 100, ".mp4", "hevc", **FASTSTART),
            "cut_off frames damaged",
            range(40),
            5,
        )
        for share in (80, 90)
    ),
    Nasty("cut_in_header.mp4", cut(0.1, ".mp4", **FASTSTART), (("unreadable", "truncated"),)),
    Nasty("cut_half.mkv", cut(0.5, ".mkv"), ANY_END[3:4], range(40), exact=False, least=5),
    Nasty("cut_half.webm", cut(0.5, ".webm", "vp9"), ANY_END[3:4], range(40), exact=False, least=5),
    Nasty("cut.avi", cut(0.75, ".avi", "mpeg4"), ANY_END[:4], range(40), exact=False, least=5),
    Nasty("cut_half.flv", cut(0.5, ".flv"), ANY_END[3:4], range(40), exact=False, least=5),
    Nasty("cut_half.wmv", cut(0.5, ".wmv", "wmv2"), ANY_END[:4], range(40), exact=False, least=5),
    Nasty("cut_half.mpg", cut(0.5, ".mpg", "mpeg1"), ANY_END[:4], range(40), exact=False, least=5),
    Nasty("cut_half.ts", cut(0.5, ".ts", "h264_open"), ANY_END[:4], range(40), exact=False, least=5),
    Nasty("cut_half.mts", cut(0.5, ".m2ts", "h264_open"), ANY_END[:1], range(40), exact=False, least=5),
    Nasty("cut_half.h264", cut(0.5, ".h264"), ANY_END[:4], range(40), exact=False, least=5),
    Nasty("cut_half.gif", cut(0.5, ".gif", "gif"), ANY_END[:4], range(40), exact=False, least=5),
    Nasty(
        "cut_half.mxf",
        cut(0.5, ".mxf", "mpeg2", options={"bf": "0"}, pix_fmt="yuv422p"),
        ANY_END[:1],
        range(40),
        exact=False,
        least=5,
    ),
    Nasty("cut_most.ogv", cut(0.8, ".ogg", "vp8", container="ogg"), ANY_END[:1], range(40), exact=False, least=5),
    bad("cut_in_fragment_head.mp4", cut(0.7, ".mp4", **FRAGMENTS), "unreadable", "truncated"),
    bad("cut_in_index.mp4", cut(0.6, ".mp4", "hevc", **FASTSTART), "unreadable", "truncated"),
    Nasty("cut_fragments.mp4", cut(0.8, ".mp4", **FRAGMENTS), ANY_END[:4], range(40), exact=False, least=5),
    bad("fragments_head_only.mp4", _boxes(b"ftyp", b"moov", **FRAGMENTS), "no_video_stream", "no_frames"),
    bad("segment_alone.mp4", _boxes(b"moof", b"mdat", **FRAGMENTS), "unreadable", "truncated"),
    bad("media_data_alone.mp4", _boxes(b"ftyp", b"mdat"), "unreadable", "truncated"),
    Nasty("index_alone.mp4", _boxes(b"ftyp", b"moov"), (("unreadable", "truncated"),)),
]

SPOILT_KINDS = [
    (".mp4", "h264"),
    (".mp4", "hevc"),
    (".ts", "h264_open"),
    (".avi", "mpeg4"),
    (".webm", "vp8"),
    (".webm", "vp9"),
    (".mkv", "h264"),
    (".mpg", "mpeg1"),
    (".mkv", "ffv1"),
    (".avi", "mjpeg"),
    (".mov", "png"),
    (".wmv", "wmv2"),
]
BLIND = {"vp8": 25, "vp9": 25, "mjpeg": 3, "hevc": 3}
"""Pictures of these codecs may decode from flipped bits without a word: nothing in them tells."""

SPOILT = [
    *(
        Nasty(
            f"flipped_{kind}_{seed}{suffix}",
            _flipped(suffix, kind, seed),
            ANY_END,
            range(40),
            exact=False,
            unnoticed=BLIND.get(kind, 0),
        )
        for suffix, kind in SPOILT_KINDS
        for seed in range(2)
    ),
    *(
        Nasty(
            f"flipped_anywhere_{kind}_{seed}{suffix}", _blindly_flipped(suffix, kind, seed), (*ANY_END, *REFUSED), None
        )
        for suffix, kind in SPOILT_KINDS[:8]
        for seed in range(2)
    ),
    *(
        Nasty(f"{name}_hole{suffix}", _hole(fill, kind), ANY_END[1:], range(40), exact=False)
        for name, fill in (("zero", bytes), ("noise", noise))
        for suffix, kind in ((".mp4", "h264"), (".mkv", "h264"), (".avi", "mpeg4"), (".ts", "h264"))
    ),
    part("no_pictures.mp4", _without_pictures, "frames", range(40), 10, says=" of 25 frames"),
    part("some_pictures.avi", _without_some_pictures, "frames damaged", range(40), 5),
    Nasty("gaps.mkv", _gaps, ANY_END[:3], range(40), exact=False, least=5, unnoticed=2),
    Nasty("no_key_first.mkv", _no_key_first, ANY_END[:3], range(40), exact=False, least=5),
    Nasty("bad_reception.ts", _lost_packets(".ts"), ANY_END[:3], range(40), exact=False, least=5),
]

LIES = [
    bad(
        "encrypted.mp4",
        film(muxer={"encryption_scheme": "cenc-aes-ctr", **KEY}),
        "unreadable",
        "unsupported_codec",
        "encrypted",
    ),
    bad(
        "locked_by_name.mp4",
        edited(".mp4", "h264", _replaced(b"avc1\0\0\0", b"encv\0\0\0")),
        "unreadable",
        "unsupported_codec",
    ),
    bad(
        "unknown_codec.mp4",
        edited(".mp4", "h264", _replaced(b"avc1\0\0\0", b"zzzz\0\0\0")),
        "unreadable",
        "unsupported_codec",
    ),
    Nasty("elsewhere.mov", _elsewhere, (("unreadable", "truncated"),)),
    Nasty("lying_header.avi", _png_header(16000, 16000, ".avi"), (("ok", ""),), range(3)),
    Nasty("lying_header.mov", _png_header(16000, 16000, ".mov"), (("ok", ""),), range(3)),
    bad("huge.avi", _huge, "unreadable", "too_large"),
    bad(
        "huge.y4m",
        content(b"YUV4MPEG2 W16000 H16000 F25:1 Ip C420\nFRAME\n" + bytes(4000)),
        "unreadable",
        "too_large",
        "16000x16000",
    ),
    bad(
        "huge.gif",
        edited(".gif", "gif", lambda data: struct.pack_into("<HH", data, 6, 16000, 16000)),
        "unreadable",
        "too_large",
        "16000x16000",
    ),
    Nasty("lying_size.avi", _lying_pictures, (("unreadable", "too_large"),)),
    Nasty("index_bomb.mp4", edited(".mp4", "h264", _stsz_bomb), (("unreadable", "truncated"),)),
    Nasty("nested.mp4", _nested, (("unreadable", "truncated"),)),
    part("endless.mkv", edited(".mkv", "h264", _long_matroska), "cut_off", range(40), 25),
    good("lying_keys.mp4", edited(".mp4", "mpeg4_plain", _replaced(b"stss", b"free"), options={"g": "40"}), range(40)),
    bad(
        "no_frames.mp4",
        edited(".mp4", "h264", lambda data: struct.pack_into(">I", data, data.index(b"stsz") + 12, 0)),
        "no_video_stream",
        "no_frames",
    ),
]

BROKEN: list[Nasty] = [*CUTS, *SPOILT, *LIES]
