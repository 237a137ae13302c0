"""Small drawing helpers that birds and scenes share: smooth outlines, colours, and a pen that fills shapes twice.

A pen fills every shape in a colour canvas and, where the shape belongs to the outline of the thing drawn, in a mask.
Both are drawn larger than they end and then reduced, which is what makes the edges soft.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Points = NDArray[np.float64]
SUPERSAMPLING = 3

RED, YELLOW, WHITE = (206, 36, 34), (250, 204, 30), (250, 249, 243)
BLUE, ORANGE, BLACK = (36, 96, 216), (247, 124, 22), (22, 20, 24)
ACCENTS: tuple[Colour, ...] = (RED, YELLOW, WHITE, BLUE, ORANGE, BLACK)
"""The markings' colours and one more: berries, blossoms, falling leaves and butterflies wear them in every class."""

_ALONG = np.linspace(0, 1, 6)
_HALF = np.stack([_ALONG, 0.24 * np.sin(np.pi * _ALONG**0.8)], 1)
LEAF = np.concatenate([_HALF, (_HALF * (1, -1))[::-1]])
"""Corners of a leaf one unit long from its stalk at the origin along x: first one half, then the other."""


def smooth(points: Sequence[tuple[float, float]], steps: int = 6) -> Points:
    """Closed Catmull-Rom curve through `points`, `steps` points per stretch, of shape (len(points) * steps, 2)."""
    p1 = np.asarray(points, np.float64)
    p0, p2, p3 = np.roll(p1, 1, 0), np.roll(p1, -1, 0), np.roll(p1, -2, 0)
    t = (np.arange(steps) / steps)[None, :, None]
    p0, p1, p2, p3 = (p[:, None, :] for p in (p0, p1, p2, p3))
    cubic = (3 * p1 - p0 - 3 * p2 + p3) * t**3 + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
    curve: Points = 0.5 * (cubic + (p2 - p0) * t + 2 * p1)
    return curve.reshape(-1, 2)


def circle(x: float, y: float, radius: float, steps: int = 18) -> Points:
    """Corners of a circle, of shape (steps, 2)."""
    angle = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`a` with `share` (0..1) of `b`."""
    red, green, blue = (round(u + (v - u) * share) for u, v in zip(a, b, strict=True))
    return red, green, blue


def lit(colour: Colour, light: Sequence[float]) -> Colour:
    """`colour` under a light given as one factor per channel."""
    red, green, blue = (min(255, max(0, round(u * v))) for u, v in zip(colour, light, strict=True))
    return red, green, blue


@dataclass
class Pen:
    """Draws shapes given in a figure's own coordinates on a square canvas around the figure's origin.

    ``scale`` is in pixels per unit, ``angle`` in radians clockwise, ``facing`` 1 (right) or -1 (mirrored). The canvas
    has ``side`` pixels, the figure's origin in its middle.
    """

    side: int
    scale: float
    angle: float
    facing: int
    light: Sequence[float]
    colours: Image.Image = field(init=False)
    mask: Image.Image = field(init=False)

    def __post_init__(self) -> None:
        large = (self.side * SUPERSAMPLING, self.side * SUPERSAMPLING)
        self.colours = Image.new("RGB", large)
        self.mask = Image.new("L", large)
        self._draw = ImageDraw.Draw(self.colours, "RGBA")
        self._draw_mask = ImageDraw.Draw(self.mask)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        turn = np.array([[cos, sin], [-sin, cos]])  # points are rows: (x, y) @ turn is (x, y) turned clockwise
        self._matrix = turn * (self.facing, 1) * (self.scale * SUPERSAMPLING)

    def fill(self, points: Iterable[tuple[float, float]] | Points, colour: Colour, opacity: int = 255) -> None:
        """Fill a shape that belongs to the figure's outline."""
        corners = self._place(points)
        self._draw.polygon(corners, fill=(*lit(colour, self.light), opacity))
        self._draw_mask.polygon(corners, fill=255)

    def mark(self, points: Iterable[tuple[float, float]] | Points, colour: Colour, opacity: int = 255) -> None:
        """Fill a shape inside the outline drawn so far: what sticks out of it stays invisible."""
        self._draw.polygon(self._place(points), fill=(*lit(colour, self.light), opacity))

    def line(self, points: Iterable[tuple[float, float]] | Points, colour: Colour, width: float, outline: bool) -> None:
        """Draw a line `width` units wide; `outline` adds it to the figure's outline."""
        corners, thick = self._place(points), max(1, round(width * self.scale * SUPERSAMPLING))
        self._draw.line(corners, fill=(*lit(colour, self.light), 255), width=thick, joint="curve")
        if outline:
            self._draw_mask.line(corners, fill=255, width=thick, joint="curve")

    def finish(self) -> tuple[Image.Image, Image.Image]:
        """Colours (RGB) and mask (L), both of `side` x `side` pixels."""
        # Black around the figure would darken its edge when reduced: colours go in weighted by the mask.
        weighted = self.colours.convert("RGBA")
        weighted.putalpha(self.mask)
        small = weighted.reduce(SUPERSAMPLING)
        return small.convert("RGB"), small.getchannel("A")

    def _place(self, points: Iterable[tuple[float, float]] | Points) -> list[tuple[float, float]]:
        local = np.asarray(points if isinstance(points, np.ndarray) else list(points), np.float64)
        placed = local @ self._matrix + self.side * SUPERSAMPLING / 2
        return [(float(x), float(y)) for x, y in placed]
