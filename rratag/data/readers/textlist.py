"""Text lists of TSN, mmaction2, SlowFast: ``path [frames] number`` a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from rratag.data.readers.annotation import Annotation, always, is_utf8
from rratag.data.readers.opened import LabelFile, split_in_name
from rratag.data.readers.text import numbered_lines
from rratag.errors import LabelError
from rratag.untrusted import shown
from rratag.video.discover import VIDEO_SUFFIXES

SAYS = "text list (path [frames] NUMBER; class names in classes.txt or label_map*.txt beside it)"
NAMES_FILES = ("classes.txt", "label_map*.txt")

_NUMBERS = re.compile(r"(?:\s+[0-9]{1,9})+$")
_NUMBERED = re.compile(r"([0-9]{1,9})\s+(\S.*)")
_SUFFIX = re.compile(rf"(?i)({'|'.join(map(re.escape, sorted(VIDEO_SUFFIXES)))})\s+[0-9]")


def recognise(file: LabelFile) -> bool:
    """Whether the first line ends in a number that stands alone; a line that does not is a fault that `read` tells."""
    return bool(file.lines) and _NUMBERS.search(file.lines[0]) is not None


def read(file: LabelFile) -> Iterator[Annotation]:
    """One annotation a line. All lines have one number, the class, or all have two, frames and class.

    Paths are those of the machine where the list was made; a path may be that of a folder of frames. Several labels in
    a line, and lists with an offset before the frames, are not read. Class names come from ``classes.txt`` or
    ``label_map*.txt`` beside the list: one name a line, counted from 0, or number and name; without one of them the
    number is the label. ``classInd.txt`` of UCF101 counts from 1 and such lists from 0: it is not read here. The split
    is that in the file's name.

    Raises
    ------
    LabelError
        With file and line.
    """
    split, names = split_in_name(file.path), class_names(file.path)
    count = min(len(said) for line in file.lines if (said := _numbers(line)))
    for number, line in numbered_lines(file.path):
        place = f"{file.path}:{number}"
        said = _numbers(line)
        path = line
        for _ in said[-count:]:
            path = path.rstrip("0123456789").rstrip()
        if not count <= len(said) or count > 2 or not path or _SUFFIX.search(path):
            expected = ("path and class", "path, frames and class")[min(count, 2) - 1]
            raise LabelError(f"{place}: expected {expected}, as in the other lines, found {shown(line)}")
        label = str(int(said[-1]))
        if names is not None:
            if label not in names:
                raise LabelError(f"{place}: class {shown(label)} has no name in the file beside it")
            label = names[label]
        where = f"line {number} of {file.path.name}"
        yield Annotation(path, label, where, always(place), split=split)


def class_names(path: Path) -> dict[str, str] | None:
    """Names of the classes by number, from the file beside a list; None without one.

    Raises
    ------
    LabelError
        If there are two such files, or one cannot be read.
    """
    beside = sorted({other for name in NAMES_FILES for other in path.parent.glob(name) if other.is_file()} - {path})
    if len(beside) > 1:
        raise LabelError(
            f"{path}: {beside[0].name} and {beside[1].name} both name classes; leave the one that belongs to this list"
        )
    if not beside:
        return None
    lines = list(numbered_lines(beside[0]))
    # names may begin with a number themselves
    counted = 2 * sum(_NUMBERED.match(line) is not None for _, line in lines) > len(lines)
    found: dict[str, str] = {}
    for place, (number, line) in enumerate(lines):
        said = _NUMBERED.match(line)
        if counted and said is None:
            raise LabelError(f"{beside[0]}:{number}: expected number and name, as in the other lines")
        if not counted and number != place + 1:
            raise LabelError(f"{beside[0]}:{place + 1}: an empty line, which would count as a class; take it out")
        key, name = (str(int(said[1])), said[2]) if counted and said else (str(place), line)
        if key in found or name in found.values() or not is_utf8(name):
            raise LabelError(f"{beside[0]}:{number}: expected a class name in UTF-8, and each number and name once")
        found[key] = name
    return found


def _numbers(line: str) -> list[str]:
    found = _NUMBERS.search(line)
    return found[0].split() if found else []
