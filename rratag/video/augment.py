"""Training views: the crop and flip that a video's content and a number draw, as TSN augments its frames.

A draw belongs to a video: all its frames share it. It comes from the video's digest and the view's number alone, so
that every machine, order of files and name of a video gives the same one. Images are uint8 ``[H,W,3]``, upright RGB.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rratag.errors import UsageError
from rratag.records import RGB
from rratag.video.views import ViewRule, mirrored, scaled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FLIP, TSN = "flip", "tsn"
MAX_VIEWS = 16
SEED = 0
"""Part of every draw, and of the spec: another one would be other views."""
SCALES = (1.0, 0.875, 0.75, 0.66)
"""Sides of a crop as shares of the picture's shorter side."""
PAIRS = tuple((i, j) for i in range(len(SCALES)) for j in range(len(SCALES)) if abs(i - j) <= 1)
"""Positions in `SCALES` of height and width that go together."""
SNAP_PIXELS = 2
"""A side this close to the network's input becomes it, so that nothing is resized by a hair."""
PLACES = (
    *((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)),  # corners, centre
    *((2, 0), (2, 4), (0, 2), (4, 2)),  # middles of the edges
    *((1, 1), (1, 3), (3, 1), (3, 3)),  # quarter points
)
"""Top and left of a crop, in quarters of the free room."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What one view of one video shows: positions in `SCALES`, quarters of the free room, mirrored or not."""

    height: int
    width: int
    down: int
    right: int
    mirrored: bool

    def box(self, height: int, width: int, input_size: int) -> tuple[int, int, int, int]:
        """Top, left, height and width of the crop, in pixels of a ``height x width`` picture."""
        crop_height, crop_width = (_side(min(height, width), scale, input_size) for scale in (self.height, self.width))
        top, left = (height - crop_height) // 4 * self.down, (width - crop_width) // 4 * self.right
        return top, left, crop_height, crop_width


def _side(shorter: int, scale: int, input_size: int) -> int:
    side = int(shorter * SCALES[scale])
    return input_size if abs(side - input_size) <= SNAP_PIXELS and input_size <= shorter else side


def draw(sha256: str, number: int) -> Draw:
    """The draw of view `number` of the video whose content has this digest (hex).

    Notes
    -----
    Taken from a hash, not from a generator: numpy's may give other numbers in another version.
    """
    found = int(hashlib.sha256(f"rratag view\0{SEED}\0{sha256}\0{number}".encode()).hexdigest(), 16)
    found, pair = divmod(found, len(PAIRS))
    found, place = divmod(found, len(PLACES))
    return Draw(*PAIRS[pair], *PLACES[place], mirrored=bool(found % 2))


@dataclass(frozen=True, slots=True)
class TrainingView:
    """One cached view beside the base: its mirror image (``flip``), or the multi-scale crop of a number (``tsn``)."""

    kind: str
    number: int = 0

    @property
    def name(self) -> str:
        """``flip`` or ``tsn:NUMBER``."""
        return f"{TSN}:{self.number}" if self.kind == TSN else self.kind

    def describe(self) -> dict[str, object]:
        """What of this view decides a feature, for the spec."""
        if self.kind == FLIP:
            return {"name": self.name, "rule": "base view mirrored/1"}
        return {
            "name": self.name,
            "rule": "TSN multi-scale crop of the resized picture, then flip, one draw a video/1",
            "scales": list(SCALES),
            "number": self.number,
            "seed": SEED,
            "interpolation": "bilinear, antialiased uint8",
        }

    def images(self, resized: NDArray[np.uint8], rule: ViewRule, sha256: str) -> NDArray[np.uint8]:
        """This view of one picture.

        Parameters
        ----------
        resized : of shape (H, W, 3), as `rule` resizes a picture before it crops
        rule : of the base view
        sha256 : digest of the video's content, 64 hex digits

        Returns
        -------
        Of shape (V, h, w, 3): all views of the base for ``flip``, one of input_size x input_size for ``tsn``.
        """
        if self.kind == FLIP:
            return np.stack([mirrored(image) for image in rule.cut(resized)])
        drawn = draw(sha256, self.number)
        top, left, height, width = drawn.box(resized.shape[0], resized.shape[1], rule.input_size)
        crop = np.ascontiguousarray(resized[None, top : top + height, left : left + width])
        image = scaled(crop, rule.input_size, rule.input_size, "bilinear")
        return mirrored(image[0])[None] if drawn.mirrored else image


def asked(views: Sequence[TrainingView]) -> str:
    """The ``--views`` that gives `views`, which are one or more; see `parse_views`."""
    return f"{TSN}:{len(views)}" if views[0].kind == TSN else FLIP


def check_views(views: Sequence[TrainingView], crops: str, modality: str = RGB) -> None:
    """Refuse views that add nothing to the base, or that it cannot have.

    Raises
    ------
    UsageError
        If mirror images are asked for where the base has them already, or multi-scale crops of optical flow.
    """
    if modality != RGB and any(view.kind == TSN for view in views):
        raise UsageError("--views tsn:V is for pictures; beside --modality flow give --views flip")
    if crops == "10" and any(view.kind == FLIP for view in views):
        raise UsageError("--views flip adds nothing to --crops 10, which has the mirror images already")


def parse_views(text: str | None) -> tuple[TrainingView, ...]:
    """What ``--views`` asks for: ``flip``, or ``tsn:V`` for the views 1 to V; none if it is None.

    Raises
    ------
    UsageError
        If it is neither.
    """
    if text is None:
        return ()
    if text == FLIP:
        return (TrainingView(FLIP),)
    kind, _, count = text.partition(":")
    if kind == TSN and count.isascii() and count.isdigit() and len(count) <= 3 and 1 <= int(count) <= MAX_VIEWS:
        return tuple(TrainingView(TSN, number) for number in range(1, int(count) + 1))
    raise UsageError(f"unknown --views {text!r}; choose {FLIP}, or {TSN}:V with V from 1 to {MAX_VIEWS}")
