"""The places where the birds are filmed. Nothing here knows of a class.

A scene is three layers wider than the picture (the camera pans over them): ``back`` (sky, hills, water), ``middle`` (trees,
reeds, posts: where birds sit) and ``front`` (blurred leaves near the lens). Berries, blossoms, butterflies and squirrels
wear the colours of the birds' markings, in every class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from rratag.data.rendered.paint import Colour, Points, circle, mix, smooth

ACCENTS: tuple[Colour, ...] = ((206, 36, 34), (250, 204, 30), (250, 249, 243), (36, 96, 216), (247, 124, 22), (22, 20, 24))
"""Colours of berries, blossoms and butterflies: those of the markings."""

OVERSIZE = 2
ROOM = (1.6, 1.12)
"""Width and height of a layer in pictures."""


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of one hour and season."""

    sky_top: Colour
    sky_bottom: Colour
    sun: Colour
    haze: Colour
    hill: Colour
    leaf: Colour
    leaf_2: Colour
    wood: Colour
    light: tuple[float, float, float]


PALETTES = (
    Palette((84, 150, 206), (214, 232, 232), (255, 250, 224), (188, 212, 218), (96, 140, 110), (74, 128, 62), (122, 160, 74), (92, 70, 54), (1.0, 1.0, 0.98)),
    Palette((236, 150, 110), (252, 226, 178), (255, 240, 200), (236, 190, 156), (126, 92, 100), (92, 104, 58), (150, 132, 66), (82, 56, 50), (1.04, 0.95, 0.86)),
    Palette((150, 176, 186), (226, 230, 222), (248, 248, 240), (206, 214, 210), (120, 140, 136), (86, 118, 92), (128, 146, 104), (84, 76, 70), (0.95, 0.97, 1.0)),
    Palette((116, 164, 196), (240, 228, 200), (255, 246, 214), (214, 206, 184), (168, 134, 84), (190, 122, 44), (206, 160, 60), (88, 62, 46), (1.03, 0.98, 0.9)),
    Palette((72, 92, 148), (226, 172, 176), (255, 220, 190), (170, 146, 172), (82, 78, 116), (62, 88, 78), (96, 112, 84), (62, 50, 58), (0.92, 0.9, 0.98)),
    Palette((130, 192, 206), (234, 242, 214), (255, 255, 234), (196, 222, 202), (124, 170, 110), (104, 156, 70), (160, 190, 90), (112, 86, 66), (1.02, 1.02, 0.96)),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """Layers of one place; ``perches`` of shape (P, 2), pixels of the middle layer; ``light`` one factor per channel."""

    back: Image.Image
    middle: Image.Image
    front: Image.Image
    perches: Points
    light: tuple[float, float, float]


class Canvas:
    """A layer while it is drawn: coordinates in final pixels, drawn larger, reduced at the end."""

    def __init__(self, size: tuple[int, int], mode: str, rng: np.random.Generator, palette: Palette) -> None:
        self.width, self.height = size
        self.rng, self.palette = rng, palette
        background = (0, 0, 0, 0) if mode == "RGBA" else (0, 0, 0)
        self.image = Image.new(mode, (self.width * OVERSIZE, self.height * OVERSIZE), background)
        self.draw = ImageDraw.Draw(self.image)
        self.perches: list[tuple[float, float]] = []
        self.hooks: list[tuple[float, float]] = []

    def fill(self, points: Points, colour: Colour) -> None:
        """Fill a polygon given in final pixels."""
        self.draw.polygon([(float(x), float(y)) for x, y in np.asarray(points) * OVERSIZE], fill=colour)

    def stroke(self, start: tuple[float, float], end: tuple[float, float], wide: float, narrow: float, colour: Colour) -> None:
        """A tapered straight stroke."""
        a, b = np.asarray(start, float), np.asarray(end, float)
        across = np.array([a[1] - b[1], b[0] - a[0]]) / (np.hypot(*(b - a)) + 1e-9)
        self.fill(np.stack([a + across * wide / 2, b + across * narrow / 2, b - across * narrow / 2, a - across * wide / 2]), colour)

    def leaf(self, x: float, y: float, length: float, angle: float, colour: Colour) -> None:
        """A pointed leaf with its lighter half."""
        t = np.linspace(0, 1, 6)
        belly = 0.24 * np.sin(np.pi * t**0.8)
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.array([[cos, sin], [-sin, cos]]) * length
        upper, lower = np.stack([t, belly], 1) @ turn + (x, y), np.stack([t, -belly], 1) @ turn + (x, y)
        self.fill(np.concatenate([upper, lower[::-1]]), colour)
        self.fill(np.concatenate([upper, upper[:1]]), mix(colour, (255, 255, 230), 0.14))

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A filled circle."""
        box = [(x - radius) * OVERSIZE, (y - radius) * OVERSIZE, (x + radius) * OVERSIZE, (y + radius) * OVERSIZE]
        self.draw.ellipse(box, fill=colour)

    def finish(self) -> Image.Image:
        """The layer in its final size."""
        return self.image.reduce(OVERSIZE)


def build_scene(rng: np.random.Generator, palette: Palette, width: int, height: int) -> Scene:
    """Draw a random place for pictures of `width` x `height` pixels."""
    size = round(width * ROOM[0]), round(height * ROOM[1])
    kind = KINDS[int(rng.integers(len(KINDS)))]
    back = Canvas(size, "RGB", rng, palette)
    middle = Canvas(size, "RGBA", rng, palette)
    horizon = _sky_and_hills(back, height)
    kind(back, middle, horizon, height)
    accents(middle, height)
    front = front_leaves(rng, palette, size, height)
    brightness = rng.uniform(0.88, 1.06)
    red, green, blue = (float(channel * brightness) for channel in palette.light)
    perches = np.array(middle.perches, np.float64).reshape(-1, 2)
    return Scene(back.finish(), middle.finish(), front, perches, (red, green, blue))


def _sky_and_hills(back: Canvas, height: int) -> float:
    """Sky with sun and clouds, then ridges that fade into the haze; returns the level of the nearest ridge."""
    rng, palette = back.rng, back.palette
    rows = np.linspace(0, 1, back.image.height)[:, None] ** 0.9
    column = np.asarray(palette.sky_top) * (1 - rows) + np.asarray(palette.sky_bottom) * rows
    strip = Image.fromarray(column.round().astype(np.uint8)[:, None, :])
    back.image.paste(strip.resize(back.image.size))
    _sun(back, height)
    for _ in range(int(rng.integers(2, 6))):
        _cloud(back, rng.uniform(0, back.width), rng.uniform(0.04, 0.34) * height, rng.uniform(0.03, 0.07) * height)
    horizon = rng.uniform(0.50, 0.66) * height
    for depth in range(3):
        colour = mix(palette.hill, palette.haze, (0.78, 0.5, 0.2)[depth])
        ridge = horizon + (depth - 1) * 0.09 * height
        _ridge(back, ridge, (0.10, 0.07, 0.04)[depth] * height, colour, trees=depth > 0 and rng.random() < 0.75)
    return horizon + 0.10 * height


def _sun(back: Canvas, height: int) -> None:
    x, y = back.rng.uniform(0, back.width), back.rng.uniform(0.08, 0.4) * height
    for step in range(10, 0, -1):
        sky = back.image.getpixel((int(x * OVERSIZE) % back.image.width, int(y * OVERSIZE)))
        assert isinstance(sky, tuple)
        colour = mix((int(sky[0]), int(sky[1]), int(sky[2])), back.palette.sun, 0.16)
        back.disc(x, y, (0.03 + 0.016 * step) * height, colour)
    back.disc(x, y, 0.04 * height, back.palette.sun)


def _cloud(back: Canvas, x: float, y: float, radius: float) -> None:
    rng = back.rng
    colour = mix(back.palette.sky_bottom, (255, 255, 255), rng.uniform(0.3, 0.7))
    for _ in range(int(rng.integers(4, 8))):
        back.disc(x + rng.normal(0, 1.8) * radius, y - abs(rng.normal(0, 0.35)) * radius, radius * rng.uniform(0.5, 1.0), colour)
    flat = np.array([(x - 3.4 * radius, y), (x + 3.4 * radius, y), (x + 2.6 * radius, y + 0.55 * radius), (x - 2.6 * radius, y + 0.55 * radius)])
    back.fill(flat, colour)


def _ridge(back: Canvas, level: float, swing: float, colour: Colour, trees: bool) -> None:
    rng = back.rng
    x = np.linspace(0, back.width, 80)
    y = level + sum(swing / (k + 1) * np.sin(x / back.width * 2 * np.pi * (k + rng.uniform(0.4, 1.0)) + rng.uniform(0, 7)) for k in range(4))
    if trees:
        pointed = rng.random() < 0.5
        for _ in range(int(rng.integers(25, 70))):
            place = int(rng.integers(0, 80))
            size = rng.uniform(0.5, 1.1) * swing * 1.1
            if pointed:
                back.fill(np.array([(x[place] - 0.35 * size, y[place] + 2), (x[place], y[place] - 1.5 * size), (x[place] + 0.35 * size, y[place] + 2)]), colour)
            else:
                back.disc(x[place], y[place] - 0.3 * size, 0.6 * size, colour)
    outline = np.concatenate([np.stack([x, y], 1), [(back.width, back.height), (0, back.height)]])
    back.fill(outline, colour)


def woodland(back: Canvas, middle: Canvas, horizon: float, height: int) -> None:
    """Trunks with leafy branches in front of a wood."""
    rng, palette = middle.rng, middle.palette
    for _ in range(int(rng.integers(8, 18))):
        x = rng.uniform(0, back.width)
        colour = mix(palette.wood, palette.haze, rng.uniform(0.35, 0.7))
        back.stroke((x, back.height), (x + rng.normal(0, 8), -5), rng.uniform(0.02, 0.05) * height, 0.012 * height, colour)
    ground = mix(palette.leaf, palette.wood, 0.4)
    back.fill(np.array([(0, horizon + 0.1 * height), (back.width, horizon + 0.06 * height), (back.width, back.height), (0, back.height)]), ground)
    tufts(back, horizon + 0.1 * height, height, 220)
    for x in np.sort(rng.uniform(0, middle.width, int(rng.integers(2, 5)))):
        thick = rng.uniform(0.05, 0.12) * height
        middle.stroke((x, middle.height + 4), (x + rng.normal(0, 12), -6), thick * 1.25, thick * 0.75, palette.wood)
        for _ in range(14):
            y = rng.uniform(0, middle.height)
            side = x + rng.uniform(-0.35, 0.35) * thick
            middle.stroke((side, y), (side + rng.normal(0, 1), y + rng.uniform(0.03, 0.1) * height), 1.6, 0.4, mix(palette.wood, (0, 0, 0), 0.3))
        for _ in range(int(rng.integers(2, 4))):
            branch(middle, (x, rng.uniform(0.12, 0.85) * height), float(rng.choice([-1.0, 1.0])), height)


def orchard(back: Canvas, middle: Canvas, horizon: float, height: int) -> None:
    """Long branches that reach into the picture over a meadow."""
    rng, palette = middle.rng, middle.palette
    meadow(back, horizon, height)
    for _ in range(int(rng.integers(4, 7))):
        side = float(rng.choice([-1.0, 1.0]))
        start = (rng.uniform(0, middle.width), rng.uniform(0.1, 0.9) * height)
        branch(middle, start, side, height, long=True)
    del palette


def lakeside(back: Canvas, middle: Canvas, horizon: float, height: int) -> None:
    """Water and reeds."""
    rng, palette = middle.rng, middle.palette
    water = mix(palette.sky_top, palette.sky_bottom, 0.45)
    back.fill(np.array([(0, horizon), (back.width, horizon), (back.width, back.height), (0, back.height)]), water)
    for _ in range(130):
        y = horizon + (back.height - horizon) * rng.uniform(0, 1) ** 1.3
        x, half = rng.uniform(0, back.width), rng.uniform(0.02, 0.12) * height
        colour = mix(water, (255, 255, 255) if rng.random() < 0.5 else palette.hill, rng.uniform(0.1, 0.4))
        back.stroke((x - half, y), (x + half, y), 1.6, 0.6, colour)
    for centre in rng.uniform(0, middle.width, int(rng.integers(4, 8))):
        _reeds(middle, centre, height)
    for _ in range(int(rng.integers(1, 3))):
        start = (rng.uniform(0, middle.width), rng.uniform(0.5, 0.95) * height)
        branch(middle, start, float(rng.choice([-1.0, 1.0])), height, long=True)


def _reeds(middle: Canvas, centre: float, height: int) -> None:
    rng, palette = middle.rng, middle.palette
    for _ in range(int(rng.integers(14, 30))):
        x = centre + rng.normal(0, 0.09) * height
        top = rng.uniform(0.2, 0.8) * height
        tip = (x + rng.normal(0, 0.07) * height, top)
        colour = mix(palette.leaf, palette.leaf_2, rng.random())
        middle.stroke((x, middle.height + 3), tip, rng.uniform(2.0, 5.0) * height / 360, 0.8, mix(colour, (0, 0, 0), rng.uniform(0, 0.25)))
        if rng.random() < 0.22:
            low = (tip[0] - 0.02 * (tip[0] - x), top + 0.1 * height)
            middle.stroke(low, (tip[0], top + 0.01 * height), 0.022 * height, 0.02 * height, (104, 70, 44))
            middle.perches.append((tip[0], top))
        else:
            middle.hooks.append(tip)


def garden(back: Canvas, middle: Canvas, horizon: float, height: int) -> None:
    """A fence with bushes and tall flowers."""
    rng, palette = middle.rng, middle.palette
    meadow(back, horizon, height)
    top = rng.uniform(0.45, 0.68) * height
    wood = mix(palette.wood, palette.haze, 0.3)
    for rail in (0.09, 0.27):
        middle.stroke((-5, top + rail * height), (middle.width + 5, top + rail * height + rng.normal(0, 6)), 0.028 * height, 0.028 * height, mix(wood, (0, 0, 0), 0.12))
    x = rng.uniform(0, 0.2) * height
    while x < middle.width:
        tilt = rng.normal(0, 3)
        middle.stroke((x, middle.height + 5), (x + tilt, top), 0.06 * height, 0.054 * height, wood)
        middle.stroke((x - 0.016 * height, middle.height + 5), (x + tilt - 0.016 * height, top), 0.012 * height, 0.012 * height, mix(wood, (255, 255, 255), 0.18))
        middle.perches.append((x + tilt, top))
        x += rng.uniform(0.3, 0.5) * height
    for _ in range(int(rng.integers(2, 5))):
        bush(middle, rng.uniform(0, middle.width), rng.uniform(0.75, 1.0) * height, rng.uniform(0.12, 0.3) * height)
    if rng.random() < 0.6:
        branch(middle, (rng.uniform(0, middle.width), rng.uniform(0.05, 0.35) * height), float(rng.choice([-1.0, 1.0])), height, long=True)


KINDS: tuple[Callable[[Canvas, Canvas, float, int], None], ...] = (woodland, orchard, lakeside, garden)


def meadow(back: Canvas, horizon: float, height: int) -> None:
    """Grass up to the horizon."""
    near = mix(back.palette.leaf, back.palette.leaf_2, back.rng.uniform(0.2, 0.8))
    steps = 6
    for step in range(steps):
        y = horizon + (back.height - horizon) * step / steps
        colour = mix(mix(near, back.palette.haze, 0.35), near, step / (steps - 1))
        back.fill(np.array([(0, y), (back.width, y), (back.width, back.height), (0, back.height)]), colour)
    tufts(back, horizon, height, 320)


def tufts(back: Canvas, top: float, height: int, count: int) -> None:
    """Blades of grass, taller towards the lens."""
    rng, palette = back.rng, back.palette
    depth = np.sort(rng.random(count))
    for near in depth:
        y = top + (back.height + 0.06 * height - top) * near
        x = rng.uniform(0, back.width)
        colour = mix(mix(palette.leaf, palette.leaf_2, rng.random()), (0, 0, 0), rng.uniform(0, 0.25))
        tall = (0.02 + 0.08 * near) * height
        back.stroke((x, y), (x + rng.normal(0, 0.3) * tall, y - tall), 1.0 + 2.0 * near, 0.4, colour)


def branch(middle: Canvas, start: tuple[float, float], side: float, height: int, long: bool = False) -> None:
    """A crooked branch with twigs and leaves; its upper edge offers perches."""
    rng, palette = middle.rng, middle.palette
    steps, reach = (9, 0.16) if long else (5, 0.11)
    thick = rng.uniform(0.022, 0.04) * height
    heading = rng.uniform(-0.35, 0.15)
    x, y = start
    for step in range(steps):
        heading = 0.8 * heading + rng.normal(-0.02, 0.16)
        length = rng.uniform(0.7, 1.2) * reach * height
        end = (x + side * length * np.cos(heading), y + length * np.sin(heading))
        wide, narrow = thick * (1 - step / steps * 0.85), thick * (1 - (step + 1) / steps * 0.85)
        middle.stroke((x, y), end, wide, narrow, palette.wood)
        if 0 < step < steps - 1:
            middle.perches.append(((x + end[0]) / 2, (y + end[1]) / 2 - (wide + narrow) / 4))
        for _ in range(int(rng.integers(1, 4))):
            share = rng.random()
            _twig(middle, x + (end[0] - x) * share, y + (end[1] - y) * share, height)
        x, y = end
    _twig(middle, x, y, height)


def _twig(middle: Canvas, x: float, y: float, height: int) -> None:
    rng, palette = middle.rng, middle.palette
    angle = rng.uniform(-np.pi, np.pi)
    length = rng.uniform(0.02, 0.07) * height
    tip = (x + length * np.cos(angle), y + length * np.sin(angle))
    middle.stroke((x, y), tip, 2.0, 0.8, palette.wood)
    middle.hooks.append(tip)
    for _ in range(int(rng.integers(2, 6))):
        colour = mix(mix(palette.leaf, palette.leaf_2, rng.random()), (0, 0, 0), rng.uniform(0, 0.25))
        middle.leaf(*tip, rng.uniform(0.03, 0.065) * height, angle + rng.normal(0, 0.9), colour)


def bush(middle: Canvas, x: float, y: float, radius: float) -> None:
    """A round bush of leaves."""
    rng, palette = middle.rng, middle.palette
    middle.disc(x, y, radius * 0.8, mix(palette.leaf, (0, 0, 0), 0.35))
    for _ in range(90):
        angle, out = rng.uniform(0, 2 * np.pi), radius * np.sqrt(rng.random())
        px, py = x + out * np.cos(angle), y + out * np.sin(angle) * 0.9
        shade = 0.35 * np.clip((py - y) / radius + 0.5, 0, 1)
        colour = mix(mix(palette.leaf, palette.leaf_2, rng.random()), (0, 0, 0), float(shade))
        middle.leaf(px, py, 0.2 * radius, rng.uniform(0, 2 * np.pi), colour)
        if rng.random() < 0.15:
            middle.hooks.append((px, py))


def accents(middle: Canvas, height: int) -> None:
    """Berries, blossoms and coloured leaves in the colours of the markings, some of each at random."""
    rng = middle.rng
    if not middle.hooks:
        return
    hooks = np.array(middle.hooks)
    for colour in ACCENTS:
        form = int(rng.integers(3))
        for _ in range(int(min(16, rng.exponential(4.0)))):
            x, y = hooks[int(rng.integers(len(hooks)))] + rng.normal(0, 0.012, 2) * height
            size = rng.uniform(0.010, 0.022) * height
            tone = mix(colour, (0, 0, 0), rng.uniform(0, 0.2))
            if form == 0:
                middle.disc(x, y, size * 0.7, tone)
                middle.disc(x + size, y + 0.6 * size, size * 0.6, mix(tone, (0, 0, 0), 0.15))
                middle.disc(x - 0.2 * size, y - 0.2 * size, size * 0.16, mix(tone, (255, 255, 255), 0.6))
            elif form == 1:
                for petal in range(5):
                    middle.disc(x + 0.7 * size * np.cos(petal * 1.257), y + 0.7 * size * np.sin(petal * 1.257), size * 0.5, tone)
                middle.disc(x, y, size * 0.35, mix(tone, (60, 40, 10), 0.5))
            else:
                middle.leaf(x, y, size * 2.6, rng.uniform(0, 2 * np.pi), tone)


def front_leaves(rng: np.random.Generator, palette: Palette, size: tuple[int, int], height: int) -> Image.Image:
    """Large leaves out of focus along the lower and upper edge."""
    front = Canvas(size, "RGBA", rng, palette)
    dark = mix(palette.leaf, (0, 0, 0), 0.45)
    for _ in range(int(rng.integers(4, 12))):
        low = rng.random() < 0.65
        x, y = rng.uniform(0, size[0]), size[1] + 4.0 if low else -4.0
        heading = rng.normal(-np.pi / 2 if low else np.pi / 2, 0.5)
        front.leaf(x, y, rng.uniform(0.12, 0.26) * height, heading, mix(dark, palette.leaf_2, 0.3 * rng.random()))
    return front.finish().filter(ImageFilter.GaussianBlur(height / 120))


def wings(x: float, y: float, size: float, beat: float) -> list[Points]:
    """Four wings of a butterfly at one moment of its beat (0 shut, 1 open)."""
    width = size * (0.25 + 0.75 * beat)
    return [
        smooth([(x, y), (x + s * 0.6 * width, y - size), (x + s * 1.1 * width, y - 0.7 * size), (x + s * 0.8 * width, y)], 4)
        for s in (-1, 1)
    ] + [circle(x + s * 0.5 * width, y + 0.35 * size, 0.42 * size, 10) for s in (-1, 1)]
