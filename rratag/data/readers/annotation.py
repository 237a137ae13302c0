"""What every reader makes of its file: annotations, with their place in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from rratag.errors import LabelError

SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "validate": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
    "testing": "test",
    "": "",
}
"""Accepted names of a split, in any case; empty leaves the choice open."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One statement of a label file, before it is known which video it is about.

    Attributes
    ----------
    name : of the video, as written
    label : None for an unlabelled video
    where : place in the file, for messages: "line 3", "database/ID/annotations/0"
    at : file, line and, as far as known, column of one of our columns, for the beginning of an error
    start_s, end_s : the labelled interval in seconds, None for the whole video
    split, group : as in :class:`rratag.records.Instance`
    spellings : ids that `name` may mean, likeliest first; `name` itself by default
    clip : what a file is called that holds the interval alone: if it is there, the bounds say nothing more
    left_out : why the reader does not use this statement; empty if it does
    several : a video (or interval) may carry other labels as well
    outside : the name leads out of the root
    """

    name: str
    label: str | None
    where: str
    at: Callable[[str], str] = field(compare=False)
    start_s: float | None = None
    end_s: float | None = None
    split: str = ""
    group: str = ""
    spellings: tuple[str, ...] = ()
    clip: str = ""
    left_out: str = ""
    several: bool = False
    outside: bool = False

    def error(self, column: str, message: str) -> LabelError:
        """What is wrong with one of our columns, with its place."""
        return LabelError(f"{self.at(column)}: {message}")


def always(place: str) -> Callable[[str], str]:
    """`Annotation.at` where no column is known."""
    return lambda column: place


def leads_out(path: str) -> bool:
    """Whether a path with plain slashes is none below a folder."""
    return path.startswith(("/", "../")) or path == ".." or re.match("[A-Za-z]:/", path) is not None


def is_utf8(text: str) -> bool:
    """Whether `text` holds no half of a character, which no file of ours could."""
    return text.isprintable() or not any("\ud800" <= letter <= "\udfff" for letter in text)
