"""HMDB51 splits: a file for each class, ``CLASS_test_split1.txt``, with ``name.avi 0|1|2`` a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from rratag.data.readers.annotation import Annotation, always, is_utf8
from rratag.data.readers.opened import LabelFile
from rratag.data.readers.text import numbered_lines
from rratag.errors import LabelError
from rratag.untrusted import shown

SAYS = "HMDB51 split (CLASS_test_split1.txt: name.avi 0|1|2; the files of all classes lie in one folder)"
SPLIT_OF = {"0": "", "1": "train", "2": "test"}

_FILE = re.compile(r"(?P<label>.+)_test_split(?P<number>\d+)\.txt", re.I)
_LINE = re.compile(r"(?P<name>\S.*?)\s+(?P<part>[012])")


def recognise(file: LabelFile) -> bool:
    """Whether the name is that of a class and a split, and a line that of a clip with 0, 1 or 2.

    Another line is then a fault that `read` tells, and no reason to read the file as a list of another kind.
    """
    return _FILE.fullmatch(file.path.name) is not None and any(map(_LINE.fullmatch, file.lines))


def parts(path: Path) -> list[Path]:
    """Files of the other classes of this split, sorted.

    Raises
    ------
    LabelError
        If the folder cannot be listed.
    """
    number = _number(path)
    try:
        beside = list(path.parent.iterdir())
    except OSError as error:
        raise LabelError(
            f"{path}: its folder cannot be listed ({error.strerror}), so the files of the other classes are not found"
        ) from error
    return sorted(other for other in beside if other != path and _number(other) == number and other.is_file())


def read(file: LabelFile) -> Iterator[Annotation]:
    """One annotation a line: 1 trains, 2 tests, 0 is not used in this split and so unlabelled.

    Raises
    ------
    LabelError
        With file and line.
    """
    named = _FILE.fullmatch(file.path.name)
    if named is None:
        raise ValueError(f"{file.path}: not named as a split of HMDB51")
    label = named["label"]
    if not is_utf8(label):
        raise LabelError(f"{file.path}: the name of the class is not UTF-8")
    for number, line in numbered_lines(file.path):
        place = f"{file.path}:{number}"
        found = _LINE.fullmatch(line)
        if found is None:
            raise LabelError(f"{place}: expected name.avi and 0, 1 or 2, found {shown(line)}")
        split = SPLIT_OF[found["part"]]
        where = f"line {number} of {file.path.name}"
        # clips of two classes may have one name; a folder of another class never holds the one that is meant
        name = f"{label}/{found['name']}"
        yield Annotation(name, label if split else None, where, always(place), split=split)


def _number(path: Path) -> str:
    named = _FILE.fullmatch(path.name)
    return "" if named is None else named["number"]
