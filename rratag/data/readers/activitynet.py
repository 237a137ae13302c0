"""ActivityNet v1.2 and v1.3: JSON, ``database`` -> video id -> ``subset``, ``annotations`` of label and segment."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

from rratag.data.readers.annotation import SPLITS, Annotation
from rratag.data.readers.document import Document, Key
from rratag.data.readers.opened import LabelFile
from rratag.untrusted import shown

SAYS = 'ActivityNet JSON ({"database": {ID: {"subset", "annotations": [{"label", "segment"}]}}})'


def recognise(file: LabelFile) -> bool:
    """Whether it is JSON with a ``database``."""
    return file.is_json and isinstance(file.document.value, dict) and "database" in file.document.value


def read(file: LabelFile) -> Iterator[Annotation]:
    """One annotation for each entry of ``annotations``; videos of the testing subset, which have none, are unlabelled.

    A segment whose end is not after its start is left out: the files of the challenge are not free of slips, and one
    of them is no reason to refuse the other 20,000 videos. Labels of one video may differ, also of one segment.

    Raises
    ------
    LabelError
        With file, line, column and the way to a value that is not what it should be.
    """
    document = file.document
    database = document.value["database"]
    if not isinstance(database, dict):
        raise document.error(f"expected an object of video ids, found {shown(database)}", "database")
    for name, entry in database.items():
        yield from _video(document, name, entry)


def _video(document: Document, name: str, entry: Any) -> Iterator[Annotation]:
    way: tuple[Key, ...] = ("database", name)
    if not isinstance(entry, dict):
        raise document.error(f"expected an object with subset and annotations, found {shown(entry)}", *way)
    subset = entry.get("subset", "")
    if not isinstance(subset, str) or subset.lower() not in SPLITS:
        raise document.error(
            f"unknown subset {shown(subset)}; choose from training, validation, testing", *way, "subset"
        )
    split = SPLITS[subset.lower()]
    found = entry.get("annotations", [])
    if not isinstance(found, list):
        raise document.error(f"expected a list, found {shown(found)}", *way, "annotations")
    if not found:
        yield Annotation(name, None, document.where(*way), partial(_at, document, way), split=split, several=True)
    for number, one in enumerate(found):
        yield _annotation(document, (*way, "annotations", number), name, one, split)


def _annotation(document: Document, way: tuple[Key, ...], name: str, one: Any, split: str) -> Annotation:
    if not isinstance(one, dict):
        raise document.error(f"expected an object with label and segment, found {shown(one)}", *way)
    label = document.text_at(one.get("label"), *way, "label")
    start, end = _segment(document, one.get("segment"), (*way, "segment"))
    wrong = "" if start is None or end is None or start < end else f"segment [{start:g}, {end:g}] holds no time"
    where, at = document.where(*way), partial(_at, document, way)
    return Annotation(name, label, where, at, start, end, split, several=True, left_out=wrong)


def _segment(document: Document, segment: Any, way: tuple[Key, ...]) -> tuple[float | None, float | None]:
    if segment is None:
        return None, None
    if not isinstance(segment, list) or len(segment) != 2 or not all(map(_is_time, segment)):
        raise document.error("expected [start, end] in seconds from 0 on", *way)
    return float(segment[0]), float(segment[1])


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _at(document: Document, way: tuple[Key, ...], column: str) -> str:
    return document.at(*way)
