"""Files that are no videos, play lists that point at others, and what stands where a file should be."""

from __future__ import annotations

import io
import os
import socket
import zipfile
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image

from tests.nasty.kitchen import SIZE, Kitchen, Nasty, bad, box, content, cut, film, good, noise, silence

TARGET = "target.mp4"
"""A real video that play lists point at: its pictures must never come from them."""
TERA = 1 << 40


def _zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.txt", "text " * 100)
    return buffer.getvalue()


def _picture(kind: str, **more: object) -> bytes:
    buffer = io.BytesIO()
    pictures = [Image.fromarray(Kitchen.draw(number, *SIZE)) for number in range(5)]
    if more:
        more["append_images"] = pictures[1:]
    pictures[0].save(buffer, kind, **more)  # type: ignore[arg-type]
    return buffer.getvalue()


def _sound(kitchen: Kitchen, path: Path) -> None:
    codec = {".mp3": "libmp3lame", ".wav": "pcm_s16le", ".ogg": "libopus"}.get(path.suffix, "aac")
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=16000, layout="mono")
        file.mux(stream.encode(silence(16000)))
        file.mux(stream.encode(None))


def _sound_named_mp4(suffix: str):
    def make(kitchen: Kitchen, path: Path) -> None:
        other = kitchen.folder / f"sound{suffix}"
        _sound(kitchen, other)
        path.write_bytes(other.read_bytes())

    return make


def _sound_with_cover(kitchen: Kitchen, path: Path) -> None:
    with av.open(str(path), "w") as file:
        voice = file.add_stream("aac", rate=16000, layout="mono")
        stream = file.add_stream("mjpeg", rate=1, options={"qmin": "2"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuvj420p"
        stream.disposition = av.stream.Disposition.attached_pic
        file.mux(stream.encode(av.VideoFrame.from_ndarray(kitchen.draw(1, *SIZE), format="rgb24")))
        file.mux(stream.encode(None))
        file.mux(voice.encode(silence(16000)))
        file.mux(voice.encode(None))


def _mp3_with_cover(kitchen: Kitchen, path: Path) -> None:
    other = kitchen.folder / "sound.mp3"
    _sound(kitchen, other)
    image = b"\0image/jpeg\0\3\0" + _picture("JPEG")
    frame = b"APIC" + len(image).to_bytes(4, "big") + b"\0\0" + image
    size = len(frame)
    syncsafe = bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\3\0\0" + syncsafe + frame + other.read_bytes())


def _subtitles(kitchen: Kitchen, path: Path) -> None:
    srt = kitchen.folder / "words.srt"
    srt.write_text("1\n00:00:00,000 --> 00:00:02,000\nhello\n\n2\n00:00:02,000 --> 00:00:03,000\nbye\n\n")
    with av.open(str(srt)) as file, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(file.streams.subtitles[0])
        for packet in file.demux():
            if packet.size:
                packet.stream = stream
                out.mux_one(packet)


def _data_only(kitchen: Kitchen, path: Path) -> None:
    with av.open(str(path), "w") as file:
        stream = file.add_data_stream("klv")
        for number in range(5):
            packet = av.Packet(b"\x06\x0e\x2b\x34" + bytes(40))
            packet.pts = packet.dts = number * 9000
            packet.stream, packet.time_base = stream, Fraction(1, 90000)
            file.mux_one(packet)


def _sparse(head: bytes):
    def make(kitchen: Kitchen, path: Path) -> None:
        with open(path, "wb") as file:
            file.write(head)
            file.truncate(TERA)

    return make


def _socket(kitchen: Kitchen, path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path may have 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


def _link(target: str):
    return lambda kitchen, path: path.symlink_to(target)


def _locked(kitchen: Kitchen, path: Path) -> None:
    kitchen.film(path, "h264", range(5))
    path.chmod(0)


FTYP = box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41")
EBML = b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x1f\x42\x86\x81\1\x42\xf7\x81\1\x42\xf2\x81\4\x42\xf3\x81\x08\x42\x82\x84webm"
HTML = b"<!DOCTYPE html>\n<html><body>404</body></html>\n"

NOT_MEDIA = {
    "one_byte.mp4": b"x",
    "text.mp4": b"not a video at all\n" * 40,
    "text_utf16.mp4": "not a video at all\n".encode("utf-16") * 40,
    "html.mp4": HTML,
    "html_bom.mp4": b"\xef\xbb\xbf \r\n" + HTML,
    "html_lower.webm": b"<html><head><title>Login</title></head></html>",
    "svg.mkv": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    "error.json.mp4": b'{"error": {"code": 403, "message": "Forbidden"}}',
    "subtitles.mp4": b"1\n00:00:00,000 --> 00:00:02,000\nhello\n\n",
    "webvtt.mp4": b"WEBVTT\n\n00:00.000 --> 00:02.000\nhello\n",
    "script.mp4": b"#!/bin/sh\nexit 0\n",
    "address.mp4": b"https://example.org/video.mp4\n",
    "zip.mp4": _zipped(),
    "pdf.mp4": b"%PDF-1.7\n" + noise(2000, 1) + b"\n%%EOF\n",
    "exe.mp4": b"MZ\x90\0" + noise(4000, 2),
    "elf.mp4": b"\x7fELF\2\1\1" + noise(4000, 3),
    "gzip.mp4": b"\x1f\x8b\x08\0" + noise(4000, 4),
    "sqlite.mp4": b"SQLite format 3\0" + noise(4000, 5),
    "hdf5.mp4": b"\x89HDF\r\n\x1a\n" + noise(4000, 6),
    "noise.mp4": noise(5000),
    "noise.mkv": noise(200_000, 7),
    "noise.ts": noise(100_000, 8),
    "noise.avi": noise(5000, 9),
    "ones.mp4": b"\xff" * 5000,
    "zeros.mp4": bytes(5000),
    "zeros_first.mp4": bytes(5000) + FTYP,
}

PLAYLISTS = {
    "hls.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{TARGET}\n#EXT-X-ENDLIST\n",
    "hls_bom.mp4": f"\ufeff#EXTM3U\n#EXTINF:2,\n{TARGET}\n",
    "hls_blank.mp4": f"\r\n  \t#EXTM3U\n#EXTINF:2,\n{TARGET}\n",
    "hls_lower.mp4": f"#extm3u\n#EXTINF:2,\n{TARGET}\n",
    "hls_web.mp4": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://127.0.0.1:9/a.m3u8\n",
    "ffconcat.mp4": f"ffconcat version 1.0\nfile {TARGET}\n",
    "ffconcat_bom.mkv": f"\ufeffffconcat version 1.0\r\nfile {TARGET}\r\n",
    "ffconcat_up.mp4": f"ffconcat version 1.0\nfile ../{TARGET}\n",
    "sdp.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "asx.wmv": f'<asx version="3.0"><entry><ref href="{TARGET}"/></entry></asx>',
    "pls.mp4": f"[playlist]\nFile1={TARGET}\nNumberOfEntries=1\n",
    "xspf.mp4": f'<?xml version="1.0"?><playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList><track><location>'
    f"{TARGET}</location></track></trackList></playlist>",
    "dash.mp4": f'<?xml version="1.0"?><MPD><Period><AdaptationSet><Representation><BaseURL>{TARGET}</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>",
    "smil.mp4": f'<smil><body><video src="{TARGET}"/></body></smil>',
    "reference.mov": f"[Reference]\r\nRef1={TARGET}\r\n",
    "rtsptext.mov": f"RTSPtext\r\nrtsp://127.0.0.1:9/{TARGET}\r\n",
}

STILLS = {
    "jpeg.mp4": _picture("JPEG"),
    "png.mp4": _picture("PNG"),
    "bmp.mp4": _picture("BMP"),
    "tiff.mp4": _picture("TIFF"),
}

NOT_VIDEOS: list[Nasty] = [
    good(TARGET, film("h264", 3000, 3020), range(3000, 3020)),
    bad("empty.mp4", content(b""), "unreadable", "empty"),
    *(bad(name, content(data), "unreadable", "not_media") for name, data in NOT_MEDIA.items()),
    *(bad(name, content(text.encode()), "unreadable", "playlist") for name, text in PLAYLISTS.items()),
    *(bad(name, content(data), "no_video_stream", "cover_art_only") for name, data in STILLS.items()),
    bad("names_only.m3u.mp4", content(TARGET.encode() + b"\n"), "unreadable", "not_media"),
    bad("webp.mp4", content(_picture("WEBP")), "unreadable", "unsupported_codec"),
    bad("webp_animated.mp4", content(_picture("WEBP", save_all=True, duration=40)), "unreadable", "unsupported_codec"),
    bad("sound.mp4", _sound, "no_video_stream", "audio_only"),
    bad("sound.mkv", _sound, "no_video_stream", "audio_only"),
    bad("sound.ts", _sound, "no_video_stream", "audio_only"),
    bad("wav.mp4", _sound_named_mp4(".wav"), "no_video_stream", "audio_only"),
    bad("mp3.mp4", _sound_named_mp4(".mp3"), "no_video_stream", "audio_only"),
    bad("opus.ogv", _sound_named_mp4(".ogg"), "no_video_stream", "audio_only"),
    bad("sound_and_cover.mp4", _sound_with_cover, "no_video_stream", "cover_art_only"),
    bad("mp3_and_cover.mp4", _mp3_with_cover, "no_video_stream", "cover_art_only"),
    bad("words_only.mkv", _subtitles, "no_video_stream", "no_frames"),
    bad("data_only.ts", _data_only, "no_video_stream", "no_frames"),
    bad("head_only.mp4", content(FTYP), "unreadable", "truncated"),
    bad("head_only.mkv", content(EBML), "unreadable", "truncated"),
    bad("head_only.avi", content(b"RIFF\xff\xff\0\0AVI LIST"), "unreadable", "truncated"),
    bad("head_only.wmv", cut(0.02, ".wmv", "wmv2"), "unreadable", "truncated"),
    bad("sparse_zeros.mp4", _sparse(b""), "unreadable", "not_media"),
    bad("sparse_head.mp4", _sparse(FTYP), "unreadable", "truncated"),
    bad("fifo.mp4", lambda kitchen, path: os.mkfifo(path), "skipped", "not_a_regular_file"),
    bad("socket.mp4", _socket, "skipped", "not_a_regular_file"),
    bad("device.mp4", _link("/dev/zero"), "skipped", "not_a_regular_file"),
    bad("broken_link.mp4", _link("nowhere.mp4"), "unreadable", "broken_link"),
    bad("looping_link.mp4", _link("looping_link.mp4"), "unreadable", "broken_link"),
    good("link.mp4", _link(TARGET), range(3000, 3020)),
]
if os.geteuid() != 0:
    NOT_VIDEOS.append(bad("locked.mp4", _locked, "permission_denied"))

ODD_NAMES = (
    "new\nline.mp4",
    "tab\tand\rreturn.mp4",
    "escape\x1b[31m.mp4",
    "häß🎈.mp4",
    "quo\"te's.mp4",
    "%03d.mp4",
    "img%d_%s.mp4",
    "-dash.mp4",
    "--help.mp4",
    "l" * 246 + ".mp4",
    "\u202eright\u05d0\u05d1.mp4",
    "caf\u00e9.mp4",
    "cafe\u0301.mp4",
    "http:x.mp4",
    "a:b.mp4",
    "concat:x.mp4",
    "pipe:1.mp4",
    "file:x.mp4",
    "data:,x.mp4",
    "subfile,,start,0,end,9,,:x.mp4",
    "space before .mp4",
    " blank.mp4",
    "star*[a-z]?{b}.mp4",
    "back\\slash.mp4",
    "$HOME;ls|.mp4",
    "UPPER.MP4",
    "two.dots..mp4",
    os.fsdecode(b"caf\xe9_\xff.mp4"),
)
NAMES: list[Nasty] = [
    good(name, film("h264", 100 + place, 105 + place), range(100 + place, 105 + place))
    for place, name in enumerate(ODD_NAMES)
]
