"""The birds: one body for all classes, and the one small marking that tells each class from the others.

Coordinates: the body is one unit long, x forward (to the bill), y down, the origin in the middle of the body.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from rratag.data.rendered.paint import BLACK, BLUE, ORANGE, RED, WHITE, YELLOW, Colour, Pen, circle, mix, smooth


@dataclass(frozen=True, slots=True)
class Marking:
    """Colours of the parts that may tell a class; None leaves a part as the coat has it."""

    cap: Colour | None = None
    mask: Colour | None = None
    throat: Colour | None = None
    wing_bar: Colour | None = None
    tail: Colour | None = None
    bill: Colour | None = None
    eye_ring: Colour | None = None
    rump: Colour | None = None


MARKINGS: dict[str, Marking] = {
    "black_masked": Marking(mask=BLACK),
    "blue_throated": Marking(throat=BLUE),
    "orange_billed": Marking(bill=ORANGE),
    "red_capped": Marking(cap=RED),
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
        (0.61, -0.27),
        (0.56, -0.39),
        (0.43, -0.455),
        (0.28, -0.405),
        (0.15, -0.285),
        (-0.10, -0.225),
        (-0.36, -0.13),
        (-0.52, -0.03),
        (-0.50, 0.07),
        (-0.30, 0.215),
        (-0.02, 0.295),
        (0.26, 0.25),
        (0.46, 0.08),
        (0.55, -0.08),
        (0.60, -0.18),
    ]
)
BELLY = smooth(
    [
        (0.52, -0.16),
        (0.40, -0.05),
        (0.20, 0.06),
        (-0.15, 0.07),
        (-0.52, 0.03),
        (-0.45, 0.2),
        (0.0, 0.34),
        (0.36, 0.26),
        (0.6, 0.0),
    ]
)
SHADE = smooth([(0.30, 0.22), (0.0, 0.20), (-0.30, 0.14), (-0.55, 0.06), (-0.5, 0.2), (-0.1, 0.36), (0.25, 0.32)])
CAP = smooth(
    [
        (0.66, -0.29),
        (0.54, -0.325),
        (0.38, -0.31),
        (0.22, -0.20),
        (0.06, -0.24),
        (0.12, -0.42),
        (0.3, -0.5),
        (0.54, -0.5),
    ]
)
MASK = smooth(
    [(0.64, -0.29), (0.50, -0.345), (0.33, -0.31), (0.20, -0.24), (0.32, -0.19), (0.48, -0.195), (0.63, -0.20)]
)
THROAT = smooth([(0.66, -0.20), (0.52, -0.18), (0.36, -0.12), (0.22, 0.02), (0.32, 0.16), (0.46, 0.14), (0.62, 0.0)])
BILL = np.array([(0.555, -0.335), (0.72, -0.30), (0.93, -0.205), (0.72, -0.165), (0.565, -0.16)])
TAIL = np.array(
    [(-0.40, -0.11), (-0.70, -0.05), (-1.04, 0.00), (-0.99, 0.07), (-1.05, 0.15), (-0.70, 0.12), (-0.42, 0.11)]
)
FOOT = 0.42
"""How far below the middle of a perched bird its feet are, in body lengths."""
TAIL_LINES = [np.array([(-0.45, y / 3), (-1.02, 0.075 + y)]) for y in (-0.035, 0.035)]
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
    np.array([(0.115, -0.17), (0.195, -0.17), (0.115, 0.13), (0.03, 0.13)]),
    np.array([(-0.075, -0.17), (-0.005, -0.18), (-0.085, 0.13), (-0.16, 0.13)]),
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
    pen.fill(BILL, marking.bill or coat.bill)
    pen.fill(BODY, coat.upper)
    _body(pen, coat, marking)
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
    if marking.rump is not None:
        pen.mark(circle(-0.38, -0.06, 0.16), marking.rump)
    if marking.throat is not None:
        pen.mark(THROAT, marking.throat)
    if marking.cap is not None:
        pen.mark(CAP, marking.cap)
    if marking.mask is not None:
        pen.mark(MASK, marking.mask)
    if marking.eye_ring is not None:
        pen.mark(circle(0.475, -0.275, 0.075), marking.eye_ring)
    pen.mark(circle(0.475, -0.275, 0.042), (18, 14, 12))
    pen.mark(circle(0.487, -0.29, 0.014, 8), (255, 255, 255))
    pen.mark([(0.60, -0.250), (0.92, -0.208), (0.60, -0.225)], (30, 26, 24), 130)


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
        corners = [(-0.66, -0.057), (-1.04, 0.00), (-0.99, 0.07), (-1.05, 0.15), (-0.66, 0.119)]
        pen.mark(corners, marking.tail)
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
        for low, high in ((0.22, 0.34), (0.48, 0.58)):
            pen.mark([at(low, 0.22), at(high, 0.225), at(high, -0.17), at(low, -0.25)], bar)
