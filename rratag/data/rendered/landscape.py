"""The far layer of a scene: sky, sun, clouds, hills, meadow, water, the depth of a wood."""

from __future__ import annotations

import numpy as np
from PIL import Image

from rratag.data.rendered.canvas import Canvas
from rratag.data.rendered.paint import Colour, mix

WHITE = (255, 255, 255)


def sky_and_hills(back: Canvas) -> float:
    """Draw sky, sun, clouds and ridges that fade into the haze; returns the level where the near ground begins."""
    rng, palette = back.rng, back.palette
    rows = np.linspace(0, 1, back.image.height)[:, None] ** 0.9
    column = np.asarray(palette.sky_top) * (1 - rows) + np.asarray(palette.sky_bottom) * rows
    strip = Image.fromarray(column.round().astype(np.uint8)[:, None, :])
    back.image.paste(strip.resize(back.image.size, Image.Resampling.NEAREST))
    _sun(back)
    for _ in range(int(rng.integers(2, 6))):
        _cloud(back, rng.uniform(0, back.width), rng.uniform(0.04, 0.34), rng.uniform(0.03, 0.07))
    horizon = rng.uniform(0.50, 0.66)
    for depth in range(3):
        colour = mix(palette.hill, palette.haze, (0.78, 0.5, 0.2)[depth])
        trees = depth > 0 and rng.random() < 0.75
        _ridge(back, horizon + (depth - 1) * 0.09, (0.10, 0.07, 0.04)[depth], colour, trees)
    return float(horizon + 0.10)


def meadow(back: Canvas, horizon: float) -> None:
    """Draw grass up to the horizon."""
    near = mix(back.palette.leaf, back.palette.leaf_2, back.rng.uniform(0.2, 0.8))
    for step in range(6):
        level = horizon + (back.height - horizon) * step / 6
        back.ground(level, mix(mix(near, back.palette.haze, 0.35), near, step / 5))
    _tufts(back, horizon, 320)


def water(back: Canvas, horizon: float) -> None:
    """Draw a lake with glints."""
    rng, palette = back.rng, back.palette
    surface = mix(palette.sky_top, palette.sky_bottom, 0.45)
    back.ground(horizon, surface)
    for _ in range(130):
        y = horizon + (back.height - horizon) * rng.uniform(0, 1) ** 1.3
        x, half = rng.uniform(0, back.width), rng.uniform(0.02, 0.12)
        colour = mix(surface, WHITE if rng.random() < 0.5 else palette.hill, rng.uniform(0.1, 0.4))
        back.stroke((x - half, y), (x + half, y), 0.0044, 0.0017, colour)


def wood(back: Canvas, horizon: float) -> None:
    """Draw far trunks and the floor of a wood."""
    rng, palette = back.rng, back.palette
    for _ in range(int(rng.integers(8, 18))):
        x = rng.uniform(0, back.width)
        colour = mix(palette.wood, palette.haze, rng.uniform(0.35, 0.7))
        back.stroke((x, back.height), (x + rng.normal(0, 0.02), -0.01), rng.uniform(0.02, 0.05), 0.012, colour)
    back.ground(horizon + 0.1, mix(palette.leaf, palette.wood, 0.4), tilt=0.04)
    _tufts(back, horizon + 0.1, 220)


def _sun(back: Canvas) -> None:
    x, y = back.rng.uniform(0, back.width), back.rng.uniform(0.08, 0.4)
    for step in range(10, 0, -1):
        back.disc(x, y, 0.03 + 0.016 * step, mix(back.colour_at(x, y), back.palette.sun, 0.16))
    back.disc(x, y, 0.04, back.palette.sun)


def _cloud(back: Canvas, x: float, y: float, radius: float) -> None:
    rng = back.rng
    colour = mix(back.palette.sky_bottom, WHITE, rng.uniform(0.3, 0.7))
    for _ in range(int(rng.integers(4, 8))):
        puff = x + np.clip(rng.normal(0, 1.4), -2.6, 2.6) * radius
        back.disc(puff, y - abs(rng.normal(0, 0.35)) * radius, radius * rng.uniform(0.5, 1.0), colour)
    back.pill(x, y + 0.2 * radius, 3.4 * radius, 0.42 * radius, colour)


def _ridge(back: Canvas, level: float, swing: float, colour: Colour, trees: bool) -> None:
    rng = back.rng
    x = np.linspace(0, back.width, 80)
    y = np.full(80, level)
    for wave in range(4):
        turns = 2 * np.pi * (wave + rng.uniform(0.4, 1.0))
        y += swing / (wave + 1) * np.sin(x / back.width * turns + rng.uniform(0, 7))
    pointed = rng.random() < 0.5
    for place in rng.integers(0, 80, int(rng.integers(25, 70)) if trees else 0):
        size = rng.uniform(0.5, 1.1) * swing * 1.1
        foot = y[place] + 0.006
        if pointed:
            corners = [(x[place] - 0.35 * size, foot), (x[place], foot - 1.5 * size), (x[place] + 0.35 * size, foot)]
            back.fill(np.array(corners), colour)
        else:
            back.disc(x[place], foot - 0.3 * size, 0.6 * size, colour)
    back.fill(np.concatenate([np.stack([x, y], 1), [(back.width, back.height), (0, back.height)]]), colour)


def _tufts(back: Canvas, top: float, count: int) -> None:
    """Blades of grass, taller towards the lens."""
    rng = back.rng
    for near in np.sort(rng.random(count)):
        x, y = rng.uniform(0, back.width), top + (back.height + 0.06 - top) * near
        tall = 0.02 + 0.08 * near
        tip = (x + rng.normal(0, 0.3) * tall, y - tall)
        back.stroke((x, y), tip, 0.003 + 0.006 * near, 0.001, back.foliage(0.25))
