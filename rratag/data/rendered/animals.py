"""What lives and moves in every scene, whatever the class: squirrels, rabbits, ducks, butterflies, falling leaves."""

from __future__ import annotations

import numpy as np

from rratag.data.rendered.canvas import Canvas
from rratag.data.rendered.paint import LEAF, Colour, Points, circle, mix, smooth

SHADOW = (0, 0, 0)
EYE = (20, 16, 14)
ELBOW_ROOM = 0.25
"""No bird sits nearer than this to a squirrel, in picture heights."""

# Outlines in units of the animal's size, feet (or water line) at the origin, looking to the right.
SQUIRREL_TAIL = smooth(
    [(-0.3, 0.0), (-0.55, -0.25), (-0.75, -0.75), (-0.5, -1.05), (-0.3, -0.85), (-0.42, -0.55), (-0.2, -0.2)]
)
SQUIRREL_BODY = smooth([(-0.3, 0.0), (-0.32, -0.3), (-0.1, -0.55), (0.14, -0.62), (0.2, -0.4), (0.26, 0.0)])
SQUIRREL_HEAD = smooth(
    [(0.0, -0.66), (0.08, -0.84), (0.14, -0.98), (0.2, -0.82), (0.34, -0.7), (0.38, -0.6), (0.18, -0.52)]
)
SQUIRREL_BELLY = smooth([(0.1, -0.45), (0.2, -0.4), (0.22, -0.05), (0.08, -0.08)])
RABBIT_BODY = smooth([(-0.5, 0.0), (-0.52, -0.3), (-0.3, -0.56), (0.05, -0.56), (0.3, -0.42), (0.36, 0.0)])
RABBIT_HEAD = smooth([(0.14, -0.5), (0.2, -0.72), (0.38, -0.78), (0.54, -0.62), (0.5, -0.48), (0.3, -0.42)])
RABBIT_EARS = smooth(
    [(0.2, -0.68), (0.04, -1.15), (0.14, -1.2), (0.3, -0.8), (0.22, -1.22), (0.32, -1.2), (0.36, -0.72)]
)
DUCK_BODY = smooth([(-0.7, -0.28), (-0.4, -0.2), (0.0, -0.26), (0.35, -0.2), (0.4, 0.0), (0.1, 0.1), (-0.4, 0.06)])
DUCK_HEAD = smooth([(0.2, -0.1), (0.24, -0.4), (0.34, -0.56), (0.5, -0.52), (0.52, -0.4), (0.42, -0.3), (0.42, -0.05)])
DUCK_BEAK = smooth([(0.5, -0.46), (0.68, -0.42), (0.68, -0.37), (0.5, -0.37)])


def squirrel(middle: Canvas) -> None:
    """A squirrel on a random perch."""
    rng = middle.rng
    if not middle.perches:
        return
    x, y = middle.perches[int(rng.integers(len(middle.perches)))]
    middle.perches = [perch for perch in middle.perches if np.hypot(perch[0] - x, perch[1] - y) > ELBOW_ROOM]
    fur = mix((150, 78, 36), (96, 84, 74), rng.random())
    size, facing = rng.uniform(0.13, 0.18), float(rng.choice([-1.0, 1.0]))
    for outline, colour in (
        (SQUIRREL_TAIL, mix(fur, SHADOW, 0.12)),
        (SQUIRREL_BODY, fur),
        (SQUIRREL_BELLY, mix(fur, (240, 226, 200), 0.6)),
        (SQUIRREL_HEAD, fur),
    ):
        _fill(middle, outline, x, y, size, facing, colour)
    middle.disc(x + 0.24 * facing * size, y - 0.71 * size, 0.035 * size, EYE)


def rabbit(middle: Canvas) -> None:
    """A rabbit in the grass."""
    rng = middle.rng
    x, y = rng.uniform(0, middle.width), rng.uniform(0.9, 1.0)
    fur = mix((146, 122, 96), (112, 108, 104), rng.random())
    size, facing = rng.uniform(0.14, 0.2), float(rng.choice([-1.0, 1.0]))
    for outline, colour in ((RABBIT_EARS, mix(fur, SHADOW, 0.15)), (RABBIT_BODY, fur), (RABBIT_HEAD, fur)):
        _fill(middle, outline, x, y, size, facing, colour)
    middle.disc(x - 0.5 * facing * size, y - 0.14 * size, 0.1 * size, (240, 236, 226))
    middle.disc(x + 0.4 * facing * size, y - 0.64 * size, 0.035 * size, EYE)


def duck(middle: Canvas) -> None:
    """A duck on the water."""
    rng = middle.rng
    x, y = rng.uniform(0, middle.width), rng.uniform(0.82, 0.98)
    coat = mix((120, 100, 80), (70, 74, 80), rng.random())
    crown = mix(coat, (30, 96, 70), rng.uniform(0.0, 0.8))
    size, facing = rng.uniform(0.15, 0.2), float(rng.choice([-1.0, 1.0]))
    for outline, colour in ((DUCK_BEAK, (206, 150, 60)), (DUCK_BODY, coat), (DUCK_HEAD, crown)):
        _fill(middle, outline, x, y, size, facing, colour)
    middle.disc(x + 0.42 * facing * size, y - 0.45 * size, 0.03 * size, EYE)


def _fill(middle: Canvas, outline: Points, x: float, y: float, size: float, facing: float, colour: Colour) -> None:
    middle.fill(outline * (facing * size, size) + (x, y), colour)


def falling_leaf(x: float, y: float, size: float, angle: float) -> Points:
    """Corners of a leaf that tumbles as it turns."""
    cos, sin = np.cos(angle), np.sin(angle)
    width = 0.25 + 1.4 * abs(np.sin(1.7 * angle))
    corners: Points = ((LEAF - (0.5, 0.0)) * (2 * size, width * size)) @ np.array([[cos, sin], [-sin, cos]]) + (x, y)
    return corners


def butterfly(x: float, y: float, size: float, beat: float) -> list[Points]:
    """The four wings of a butterfly at one moment of its beat (0 shut, 1 open)."""
    width = size * (0.25 + 0.75 * beat)
    shapes = []
    for side in (-width, width):
        upper = [(x, y), (x + 0.6 * side, y - size), (x + 1.1 * side, y - 0.7 * size), (x + 0.8 * side, y)]
        shapes += [smooth(upper, 4), circle(x + 0.5 * side, y + 0.35 * size, 0.42 * size, 10)]
    return shapes
