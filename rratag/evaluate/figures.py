"""Curves become an SVG picture: text alone, no plotting library. Numbers in, a string out; no files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 500, 40, 344
"""Edges of the plot inside the picture, in pixels; the legend stands right of it."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The palette of Okabe and Ito, told apart by colour-blind readers too, without its yellow, which white swallows."""
DASHES = ("none", "7 3", "2 3")
"""Of the first seven curves, the next seven, and so on."""
MOST_TICKS = 8


@dataclass(frozen=True)
class Curve:
    """A value by epoch, counted from 1: its mean over runs and the standard deviation, of equal length."""

    name: str
    mean: Sequence[float]
    spread: Sequence[float]


@dataclass(frozen=True)
class _Axis:
    """From values to pixels, linear: `low` stands at `start`, `high` at `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def line_chart(title: str, value_label: str, curves: Sequence[Curve]) -> str:
    """SVG document of curves over epochs, each with a band of one standard deviation to both sides.

    Parameters
    ----------
    curves : at least one, each of at least one epoch

    Raises
    ------
    ValueError
        If there is no curve, or one has no epoch, a spread of another length, or a value that is not finite.
    """
    _check(curves)
    # a single epoch is a point, for which the axis still needs a length
    x = _Axis(1, max(2, *(len(one.mean) for one in curves)), LEFT, RIGHT)
    edges = [
        mean + sign * spread
        for one in curves
        for mean, spread in zip(one.mean, one.spread, strict=True)
        for sign in (-1, 1)
    ]
    values = ticks(min(edges), max(edges))
    y = _Axis(values[0], values[-1], BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#222222">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="{TOP - 16}" font-size="15">{escape(title)}</text>',
        *_grid(x, y, values),
        _text((LEFT + RIGHT) / 2, BOTTOM + 40, "epoch", "middle"),
        f'<text transform="translate(18 {(TOP + BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(value_label)}</text>",
    ]
    for place, one in enumerate(curves):
        parts += _curve(one, place, x, y)
    return "\n".join([*parts, "</svg>", ""])


def _check(curves: Sequence[Curve]) -> None:
    if not curves:
        raise ValueError("no curve to draw")
    for one in curves:
        if not one.mean or len(one.mean) != len(one.spread):
            raise ValueError(f"{one.name}: {len(one.mean)} values and {len(one.spread)} spreads")
        if not all(map(math.isfinite, [*one.mean, *one.spread])):
            raise ValueError(f"{one.name}: a value that is not finite")


def ticks(low: float, high: float) -> list[float]:
    """At most eight round values, equally far apart, from one not above `low` to one not below `high`."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    power = 10.0 ** math.floor(math.log10((high - low) / MOST_TICKS))
    for factor in (1, 2, 5, 10, 20):
        step = factor * power
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first < MOST_TICKS:
            break
    return [number * step for number in range(first, last + 1)]


def _grid(x: _Axis, y: _Axis, values: Sequence[float]) -> list[str]:
    """Lines and numbers of both axes."""
    parts = ['<g stroke="#dddddd">']
    parts += [f'<line x1="{LEFT}" y1="{_px(y(one))}" x2="{RIGHT}" y2="{_px(y(one))}"/>' for one in values]
    parts += ["</g>", '<g class="values">']
    parts += [_text(LEFT - 8, y(one) + 4, f"{one:.6g}", "end") for one in values]
    parts += ["</g>", '<g class="epochs">']
    step = max(1, math.ceil(x.high / MOST_TICKS))
    parts += [
        _text(x(one), BOTTOM + 20, str(one), "middle") for one in sorted({1, *range(step, int(x.high) + 1, step)})
    ]
    return [*parts, "</g>", f'<path d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="#222222"/>']


def _curve(one: Curve, place: int, x: _Axis, y: _Axis) -> list[str]:
    """Band, line and legend of the curve at `place`."""
    colour, dashes = COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]
    line = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"'
    parts = [f'<g class="curve"><title>{escape(one.name)}</title>']
    if any(one.spread):
        both = list(zip(one.mean, one.spread, strict=True))
        around = [
            *enumerate((mean + spread for mean, spread in both), 1),
            *reversed([*enumerate((mean - spread for mean, spread in both), 1)]),
        ]
        parts.append(f'<polygon points="{_points(around, x, y)}" fill="{colour}" fill-opacity="0.15"/>')
    points = _points([*enumerate(one.mean, 1)], x, y)
    parts.append(f'<polyline points="{points}" {line}/>')
    if len(one.mean) == 1:
        parts.append(f'<circle cx="{_px(x(1))}" cy="{_px(y(one.mean[0]))}" r="3" fill="{colour}"/>')
    height = TOP + 12 + 20 * place
    parts.append(f'<path d="M{RIGHT + 16} {height}h24" {line}/>')
    return [*parts, _text(RIGHT + 46, height + 4, one.name, "start"), "</g>"]


def _points(pairs: Sequence[tuple[int, float]], x: _Axis, y: _Axis) -> str:
    return " ".join(f"{_px(x(epoch))},{_px(y(value))}" for epoch, value in pairs)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{_px(x)}" y="{_px(y)}" text-anchor="{anchor}">{escape(text)}</text>'


def _px(value: float) -> str:
    """Pixels, to a hundredth."""
    return f"{value:.2f}"
