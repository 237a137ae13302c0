"""Wanted frames become pictures: right first, then fast. Every picture is known by its time stamp, never by counting.

A table entry of :data:`DECODERS` takes a probe and the wanted indices and gives :class:`Frame` after :class:`Frame`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from rratag.video.complaints import complained, log_bytes
from rratag.video.packets import NO_PTS
from rratag.video.probe import Probe, check_size, decoder_options, opened

logger = logging.getLogger(__name__)

COLOUR_RULE = (
    "8-bit RGB by libswscale, bilinear chroma; matrix and range as the frame declares, BT.601 limited range where it "
    "declares none; no tone mapping; alpha dropped; turned and mirrored as the display matrix says; sample aspect "
    "ratio not applied"
)
"""How pictures become RGB (part of the spec: it decides features)."""

MAX_REORDER = 16
"""How far pictures may be shown from their place in the stream (H.264 and H.265 allow no more)."""

Beat = Callable[[], None]


@dataclass(frozen=True)
class Frame:
    """One picture: ``image`` is uint8 [H, W, 3], upright RGB; ``index`` counts presented frames; ``time_s`` in seconds;
    ``rotation`` is what was applied, in degrees clockwise, after mirroring where the file asks for that."""

    index: int
    time_s: float
    image: NDArray[np.uint8]
    rotation: int


@dataclass
class Notes:
    """What a decoder learns on the way, for the receipt: filled while frames are taken.

    ``damaged`` holds presentation indices of pictures that cannot be trusted; ``errors`` the decoder's complaints.
    """

    decoder: str = "pyav"
    fallback_from: str = ""
    message: str = ""
    damaged: set[int] = field(default_factory=set)
    errors: int = 0
    last_error: str = ""


class DistrustError(Exception):
    """A route met something that its plan does not explain: all it gave so far is void."""


class _Feed:
    """Sends packets of one open file through its decoder and gives the raw frames back, noting damage.

    A strict one decodes parts of the file: there, damage may as well mean that the part began in the wrong place.
    """

    def __init__(self, container: Any, probe: Probe, notes: Notes, beat: Beat, *, strict: bool) -> None:
        self.strict = strict
        self.stream = container.streams[probe.stream_index]
        self.context = self.stream.codec_context
        self.context.thread_count = 1
        self.context.options = decoder_options(probe.max_pixels)
        self.container, self.probe, self.notes, self.beat = container, probe, notes, beat
        self.bad_positions: list[int] = []
        self.num_faults = 0
        self.shown_from = NO_PTS
        self.last_shown: int | None = None

    def packets(self) -> Iterator[tuple[int, Any]]:
        """Packets with their place in the table.

        Raises
        ------
        DistrustError
            If they are not those that the probe saw.
        """
        position = 0
        table = self.probe.packets
        try:
            for packet in self.container.demux(self.stream):
                if packet.size == 0:
                    continue
                if position >= len(table) or (NO_PTS if packet.pts is None else packet.pts) != table.pts[position]:
                    raise DistrustError("a second reading gave other packets")
                yield position, packet
                position += 1
        except av.FFmpegError as error:
            self.complain(position, error)

    def decode(self, position: int, packet: Any) -> list[Any]:
        self.beat()
        said = log_bytes()
        try:
            frames = self.context.decode(packet)
        except av.FFmpegError as error:
            self.complain(position, error)
            if self.strict:
                raise DistrustError(f"decoding a part failed: {self.notes.last_error}") from error
            return []
        if complained(said) and self._counts(position):
            self.num_faults += 1
            self.bad_positions.append(position)
        elif packet is not None and self.probe.packets.damaged[position]:
            self.bad_positions.append(position)
        if self.probe.timed:
            self._check_order(frames)
        if self.strict and any(frame.is_corrupt for frame in frames):
            raise DistrustError("decoding a part gave damaged pictures")
        return list(frames)

    def _counts(self, position: int) -> bool:
        """Whether trouble with a packet matters: what leads a part's first key frame on screen cannot be whole."""
        return bool(self.probe.packets.pts[position] >= self.shown_from)

    def _check_order(self, frames: list[Any]) -> None:
        """Decoders give pictures in the order of the screen: time stamps that go back are not those of the pictures."""
        for frame in frames:
            if frame.pts is None or (self.last_shown is not None and frame.pts <= self.last_shown):
                raise DistrustError("time stamps contradict the order of the pictures")
            self.last_shown = frame.pts

    def restart(self) -> None:
        """Make the decoder ready for another range of packets."""
        self.context.flush_buffers()
        self.last_shown = None

    def complain(self, position: int, error: Exception) -> None:
        self.num_faults += 1
        self.notes.errors += 1
        self.notes.last_error = str(getattr(error, "strerror", error))
        self.bad_positions.append(position)


def _positions(probe: Probe) -> dict[int, int]:
    """Place in the packet table of each presentation time (the first, where two share one)."""
    table = probe.packets
    places: dict[int, int] = {}
    for position in np.flatnonzero(table.shown):
        places.setdefault(int(table.pts[position]), int(position))
    return places


def _needed(probe: Probe, wanted_pts: list[int], places: Mapping[int, int]) -> NDArray[np.bool_]:
    """Which packets to decode for the wanted times.

    A picture depends on nothing before the last key frame that comes before it both in the file and on screen: one that
    is shown before the key frame it follows in the file (open group) needs the key frame before.
    """
    table = probe.packets
    need = np.zeros(len(table), bool)
    keys = np.flatnonzero(table.key)
    for pts in wanted_pts:
        place = places[pts]
        before = keys[keys <= place]
        before = before[table.pts[before] <= pts]
        if not len(before):
            raise DistrustError("a frame comes before the first key frame")
        need[int(before[-1]) : place + 1] = True
    return need


def _by_time(container: Any, probe: Probe, wanted: list[int], notes: Notes, beat: Beat) -> Iterator[tuple[int, Any]]:
    """Decode only the ranges that hold wanted frames, and give those: (index, raw frame).

    Raises
    ------
    DistrustError
        If packets or key frames are not what the table says, or a range does not decode cleanly.
    """
    table = probe.packets
    places = _positions(probe)
    wanted_pts = {int(probe.pts[index]): index for index in wanted}
    need = _needed(probe, list(wanted_pts), places)
    starts = need & ~np.concatenate([[False], need[:-1]])
    keys_unseen = {int(pts) for pts in table.pts[starts & table.shown]}
    keep = table.key | np.isin(np.arange(len(table)), [places[pts] for pts in wanted_pts])
    # "Not a reference" is exact in H.264 (nal_ref_idc = 0); in other codecs it is weaker or cheap to decode anyway.
    may_skip = probe.codec in ("h264", "libx264")
    feed = _Feed(container, probe, notes, beat, strict=True)
    last = int(np.flatnonzero(need)[-1])

    def sort_out(frames: list[Any]) -> Iterator[tuple[int, Any]]:
        for frame in frames:
            if frame.pts in keys_unseen:
                if not frame.key_frame:
                    raise DistrustError("the container calls a frame a key frame that is none")
                keys_unseen.discard(frame.pts)
            if frame.pts in wanted_pts:
                yield wanted_pts.pop(frame.pts), frame

    for position, packet in feed.packets():
        if not need[position]:
            continue
        if starts[position]:
            feed.shown_from = int(table.pts[position])
        if may_skip:
            feed.context.skip_frame = "DEFAULT" if keep[position] else "NONREF"
        yield from sort_out(feed.decode(position, packet))
        if position == last or not need[position + 1]:
            yield from sort_out(feed.decode(position, None))
            feed.restart()
        if position == last:
            break
    notes.damaged |= _damaged_indices(probe, feed.bad_positions)


def _in_order(container: Any, probe: Probe, wanted: list[int], notes: Notes, beat: Beat) -> Iterator[tuple[int, Any]]:
    """Decode everything from the start; frames are known by time stamp, or by counting in streams without any.

    Raises
    ------
    DistrustError
        If time stamps go backwards on screen, or packets are not what the table says.
    """
    feed = _Feed(container, probe, notes, beat, strict=False)
    places = _positions(probe) if probe.timed else {}
    index_of = {int(pts): index for index, pts in enumerate(probe.pts)}
    left = set(wanted)
    count = 0

    def sort_out(frames: list[Any]) -> Iterator[tuple[int, Any]]:
        nonlocal count
        for frame in frames:
            # A packet that failed has no picture; counting on over it keeps the following ones at their places.
            index = index_of.get(frame.pts, -1) if probe.timed else count + notes.errors
            count += 1
            if frame.is_corrupt:
                feed.bad_positions.append(places.get(frame.pts, index))
            if index in left:
                left.discard(index)
                yield index, frame

    position = 0
    try:
        for position, packet in feed.packets():
            yield from sort_out(feed.decode(position, packet))
            if not left and probe.timed:
                return
        yield from sort_out(feed.decode(position, None))
    finally:
        notes.damaged |= _damaged_indices(probe, feed.bad_positions)
        if not probe.timed and (feed.num_faults or count != len(probe.pts)):
            # counting may be off from about the first fault on, or from anywhere if none was noticed
            first = min(feed.bad_positions, default=0)
            notes.damaged |= set(range(max(0, first - MAX_REORDER), len(probe.pts)))


def _damaged_indices(probe: Probe, bad_positions: list[int]) -> set[int]:
    """Frames that a fault at these packets may have spoilt: up to the next key frame, and those shown before it."""
    table = probe.packets
    keys = np.flatnonzero(table.key)
    spoilt: set[int] = set()
    for bad in bad_positions:
        after = keys[keys > bad]
        stop = len(table) if not len(after) else int(after[0])
        places = list(range(bad, stop))
        if len(after):
            second = int(after[1]) if len(after) > 1 else len(table)
            places += [place for place in range(stop, second) if table.pts[place] < table.pts[stop]]
        spoilt.update(places)
    if not probe.timed:
        return {place for place in spoilt if place < len(probe.pts)}
    times = [int(table.pts[place]) for place in spoilt if place < len(table) and table.shown[place]]
    return {int(index) for index in np.searchsorted(probe.pts, times)}


class _Upright:
    """Raw frames to upright RGB, with one conversion context for all of them."""

    def __init__(self, probe: Probe, max_pixels: int) -> None:
        self.probe, self.max_pixels = probe, max_pixels
        self.reformatter = VideoReformatter()

    def __call__(self, index: int, frame: Any) -> Frame:
        check_size(frame.width, frame.height, self.max_pixels)
        image = self.reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        mirrored, quarter = _orientation(frame)
        upright: NDArray[np.uint8] = np.rot90(image[:, ::-1] if mirrored else image, -quarter)
        return Frame(index, float(self.probe.times_s[index]), upright, quarter * 90)


def _orientation(frame: Any) -> tuple[bool, int]:
    """How a player shows a stored picture: whether mirrored (left and right), then quarter turns clockwise.

    The file's display matrix takes the stored (x, y) to (a*x + c*y, b*x + d*y).
    """
    matrix = frame.side_data.get(SideData.DISPLAYMATRIX)
    if matrix is None:
        return False, 0
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    return mirrored, round(math.atan2(b, a) / (math.pi / 2)) % 4


def decode_pyav(
    probe: Probe, wanted: NDArray[np.int64], notes: Notes, max_pixels: int, beat: Beat = lambda: None
) -> Iterator[Frame]:
    """Frames by time stamp; what that route does not find is looked for in order.

    Gives each wanted frame at most once. A frame that no route finds is missing from what is given, never replaced.

    Raises
    ------
    DistrustError
        If the file is not what its packets promise; frames given before are void.
    """
    if not probe.timed:
        yield from decode_in_order(probe, wanted, notes, max_pixels, beat)
        return
    left = wanted.tolist()
    upright = _Upright(probe, max_pixels)
    with opened(probe.path, probe.max_pixels) as container:
        for index, raw in _by_time(container, probe, left.copy(), notes, beat):
            left.remove(index)
            yield upright(index, raw)
    if left:
        notes.message = f"{len(left)} frames were not found by time stamp and looked for in order"
        yield from decode_in_order(probe, np.array(left, np.int64), notes, max_pixels, beat)


def decode_in_order(
    probe: Probe, wanted: NDArray[np.int64], notes: Notes, max_pixels: int, beat: Beat = lambda: None
) -> Iterator[Frame]:
    """Frames by decoding everything from the start: slow, and needs nothing but the pictures' own order.

    Raises
    ------
    DistrustError
        If time stamps contradict that order; never for a probe that counts.
    """
    upright = _Upright(probe, max_pixels)
    with opened(probe.path, probe.max_pixels) as container:
        for index, raw in _in_order(container, probe, wanted.tolist(), notes, beat):
            yield upright(index, raw)


DECORD_FORMATS = ("mov", "matroska")
DECORD_CODECS = ("h264", "vp8", "vp9", "mpeg4")
DECORD_MAX_DIFFERENCE = 2.0
"""Largest mean absolute difference (levels of 255) between two decoders' pictures of one frame."""


def decode_decord(
    probe: Probe, wanted: NDArray[np.int64], notes: Notes, max_pixels: int, beat: Beat = lambda: None
) -> Iterator[Frame]:
    """Frames by decord, for the kinds of files it reads right; checked against the time-stamp route by pixels.

    decord cannot say which picture it returned, so its middle and last wanted ones must equal those of `decode_pyav`.

    Raises
    ------
    DistrustError
        If the file is of another kind, decord fails, or a picture differs; frames given before are void.
    """
    objection = _decord_objection(probe)
    if objection:
        raise DistrustError(f"decord is not used for {objection}")
    from decord import DECORDError, VideoReader, cpu

    notes.decoder = "decord"
    check = np.unique(wanted[[len(wanted) // 2, -1]])
    checked = {frame.index: frame for frame in decode_pyav(probe, check, notes, max_pixels, beat)}
    if notes.damaged or len(checked) < len(check):
        raise DistrustError("decord is not used for damaged files")
    try:
        reader = VideoReader(str(probe.path), ctx=cpu(0), num_threads=1)
        if len(reader) != len(probe.pts):
            raise DistrustError(f"decord counts {len(reader)} frames where there are {len(probe.pts)}")
        rotation = next(iter(checked.values())).rotation
        for index in wanted.tolist():
            beat()
            image = reader[index].asnumpy()
            if index in checked and not _same_picture(image, checked[index].image):
                raise DistrustError(f"decord gave another picture for frame {index}")
            yield Frame(index, float(probe.times_s[index]), image, rotation)
    except (DECORDError, RuntimeError, IndexError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DistrustError(f"decord failed: {first_line.rsplit('] ', 1)[-1]}") from error


def _decord_objection(probe: Probe) -> str:
    """Which kind of file keeps decord from being used; "" if none does."""
    table = probe.packets
    group_start = np.maximum.accumulate(np.where(table.key, table.pts, NO_PTS))
    objections = {
        f"{probe.format.split(',')[0]} files": not probe.format.startswith(DECORD_FORMATS),
        f"{probe.codec} video": probe.codec not in DECORD_CODECS,
        "trimmed files (edit lists)": probe.has_edits,
        "files without time stamps": not probe.timed,
        "files that start before zero or hold hidden pictures": not table.shown.all() or int(table.pts.min()) < 0,
        "open groups of pictures": bool((table.pts < group_start).any()),
        "pictures narrower than 32": min(probe.width, probe.height) < 32,
        "file names that are not UTF-8": not _is_utf8(str(probe.path)),
        "cut-off files": probe.cut_off,
    }
    return next((name for name, applies in objections.items() if applies), "")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _same_picture(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    if one.shape != other.shape:
        return False
    difference = np.abs(one.astype(np.int16) - other.astype(np.int16)).mean()
    return bool(difference <= DECORD_MAX_DIFFERENCE)


Decoder = Callable[[Probe, "NDArray[np.int64]", Notes, int, Beat], Iterator[Frame]]

DECODERS: dict[str, Decoder] = {"auto": decode_pyav, "pyav": decode_pyav, "decord": decode_decord}
"""Decoders by the name that ``--decoder`` takes. What a decoder raises `DistrustError` for, `pyav` does again."""


def routes(name: str, probe: Probe) -> Iterator[tuple[str, Decoder, Probe]]:
    """Ways to decode, surest last: the decoder asked for, `pyav`, everything in order, and that by counting."""
    if name == "decord":
        yield "decord", DECODERS[name], probe
    yield "pyav", decode_pyav, probe
    if probe.timed:
        yield "pyav", decode_in_order, probe
        yield "pyav", decode_in_order, probe.counted()
