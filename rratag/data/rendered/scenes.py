"""The places where the birds are filmed. Nothing here knows of a class.

A scene is three layers wider than the picture, so that the camera can pan: ``back`` (sky, hills, water), ``middle``
(trees, reeds, posts: where birds sit) and ``front`` (blurred leaves near the lens).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from rratag.data.rendered.animals import duck, rabbit, squirrel
from rratag.data.rendered.canvas import Canvas, Palette
from rratag.data.rendered.landscape import meadow, sky_and_hills, water, wood
from rratag.data.rendered.paint import Points
from rratag.data.rendered.plants import accents, bush, fence, fern, flowers, front_leaves, reeds, tree

ROOM = (1.6, 1.12)
"""Width and height of a layer in widths and heights of the picture."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Layers of one place; ``perches`` (P, 2) in pixels of the middle layer; ``light``: a factor per channel."""

    back: Image.Image
    middle: Image.Image
    front: Image.Image
    perches: Points
    light: tuple[float, float, float]


def build_scene(rng: np.random.Generator, palette: Palette, width: int, height: int) -> Scene:
    """Draw a random place for pictures of `width` x `height` pixels."""
    size = width * ROOM[0] / height, ROOM[1]
    kind = KINDS[int(rng.integers(len(KINDS)))]
    back = Canvas(size, height, "RGB", rng, palette)
    middle = Canvas(size, height, "RGBA", rng, palette)
    kind(back, middle, sky_and_hills(back))
    accents(middle)
    if rng.random() < 0.5:
        squirrel(middle)
    front = front_leaves(rng, palette, size, height)
    brightness = rng.uniform(0.88, 1.06)
    red, green, blue = (float(channel * brightness) for channel in palette.light)
    return Scene(
        back.finish(), middle.finish(), front, np.array(middle.perches).reshape(-1, 2) * height, (red, green, blue)
    )


def woodland(back: Canvas, middle: Canvas, horizon: float) -> None:
    """Trunks with leafy branches and ferns in front of a wood."""
    rng = middle.rng
    wood(back, horizon)
    for x in rng.uniform(0, middle.width, int(rng.integers(3, 6))):
        tree(middle, x, rng.uniform(0.05, 0.12), -0.02, int(rng.integers(2, 5)), long=False)
    for _ in range(int(rng.integers(2, 6))):
        fern(middle, rng.uniform(0, middle.width), rng.uniform(0.9, 1.08), rng.uniform(0.12, 0.24))
    if rng.random() < 0.35:
        rabbit(middle)
    flowers(middle, int(rng.integers(0, 10)))


def orchard(back: Canvas, middle: Canvas, horizon: float) -> None:
    """Young trees with long branches on a meadow."""
    rng = middle.rng
    meadow(back, horizon)
    for _ in range(int(rng.integers(0, 3))):
        bush(middle, rng.uniform(0, middle.width), rng.uniform(0.85, 1.02), rng.uniform(0.10, 0.2))
    if rng.random() < 0.35:
        rabbit(middle)
    for x in rng.uniform(0.05, 0.95, int(rng.integers(2, 5))) * middle.width:
        tree(middle, x, rng.uniform(0.03, 0.06), rng.uniform(-0.05, 0.3), int(rng.integers(3, 6)), long=True)
    flowers(middle, int(rng.integers(4, 20)))


def lakeside(back: Canvas, middle: Canvas, horizon: float) -> None:
    """Reeds and an old tree on a lake with ducks."""
    rng = middle.rng
    water(back, horizon)
    for _ in range(int(rng.integers(0, 4))):
        duck(middle)
    for centre in rng.uniform(0, middle.width, int(rng.integers(4, 8))):
        reeds(middle, centre)
    for x in rng.uniform(0, middle.width, int(rng.integers(1, 3))):
        tree(middle, x, rng.uniform(0.03, 0.06), rng.uniform(0.3, 0.7), 3, long=True)


def garden(back: Canvas, middle: Canvas, horizon: float) -> None:
    """A fence with bushes and tall flowers."""
    rng = middle.rng
    meadow(back, horizon)
    fence(middle)
    for _ in range(int(rng.integers(3, 7))):
        bush(middle, rng.uniform(0, middle.width), rng.uniform(0.75, 1.0), rng.uniform(0.12, 0.3))
    if rng.random() < 0.7:
        tree(middle, rng.uniform(0, middle.width), 0.05, rng.uniform(0.0, 0.2), 4, long=True)
    if rng.random() < 0.35:
        rabbit(middle)
    flowers(middle, int(rng.integers(6, 26)))


KINDS: tuple[Callable[[Canvas, Canvas, float], None], ...] = (woodland, orchard, lakeside, garden)
