"""Optical flow of consecutive frames: pictures in, stacks of fields out, each field computed once.

A stack is uint8 ``[H,W,10]``: the fields of 5 consecutive pairs of frames, ordered x, y, x, y... (section 5.1; TSN).
Runs in a decode worker, where pictures are made and cores are many; OpenCV is loaded on first use.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rratag.errors import UsageError
from rratag.video.decode import Frame

FIELDS = 5
"""Fields of a stack."""
CHANNELS = 2 * FIELDS
BOUND = 20.0
"""Pixels from frame to frame, of the scaled picture; longer motion is cut to it."""

RULE: dict[str, object] = {
    "method": "TV-L1, DualTVL1OpticalFlow of OpenCV with its defaults",
    "pictures": "grey, scaled before the flow by OpenCV: area, bilinear where enlarged",
    "fields": FIELDS,
    "order": "x and y of each field; the last field repeated at the end of the video",
    "bound": BOUND,
    "first convolution": "mean over the colours, once for each channel",
}
"""What of this file, and of the network's first layer, decides a feature (part of the spec)."""

_WAY_OUT = "run: pip install 'rratag[flow]'"


def check_opencv() -> None:
    """Look for an OpenCV that has TV-L1.

    Raises
    ------
    UsageError
        If there is none.
    """
    try:
        cv2: Any = importlib.import_module("cv2")
    except ImportError as error:
        raise UsageError(f"--modality flow needs OpenCV, which cannot be loaded ({error}); {_WAY_OUT}") from error
    if not hasattr(getattr(cv2, "optflow", None), "DualTVL1OpticalFlow_create"):
        raise UsageError(
            f"--modality flow needs OpenCV's contrib modules, which OpenCV {cv2.__version__} here lacks;"
            f" uninstall opencv-python and opencv-python-headless, then {_WAY_OUT}"
        )


@cache
def _opencv() -> Any:
    """OpenCV on one thread, since as many workers as cores are at it; its own stubs do not know the contrib modules."""
    cv2: Any = importlib.import_module("cv2")
    cv2.setNumThreads(1)
    return cv2


def field_numbers(index: int, num_frames: int) -> list[int]:
    """Numbers of the fields of the stack that begins at frame `index`; field f leads from frame f to f + 1.

    A stack that runs past the end repeats the last field, as TSN does. The only field of a video of one frame leads
    from it to itself: no motion.
    """
    return [min(index + step, max(num_frames - 2, 0)) for step in range(FIELDS)]


def frame_numbers(index: int, num_frames: int) -> list[int]:
    """Numbers of the frames that the stack beginning at frame `index` is made of, sorted."""
    fields = field_numbers(index, num_frames)
    return list(range(fields[0], min(fields[-1] + 1, num_frames - 1) + 1))


def to_bytes(field: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Motion of -20 to 20 pixels as 0 to 255, linear, longer motion cut; none is 128 (127.5, to even).

    Parameters
    ----------
    field : of any shape, in pixels
    """
    cut = np.clip(field.astype(np.float64), -BOUND, BOUND)
    return np.rint((cut + BOUND) * (255 / (2 * BOUND))).astype(np.uint8)


class Stacks:
    """Makes the wanted stacks of one video from its frames, which may come in any order.

    A picture is kept until its fields are computed, a field until its stacks are whole.

    Parameters
    ----------
    wanted : numbers of the frames that stacks begin at
    num_frames : of the whole video
    resized : height and width that a picture of some height and width is scaled to; the first picture decides for all
    computing : called with True before a field is computed and with False after it
    """

    def __init__(
        self,
        wanted: NDArray[np.int64],
        num_frames: int,
        resized: Callable[[int, int], tuple[int, int]],
        computing: Callable[[bool], None] = lambda begins: None,
    ) -> None:
        self.num_frames, self.resized, self.computing = num_frames, resized, computing
        self.wanted: list[int] = wanted.tolist()
        self.size: tuple[int, int] | None = None
        self._missing = {index: set(field_numbers(index, num_frames)) for index in self.wanted}
        self._users: dict[int, set[int]] = {}
        for index, fields in self._missing.items():
            for field in fields:
                self._users.setdefault(field, set()).add(index)
        self._to_compute = set(self._users)
        self._moments: dict[int, tuple[float, int]] = {}
        self._pictures: dict[int, NDArray[np.uint8]] = {}
        self._fields: dict[int, NDArray[np.uint8]] = {}
        self._method: Any = None

    @property
    def frames(self) -> NDArray[np.int64]:
        """Numbers of all frames that are needed, sorted."""
        numbers = {number for index in self.wanted for number in frame_numbers(index, self.num_frames)}
        return np.array(sorted(numbers), np.int64)

    def damaged(self, frames: set[int]) -> set[int]:
        """Stacks that one of these frames is part of."""
        return {index for index in self.wanted if not frames.isdisjoint(frame_numbers(index, self.num_frames))}

    def add(self, frame: Frame) -> Iterator[Frame]:
        """Take a frame; gives the stacks that it completes, each with number and time of its first frame."""
        if frame.index in self._missing:
            self._moments[frame.index] = frame.time_s, frame.rotation
        self._pictures[frame.index] = self._scaled_grey(frame.image)
        for field in (frame.index - 1, frame.index):
            pair = field, min(field + 1, self.num_frames - 1)
            if field in self._to_compute and self._pictures.keys() >= set(pair):
                self._fields[field] = self._field(*(self._pictures[number] for number in pair))
                self._to_compute.discard(field)
                yield from self._completed(field)
        for number in (frame.index - 1, frame.index, frame.index + 1):
            if self._to_compute.isdisjoint((number - 1, number)):
                self._pictures.pop(number, None)

    def _completed(self, field: int) -> Iterator[Frame]:
        for index in sorted(self._users[field]):
            self._missing[index].discard(field)
            if self._missing[index]:
                continue
            numbers = field_numbers(index, self.num_frames)
            time_s, rotation = self._moments.pop(index)
            yield Frame(index, time_s, np.concatenate([self._fields[number] for number in numbers], axis=2), rotation)
            for number in set(numbers):
                self._users[number].discard(index)
                if not self._users[number]:
                    del self._fields[number]

    def _scaled_grey(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        cv2 = _opencv()
        height, width = image.shape[:2]
        if self.size is None:
            self.size = self.resized(height, width)
        grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
        shrunk = self.size[0] * self.size[1] < height * width
        how = cv2.INTER_AREA if shrunk else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(grey, self.size[::-1], interpolation=how), np.uint8)

    def _field(self, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Motion from one picture to the next, [H,W,2]: to the right and down."""
        if self._method is None:
            self._method = _opencv().optflow.DualTVL1OpticalFlow_create()
        self.computing(True)
        try:
            return to_bytes(self._method.calc(before, after, None))
        finally:
            self.computing(False)
