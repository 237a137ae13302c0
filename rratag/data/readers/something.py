"""Something-Something V2: a JSON list of ``{id, label, template, placeholders}``; of the test set of ``{id}``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from rratag.data.readers.annotation import Annotation
from rratag.data.readers.document import Document, load
from rratag.data.readers.opened import LabelFile, split_in_name
from rratag.untrusted import shown

SAYS = 'Something-Something JSON ([{"id", "template", ...}, ...])'
NAMES_FILES = ("labels.json", "something-something-v2-labels.json")


def recognise(file: LabelFile) -> bool:
    """Whether it is a JSON list that begins with an object that has an ``id``."""
    found = file.document.value if file.is_json else None
    return isinstance(found, list) and bool(found) and isinstance(found[0], dict) and "id" in found[0]


def read(file: LabelFile) -> Iterator[Annotation]:
    """One annotation an object: the label is the template without its brackets, as in the file of label names.

    ``label`` in the file is what was done with which things, and no class. If the file of label names
    (``labels.json`` or ``something-something-v2-labels.json``) lies beside it, other templates are refused. The split
    is that in the file's name.

    Raises
    ------
    LabelError
        With file, line, column and the way to a value that is not what it should be.
    """
    document, split = file.document, split_in_name(file.path)
    names = _names(file.path)
    for place, one in enumerate(document.value):
        if not isinstance(one, dict):
            raise document.error(f"expected an object with id and template, found {shown(one)}", place)
        name = _id(document, one.get("id"), place)
        label = _label(document, one, place, names)
        where = f"entry {place} of {file.path.name}"
        yield Annotation(name, label, where, partial(_at, document, place), split=split)


def _id(document: Document, value: Any, place: int) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return document.text_at(value, place, "id")


def _label(document: Document, one: dict[str, Any], place: int, names: set[str] | None) -> str | None:
    if "template" not in one:
        if "label" in one:
            raise document.error("no template beside the label; the class is the template", place)
        return None
    label = document.text_at(one["template"], place, "template").replace("[", "").replace("]", "")
    if names is not None and label not in names:
        raise document.error(f"the file of label names beside it has no {shown(label)}", place, "template")
    return label


def _names(path: Path) -> set[str] | None:
    beside = next((other for name in NAMES_FILES if (other := path.with_name(name)).is_file()), None)
    if beside is None:
        return None
    document = load(beside)
    if not isinstance(document.value, dict):
        raise document.error(f"expected an object of label names, found {shown(document.value)}")
    return set(document.value)


def _at(document: Document, place: int, column: str) -> str:
    return document.at(place)
