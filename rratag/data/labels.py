"""Which video carries which label: from one folder per tag, or from a CSV file.

Enters: ids and keys of the cached videos. Leaves: one `Instance` per labelled (or unlabelled) video or interval.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rratag.data.cells import restore, unescape
from rratag.errors import LabelError, UsageError
from rratag.records import Instance

REQUIRED = ("video", "label")
OPTIONAL = ("start_s", "end_s", "split", "group")
COLUMNS = (*REQUIRED, *OPTIONAL)
"""Our names of the columns; ``--columns OURS=THEIRS`` renames."""

SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
    "testing": "test",
    "": "",
}
"""Accepted values of the column ``split``, in any case; empty leaves the choice open."""

DELIMITERS = (",", ";", "\t")
LONGEST_LINE = 2**20
"""In characters: a file without line ends is refused before it fills the memory."""


@dataclass
class LabelSet:
    """What a label file says about the cached videos.

    ``missing`` holds the names in the file that are no cached video, in the file's order; ``class_names`` is sorted.
    """

    instances: list[Instance]
    missing: list[str] = field(default_factory=list)

    @property
    def class_names(self) -> list[str]:
        """Labels in use, sorted."""
        return class_names(self.instances)


def class_names(instances: Iterable[Instance]) -> list[str]:
    """Labels in use, sorted by code point; a label's position is its number."""
    return sorted({instance.label for instance in instances if instance.label is not None})


def from_folders(ids_to_keys: Mapping[str, str]) -> list[Instance]:
    """Label every video with the first folder below the root; a video directly in the root is unlabelled.

    Spaces around a folder's name do not belong to the label, as in a label file.

    Parameters
    ----------
    ids_to_keys : ids of the cached videos with their keys

    Returns
    -------
    One instance per video, sorted by id.
    """
    return [
        Instance(video, key, (video.split("/", 1)[0].strip() or None) if "/" in video else None)
        for video, key in sorted(ids_to_keys.items(), key=lambda item: os.fsencode(item[0]))
    ]


def parse_columns(text: str) -> dict[str, str]:
    """Parse ``video=file,group=source_group``: our column name to theirs.

    Raises
    ------
    UsageError
        If a name of ours is unknown or given twice, or an item is not ``ours=theirs``.
    """
    columns: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        ours, equals, theirs = (part.strip() for part in item.partition("="))
        if ours not in COLUMNS:
            raise UsageError(f"--columns: unknown column {ours!r}; choose from {', '.join(COLUMNS)}")
        if not equals or not theirs:
            raise UsageError(f"--columns: {item!r} names no column of the file; write {ours}=THEIR_NAME")
        if ours in columns:
            raise UsageError(f"--columns: {ours!r} is given twice")
        columns[ours] = theirs
    return columns


def with_groups(instances: Iterable[Instance], pattern: str) -> list[Instance]:
    """Set every instance's group by ``--group-by``: the first capture group (or whole match) of `pattern` on its id.

    An id that does not match is a group of its own.

    Raises
    ------
    UsageError
        If `pattern` is no regular expression.
    """
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--group-by {pattern!r}: not a regular expression ({error})") from error
    return [replace(instance, group=_group(regex, instance.video)) for instance in instances]


def _group(regex: re.Pattern[str], video: str) -> str:
    found = regex.search(video)
    if found is None:
        return video
    return found.group(min(1, regex.groups)) or video


def from_csv(path: str | Path, ids_to_keys: Mapping[str, str], columns: Mapping[str, str] | None = None) -> LabelSet:
    """Read ``video,label[,start_s,end_s,split,group]``; other columns are ignored.

    Parameters
    ----------
    path : CSV with a header; comma, semicolon or tab; UTF-8 (with or without BOM) or UTF-16 with BOM
    ids_to_keys : ids of the cached videos with their keys; names in the file are ids, ``./`` before them and
        backslashes between folders are accepted
    columns : our column names to the file's, where they differ

    Returns
    -------
    Instances sorted by id and start; cached videos without a row, or with an empty label, are unlabelled.

    Raises
    ------
    LabelError
        With file and line: a column is missing, a row does not fit the header, a value cannot be read, two rows
        contradict each other, or the file cannot be read.

    Notes
    -----
    Rows are read one by one; what stays in memory are the instances of cached videos and the missing names.
    """
    path = Path(path)
    found: dict[tuple[str, float | None, float | None], tuple[Instance, int]] = {}
    missing: dict[str, None] = {}
    for line, row in _rows(path, dict(columns or {})):
        video = _resolve(row["video"], ids_to_keys)
        if video is None:
            missing[row["video"]] = None
            continue
        instance = _instance(f"{path}:{line}", row, video, ids_to_keys[video])
        place = (video, instance.start_s, instance.end_s)
        earlier = found.setdefault(place, (instance, line))
        if earlier[0] != instance:
            raise LabelError(
                f"{path}:{line}: {_contradiction(instance, earlier[0], earlier[1])}; keep one of the two rows"
            )
    instances = [instance for instance, _ in found.values()]
    named = {instance.video for instance in instances}
    instances += [Instance(video, key, None) for video, key in ids_to_keys.items() if video not in named]
    return LabelSet(sorted(instances, key=_order), list(missing))


def _order(instance: Instance) -> tuple[bytes, float, float]:
    start = -1.0 if instance.start_s is None else instance.start_s
    return os.fsencode(instance.video), start, math.inf if instance.end_s is None else instance.end_s


def _contradiction(here: Instance, there: Instance, line: int) -> str:
    for name in ("label", "split", "group"):
        ours, theirs = getattr(here, name), getattr(there, name)
        if ours != theirs:
            return f"video {here.video!r} has {name} {ours or ''!r} here and {theirs or ''!r} on line {line}"
    raise AssertionError("the rows agree")


def _resolve(name: str, ids: Mapping[str, str]) -> str | None:
    """The id that a name in a label file means, or None."""
    written = unescape(restore(name))  # as in our own CSV files
    plain = re.sub(r"^(?:\./+)+", "", re.sub(r"/+", "/", name.strip().replace("\\", "/")))
    # our own way of writing first: beside "=a" there may be a file whose very name is "'=a"
    return next((candidate for candidate in (written, name, plain) if candidate in ids), None)


def _instance(place: str, row: Mapping[str, str], video: str, key: str) -> Instance:
    split = row["split"].strip().lower()
    if split not in SPLITS:
        accepted = ", ".join(dict.fromkeys(filter(None, SPLITS.values())))
        raise LabelError(f"{place}: unknown split {row['split']!r}; choose from {accepted}, or leave it empty")
    start, end = (_seconds(place, name, row[name]) for name in ("start_s", "end_s"))
    if start is not None and end is not None and start >= end:
        raise LabelError(f"{place}: start_s {start:g} is not before end_s {end:g}")
    if not row["label"].isprintable() and any("\ud800" <= letter <= "\udfff" for letter in row["label"]):
        raise LabelError(f"{place}: label {row['label']!r} is not UTF-8; save the file as UTF-8")
    label = unescape(restore(row["label"])).strip() or None
    return Instance(video, key, label, unescape(restore(row["group"])).strip(), SPLITS[split], start, end)


def _seconds(place: str, name: str, text: str) -> float | None:
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise LabelError(f"{place}: {name} is {text!r}; seconds from 0 on are accepted, or an empty cell")
    return value


def _rows(path: Path, columns: dict[str, str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line where a row begins, and its cells under our names; absent optional columns are empty."""
    wanted = {name: columns.get(name, name) for name in COLUMNS}
    records = _records(path, wanted)
    _, header = next(records, (1, []))
    header = [cell.strip() for cell in header]
    places = _places(path, header, wanted, columns)
    for line, cells in records:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise LabelError(
                f"{path}:{line}: {len(cells)} cells, the header has {len(header)}; a name that holds the delimiter"
                ' goes between "quotes"'
            )
        yield line, {name: "" if at is None else cells[at] for name, at in places.items()}


def _records(path: Path, wanted: Mapping[str, str]) -> Iterator[tuple[int, list[str]]]:
    """Records of the file, each with the line where it begins; the first one is the header."""
    line = 1
    try:
        with open(path, "rb") as binary, _decoded(binary) as file:
            lines = _lines(path, file)
            first = next(lines, "")
            reader = csv.reader(itertools.chain([first], lines), delimiter=_delimiter(first, wanted), strict=True)
            for cells in reader:
                yield line, cells
                line = reader.line_num + 1
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such label file") from error
    except OSError as error:
        raise LabelError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeError as error:
        raise LabelError(f"{path}: not text that can be read ({error}); save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise LabelError(f"{path}:{line}: not CSV ({error}); is a quote left open?") from error


def _decoded(binary: io.BufferedReader) -> io.TextIOWrapper:
    """Text of the file: UTF-16 by its byte order mark, else UTF-8; other bytes may be those of file names."""
    if binary.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return io.TextIOWrapper(binary, "utf-16", newline="")
    return io.TextIOWrapper(binary, "utf-8-sig", "surrogateescape", newline="")


def _lines(path: Path, file: io.TextIOWrapper) -> Iterator[str]:
    """Lines with their ends, none of them longer than memory allows."""
    for number in itertools.count(1):
        line = file.readline(LONGEST_LINE)
        if not line:
            return
        if len(line) == LONGEST_LINE or "\0" in line:
            raise LabelError(
                f"{path}:{number}: not a text file with lines; expected CSV with a header such as video,label"
            )
        yield line


def _delimiter(first: str, wanted: Mapping[str, str]) -> str:
    """The delimiter under which the header names most of the columns looked for, then has most cells."""

    def fit(delimiter: str) -> tuple[int, int]:
        # not strict here: under a wrong delimiter quotes may look misplaced
        cells = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])]
        return len(set(wanted.values()).intersection(cells)), len(cells)

    return max(DELIMITERS, key=fit)


def _places(
    path: Path, header: list[str], wanted: Mapping[str, str], columns: Mapping[str, str]
) -> dict[str, int | None]:
    """Position of each of our columns in the header; None for an optional one that is not there."""
    present = ", ".join(filter(None, header)) or "none"
    for name, theirs in wanted.items():
        if theirs not in header and (name in REQUIRED or name in columns):
            said = f"no column {theirs!r}" + (f" for {name!r}" if theirs != name else "")
            way_out = f"; name it with --columns {name}=..." if name not in columns else ""
            raise LabelError(f"{path}:1: {said}; columns present: {present}{way_out}")
        if header.count(theirs) > 1:
            raise LabelError(f"{path}:1: column {theirs!r} is there {header.count(theirs)} times; rename all but one")
    return {name: header.index(theirs) if theirs in header else None for name, theirs in wanted.items()}
