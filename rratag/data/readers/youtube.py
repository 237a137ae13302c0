"""YouTube-Birds and YouTube-Cars: JSON lists of ``[id, number]``, with ``label2name.json`` beside them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from rratag.data.readers.annotation import Annotation
from rratag.data.readers.document import Document, load
from rratag.data.readers.opened import LabelFile, split_in_name
from rratag.untrusted import shown

SAYS = "YouTube-Birds/-Cars JSON list ([[ID, NUMBER], ...], label2name.json beside it)"
NAMES_FILE = "label2name.json"


def recognise(file: LabelFile) -> bool:
    """Whether it is a JSON list that begins with a list."""
    found = file.document.value if file.is_json else None
    return isinstance(found, list) and bool(found) and isinstance(found[0], list)


def read(file: LabelFile) -> Iterator[Annotation]:
    """One annotation a pair; the split is that in the file's name (``train_list.json``).

    The published lists were not at hand when this was written: the form is that of a public program that reads them,
    in which ``label2name.json`` maps the number, as a string, to the class name. Without that file the number is the
    label.

    Raises
    ------
    LabelError
        With file, line, column and the way to a value that is not what it should be.
    """
    document, split = file.document, split_in_name(file.path)
    names = _names(file)
    for place, pair in enumerate(document.value):
        if not isinstance(pair, list) or len(pair) != 2:
            raise document.error("expected [id, number]", place)
        name = document.text_at(pair[0], place, 0)
        label = _label(document, pair[1], place, names)
        yield Annotation(name, label, f"entry {place} of {file.path.name}", partial(_at, document, place), split=split)


def _names(file: LabelFile) -> dict[str, str] | None:
    path = file.path.with_name(NAMES_FILE)
    if not path.is_file():
        return None
    document = load(path)
    if not isinstance(document.value, dict):
        raise document.error(f'expected an object such as {{"0": "house wren"}}, found {shown(document.value)}')
    names = {number: document.text_at(name, number) for number, name in document.value.items()}
    numbers: dict[str, str] = {}
    for number, name in names.items():
        if numbers.setdefault(name, number) != number:
            raise document.error(f"class {number} has the name of class {numbers[name]}", number)
    return names


def _label(document: Document, number: Any, place: int, names: dict[str, str] | None) -> str:
    written = str(number).strip()
    if (
        isinstance(number, bool)
        or not isinstance(number, (int, str))
        or not (written.isascii() and written.isdecimal())
    ):
        raise document.error(f"expected the number of a class, found {shown(number)}", place, 1)
    if names is None:
        return written
    if written not in names:
        raise document.error(f"{NAMES_FILE} has no name for {written}", place, 1)
    return names[written]


def _at(document: Document, place: int, column: str) -> str:
    return document.at(place)
