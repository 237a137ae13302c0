"""A hundred thousand links: to files, to folders, in chains, in circles and upwards. Looking at them ends soon.

Trials: the folder, a glob with ``**`` over it, a list that names every link, and ``extract --dry-run``.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import TINY_OPTIONS, coloured, encode
from tests.soak import tool

PLANNED = 4
LINKS = 100_000
FOLDERS = 100
LIMIT_S = 60.0
MOST_MIB = 500
DRY_RUN_MIB = 1500
"""With the network in memory."""

PROGRAM = """
import json, sys
from collections import Counter
from rratag.video.discover import discover
found = discover(sys.argv[1:])
reasons = Counter(f"{one.status} {one.reason}" for one in found.failures)
print(json.dumps([len(found.videos), reasons, found.num_other]))
"""


@dataclass
class Expected:
    """What a walk over the links finds: videos by their ids, links that lead nowhere, and other files."""

    videos: int = 0
    broken: int = 0
    others: int = 0


def trials(seed: int, folder: Path, links: int = LINKS) -> Iterator[str]:
    """What was wrong with each way to look at the links, or ""."""
    videos = folder / "videos"
    expected = make_tree(videos, links, random.Random(f"{seed}/links"))
    found = [expected.videos, {"unreadable broken_link": expected.broken}, expected.others]
    yield walk_fault(folder, ["videos"], found)
    yield walk_fault(folder, ["videos/**/*.mp4"], [expected.videos, found[1], 0])
    names = sorted(path for path in videos.glob("*/*.mp4"))
    (folder / "list.txt").write_text("".join(f"{name}\n" for name in names))
    yield walk_fault(folder, ["list.txt"], [expected.videos, found[1], 0])
    yield dry_run_fault(folder, expected)


def make_tree(videos: Path, links: int, rng: random.Random) -> Expected:
    """Make `FOLDERS` folders of one video each, and `links` links in them and between them."""
    videos.mkdir(parents=True)
    clip = encode(videos.parent / "clip.mp4", coloured("red", 0)).read_bytes()
    folders = [videos / f"{number:03}" for number in range(FOLDERS)]
    for folder in folders:
        folder.mkdir()
        (folder / "clip.mp4").write_bytes(clip)
    expected = Expected(videos=FOLDERS)
    for number in range(links):
        folder, other = folders[number % FOLDERS], rng.choice(folders)
        name = folder / f"{number:06}"
        kind = number // FOLDERS % 8
        if kind in (0, 1):
            name.with_suffix(".mp4").symlink_to(other / "clip.mp4")
            expected.videos += 1
        elif kind == 2:
            name.symlink_to(other)
        elif kind == 3:
            name.symlink_to(rng.choice((".", "..", videos)))
        elif kind == 4:
            # each leads to the one before it, and the first one to a folder
            before = folder / f"{number - 8 * FOLDERS:06}"
            name.symlink_to(before.name if before.is_symlink() else other)
            expected.others += not os.path.isdir(name)
        elif kind == 5:
            name.with_suffix(".mp4").symlink_to(f"{name.name}.mp4")
            expected.broken += 1
        elif kind == 6:
            # two that lead to each other
            name.symlink_to(f"{name.name}.mp4")
            name.with_suffix(".mp4").symlink_to(name.name)
            expected.broken += 1
            expected.others += 1
        else:
            name.with_suffix(".txt").symlink_to(other / "clip.mp4")
            expected.others += 1
    return expected


def walk_fault(folder: Path, inputs: list[str], expected: list[object]) -> str:
    """What is wrong with how the inputs were looked at, in a process that does nothing else."""
    ended = tool.run_process([sys.executable, "-c", PROGRAM, *inputs], folder, limit_s=LIMIT_S)
    if ended.code is None or ended.peak_mib > MOST_MIB:
        return f"{inputs[0]}: {ended.seconds:.0f} s and {ended.peak_mib} MiB were taken"
    if ended.code != 0:
        return f"{inputs[0]}: {tool.fault_of(ended) or ended.err}"
    found = json.loads(ended.out)
    return "" if found == expected else f"{inputs[0]}: found {found} instead of {expected}"


def dry_run_fault(folder: Path, expected: Expected) -> str:
    """What is wrong with ``extract --dry-run`` over all links, which also tries three of the videos."""
    options = (*TINY_OPTIONS, "--dry-run", "--cache", folder / "cache")
    ended = tool.rratag("extract", "videos", *options, folder=folder, limit_s=2 * LIMIT_S)
    if fault := tool.fault_of(ended, codes=(0,)):
        return f"dry run: {fault}"
    if ended.peak_mib > DRY_RUN_MIB:
        return f"dry run: {ended.peak_mib} MiB were taken"
    told = dict(line.rsplit(None, 1) for line in ended.out.splitlines()[:3])
    return "" if told.get("videos") == str(expected.videos) else f"dry run: {told} instead of {expected}"
