"""The middle and front layers of a scene: trees, bushes, reeds, fences, flowers, and leaves near the lens."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from rratag.data.rendered.canvas import Canvas, Palette
from rratag.data.rendered.paint import ACCENTS, Colour, mix

SHADOW = (0, 0, 0)


def tree(middle: Canvas, x: float, thick: float, top: float, branches: int, long: bool) -> None:
    """A trunk from the ground up to the level `top`, with branches to both sides."""
    rng, wood = middle.rng, middle.palette.wood
    crown_x = x + rng.normal(0, 0.03)
    middle.stroke((x, middle.height + 0.01), (crown_x, top), thick * 1.25, thick * (0.75 if top < 0 else 0.3), wood)

    def at(share: float) -> tuple[float, float]:
        return x + (crown_x - x) * share, middle.height + (top - middle.height) * share

    for share in rng.random(14):
        across = rng.uniform(-0.35, 0.35) * thick * (1 - 0.5 * share)
        bark_x, bark_y = at(share)[0] + across, at(share)[1]
        end = (bark_x, bark_y + rng.uniform(0.03, 0.1))
        middle.stroke((bark_x, bark_y), end, 0.0044, 0.001, mix(wood, SHADOW, 0.3))
    for share in np.linspace(0.25, 1.0, branches) + rng.uniform(-0.08, 0.0, branches):
        branch(middle, at(float(share)), float(rng.choice([-1.0, 1.0])), long)


def branch(middle: Canvas, start: tuple[float, float], side: float, long: bool) -> None:
    """A crooked branch to one side (-1 left, 1 right) with twigs and leaves; its upper edge offers perches."""
    rng, wood = middle.rng, middle.palette.wood
    steps, reach = (9, 0.16) if long else (5, 0.11)
    thick, heading = rng.uniform(0.018, 0.032), rng.uniform(-0.65, 0.0)
    x, y = start
    for step in range(steps):
        heading = 0.85 * heading + rng.normal(0.0, 0.15)
        length = rng.uniform(0.7, 1.2) * reach
        end = (x + side * length * np.cos(heading), y + length * np.sin(heading))
        wide, narrow = thick * (1 - step / steps * 0.85), thick * (1 - (step + 1) / steps * 0.85)
        middle.stroke((x, y), end, wide, narrow, wood)
        if 0 < step < steps - 1:
            middle.perches.append(((x + end[0]) / 2, (y + end[1]) / 2 - (wide + narrow) / 4))
        for share in rng.random(int(rng.integers(1, 4))):
            _twig(middle, x + (end[0] - x) * share, y + (end[1] - y) * share)
        x, y = end
    _twig(middle, x, y)


def _twig(middle: Canvas, x: float, y: float) -> None:
    rng = middle.rng
    angle, length = rng.uniform(-np.pi, np.pi), rng.uniform(0.02, 0.07)
    tip = (x + length * np.cos(angle), y + length * np.sin(angle))
    middle.stroke((x, y), tip, 0.0055, 0.002, middle.palette.wood)
    middle.hooks.append(tip)
    for _ in range(int(rng.integers(2, 6))):
        middle.leaf(*tip, rng.uniform(0.03, 0.065), angle + rng.normal(0, 0.9), middle.foliage(0.25))


def bush(middle: Canvas, x: float, y: float, radius: float) -> None:
    """A round bush of leaves."""
    rng = middle.rng
    dark = mix(middle.palette.leaf, SHADOW, 0.38)
    for angle in np.linspace(0, 2 * np.pi, 9):
        inner = (x + 0.42 * radius * np.cos(angle), y + 0.38 * radius * np.sin(angle))
        middle.disc(*inner, radius * rng.uniform(0.35, 0.5), dark)
    for _ in range(int(60 + 1200 * radius)):
        angle, out = rng.uniform(0, 2 * np.pi), radius * np.sqrt(rng.random())
        at = (x + out * np.cos(angle), y + out * np.sin(angle) * 0.9)
        shade = 0.35 * float(np.clip((at[1] - y) / radius + 0.5, 0, 1))
        middle.leaf(*at, 0.12 * radius + 0.0085, rng.uniform(0, 2 * np.pi), mix(middle.foliage(0.0), SHADOW, shade))
        if rng.random() < 0.15:
            middle.hooks.append(at)


def fern(middle: Canvas, x: float, y: float, size: float) -> None:
    """A fan of feathered leaves."""
    rng = middle.rng
    for heading in np.linspace(-2.7, -0.45, 6) + rng.normal(0, 0.1, 6):
        colour = middle.foliage(0.3)
        tip = np.array([np.cos(heading), np.sin(heading)]) * size
        middle.stroke((x, y), (x + tip[0], y + tip[1]), 0.0044, 0.0017, colour)
        for share in np.linspace(0.25, 1.0, 7):
            for side in (-1.0, 1.0):
                length = 0.34 * size * (1.1 - share)
                middle.leaf(x + tip[0] * share, y + tip[1] * share, length, heading + side * 0.9, colour)


def flowers(middle: Canvas, count: int) -> None:
    """Tall stems; :func:`accents` gives some of them blossoms."""
    rng = middle.rng
    for x in rng.uniform(0, middle.width, count):
        tip = (x + rng.normal(0, 0.03), rng.uniform(0.66, 0.95))
        colour = middle.foliage(0.0)
        middle.stroke((x, middle.height + 0.01), tip, 0.0066, 0.0033, colour)
        for share in (0.35, 0.6):
            at = (x + (tip[0] - x) * share, middle.height + (tip[1] - middle.height) * share)
            middle.leaf(*at, 0.06, -np.pi / 2 + rng.choice([-0.8, 0.8]), colour)
        middle.hooks.append(tip)


def reeds(middle: Canvas, centre: float) -> None:
    """A stand of reeds, some with cattails to sit on."""
    rng = middle.rng
    for _ in range(int(rng.integers(14, 30))):
        foot, top = centre + rng.normal(0, 0.09), rng.uniform(0.2, 0.8)
        tip = (foot + rng.normal(0, 0.07), top)
        wide = rng.uniform(0.0055, 0.014)
        middle.stroke((foot, middle.height + 0.01), tip, wide, 0.0022, middle.foliage(0.25))
        if rng.random() < 0.22:
            low = (tip[0] - 0.02 * (tip[0] - foot), top + 0.1)
            middle.stroke(low, (tip[0], top + 0.01), 0.022, 0.02, (104, 70, 44))
            middle.perches.append((tip[0], top))
        else:
            middle.hooks.append(tip)


def fence(middle: Canvas) -> None:
    """Posts, to sit on, and two rails."""
    rng = middle.rng
    top = rng.uniform(0.45, 0.68)
    wood = mix(middle.palette.wood, middle.palette.haze, 0.3)
    for rail in (0.09, 0.27):
        end = (middle.width + 0.01, top + rail + rng.normal(0, 0.016))
        middle.stroke((-0.01, top + rail), end, 0.028, 0.028, mix(wood, SHADOW, 0.12))
    x = rng.uniform(0, 0.2)
    while x < middle.width:
        tilt = rng.normal(0, 0.008)
        middle.stroke((x, middle.height + 0.01), (x + tilt, top), 0.06, 0.054, wood)
        edge = (x - 0.016, middle.height + 0.01), (x + tilt - 0.016, top)
        middle.stroke(*edge, 0.012, 0.012, mix(wood, (255, 255, 255), 0.18))
        middle.perches.append((x + tilt, top))
        x += rng.uniform(0.3, 0.5)


def accents(middle: Canvas) -> None:
    """Berries, blossoms and coloured leaves in the colours of the markings: of each colour a random number."""
    rng = middle.rng
    for colour in ACCENTS:
        form = (_berries, _blossom, _coloured_leaf)[int(rng.integers(3))]
        count = int(min(12, rng.exponential(3.5)))
        for hook in rng.integers(0, len(middle.hooks), count):
            x, y = np.array(middle.hooks[hook]) + rng.normal(0, 0.012, 2)
            form(middle, float(x), float(y), rng.uniform(0.010, 0.022), mix(colour, SHADOW, rng.uniform(0, 0.2)))


def _berries(middle: Canvas, x: float, y: float, size: float, colour: Colour) -> None:
    middle.disc(x, y, size * 0.7, colour)
    middle.disc(x + size, y + 0.6 * size, size * 0.6, mix(colour, SHADOW, 0.15))
    middle.disc(x - 0.2 * size, y - 0.2 * size, size * 0.16, mix(colour, (255, 255, 255), 0.6))


def _blossom(middle: Canvas, x: float, y: float, size: float, colour: Colour) -> None:
    for angle in np.arange(5) * 2 * np.pi / 5:
        middle.disc(x + 0.7 * size * np.cos(angle), y + 0.7 * size * np.sin(angle), size * 0.5, colour)
    middle.disc(x, y, size * 0.35, mix(colour, (60, 40, 10), 0.5))


def _coloured_leaf(middle: Canvas, x: float, y: float, size: float, colour: Colour) -> None:
    middle.leaf(x, y, size * 2.6, middle.rng.uniform(0, 2 * np.pi), colour)


def front_leaves(rng: np.random.Generator, palette: Palette, size: tuple[float, float], unit: float) -> Image.Image:
    """Large leaves out of focus along the lower and upper edge, of `size` picture heights of `unit` pixels."""
    front = Canvas(size, unit / 2, "RGBA", rng, palette, oversize=1)
    dark = mix(palette.leaf, SHADOW, 0.45)
    for _ in range(int(rng.integers(4, 12))):
        low = rng.random() < 0.65
        heading = rng.normal(-np.pi / 2 if low else np.pi / 2, 0.5)
        colour = mix(dark, palette.leaf_2, 0.3 * rng.random())
        y = front.height + 0.01 if low else -0.01
        front.leaf(rng.uniform(0, front.width), y, rng.uniform(0.12, 0.26), heading, colour)
    blurred = front.finish().filter(ImageFilter.GaussianBlur(unit / 240))
    return blurred.resize((round(size[0] * unit), round(size[1] * unit)), Image.Resampling.BILINEAR)
