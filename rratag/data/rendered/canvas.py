"""What the layers of a scene are drawn on, and the colours of hours and seasons.

Lengths and coordinates of a scene are in picture heights: x to the right, y down, the origin in the layer's corner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from rratag.data.rendered.paint import LEAF, Colour, Points, mix


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of one hour and season; ``light`` is one factor per channel for what moves through the scene."""

    sky_top: Colour
    sky_bottom: Colour
    sun: Colour
    haze: Colour
    hill: Colour
    leaf: Colour
    leaf_2: Colour
    wood: Colour
    light: tuple[float, float, float]


def _palette(colours: str, light: tuple[float, float, float]) -> Palette:
    sky_top, sky_bottom, sun, haze, hill, leaf, leaf_2, wood = (_colour(word) for word in colours.split())
    return Palette(sky_top, sky_bottom, sun, haze, hill, leaf, leaf_2, wood, light)


def _colour(digits: str) -> Colour:
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue


PALETTES = (  # sky top, sky bottom, sun, haze, hill, leaf, second leaf, wood
    _palette("5496ce d6e8e8 fffae0 bcd4da 608c6e 4a803e 7aa04a 5c4636", (1.00, 1.00, 0.98)),
    _palette("ec966e fce2b2 fff0c8 ecbe9c 7e5c64 5c683a 968442 523832", (1.04, 0.95, 0.86)),
    _palette("96b0ba e2e6de f8f8f0 ced6d2 788c88 56765c 809268 544c46", (0.95, 0.97, 1.00)),
    _palette("74a4c4 f0e4c8 fff6d6 d6ceb8 a88654 be7a2c cea03c 583e2e", (1.03, 0.98, 0.90)),
    _palette("485c94 e2acb0 ffdcbe aa92ac 524e74 3e584e 607054 3e323a", (0.92, 0.90, 0.98)),
    _palette("82c0ce eaf2d6 ffffea c4deca 7caa6e 689c46 a0be5a 705642", (1.02, 1.02, 0.96)),
)


class Canvas:
    """One layer while it is drawn: larger than it ends, which is what makes the edges soft.

    Plants leave ``perches`` (where a bird can sit) and ``hooks`` (where a blossom or berry can hang) as they grow.
    """

    def __init__(
        self,
        size: tuple[float, float],
        unit: float,
        mode: str,
        rng: np.random.Generator,
        palette: Palette,
        oversize: int = 2,
    ) -> None:
        """`size` in picture heights, `unit` = pixels of a picture height, `mode` RGB or RGBA (clear)."""
        self.width, self.height = size
        self.rng, self.palette = rng, palette
        self._oversize, self._scale = oversize, unit * oversize
        pixels = round(self.width * unit) * oversize, round(self.height * unit) * oversize
        self.image = Image.new(mode, pixels)
        self._draw = ImageDraw.Draw(self.image)
        self.perches: list[tuple[float, float]] = []
        self.hooks: list[tuple[float, float]] = []

    def foliage(self, darkest: float) -> Colour:
        """A random leaf colour of the palette, darkened by up to `darkest` (0..1)."""
        green = mix(self.palette.leaf, self.palette.leaf_2, self.rng.random())
        return mix(green, (0, 0, 0), self.rng.uniform(0, darkest))

    def fill(self, points: Points, colour: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon((points * self._scale).ravel().tolist(), fill=colour)

    def ground(self, level: float, colour: Colour, tilt: float = 0.0) -> None:
        """Fill everything below a level; `tilt` lifts the right end."""
        corners = [(0.0, level), (self.width, level - tilt), (self.width, self.height), (0.0, self.height)]
        self.fill(np.array(corners), colour)

    def stroke(
        self, start: tuple[float, float], end: tuple[float, float], wide: float, narrow: float, colour: Colour
    ) -> None:
        """A straight stroke that tapers from `wide` to `narrow`."""
        (x0, y0), (x1, y1) = start, end
        half = 0.5 / (np.hypot(x1 - x0, y1 - y0) + 1e-9)
        u, v = (y0 - y1) * half, (x1 - x0) * half
        corners = [x0 + u * wide, y0 + v * wide, x1 + u * narrow, y1 + v * narrow]
        corners += [x1 - u * narrow, y1 - v * narrow, x0 - u * wide, y0 - v * wide]
        self._draw.polygon([float(c) * self._scale for c in corners], fill=colour)

    def leaf(self, x: float, y: float, length: float, angle: float, colour: Colour) -> None:
        """A pointed leaf with one lighter half; `angle` in radians clockwise from the right."""
        cos, sin = float(np.cos(angle)) * length, float(np.sin(angle)) * length
        blade = LEAF @ np.array([[cos, sin], [-sin, cos]]) + (x, y)
        self.fill(blade, colour)
        self.fill(blade[: len(LEAF) // 2], mix(colour, (255, 255, 230), 0.14))

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A filled circle."""
        left, top, right, low = (v * self._scale for v in (x - radius, y - radius, x + radius, y + radius))
        self._draw.ellipse((left, top, right, low), fill=colour)

    def pill(self, x: float, y: float, half_width: float, half_height: float, colour: Colour) -> None:
        """A box with round ends."""
        box = (x - half_width, y - half_height, x + half_width, y + half_height)
        left, top, right, low = (v * self._scale for v in box)
        self._draw.rounded_rectangle((left, top, right, low), half_height * self._scale, fill=colour)

    def colour_at(self, x: float, y: float) -> Colour:
        """The colour at a point, or at the nearest one inside."""
        column = min(max(0, int(x * self._scale)), self.image.width - 1)
        row = min(max(0, int(y * self._scale)), self.image.height - 1)
        pixel = self.image.getpixel((column, row))
        assert isinstance(pixel, tuple)
        return int(pixel[0]), int(pixel[1]), int(pixel[2])

    def finish(self) -> Image.Image:
        """The layer in its final size."""
        return self.image.reduce(self._oversize)
