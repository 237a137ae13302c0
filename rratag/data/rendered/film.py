"""One video: where the camera looks, when the bird is there and how it moves; and its frames.

Everything random in a video comes from one generator seeded by (seed, class, index) and is drawn before the marking is
used, so that the same plan can be filmed with another marking or without the bird.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rratag.data.rendered.animals import butterfly, falling_leaf
from rratag.data.rendered.birds import COATS, FOOT, Coat, Marking, Pose, paint_bird
from rratag.data.rendered.canvas import PALETTES
from rratag.data.rendered.paint import ACCENTS, Colour, Points, lit
from rratag.data.rendered.scenes import Scene, build_scene

SHARE = (0.29, 0.50)
"""Share of a video's frames that show the bird, lowest and highest."""

LENGTH = (0.19, 0.27)
"""Length of the body in picture heights."""

FLIGHT_FRAMES = 5
"""Frames a bird takes from the side of the picture to its perch, or back."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Frames [start, stop) that show the bird; it comes flying, sits, or both."""

    start: int
    stop: int
    arrives: bool
    leaves: bool


@dataclass(frozen=True, slots=True)
class Shot:
    """Frames [start, stop) of one take.

    ``window`` of shape (2, 2): where the camera stands at its two ends, (x, y) as fractions of the room it has.
    """

    start: int
    stop: int
    scene: int
    window: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Habit:
    """How one bird moves: body length in pixels, wing beat in radians per frame, tilt in radians when it sits."""

    length: float
    facing: int
    beat: float
    tilt: float
    climb: float


@dataclass(frozen=True, slots=True)
class Drifter:
    """A falling leaf or a butterfly in every frame: start and step in picture fractions."""

    butterfly: bool
    colour: Colour
    start: Points
    step: Points
    size: float
    phase: float


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is random about one video, but for the marking."""

    width: int
    height: int
    num_frames: int
    scenes: tuple[Scene, ...]
    shots: tuple[Shot, ...]
    poses: dict[int, Pose]
    coat: Coat
    drifters: tuple[Drifter, ...]


def stretches(num_frames: int, rng: np.random.Generator) -> list[Stretch]:
    """One or two stretches that hold 29 to 50 % of the frames, at least one frame apart."""
    lowest, highest = int(np.ceil(SHARE[0] * num_frames)), int(np.floor(SHARE[1] * num_frames))
    wanted = int(rng.integers(lowest, highest + 1))
    parts = [wanted]
    if wanted >= 8 and rng.random() < 0.5:
        first = int(rng.integers(4, wanted - 3))
        parts = [first, wanted - first]
    gap = num_frames - wanted - (len(parts) - 1)
    lead = int(rng.integers(0, gap + 1))
    between = 1 + int(rng.integers(0, gap - lead + 1))
    found, at = [], lead
    for length in parts:
        manner = int(rng.integers(4))  # sits throughout, comes flying, flies off, crosses the picture
        found.append(Stretch(at, at + length, arrives=manner in (1, 3), leaves=manner in (2, 3)))
        at += length + between
    return found


def plan_video(rng: np.random.Generator, width: int, height: int, num_frames: int) -> Plan:
    """Draw a video's plan; `rng` is used up in an order that depends on nothing else."""
    palette = PALETTES[int(rng.integers(len(PALETTES)))]
    seen = stretches(num_frames, rng)
    cuts = {s.start for s in seen if not s.arrives} | {s.stop for s in seen if not s.leaves}
    edges = sorted({0, num_frames} | {cut for cut in cuts if 0 < cut < num_frames})
    scenes = tuple(build_scene(rng, palette, width, height) for _ in range(min(2, len(edges) - 1)))
    shots = tuple(
        Shot(start, stop, i % 2, _window(rng, stop - start)) for i, (start, stop) in enumerate(pairwise(edges))
    )
    length = rng.uniform(*LENGTH) * height
    facing = int(rng.choice([-1, 1]))
    drifters = tuple(_drifter(rng) for _ in range(int(rng.integers(1, 6))))
    coat = COATS[int(rng.integers(len(COATS)))]
    plan = Plan(width, height, num_frames, scenes, shots, {}, coat, drifters)
    for stretch in seen:
        plan.poses.update(_poses(plan, stretch, length, facing, rng))
    return plan


def _window(rng: np.random.Generator, num_frames: int) -> NDArray[np.float64]:
    """Start and end of a slow pan, of shape (2, 2)."""
    start = rng.random(2)
    step = rng.normal(0, 0.018, 2) * num_frames
    window: NDArray[np.float64] = np.clip(np.stack([start, start + step]), 0, 1)
    return window


def _drifter(rng: np.random.Generator) -> Drifter:
    colour = ACCENTS[int(rng.integers(len(ACCENTS)))]
    flies = bool(rng.random() < 0.4)
    step = rng.normal(0, 0.015, 2) if flies else np.array([rng.normal(0, 0.006), rng.uniform(0.012, 0.03)])
    return Drifter(flies, colour, rng.uniform(0, 1, 2), step, rng.uniform(0.018, 0.036), rng.uniform(0, 7))


def _shot_at(plan: Plan, frame: int) -> Shot:
    return next(shot for shot in plan.shots if shot.start <= frame < shot.stop)


def _camera(plan: Plan, frame: int) -> NDArray[np.float64]:
    """Where the camera's window stands in the room it has, (x, y) in 0..1."""
    shot = _shot_at(plan, frame)
    share = (frame - shot.start) / max(1, shot.stop - shot.start - 1)
    place: NDArray[np.float64] = shot.window[0] + (shot.window[1] - shot.window[0]) * share
    return place


def _corner(plan: Plan, layer: Image.Image, frame: int, speed: float) -> tuple[int, int]:
    """Upper left corner of the picture in a layer that moves `speed` times as fast as the middle one."""
    room = np.array([layer.width - plan.width, layer.height - plan.height])
    x, y = (0.5 + (_camera(plan, frame) - 0.5) * speed) * room
    return round(float(x)), round(float(y))


def _poses(plan: Plan, stretch: Stretch, length: float, facing: int, rng: np.random.Generator) -> dict[int, Pose]:
    """The bird's pose in every frame of one stretch: it crosses the picture, or sits and may arrive or leave."""
    frames = range(stretch.start, stretch.stop)
    perch = _perch(plan, frames, length, rng)
    habit = Habit(length, facing, rng.uniform(1.5, 2.4), rng.uniform(-0.75, -0.35), rng.uniform(-0.5, 0.3))
    level = rng.uniform(0.28, 0.75) * plan.height
    if perch is None or (stretch.arrives and stretch.leaves):
        return {frame: _crossing(plan, habit, level, i, len(frames)) for i, frame in enumerate(frames)}
    middle = plan.scenes[_shot_at(plan, frames[0]).scene].middle
    poses = {}
    for i, frame in enumerate(frames):
        x, y = perch - _corner(plan, middle, frame, 1.0)
        poses[frame] = _visit(plan, habit, stretch, (float(x), float(y) - FOOT * length), i)
    return poses


def _crossing(plan: Plan, habit: Habit, level: float, number: int, count: int) -> Pose:
    """Frame `number` of `count` of a flight from one side of the picture to the other."""
    share = (number + 0.5) / count
    run = plan.width + 0.2 * habit.length
    x = plan.width / 2 + habit.facing * (share - 0.5) * run
    rise = habit.climb * (share - 0.5) * 0.5 - np.sin(np.pi * share) * 0.08
    flap = float(np.sin(habit.beat * number + habit.tilt))
    return Pose(x, level + rise * plan.height, habit.length, 0.35 * habit.climb, habit.facing, flap)


def _visit(plan: Plan, habit: Habit, stretch: Stretch, seat: tuple[float, float], number: int) -> Pose:
    """Frame `number` of a stretch in which the bird sits at `seat`, but for the frames it takes to come or go."""
    count = stretch.stop - stretch.start
    moving = min(count - 1, FLIGHT_FRAMES)
    away = 0.0  # share of the way from the seat to the side of the picture
    if stretch.arrives:
        away = max(0.0, 1 - (number + 0.5) / (moving + 0.5))
    elif stretch.leaves:
        away = max(0.0, (number - count + moving + 0.5) / (moving + 0.5))
    if number >= moving if stretch.arrives else number < count - moving or not stretch.leaves:
        return Pose(*seat, habit.length, habit.tilt + 0.05 * float(np.sin(0.9 * number)), habit.facing, None)
    heading = -habit.facing if stretch.arrives else habit.facing
    goal = -0.1 * habit.length if heading < 0 else plan.width + 0.1 * habit.length
    x, y = seat[0] + (goal - seat[0]) * away**1.3, seat[1] - 0.25 * plan.height * away
    return Pose(x, y, habit.length, -0.2, habit.facing, float(np.sin(habit.beat * number + habit.tilt)))


def _perch(plan: Plan, frames: range, length: float, rng: np.random.Generator) -> NDArray[np.float64] | None:
    """A perch that stays well inside the picture, in pixels of the middle layer; None if the shot has none."""
    pick = rng.random()
    shot = _shot_at(plan, frames[0])
    scene = plan.scenes[shot.scene]
    if len(scene.perches) == 0:
        return None
    inside = np.ones(len(scene.perches), bool)
    low, high = np.array([0.9, 1.4]) * length, (plan.width, plan.height) - np.array([0.9, 0.3]) * length
    for frame in (frames[0], frames[-1]):
        place = scene.perches - _corner(plan, scene.middle, frame, 1.0)
        inside &= ((place > low) & (place < high)).all(1)
    choice = np.flatnonzero(inside)
    return scene.perches[choice[int(pick * len(choice))]] if len(choice) else None


def film(plan: Plan, marking: Marking | None) -> Iterator[tuple[NDArray[np.uint8], Box | None]]:
    """Frames of a plan, uint8 of shape (H, W, 3), each with the bird's box; without the bird if `marking` is None.

    A box is x0, y0, x1, y1 in fractions of the picture, tight around the visible pixels of the bird.
    """
    for frame in range(plan.num_frames):
        scene = plan.scenes[_shot_at(plan, frame).scene]
        picture = _cut(plan, scene.back, frame, 0.55)
        middle = _cut(plan, scene.middle, frame, 1.0)
        picture.paste(middle, mask=middle)
        front = _cut(plan, scene.front, frame, 1.0)
        _drift(picture, plan, frame, scene.light)
        box = None
        if marking is not None and frame in plan.poses:
            box = _place(picture, front, plan.poses[frame], plan.coat, marking, scene.light)
        picture.paste(front, mask=front)
        yield np.asarray(picture), box


def _cut(plan: Plan, layer: Image.Image, frame: int, speed: float) -> Image.Image:
    x, y = _corner(plan, layer, frame, speed)
    return layer.crop((x, y, x + plan.width, y + plan.height))


def _place(
    picture: Image.Image,
    front: Image.Image,
    pose: Pose,
    coat: Coat,
    marking: Marking,
    light: tuple[float, float, float],
) -> Box | None:
    """Paste the bird; returns the box of its pixels that neither the border nor the front layer hides."""
    colours, mask, (left, top) = paint_bird(pose, coat, marking, light)
    picture.paste(colours, (left, top), mask)
    whole = Image.new("L", picture.size)
    whole.paste(mask, (left, top))
    seen = (np.asarray(whole) > 96) & (np.asarray(front.getchannel("A")) < 160)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not len(rows):
        return None
    return (
        float(columns[0] / picture.width),
        float(rows[0] / picture.height),
        float((columns[-1] + 1) / picture.width),
        float((rows[-1] + 1) / picture.height),
    )


def _drift(picture: Image.Image, plan: Plan, frame: int, light: tuple[float, float, float]) -> None:
    draw = ImageDraw.Draw(picture)
    for drifter in plan.drifters:
        place = (drifter.start + drifter.step * frame + 0.02 * np.sin(drifter.phase + 0.6 * frame)) % 1.15 - 0.07
        x, y = (float(v) for v in place * (plan.width, plan.height))
        size = drifter.size * plan.height
        colour = lit(drifter.colour, light)
        if drifter.butterfly:
            for wing in butterfly(x, y, size, abs(float(np.sin(drifter.phase + 1.3 * frame)))):
                draw.polygon(wing.ravel().tolist(), fill=colour)
            draw.line([(x, y - 0.5 * size), (x, y + 0.6 * size)], fill=(40, 30, 26), width=2)
        else:
            draw.polygon(falling_leaf(x, y, 0.8 * size, drifter.phase + 0.35 * frame).ravel().tolist(), fill=colour)
