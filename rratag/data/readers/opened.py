"""A label file before its kind is known, and the other parts of its set."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

from rratag.data.readers import document, text
from rratag.data.readers.annotation import SPLITS

_PART = re.compile(r"(?<![a-z])(training|train|validation|validate|valid|val|testing|test)(?=list|[^a-z]|$)", re.I)


class LabelFile:
    """A label file, as far as needed to tell its kind.

    Raises
    ------
    LabelError
        If it cannot be read.
    UsageError
        If it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        head = text.head(path)
        self.is_cut = len(head) >= text.HEAD
        self.head = head.lstrip()

    @property
    def is_json(self) -> bool:
        """Whether it begins as JSON does."""
        return self.head[:1] in ("{", "[")

    @cached_property
    def document(self) -> document.Document:
        """Content of a JSON file."""
        return document.load(self.path)

    @cached_property
    def lines(self) -> list[str]:
        """Its first lines that have something in them, without what stands around it."""
        found = self.head.splitlines()
        if self.is_cut and len(found) > 1:
            found.pop()  # cut off
        return [line.strip() for line in found if line.strip()]

    @property
    def columns(self) -> list[str]:
        """Cells of the first line, by the delimiter that gives most."""
        return max(text.header_cells(self.lines[0]), key=len) if self.lines else []

    def names(self, *columns: str) -> int:
        """How many of `columns` the first line names, as far as it is a header."""
        return max(len(set(columns) & set(cells)) for cells in text.header_cells(self.lines[0])) if self.lines else 0


def split_in_name(path: Path) -> str:
    """The split that a file's name says: ``train_list.json``, ``testlist01.txt``; empty where it names none or two."""
    words = {SPLITS[word.lower()] for word in _PART.findall(path.name)}
    return words.pop() if len(words) == 1 else ""


def parts_beside(path: Path) -> list[Path]:
    """Files in the same folder whose names differ only in the split that they say, sorted by name.

    The word is written alike, as in Train_list.json and Test_list.json.
    """
    found = list(_PART.finditer(path.name))
    if not split_in_name(path) or len(found) != 1:
        return []
    before, after = path.name[: found[0].start()], path.name[found[0].end() :]
    like = str.upper if found[0][0].isupper() else str.capitalize if found[0][0][0].isupper() else str.lower
    names = {f"{before}{like(word)}{after}" for word in SPLITS if word} - {path.name}
    return sorted(other for name in names if (other := path.with_name(name)).is_file())
