"""Kinetics: CSV ``label,youtube_id,time_start,time_end,split[,is_cc]``; that of a test set has no label."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rratag.data.readers.annotation import Annotation, is_utf8
from rratag.data.readers.opened import LabelFile, split_in_name
from rratag.data.readers.own_csv import seconds, split_of
from rratag.data.readers.text import Row, rows
from rratag.untrusted import shown

SAYS = "Kinetics CSV (label,youtube_id,time_start,time_end,split)"
REQUIRED = ("youtube_id", "time_start", "time_end")
OPTIONAL = ("label", "split")


def recognise(file: LabelFile) -> bool:
    """Whether the header has the columns of all Kinetics files."""
    return not file.is_json and file.names(*REQUIRED) == len(REQUIRED) and not file.names("video")


def read(file: LabelFile) -> Iterator[Annotation]:
    """One annotation a row.

    A file called ``ID_START_END``, with six digits each, as the official downloader names it, is the clip itself; one
    called ``ID`` is the whole video, of which the interval is labelled. A split that is not said in a column is that in
    the file's name.

    Raises
    ------
    LabelError
        With file, line and column.
    """
    for row in rows(file.path, REQUIRED, OPTIONAL):
        yield _annotation(file.path, row)


def _annotation(path: Path, row: Row) -> Annotation:
    name = row["youtube_id"].strip()
    if not name:
        raise row.error("youtube_id", "no youtube_id in this row")
    start, end = seconds(row, "time_start"), seconds(row, "time_end")
    if start is None or end is None:
        empty = "time_start" if start is None else "time_end"
        raise row.error(empty, f"{empty} is empty; seconds are expected")
    if start >= end:
        raise row.error("time_end", f"time_start {start:g} is not before time_end {end:g}")
    if not is_utf8(row["label"]):
        raise row.error("label", f"label {shown(row['label'])} is not UTF-8; save the file as UTF-8")
    line = row.record.line
    return Annotation(
        name,
        row["label"].strip() or None,
        f"line {line} of {path.name}",
        partial(_at, f"{path}:{line}"),  # of 600,000 rows the cells are not kept for an error
        start,
        end,
        split_of(row, "split") or split_in_name(path),
        clip=f"{name}_{round(start):06d}_{round(end):06d}",
    )


def _at(place: str, column: str) -> str:
    return place
