"""Our own CSV: ``video,label[,start_s,end_s,split,group,several]``."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path

from rratag.data.cells import restore, unescape
from rratag.data.readers.annotation import SPLITS, Annotation, is_utf8, leads_out
from rratag.data.readers.text import Row, rows
from rratag.untrusted import shown

REQUIRED = ("video", "label")
OPTIONAL = ("start_s", "end_s", "split", "group", "several")
COLUMNS = (*REQUIRED, *OPTIONAL)
"""Our names of the columns; ``--columns OURS=THEIRS`` renames."""

SEVERAL = {"": False, "0": False, "no": False, "1": True, "yes": True}
"""Accepted values of the column ``several``: whether other rows may give this video other labels as well."""


def read(path: Path, columns: Mapping[str, str] | None = None) -> Iterator[Annotation]:
    """Read a CSV with a header; comma, semicolon or tab; UTF-8 (with or without BOM) or UTF-16 with BOM.

    Parameters
    ----------
    columns : our column names to the file's, where they differ; other columns are ignored

    Raises
    ------
    LabelError
        With file and line, and the column (in characters, from 1) where it is one cell that is wrong.
    """
    for row in rows(path, REQUIRED, OPTIONAL, columns or {}):
        yield _annotation(row)


def _annotation(row: Row) -> Annotation:
    name = row["video"]
    if not name.strip():
        raise row.error("video", "no video in this row")
    written = unescape(restore(name))  # as in our own CSV files
    plain = posixpath.normpath(name.strip().replace("\\", "/"))
    start, end = seconds(row, "start_s"), seconds(row, "end_s")
    if end is not None and (start or 0.0) >= end:
        raise row.error("end_s", f"start_s {start or 0.0:g} is not before end_s {end:g}")
    if not is_utf8(row["label"]):
        raise row.error("label", f"label {shown(row['label'])} is not UTF-8; save the file as UTF-8")
    several = SEVERAL.get(row["several"].strip().lower())
    if several is None:
        raise row.error("several", f"several is {shown(row['several'])}; choose from 1, 0, or leave it empty")
    return Annotation(
        name,
        unescape(restore(row["label"])).strip() or None,
        f"line {row.record.line}",
        row.place,
        start,
        end,
        split_of(row, "split"),
        unescape(restore(row["group"])).strip(),
        # our own way of writing first: beside "=a" there may be a file whose very name is "'=a"
        (written, name, plain),
        several=several,
        outside=leads_out(plain),
    )


def split_of(row: Row, column: str) -> str:
    """Our name of the split in a cell.

    Raises
    ------
    LabelError
        If it is none.
    """
    split = SPLITS.get(row[column].strip().lower())
    if split is None:
        accepted = ", ".join(dict.fromkeys(filter(None, SPLITS.values())))
        raise row.error(column, f"unknown split {shown(row[column])}; choose from {accepted}, or leave it empty")
    return split


def seconds(row: Row, column: str) -> float | None:
    """A time in a cell, None if it is empty.

    Raises
    ------
    LabelError
        If it is no number of seconds from 0 on.
    """
    text = row[column]
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise row.error(column, f"{column} is {shown(text)}; seconds from 0 on are accepted, or an empty cell")
    return value
