"""The birds: one body for all classes, and the one small marking that tells each class from the others.

Coordinates: the body is one unit long, x forward (to the bill), y down, the origin in the middle of the body.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from rratag.data.rendered.paint import BLACK, BLUE, RED, WHITE, YELLOW, Colour, Pen, circle, mix, smooth


@dataclass(frozen=True, slots=True)
class Marking:
    """Colours of the parts that may tell a class; None leaves a part as the coat has it."""

    cap: Colour | None = None
    mask: Colour | None = None
    throat: Colour | None = None
    wing_bar: Colour | None = None
    tail: Colour | None = None
    spots: Colour | None = None


MARKINGS: dict[str, Marking] = {
    "black_masked": Marking(mask=BLACK),
    "blue_throated": Marking(throat=BLUE),
    "red_capped": Marking(cap=RED),
    "spot_breasted": Marking(spots=BLACK),
    "white_wing_barred": Marking(wing_bar=WHITE),
    "yellow_tailed": Marking(tail=YELLOW),
}
"""Class name to marking: a new class is one more entry."""


@dataclass(frozen=True, slots=True)
class Coat:
    """Plumage that says nothing about the class: drawn from the same few for all of them."""

    upper: Colour
    lower: Colour
    wing: Colour
    bill: Colour = (62, 56, 54)
    leg: Colour = (84, 64, 52)


COATS = (
    Coat((122, 104, 84), (206, 190, 164), (92, 76, 62)),
    Coat((112, 114, 118), (204, 204, 200), (82, 84, 90)),
    Coat((128, 124, 88), (210, 204, 168), (94, 92, 64)),
    Coat((142, 112, 82), (214, 188, 152), (106, 80, 58)),
)


@dataclass(frozen=True, slots=True)
class Pose:
    """Where and how a bird stands in the picture.

    ``x``, ``y``: middle of its body in pixels; ``length`` of the body in pixels; ``angle`` in radians clockwise;
    ``facing`` 1 (right) or -1; ``flap`` from -1 (wings down) to 1 (wings up), None when perched.
    """

    x: float
    y: float
    length: float
    angle: float
    facing: int
    flap: float | None


BODY = smooth(
    [
        (0.68, -0.31),
        (0.62, -0.455),
        (0.46, -0.535),
        (0.27, -0.47),
        (0.12, -0.33),
        (-0.12, -0.245),
        (-0.36, -0.14),
        (-0.52, -0.04),
        (-0.50, 0.07),
        (-0.30, 0.23),
        (-0.02, 0.32),
        (0.27, 0.275),
        (0.50, 0.10),
        (0.61, -0.07),
        (0.67, -0.20),
    ]
)
BELLY = smooth(
    [
        (0.58, -0.17),
        (0.43, -0.05),
        (0.22, 0.06),
        (-0.15, 0.07),
        (-0.52, 0.03),
        (-0.45, 0.22),
        (0.0, 0.37),
        (0.38, 0.30),
        (0.66, 0.0),
    ]
)
SHADE = smooth([(0.30, 0.25), (0.0, 0.22), (-0.30, 0.15), (-0.55, 0.06), (-0.5, 0.2), (-0.1, 0.39), (0.25, 0.36)])
CAP = smooth(
    [
        (0.74, -0.34),
        (0.60, -0.375),
        (0.40, -0.35),
        (0.22, -0.22),
        (0.04, -0.23),
        (0.08, -0.46),
        (0.3, -0.6),
        (0.58, -0.6),
    ]
)
MASK = smooth(
    [(0.72, -0.335), (0.54, -0.40), (0.33, -0.36), (0.16, -0.25), (0.32, -0.20), (0.52, -0.215), (0.70, -0.22)]
)
THROAT = smooth([(0.74, -0.21), (0.56, -0.20), (0.37, -0.12), (0.20, 0.04), (0.31, 0.19), (0.50, 0.17), (0.70, 0.0)])
BILL = np.array([(0.645, -0.365), (0.79, -0.325), (0.95, -0.24), (0.79, -0.2), (0.655, -0.2), (0.63, -0.28)])
EYE = (0.515, -0.315)
TAIL = np.array(
    [(-0.38, -0.12), (-0.70, -0.08), (-1.02, -0.05), (-0.96, 0.05), (-1.03, 0.17), (-0.70, 0.14), (-0.40, 0.12)]
)
TAIL_END = np.array([(-0.58, -0.096), (-1.02, -0.05), (-0.96, 0.05), (-1.03, 0.17), (-0.58, 0.13)])
SPOTS = [(0.5 - 0.13 * i - 0.05 * j, -0.02 + 0.09 * j + 0.035 * i) for j in range(4) for i in range(5)]
FOOT = 0.43
"""How far below the middle of a perched bird its feet are, in body lengths."""
TAIL_LINES = [np.array([(-0.45, y / 3), (-0.97, 0.055 + y)]) for y in (-0.045, 0.055)]
FOLDED = smooth(
    [
        (0.31, -0.05),
        (0.22, -0.17),
        (0.0, -0.195),
        (-0.30, -0.12),
        (-0.74, 0.06),
        (-0.45, 0.075),
        (-0.10, 0.15),
        (0.20, 0.11),
    ]
)
FOLDED_BARS = [
    np.array([(0.125, -0.18), (0.215, -0.18), (0.115, 0.14), (0.02, 0.14)]),
    np.array([(-0.085, -0.18), (0.005, -0.19), (-0.095, 0.14), (-0.19, 0.14)]),
]
FOLDED_LINES = [np.array([(-0.18 + d, -0.02 + d / 4), (-0.68 + d / 2, 0.045 + d / 6)]) for d in (0.0, 0.12, 0.24)]


def paint_bird(
    pose: Pose, coat: Coat, marking: Marking, light: Sequence[float]
) -> tuple[Image.Image, Image.Image, tuple[int, int]]:
    """Draw one bird.

    Returns
    -------
    Colours (RGB) and mask (L) of one square, and the picture position of its upper left corner in pixels. The mask
    does not depend on the marking.
    """
    side = 2 * int(np.ceil(1.45 * pose.length)) + 2
    pen = Pen(side, pose.length, pose.angle, pose.facing, light)
    if pose.flap is not None:
        _spread_wing(pen, coat, marking, pose.flap, far=True)
    _tail(pen, coat, marking)
    if pose.flap is None:
        _legs(pen, coat, pose.angle)
    pen.fill(BODY, coat.upper)
    _body(pen, coat, marking)
    _bill(pen, coat.bill)
    if pose.flap is None:
        _folded_wing(pen, coat, marking)
    else:
        _spread_wing(pen, coat, marking, pose.flap, far=False)
    colours, mask = pen.finish()
    left, top = round(pose.x - side / 2), round(pose.y - side / 2)
    return colours, mask, (left, top)


def _body(pen: Pen, coat: Coat, marking: Marking) -> None:
    pen.mark(BELLY, coat.lower)
    pen.mark(SHADE, mix(coat.lower, coat.wing, 0.5), 110)
    if marking.throat is not None:
        pen.mark(THROAT, marking.throat)
    if marking.cap is not None:
        pen.mark(CAP, marking.cap)
    if marking.mask is not None:
        pen.mark(MASK, marking.mask)
    if marking.spots is not None:
        for spot in SPOTS:
            pen.mark(circle(*spot, 0.035, 8), marking.spots)
    pen.mark(circle(*EYE, 0.05), (18, 14, 12))
    pen.mark(circle(EYE[0] + 0.015, EYE[1] - 0.018, 0.017, 8), (255, 255, 255))


def _bill(pen: Pen, colour: Colour) -> None:
    pen.fill(BILL, colour)
    pen.mark([(0.68, -0.285), (0.94, -0.242), (0.68, -0.262)], (30, 26, 24), 130)


def _legs(pen: Pen, coat: Coat, angle: float) -> None:
    """Legs hang straight down to the perch, however the body is tilted."""
    cos, sin = np.cos(angle), np.sin(angle)
    for x in (-0.04, 0.07):
        hip = np.array([x * cos - 0.2 * sin, x * sin + 0.2 * cos])
        upright = np.array([hip, (hip[0] + 0.02, FOOT), (hip[0] + 0.10, FOOT + 0.01)])
        pen.line(upright @ np.array([[cos, -sin], [sin, cos]]), coat.leg, 0.04, outline=True)


def _tail(pen: Pen, coat: Coat, marking: Marking) -> None:
    pen.fill(TAIL, coat.wing)
    if marking.tail is not None:
        pen.mark(TAIL_END, marking.tail)
    for line in TAIL_LINES:
        pen.line(line, mix(coat.wing, (0, 0, 0), 0.35), 0.012, outline=False)


def _folded_wing(pen: Pen, coat: Coat, marking: Marking) -> None:
    pen.fill(FOLDED, coat.wing)
    pen.mark(smooth([(0.28, -0.05), (0.18, -0.15), (-0.05, -0.16), (-0.05, 0.0), (0.16, 0.04)]), coat.upper, 120)
    for line in FOLDED_LINES:
        pen.line(line, mix(coat.wing, (0, 0, 0), 0.35), 0.016, outline=False)
    if marking.wing_bar is not None:
        for bar in FOLDED_BARS:
            pen.mark(bar, marking.wing_bar)


def _spread_wing(pen: Pen, coat: Coat, marking: Marking, flap: float, far: bool) -> None:
    """A wing seen from the side: its span shrinks as it passes the level of the body."""
    span = 0.92 * flap if abs(flap) > 0.18 else 0.18 * (1 if flap >= 0 else -1)
    lean = 0.10 if far else -0.04
    colour = mix(coat.wing, (0, 0, 0), 0.22) if far else coat.wing

    def at(along: float, forward: float) -> tuple[float, float]:
        """A point of the wing: `along` its span (0 root, 1 tip), `forward` in body units."""
        return lean + forward - 0.30 * along**1.6, -0.10 - span * along

    front = [at(0.0, 0.20), at(0.25, 0.26), at(0.55, 0.27), at(0.8, 0.22)]
    back = [
        at(1.0, 0.02),
        at(0.86, -0.12),
        at(0.72, -0.10),
        at(0.6, -0.22),
        at(0.45, -0.20),
        at(0.3, -0.30),
        at(0.0, -0.34),
    ]
    pen.fill(smooth([*front, *back]), colour)
    for along, forward in ((0.9, 0.0), (0.72, -0.05), (0.5, -0.12)):
        pen.line(
            [at(along * 0.35, forward + 0.02), at(along, forward)], mix(colour, (0, 0, 0), 0.3), 0.014, outline=False
        )
    pen.mark([at(0.0, 0.18), at(0.3, 0.23), at(0.62, 0.23), at(0.3, 0.07), at(0.0, 0.02)], coat.upper, 110)
    if marking.wing_bar is not None:
        bar = mix(marking.wing_bar, (0, 0, 0), 0.15) if far else marking.wing_bar
        for low, high in ((0.20, 0.34), (0.46, 0.58)):
            pen.mark([at(low, 0.22), at(high, 0.225), at(high, -0.17), at(low, -0.25)], bar)
