"""Tiny sets in the shape of four public ones: file names, annotation files and their oddities as in the originals.

Each maker writes ``videos`` and the annotation files into a folder and returns the truth of its judged part: the labels
of every judged video by the YouTube id. Pictures have the colour of their class, so that a toy network can tell them.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from tests.conftest import encode

Truth = dict[str, list[str]]

COLOURS = ((200, 40, 40), (40, 190, 60), (50, 70, 220), (220, 210, 60), (30, 30, 30), (230, 120, 220))
RATE, NUM_FRAMES = 10, 30


def youtube_id(seed: str) -> str:
    """Eleven characters as YouTube draws them; some begin with a hyphen or hold an underscore."""
    draw = random.Random(seed)
    first = draw.choice("-_" + string.ascii_letters)
    return first + "".join(draw.choices(string.ascii_letters + string.digits + "-_", k=10))


def film(path: Path, colours: Sequence[int]) -> Path:
    """A video that shows the classes of these numbers one after the other, for equal times."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(crc32(path.name.encode()))
    noise = rng.normal(0, 10, (48, 80, 3))
    pictures = []
    for number in range(NUM_FRAMES):
        ground = COLOURS[colours[number * len(colours) // NUM_FRAMES]]
        picture = np.clip(np.array(ground) + noise, 0, 255).astype(np.uint8)
        picture[16:32, 2 * number : 2 * number + 16] = 235
        pictures.append(picture)
    return encode(path, pictures, rate=RATE)


def youtube(folder: Path, names: Sequence[str]) -> Truth:
    """``train_list.json``, ``test_list.json``, ``label2name.json``; videos lie in the folder of their class.

    One video of either list lies beside these folders, under an id that begins with a hyphen, and one is not there, as
    happens to what is taken off YouTube.
    """
    (folder / "label2name.json").write_text(json.dumps({str(label): name for label, name in enumerate(names)}))
    truth: Truth = {}
    for part, count in (("train", 4), ("test", 3)):
        pairs = []
        for label, name in enumerate(names):
            for number in range(count):
                video = youtube_id(f"{name} {part} {number}")
                flat = (label, number) == (0, 0)
                if flat:
                    video = "-" + video[1:]
                pairs.append([video, label])
                if (label, number) != (1, 0):
                    film(folder / "videos" / ("" if flat else name) / f"{video}.mp4", [label])
                    if part == "test":
                        truth[video] = [name]
        (folder / f"{part}_list.json").write_text(json.dumps(pairs))
    return truth


ACTIVITIES = ("Applying sunscreen", "Layup drill in basketball", "Removing ice from car", "Surfing")


def activitynet(folder: Path) -> Truth:
    """``activity_net.v1-3.min.json`` and ``v_ID.mp4``: segments, two activities in one video, all three subsets.

    A video of each subset is not there (of testing, one is), and one segment holds no time.
    """
    database: dict[str, Any] = {}
    truth: Truth = {}
    for subset, count in (("training", 4), ("validation", 3), ("testing", 1)):
        for label in range(len(ACTIVITIES)):
            for number in range(count):
                video = youtube_id(f"{subset} {label} {number}")
                is_there = (label, number) != (2, 0)
                both = subset == "validation" and (label, number) == (0, 1)
                colours = [label, (label + 1) % len(ACTIVITIES)] if both else [label]
                if is_there:
                    film(folder / "videos" / f"v_{video}.mp4", colours)
                length = NUM_FRAMES / RATE / len(colours)
                annotations: list[dict[str, Any]] = [
                    {"segment": [place * length, (place + 1) * length - 0.01], "label": ACTIVITIES[colour]}
                    for place, colour in enumerate(colours)
                ]
                if number == 1:  # a second instance of the same activity, and one without time
                    annotations += [
                        {"segment": [0.2, 0.9], "label": ACTIVITIES[label]},
                        {"segment": [2.5, 2.5], "label": ACTIVITIES[label]},
                    ]
                if subset == "validation":
                    truth[video] = [ACTIVITIES[colour] for colour in colours]
                database[video] = {
                    "duration": NUM_FRAMES / RATE,
                    "subset": subset,
                    "resolution": "80x48",
                    "url": f"https://www.youtube.com/watch?v={video}",
                    "annotations": [] if subset == "testing" else annotations,
                }
    whole = {"version": "VERSION 1.3", "taxonomy": [], "database": database}
    (folder / "activity_net.v1-3.min.json").write_text(json.dumps(whole))
    return truth


ACTIONS = (
    "abseiling",
    "massaging person's head",
    "passing American football (in game)",
    "testifying",
    "yoga",
    "zumba",
)


def kinetics(folder: Path) -> Truth:
    """``train.csv`` and ``val.csv``; clips are ``PART/CLASS/ID_START_END.mp4``. A clip of each part is not there."""
    truth: Truth = {}
    for part, count in (("train", 4), ("val", 3)):
        lines = ["label,youtube_id,time_start,time_end,split,is_cc"]
        for label, name in enumerate(ACTIONS):
            for number in range(count):
                video, start = youtube_id(f"{part} {name} {number}"), 10 * number + label
                lines.append(f"{name},{video},{start},{start + 10},{part},0")
                if (label, number) != (1, 1):
                    clip = f"{video}_{start:06d}_{start + 10:06d}.mp4"
                    film(folder / "videos" / part / name / clip, [label])
                if part == "val":
                    truth[video] = [name]
        (folder / f"{part}.csv").write_text("\n".join(lines) + "\n")
    return truth
