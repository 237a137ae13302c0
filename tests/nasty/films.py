"""Real videos of every container, codec and kind of picture, whole ones; odd clocks too."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.nasty.kitchen import RATE, SIZE, Kitchen, Nasty, bad, edited, encode, film, good, noise, remux, silence

X265_10 = {"x265-params": "keyint=20:min-keyint=20:scenecut=0:bframes=4:open-gop=1:log-level=none:input-depth=8"}
INTERLACED = {"flags": "+ildct+ilme", "field_order": "tt", "b": "4M"}

WHOLE = {
    "h264.mp4": film(),
    "h264.mov": film(),
    "h264.m4v": film(),
    "h264.3gp": film(),
    "h264.f4v": film(),
    "faststart.mp4": film(muxer={"movflags": "faststart"}),
    "open_gop.mp4": film("h264_open"),
    "open_gop.mkv": film("h264_open"),
    "open_gop.ts": film("h264_open"),
    "open_gop.mts": film("h264_open", container="mpegts", muxer={"mpegts_m2ts_mode": "1"}),
    "open_gop.m2ts": film("h264_open"),
    "hevc.mp4": film("hevc"),
    "hevc.mov": film("hevc", muxer={"brand": "qt  "}),
    "hevc.ts": film("hevc"),
    "hevc.mkv": film("hevc"),
    "hevc_layers.mp4": film("hevc_layers"),
    "hevc_ten_bits.mp4": film("hevc", pix_fmt="yuv420p10le", options=X265_10),
    "mpeg1.mpg": film("mpeg1"),
    "mpeg2.vob": film("mpeg2", container="vob"),
    "mpeg2.m2v": film("mpeg2", container="mpeg2video"),
    "mpeg1.m1v": film("mpeg1", container="mpeg1video"),
    "mpeg2.mxf": film("mpeg2", options={"bf": "0"}, pix_fmt="yuv422p"),
    "wmv2.wmv": film("wmv2"),
    "wmv1.asf": film("wmv1", options={"b": "4M"}),
    "av1.mp4": film("av1", size=(160, 96)),
    "av1.webm": film("av1", size=(160, 96)),
    "av1.ivf": film("av1", size=(160, 96)),
    "vp8.webm": film("vp8"),
    "vp9.webm": film("vp9"),
    "vp9.ivf": film("vp9"),
    "vp8.ogv": film("vp8", container="ogg"),
    "mpeg4.avi": film("mpeg4"),
    "h264.avi": film("h264"),
    "h264.flv": film("h264"),
    "flv1.flv": film("flv", options={"b": "4M"}),
    "mjpeg.avi": film("mjpeg"),
    "cinepak.avi": film("cinepak", 6, pix_fmt="rgb24"),
    "huffyuv.avi": film("huffyuv", pix_fmt="yuv422p"),
    "utvideo.avi": film("utvideo", pix_fmt="gbrp"),
    "raw.avi": film("rawvideo"),
    "ffv1.mkv": film("ffv1"),
    "qtrle.mov": film("qtrle"),
    "png.mov": film("png"),
    "snow.nut": film("snow", 10, options={"qscale": "2", "strict": "-2"}),
    "h263.3gp": film("h263", options={"b": "4M"}, size=(128, 96)),
    "rv20.rm": film("rv20", options={"b": "4M"}, size=(128, 96)),
    "raw.h264": film("h264_open"),
    "raw.hevc": film("hevc"),
    "raw.mjpeg": film("mjpeg"),
    "raw.y4m": film("wrapped_avframe", container="yuv4mpegpipe"),
    "live.mkv": film(muxer={"live": "1"}),
    "live.webm": film("vp9", muxer={"live": "1"}),
    "one_gop.mp4": film("h264_one_gop"),
    "fragments.mp4": film(muxer={"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    "fragments_indexed.mp4": film(muxer={"movflags": "frag_keyframe+empty_moov+default_base_moof+global_sidx"}),
    "dash_whole.mp4": film(muxer={"movflags": "dash+frag_keyframe+delay_moov"}),
    "with_sound.mp4": film(sound=True),
    "with_sound.mkv": film(sound=True),
    "apng.mp4": lambda kitchen, path: path.write_bytes(kitchen.bytes_of(".apng", "apng", pix_fmt="rgb24")),
    "wrong_suffix.avi": lambda kitchen, path: path.write_bytes(kitchen.bytes_of(".webm", "vp9")),
    "two_frames.mp4": film("h264", 2),
    "one_frame.mp4": film("h264", 1),
    "one_frame.mkv": film("h264", 1),
    "long_gop.mp4": film("mpeg4_plain", 3000, options={"g": "3000", "b": "2M"}),
}

LENGTHS = {
    "long_gop.mp4": 3000,
    "two_frames.mp4": 2,
    "one_frame.mp4": 1,
    "one_frame.mkv": 1,
    "cinepak.avi": 6,
    "snow.nut": 10,
}

PICTURES = {
    "sar_two.mp4": film(aspect=Fraction(2, 1)),
    "alpha.webm": film("vp9", pix_fmt="yuva420p", options={"auto-alt-ref": "0"}),
    "alpha.mov": film("prores", pix_fmt="yuva444p10le"),
    "alpha_png.mov": film("png", pix_fmt="rgba"),
    "ten_bits.mp4": film("h264", pix_fmt="yuv420p10le"),
    "ten_bits_422.mkv": film("h264", pix_fmt="yuv422p10le"),
    "full_chroma.mp4": film("h264", pix_fmt="yuv444p"),
    "rgb.mp4": film("libx264rgb", pix_fmt="rgb24", options={"crf": "10"}),
    "sixteen_bits.mkv": film("ffv1", pix_fmt="rgb48le", options={"strict": "-2"}),
    "full_range.mp4": film("h264", pix_fmt="yuvj420p"),
    "mbaff.mp4": film("h264", options={"x264-params": "tff=1:keyint=20:log-level=-1"}),
    "interlaced.mpg": film("mpeg2", options=INTERLACED),
    "interlaced.ts": film("mpeg2", options=INTERLACED),
    "lossless.mp4": film("h264", options={"qp": "0"}),
}


def _gif(kitchen: Kitchen, path: Path) -> None:
    kitchen.film(path, "gif", range(20), rate=10)


def _field_jpeg(kitchen: Kitchen, path: Path) -> None:
    """Two half-height pictures a packet, as old capture cards wrote them."""
    import io

    from PIL import Image

    with av.open(str(path), "w") as file:
        stream = file.add_stream("mjpeg", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuvj420p"
        file.start_encoding()
        for number in range(10):
            fields = []
            for polarity in (0, 1):
                buffer = io.BytesIO()
                Image.fromarray(kitchen.draw(number, *SIZE)[polarity::2]).save(buffer, "JPEG", quality=95)
                marker = b"\xff\xe0\0\x10AVI1" + bytes([polarity + 1]) + bytes(9)
                fields.append(b"\xff\xd8" + marker + buffer.getvalue()[2:])
            packet = av.Packet(b"".join(fields))
            packet.pts = packet.dts = number
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, RATE), True
            file.mux_one(packet)


def _trim(first: int, count: int) -> Callable[[bytearray], None]:
    """Show only `count` frames from `first` on, as a phone trims."""

    def edit(data: bytearray) -> None:
        at = data.index(b"elst") + 4
        movie_scale = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)[0]
        media_scale = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]
        media_time = struct.unpack_from(">I", data, at + 12)[0]
        struct.pack_into(">I", data, at + 8, count * movie_scale // RATE)
        struct.pack_into(">I", data, at + 12, media_time + first * media_scale // RATE)

    return edit


def _long(kitchen: Kitchen, path: Path) -> None:
    """Six hours at one frame a second, of 40 pictures again and again."""
    source = kitchen.film(kitchen.folder / "long.mkv", "mjpeg", options={"qmin": "8", "qmax": "8"})
    with av.open(str(source)) as file, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(file.streams.video[0])
        bodies = [bytes(packet) for packet in file.demux(video=0) if packet.size]
        for number in range(6 * 3600):
            packet = av.Packet(bodies[number % len(bodies)])
            packet.pts = packet.dts = number
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1), True
            out.mux_one(packet)


def _times(kind: str, ticks: list[int], scale: int = 1000, **more: Any) -> Callable[[Kitchen, Path], object]:
    return film(kind, len(ticks), pts=ticks, time_base=Fraction(1, scale), **more)


UNEVEN = np.cumsum([0, *([40, 40, 7, 300, 40, 1, 90] * 5)]).tolist()
GAP = [*range(0, 800, 40), *range(60_000, 60_800, 40)]


def _uneven(name: str, kind: str, last: float = 0.04) -> Nasty:
    times = [tick / 1000 for tick in UNEVEN]
    return good(name, _times(kind, UNEVEN), range(len(UNEVEN)), times=times, end=times[-1] + last)


def _header(find: bytes, offset: int, layout: str, *values: int) -> Callable[[bytearray], None]:
    def edit(data: bytearray) -> None:
        struct.pack_into(layout, data, data.index(find) + offset, *values)

    return edit


def _every_duration(data: bytearray, value: int) -> None:
    for name, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        struct.pack_into(">I", data, data.index(name) + offset, value)


def _same_times(kitchen: Kitchen, path: Path) -> None:
    """An AVI whose mkv copy gives all frames one time."""
    source = kitchen.film(kitchen.folder / "same.mkv", "mpeg4_plain")

    def flatten(number: int, packet: Any) -> bool:
        packet.pts = packet.dts = 0
        return True

    remux(source, path, flatten)


def _joined(kitchen: Kitchen, path: Path) -> None:
    path.write_bytes(kitchen.bytes_of(".ts", "h264_open") * 2)


def _growing(kitchen: Kitchen, path: Path) -> None:
    small = kitchen.bytes_of(".ts", "h264", range(20))
    path.write_bytes(small + kitchen.bytes_of(".ts", "h264", range(20, 40), size=(192, 128), pts=list(range(22, 42))))


NOT_CODED = b"\0\0\1\xb6\x50\x4f"
"""An MPEG-4 picture that says no more than "the same again", as many AVI encoders wrote them."""


def _same_again(kitchen: Kitchen, path: Path) -> None:
    source = kitchen.film(kitchen.folder / "intra.avi", "mpeg4_plain", options={"g": "1"})
    with av.open(str(source)) as file, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(file.streams.video[0])
        for number, packet in enumerate(packet for packet in file.demux(video=0) if packet.size):
            again = number in (10, 11, 25)
            changed = av.Packet(NOT_CODED if again else bytes(packet))
            changed.pts, changed.dts, changed.time_base = packet.dts, packet.dts, packet.time_base
            changed.is_keyframe, changed.stream = packet.is_keyframe and not again, stream
            out.mux_one(changed)


def _after_junk(kitchen: Kitchen, path: Path) -> None:
    path.write_bytes(kitchen.bytes_of(".mp4") + noise(3000))


def _twice(kitchen: Kitchen, path: Path) -> None:
    path.write_bytes(kitchen.bytes_of(".mp4") * 2)


def _inside_headers(kitchen: Kitchen, path: Path) -> None:
    path.write_bytes(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n" + kitchen.bytes_of(".mp4"))


def _two_videos(kitchen: Kitchen, path: Path) -> None:
    """A small film and a larger one; "marked" in the name makes the second the default, else the muxer the first."""
    with av.open(str(path), "w") as out:
        streams = []
        for size in (SIZE, (192, 128)):
            stream = out.add_stream("mpeg4", rate=RATE, options={"b": "4M"})
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            if "marked" in path.name and streams:
                stream.disposition = av.stream.Disposition.default
            streams.append((stream, size))
        for number in range(40):
            for place, (stream, size) in enumerate(streams):
                frame = av.VideoFrame.from_ndarray(kitchen.draw(1000 * place + number, *size), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, RATE)
                out.mux(stream.encode(frame))
        for stream, _ in streams:
            out.mux(stream.encode(None))


def _many_streams(kitchen: Kitchen, path: Path) -> None:
    source = kitchen.film(kitchen.folder / "many.mp4", "h264")
    with av.open(str(source)) as file, av.open(str(path), "w") as out:
        voices = [out.add_stream("pcm_s16le", rate=16000, layout="mono") for _ in range(100)]
        stream = out.add_stream_from_template(file.streams.video[0])
        for packet in file.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
        for voice in voices:
            out.mux(voice.encode(silence(1600)))
            out.mux(voice.encode(None))


def _attachments(kitchen: Kitchen, path: Path) -> None:
    source = kitchen.film(kitchen.folder / "plain.mkv", "h264")
    with av.open(str(source)) as file, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(file.streams.video[0])
        out.add_attachment("font.ttf", "application/x-truetype-font", noise(2000))
        out.add_attachment("cover.jpg", "image/jpeg", b"\xff\xd8\xff\xe0" + noise(2000, 1))
        for packet in file.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)


def _huge_8k(kitchen: Kitchen, path: Path) -> None:
    kitchen.film(path, "mjpeg", range(3), size=(7680, 4320))


ORIENTATIONS = {
    "mirrored": ((-1, 0, 0, 1), 0, lambda image: image[:, ::-1]),
    "upside_down": ((1, 0, 0, -1), 180, lambda image: image[::-1]),
    "transposed": ((0, 1, 1, 0), 270, lambda image: image.transpose(1, 0, 2)),
    "transversed": ((0, -1, -1, 0), 90, lambda image: image[::-1, ::-1].transpose(1, 0, 2)),
}
"""Display matrices a, b, c, d with a mirror, what of it is a turn, and what a player does to the stored picture, which
undoes itself."""


def _mirrored(name: str) -> Callable[[Kitchen, Path], None]:
    (a, b, c, d), _, stored = ORIENTATIONS[name]

    def make(kitchen: Kitchen, path: Path) -> None:
        pictures = [np.ascontiguousarray(stored(kitchen.draw(number, *SIZE))) for number in range(20)]
        encode(path, "h264", pictures)
        data = bytearray(path.read_bytes())
        one = 1 << 16
        struct.pack_into(
            ">9i", data, data.index(b"tkhd") + 44, a * one, b * one, 0, c * one, d * one, 0, 0, 0, one << 14
        )
        path.write_bytes(data)

    return make


FILMS: list[Nasty] = [
    *(good(name, make, range(LENGTHS.get(name, 40))) for name, make in WHOLE.items()),
    *(good(name, make, range(40)) for name, make in PICTURES.items()),
    good("with_sound.ts", film(sound=True), range(40), exact=False, least=25),  # its sound begins first
    good("animated.avif.mp4", film("av1", size=(160, 96), container="avif"), range(40), exact=False, least=20),
    bad(
        "still.avif.mp4",
        lambda kitchen, path: kitchen.film(path, "av1", range(1), size=(160, 96), container="avif"),
        "no_video_stream",
        "cover_art_only",
    ),
    good("animated.gif", _gif, range(20), rate=10),
    good("field_jpeg.avi", _field_jpeg, range(10)),
    good("six_hours.mkv", _long, [number % 40 for number in range(6 * 3600)], rate=1),
    *(
        good(f"turned_{90 * turns}{suffix}", film("h264", 20, turns=turns), range(20), rotation=90 * turns, size=SIZE)
        for turns in (1, 2, 3)
        for suffix in (".mp4", ".mkv")
    ),
    *(
        good(f"{name}.mp4", _mirrored(name), range(20), rotation=turn, size=SIZE)
        for name, (_, turn, _) in ORIENTATIONS.items()
    ),
    good("odd_size.mkv", film("ffv1", size=(97, 65), pix_fmt="yuv444p"), range(40)),
    good("odd_size.mp4", film("h264", size=(99, 67), pix_fmt="yuv444p"), range(40)),
    good("narrow.mkv", film("ffv1", size=(24, 200)), range(40)),
    good("sixteen.mp4", film("h264", size=(16, 16)), None, size=(16, 16), least=25),
    good("eight.mkv", film("ffv1", size=(8, 8)), None, size=(8, 8), least=25),
    bad("four.mkv", film("ffv1", size=(6, 4)), "unreadable", "too_small", "6x4"),
    bad("two.mp4", film("h264", size=(2, 2)), "unreadable", "too_small"),
    bad("one.mkv", film("ffv1", size=(1, 1)), "unreadable", "too_small"),
    bad("line.mkv", film("ffv1", 5, size=(1600, 8)), "unreadable", "too_small", "1600x8"),
    good("eight_k.mkv", _huge_8k, range(3), size=(7680, 4320)),
    Nasty("grows.ts", _growing, (("ok", ""), ("partial", "damaged")), range(40), least=25),  # its join skips a counter
    good("joined.ts", _joined, [*range(40), *range(40)], exact=False, least=25),
    good("twice.mp4", _twice, range(40)),
    good("after_junk.mp4", _after_junk, range(40)),
    Nasty("in_headers.mp4", _inside_headers, (("unreadable", "not_media"),), range(40)),
    good("trimmed.mp4", edited(".mp4", "h264", _trim(7, 16)), range(7, 23)),
    good("trimmed_open.mp4", edited(".mp4", "h264_open", _trim(23, 10)), range(23, 33)),
    good("trimmed_hevc.mp4", edited(".mp4", "hevc", _trim(13, 20)), range(13, 33)),
    good("clock_wraps.ts", _times("h264_open", [2**33 - 20 * 3600 + k * 3600 for k in range(40)], 90000), range(40)),
    good("negative.mkv", film(pts=range(-10, 30)), range(40)),
    good("negative.mp4", film(pts=range(-10, 30)), range(10, 40)),
    good("late_start.mkv", film("h264_open", pts=range(90_000, 90_040)), range(40)),
    good("thousand_fps.mp4", film(rate=1000), range(40), rate=1000),
    _uneven("uneven.mp4", "h264_open", 0.3),
    _uneven("uneven.mkv", "h264_open"),
    _uneven("uneven.webm", "vp9"),
    good("gap.mkv", _times("h264", GAP), range(40), times=[tick / 1000 for tick in GAP], end=60.8),
    good("gap.mp4", _times("h264", GAP), range(40), times=[tick / 1000 for tick in GAP], end=60.8),
    good("same_again.avi", _same_again, [{10: 9, 11: 9, 25: 24}.get(number, number) for number in range(40)]),
    good("same_times.mkv", _same_times, range(40), exact=False, least=25),
    good("two_videos.mp4", _two_videos, range(40), size=SIZE),
    good("two_videos.mkv", _two_videos, range(40), size=SIZE),
    good("two_videos.ts", _two_videos, range(40), size=SIZE),
    good("two_videos_marked.mkv", _two_videos, range(1000, 1040), size=(192, 128)),
    good("two_videos_marked.mp4", _two_videos, range(1000, 1040), size=(192, 128)),
    good("many_streams.mkv", _many_streams, range(40)),
    good("attachments.mkv", _attachments, range(40)),
    good("no_duration.mp4", edited(".mp4", "h264", lambda data: _every_duration(data, 0)), range(40)),
    good("endless.mp4", edited(".mp4", "h264", lambda data: _every_duration(data, 0xFFFFFFFE)), range(40)),
    good("promises_more.avi", edited(".avi", "mpeg4", _header(b"avih", 24, "<I", 1000)), range(40)),
]
