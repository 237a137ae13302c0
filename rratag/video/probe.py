"""What a video file holds, from its packets: the time of every frame, where decoding can start, size and format."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from rratag.video.complaints import refused_size
from rratag.video.gate import Refused, gate, open_without_waiting, read_head
from rratag.video.packets import NO_PTS, Packets, list_packets

logger = logging.getLogger(__name__)

FORMATS = (
    "mov,mp4,matroska,webm,avi,asf,mpegts,mpeg,mpegvideo,flv,live_flv,gif,apng,ogg,mxf,nut,rm,dv,wtv,ivf,obu,h264,hevc,m4v,"
    "mjpeg,vc1,yuv4mpegpipe,mp3,aac,wav,flac"
)
"""Containers that may be opened: no play lists, no picture sequences, no devices; sound files to say what they are."""

CUT_OFF_S = 1.0
"""A container that promises this much more (seconds) than its last frame is cut off."""

MIN_SIDE = 8
"""Smaller pictures (pixels of the shorter side) show nothing."""
MAX_ASPECT = 100
"""Longer sides than this many shorter ones would make views that fill the memory."""

_ALIGNMENT_PIXELS = 1 << 20

UNTIMED_FORMATS = ("avi", "dv", "h264", "hevc", "m4v", "mpegvideo", "obu", "vc1", "yuv4mpegpipe")
"""Containers that store no presentation times: FFmpeg guesses them, and wrongly for H.264 with B-frames."""

_IN_ORDER = """cinepak dvvideo ffv1 ffvhuff flv flv1 h261 h263 huffyuv libvpx libvpx-vp9 mjpeg msmpeg4 msmpeg4v1
msmpeg4v2 png prores rawvideo utvideo vp8 vp9 wmv1 wmv2"""
IN_ORDER_CODECS = frozenset(_IN_ORDER.split())
"""Codecs whose pictures are shown in the order in which they are stored, so that no time need be guessed."""

_MAGIC = (
    (4, b"ftyp"),
    (4, b"styp"),
    (4, b"moov"),
    (4, b"moof"),
    (4, b"mdat"),
    (4, b"wide"),
    (0, b"\x1aE\xdf\xa3"),
    (0, b"RIFF"),
    (0, b"FLV"),
    (0, b"0&\xb2u"),
)


@dataclass(frozen=True)
class Probe:
    """A video that may be decoded; M frames.

    ``pts`` of shape [M]: sorted, distinct presentation times in units of ``time_base``; ``times_s`` of shape [M]: the
    same in seconds from the start of the container, which is where a player shows the frame; ``end_s``: when the last
    frame ends. ``timed`` is False if presentation times are missing or no use: then frames are told apart by counting.
    ``start_s`` is the container's start on the stream's own clock, ``step`` the usual time from frame to frame in
    units. ``width`` and ``height`` are as coded, before rotation; ``max_pixels`` is what a picture may have.
    """

    path: Path
    stream_index: int
    max_pixels: int
    time_base: Fraction
    packets: Packets
    pts: NDArray[np.int64]
    times_s: NDArray[np.float64]
    end_s: float
    timed: bool
    start_s: float
    step: int
    width: int
    height: int
    codec: str
    format: str
    duration_s: float | None

    def counted(self) -> Probe:
        """Return the same video with frames told apart by counting, for time stamps that contradict the pictures."""
        pts = _counted_times(self.packets, self.step)
        return replace(self, timed=False, **_clock(pts, self.time_base, self.start_s, self.step))

    @property
    def has_edits(self) -> bool:
        """Whether an edit list cuts frames off."""
        return bool(self.packets.edited.any())

    @property
    def cut_off(self) -> bool:
        """Whether the file ends before what its header promises."""
        last_s = max(self.end_s, self.packets.others_end - self.start_s)
        last_s += max(0.0, self.start_s)  # Matroska's length counts from zero, not from its first picture
        return bool(self.packets.read_error) or (self.duration_s is not None and self.duration_s > last_s + CUT_OFF_S)


@contextmanager
def opened(path: Path, max_pixels: int) -> Iterator[Any]:
    """Open `path` (absolute) as one of ``FORMATS``, never as a protocol or a play list.

    No picture of more than `max_pixels` is decoded to find out what the file holds.

    Raises
    ------
    Refused
        If FFmpeg makes nothing of it.
    """
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    try:
        container = av.open(
            str(path), options=decoder_options(max_pixels), container_options=options, metadata_errors="replace"
        )
    except (FileNotFoundError, PermissionError) as error:
        # FFmpeg also says so of damaged content; the gate asks the system
        fault = gate(path)
        raise (_open_refusal(path, error) if fault is None else Refused(*astuple(fault))) from error
    except av.FFmpegError as error:
        raise _open_refusal(path, error) from error
    with container:
        yield container


def decoder_options(max_pixels: int) -> dict[str, str]:
    """Keep a decoder from taking memory for larger pictures, whatever the container says of their size.

    Decoders compare the size rounded up to their own alignment, so they get a little more.
    """
    return {"max_pixels": str(max_pixels + _ALIGNMENT_PIXELS)}


def _open_refusal(path: Path, error: Exception) -> Refused:
    head = read_head(path)
    if any(head[at : at + len(magic)] == magic for at, magic in _MAGIC):
        return Refused("unreadable", "truncated", "a video container without its index, perhaps an interrupted copy")
    return Refused("unreadable", "not_media", f"no known video format: {getattr(error, 'strerror', error)}")


def probe(path: Path, max_pixels: int, beat: Callable[[], None] = lambda: None) -> Probe:
    """List the frames of the video stream of `path`, without decoding.

    Parameters
    ----------
    max_pixels : larger pictures (width * height) are refused from the header
    beat : called now and then, to show that work goes on

    Raises
    ------
    Refused
        With the status, if there is no stream of pictures that may be decoded.
    """
    with opened(path, max_pixels) as container:
        stream = choose_stream(container)
        size = (stream.codec_context.width, stream.codec_context.height)
        if not size[0]:  # then the pictures tell
            size = refused_size() or size
        if size[0]:
            check_size(*size, max_pixels)
        packets = list_packets(container, stream, beat)
        if packets.encrypted:
            raise Refused("unreadable", "unsupported_codec", "the video is encrypted")
        if not packets.shown.any():
            _refuse_cut_header(path)
            if packets.read_error:
                raise Refused("unreadable", "truncated", f"no picture could be read: {packets.read_error}")
            raise Refused("no_video_stream", "no_frames", "the video stream holds no picture")
        return _assemble(path, container, stream, packets, max_pixels)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise `Refused` for a picture of too many pixels, or so small or thin that it shows nothing."""
    size = f"{width}x{height} pixels"
    if width * height > max_pixels:
        raise Refused("unreadable", "too_large", f"pictures of {size}; the limit is {max_pixels} in all")
    if min(width, height) < max(MIN_SIDE, max(width, height) / MAX_ASPECT):
        limit = f"a side must have {MIN_SIDE} at least, and 1/{MAX_ASPECT} of the other"
        raise Refused("unreadable", "too_small", f"pictures of {size}; {limit}")


def choose_stream(container: Any) -> Any:
    """Return the stream FFmpeg finds best (marked default, then bit rate), no cover picture; same for all decoders.

    Raises
    ------
    Refused
        If there is none, or this FFmpeg has no decoder for it.
    """
    streams = container.streams.video
    moving = [stream for stream in streams if not _is_cover(stream)]
    if not moving:
        if streams:
            raise Refused("no_video_stream", "cover_art_only", "sound with a cover picture, no video")
        if container.streams.audio:
            raise Refused("no_video_stream", "audio_only", "sound only, no video")
        raise Refused("no_video_stream", "no_frames", "no stream of pictures in the file")
    best = container.streams.best("video")
    stream = best if best in moving else moving[0]
    if stream.codec_context is None:
        _refuse_cut_header(Path(container.name))
        raise Refused("unreadable", "unsupported_codec", "this FFmpeg has no decoder for the video stream")
    return stream


def _refuse_cut_header(path: Path) -> None:
    """Raise `Refused` if an mp4 ends inside its index: what is left of it names no codec or no packet."""
    size, at = path.stat().st_size, 0
    with open(path, "rb", opener=open_without_waiting) as file:
        for _ in range(16):  # the index is among the first boxes, or behind a whole file
            file.seek(at)
            head = file.read(8)
            length = int.from_bytes(head[:4], "big")
            if head[4:] == b"moov" and at + length > size:
                raise Refused("unreadable", "truncated", "the file ends inside its index, perhaps an interrupted copy")
            if len(head) < 8 or length < 8:
                return
            at += length


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & (av.stream.Disposition.attached_pic | av.stream.Disposition.still_image))


def _assemble(path: Path, container: Any, stream: Any, packets: Packets, max_pixels: int) -> Probe:
    base = stream.time_base
    codec, name = stream.codec_context.name, container.format.name
    timed = _is_timed(packets, codec, name)
    step = _usual_step(packets, stream)
    pts = np.unique(packets.pts[packets.shown]) if timed else _counted_times(packets, step)
    start_s = container.start_time / av.time_base if container.start_time is not None else float(pts[0] * base)
    duration_s = None if container.duration is None else container.duration / av.time_base
    if timed:
        last = int(packets.duration[packets.shown][np.argmax(packets.pts[packets.shown])])
        step = last if last > 0 else step
    clock = _clock(pts, base, start_s, step)
    if packets.edited.any() and duration_s is not None and clock["times_s"][-1] < duration_s:
        clock["end_s"] = min(clock["end_s"], duration_s)  # an edit may end within the last frame
    return Probe(
        path=path,
        stream_index=stream.index,
        max_pixels=max_pixels,
        time_base=base,
        packets=packets,
        timed=timed,
        start_s=start_s,
        step=step,
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        codec=codec,
        format=name,
        duration_s=duration_s,
        **clock,
    )


def _clock(pts: NDArray[np.int64], base: Fraction, start_s: float, step: int) -> dict[str, Any]:
    """Presentation times in both units, and the end of the last frame."""
    times = pts * float(base) - start_s
    return {"pts": pts, "times_s": times, "end_s": float(times[-1]) + step * float(base)}


def _is_timed(packets: Packets, codec: str, container_format: str) -> bool:
    """Whether presentation times are stored, complete, and go forward from key frame to key frame."""
    pts = packets.pts[packets.shown]
    guessed = container_format in UNTIMED_FORMATS and codec not in IN_ORDER_CODECS
    guessed = guessed and not (codec == "mpeg4" and bool((pts == packets.dts[packets.shown]).all()))
    key_times = packets.pts[packets.key & packets.shown]
    return bool(not guessed and (pts != NO_PTS).all() and (np.diff(key_times) > 0).all())


def _usual_step(packets: Packets, stream: Any) -> int:
    """Usual time from frame to frame, in units of the time base."""
    given = packets.duration[packets.shown & (packets.duration > 0)]
    if len(given):
        return int(np.median(given))
    rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
    return max(1, round(1 / (rate * Fraction(stream.time_base))))


def _counted_times(packets: Packets, step: int) -> NDArray[np.int64]:
    """Times of frames that are told apart by counting: the decoding times, or equal steps if those are no use."""
    dts = packets.dts[packets.shown]
    if (dts != NO_PTS).all() and (np.diff(dts) > 0).all():
        return dts
    return np.arange(len(dts), dtype=np.int64) * step
