"""Ten thousand files that no decoder should see, in one folder tree: the run ends soon, with an honest row for each.

Trials: the first run, each kind of file, a second run, and a run with good videos among them.
"""

from __future__ import annotations

import os
import random
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.conftest import TINY_OPTIONS, coloured, encode
from tests.soak import tool

FILES = 10_000
LIMIT_S = 300.0
MOST_MIB = 1500
GOOD = 5

NOTHING = ("", "")
_JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + b"\x00" * 300
_PNG = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + b"\x00" * 300

Maker = Callable[[Path, random.Random], object]
KINDS: dict[str, tuple[tuple[str, str], Maker]] = {
    "empty": (("unreadable", "empty"), lambda path, rng: path.write_bytes(b"")),
    "one byte": (("unreadable", "not_media"), lambda path, rng: path.write_bytes(b"x")),
    "text": (("unreadable", "not_media"), lambda path, rng: path.write_text("Not found. " * rng.randrange(1, 900))),
    "web page": (("unreadable", "not_media"), lambda path, rng: path.write_text("<!DOCTYPE html><html>404</html>")),
    "xml": (
        ("unreadable", "not_media"),
        lambda path, rng: path.write_text('<?xml version="1.0"?><Error>Denied</Error>'),
    ),
    "zeros": (("unreadable", "not_media"), lambda path, rng: path.write_bytes(bytes(rng.randrange(1, 20_000)))),
    "sparse": (("unreadable", "not_media"), lambda path, rng: (path.touch(), os.truncate(path, 1 << 34))),
    "random": (("unreadable", "not_media"), lambda path, rng: path.write_bytes(b"\1\2\3" + rng.randbytes(5000))),
    "m3u8": (("unreadable", "playlist"), lambda path, rng: path.write_text("#EXTM3U\n#EXTINF:1,\nother.mp4\n")),
    "ffconcat": (
        ("unreadable", "playlist"),
        lambda path, rng: path.write_text("ffconcat version 1.0\nfile other.mp4\n"),
    ),
    "sdp": (("unreadable", "playlist"), lambda path, rng: path.write_text("v=0\no=- 0 0 IN IP4 127.0.0.1\n")),
    "dash": (("unreadable", "playlist"), lambda path, rng: path.write_text("<?xml version='1.0'?><MPD></MPD>")),
    "jpeg": (("no_video_stream", "cover_art_only"), lambda path, rng: path.write_bytes(_JPEG)),
    "png": (("no_video_stream", "cover_art_only"), lambda path, rng: path.write_bytes(_PNG)),
    "webp": (
        ("unreadable", "unsupported_codec"),
        lambda path, rng: path.write_bytes(b"RIFF\x40\0\0\0WEBPVP8 " + bytes(60)),
    ),
    "pipe": (("skipped", "not_a_regular_file"), lambda path, rng: os.mkfifo(path)),
    "socket": (("skipped", "not_a_regular_file"), lambda path, rng: os.mknod(path, stat.S_IFSOCK | 0o600)),
    "device": (("skipped", "not_a_regular_file"), lambda path, rng: path.symlink_to("/dev/zero")),
    "broken link": (("unreadable", "broken_link"), lambda path, rng: path.symlink_to("nowhere")),
    "loop": (("unreadable", "broken_link"), lambda path, rng: path.symlink_to(path.name)),
    "folder": (NOTHING, lambda path, rng: path.mkdir()),
}
"""What each kind must be called, and how it is made; a folder is walked into and has no row."""
SUFFIXES = (".mp4", ".mkv", ".AVI", ".webm", ".ts", ".gif", ".mov")
NAMES = (
    "{n}",
    "clip {n}",
    "%03d {n}",
    "-{n}",
    "Café {n}",
    "视频{n}",
    "a'b\"{n}",
    "=1+{n}",
    "http:{n}",
    "new\nline{n}",
    "x" * 200 + "{n}",
    "caf\udce9 {n}",
)

PLANNED = len(KINDS) + 3


def trials(seed: int, folder: Path, files: int = FILES) -> Iterator[str]:
    """What was wrong with each run and each kind, or ""."""
    videos = folder / "videos"
    expected = make_tree(videos, files, random.Random(f"{seed}/bad files"))
    first, rows = extract(videos, "first.csv")
    yield run_fault(first, 1)
    faults = kind_faults(rows, expected)
    for kind in KINDS:
        yield faults.get(kind, "")
    second, again = extract(videos, "second.csv")
    same = [_told(row) for row in rows] == [_told(row) for row in again]
    yield run_fault(second, 1) or ("" if same else "the second run has other rows")
    good = {f"good/{number}.mp4": "good" for number in range(GOOD)}
    (videos / "good").mkdir()
    for number, name in enumerate(good):
        encode(videos / name, coloured("red", number))
    mixed, rows = extract(videos, "mixed.csv")
    yield run_fault(mixed, 3) or "; ".join(kind_faults(rows, expected | good).values())


def make_tree(videos: Path, files: int, rng: random.Random) -> dict[str, str]:
    """Make `files` bad files of all kinds in turn, and folders between them; the kind of each by its id."""
    kinds = {}
    for number in range(files * len(KINDS) // (len(KINDS) - 1)):
        kind = list(KINDS)[number % len(KINDS)]
        below = Path(*(f"d{rng.randrange(7)}" for _ in range(rng.randrange(4))))
        (videos / below).mkdir(parents=True, exist_ok=True)
        name = below / (rng.choice(NAMES).format(n=number) + rng.choice(SUFFIXES))
        KINDS[kind][1](videos / name, rng)
        kinds[name.as_posix()] = kind
    return kinds


def extract(videos: Path, report: str) -> tuple[tool.Ended, list[dict[str, str]]]:
    """Run the tool over `videos`; how it ended and the rows of its report."""
    place = videos.parent / report
    options = (*TINY_OPTIONS, "--workers", 2, "--cache", videos.parent / "cache", "--report", place)
    ended = tool.rratag("extract", videos, *options, folder=videos.parent, limit_s=LIMIT_S)
    return ended, tool.rows_of(place)


def run_fault(ended: tool.Ended, code: int) -> str:
    """What is wrong with how a run ended."""
    if ended.code == code and ended.peak_mib > MOST_MIB:
        return f"{ended.peak_mib} MiB were taken"
    return tool.fault_of(ended, codes=(code,))


def kind_faults(rows: list[dict[str, str]], kinds: dict[str, str]) -> dict[str, str]:
    """What is wrong with the rows, by kind: one example each."""
    with_row = {name: kind for name, kind in kinds.items() if kind != "folder"}
    faults: dict[str, str] = {}
    for name, fault in tool.row_faults(rows, with_row).items():
        faults.setdefault(with_row.get(name, "folder"), f"{name!r}: {fault}")
    for row in rows:
        kind = with_row.get(row["video"], "folder")
        expected = ("ok", "") if kind == "good" else KINDS[kind][0]
        if (row["status"], row["reason"]) != expected:
            faults.setdefault(kind, f"{row['video']!r} ({kind}): {row['status']} {row['reason']}, not {expected}")
    counts = Counter(with_row.get(row["video"]) for row in rows)
    for kind, count in Counter(with_row.values()).items():
        if counts[kind] != count:
            faults.setdefault(kind, f"{kind}: {counts[kind]} rows instead of {count}")
    return faults


def _told(row: dict[str, str]) -> tuple[str, ...]:
    return row["video"], row["status"], row["reason"], row["message"]
