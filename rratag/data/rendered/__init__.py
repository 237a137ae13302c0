"""The demo's own labelled set: names of classes enter, H.264 videos and the true boxes of their birds leave.

Birds differ only in one small marking; scenes, sizes, paths and light are random and independent of the class. Imports
numpy, Pillow and PyAV, and nothing of the other rooms.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from zlib import crc32

import numpy as np

from rratag.data.rendered.birds import MARKINGS
from rratag.data.rendered.encode import write_video
from rratag.data.rendered.film import Box, film, plan_video

CLASSES: tuple[str, ...] = tuple(MARKINGS)
"""Every class the set can be drawn with, sorted."""

TRUTH_FILE = "truth.csv"
TRUTH_COLUMNS = ("video", "label", "frame", "time_s", "x0", "y0", "x1", "y1")


@dataclass(frozen=True, slots=True)
class Job:
    """One video to render: `number` counts within its class; `size` is (width, height) in pixels."""

    label: str
    number: int
    seed: int
    size: tuple[int, int]
    fps: int
    num_frames: int

    @property
    def video(self) -> str:
        """Id of the video: its POSIX path below the set's folder."""
        return f"{self.label}/{self.label}_{self.number:03d}.mp4"

    @property
    def draws(self) -> tuple[int, int, int]:
        """Seed of everything random in the video; the class counts by name, so that new classes change no old video."""
        return self.seed, crc32(self.label.encode()), self.number


@dataclass(frozen=True, slots=True)
class Rendered:
    """One finished video; ``boxes`` maps the frames that show the bird to its box (x0, y0, x1, y1 in 0..1)."""

    video: str
    label: str
    fps: int
    num_frames: int
    boxes: dict[int, Box]


def render_set(
    out: Path,
    *,
    classes: Sequence[str] = CLASSES,
    videos_per_class: int,
    seed: int,
    size: tuple[int, int] = (640, 360),
    seconds: float = 3.0,
    fps: int = 10,
    workers: int = 1,
) -> Iterator[Rendered]:
    """Render ``out/<class>/<class>_<number>.mp4`` and, after the last video, ``out/truth.csv``.

    A video depends on (`seed`, class, number) and the picture's format alone, so any order and any number of `workers`
    (processes) gives the same files.

    Yields
    ------
    One :class:`Rendered` per finished video, in the order of class and number.

    Raises
    ------
    ValueError
        If a class is unknown or named twice, the size is odd, or the videos would be too short.
    """
    jobs = _jobs(classes, videos_per_class, seed, size, seconds, fps)
    for label in classes:
        (out / label).mkdir(parents=True, exist_ok=True)
    finished = []
    for rendered in _run(out, jobs, workers):
        finished.append(rendered)
        yield rendered
    _write_truth(out / TRUTH_FILE, finished)


def render_video(out: Path, job: Job) -> Rendered:
    """Render one video below `out`."""
    rng = np.random.default_rng(job.draws)
    plan = plan_video(rng, *job.size, job.num_frames)
    boxes: dict[int, Box] = {}

    def frames() -> Iterator[np.ndarray]:
        for number, (pixels, box) in enumerate(film(plan, MARKINGS[job.label])):
            if box is not None:
                boxes[number] = box
            yield pixels

    write_video(out / job.video, frames(), fps=job.fps, size=job.size)
    return Rendered(job.video, job.label, job.fps, job.num_frames, boxes)


def _jobs(
    classes: Sequence[str], videos_per_class: int, seed: int, size: tuple[int, int], seconds: float, fps: int
) -> list[Job]:
    unknown = [name for name in classes if name not in MARKINGS]
    if unknown or len(set(classes)) != len(classes):
        raise ValueError(f"classes {list(classes)}: each must be one of {', '.join(CLASSES)}, once")
    num_frames = round(seconds * fps)
    if num_frames < 12 or size[0] % 2 or size[1] % 2:
        raise ValueError(f"need an even size and at least 12 frames, got {size} and {num_frames}")
    return [Job(label, number, seed, size, fps, num_frames) for label in classes for number in range(videos_per_class)]


def _run(out: Path, jobs: Sequence[Job], workers: int) -> Iterator[Rendered]:
    if workers <= 1:
        yield from (render_video(out, job) for job in jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(render_video, out, job) for job in jobs]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


def _write_truth(path: Path, finished: Sequence[Rendered]) -> None:
    partial = path.with_name(path.name + ".part")
    with partial.open("w", newline="", encoding="utf-8") as handle:
        rows = csv.writer(handle)
        rows.writerow(TRUTH_COLUMNS)
        for item in finished:
            for frame, box in sorted(item.boxes.items()):
                place = [f"{value:.5f}" for value in box]
                rows.writerow([item.video, item.label, frame, f"{frame / item.fps:.6f}", *place])
    os.replace(partial, path)
