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
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rratag import untrusted
from rratag.data.cells import restore, unescape
from rratag.errors import LabelError, UsageError
from rratag.records import Instance
from rratag.untrusted import shown

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
LONGEST_RECORD = 2**20
"""In characters: a file without line ends, or with a quote left open, is refused before it fills the memory."""


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
        With file and line, and the column (in characters, from 1) where it is one cell that is wrong: a column of the
        table is missing, a row does not fit the header, a value cannot be read, a name leads out of the root, two rows
        contradict each other, or the file cannot be read.

    Notes
    -----
    Rows are read one by one; what stays in memory are the instances of cached videos and the missing names.
    """
    path = Path(path)
    found: dict[tuple[str, float | None, float | None], tuple[Instance, int]] = {}
    missing: dict[str, None] = {}
    for row in _rows(path, dict(columns or {})):
        video = _resolve(row, ids_to_keys)
        if video is None:
            missing[row["video"]] = None
            continue
        instance = _instance(row, video, ids_to_keys[video])
        place = (video, instance.start_s, instance.end_s)
        earlier, line = found.setdefault(place, (instance, row.record.line))
        if earlier != instance:
            raise _contradiction(row, instance, earlier, line)
    instances = [instance for instance, _ in found.values()]
    named = {instance.video for instance in instances}
    instances += [Instance(video, key, None) for video, key in ids_to_keys.items() if video not in named]
    return LabelSet(sorted(instances, key=_order), list(missing))


def _order(instance: Instance) -> tuple[bytes, float, float]:
    start = -1.0 if instance.start_s is None else instance.start_s
    return os.fsencode(instance.video), start, math.inf if instance.end_s is None else instance.end_s


def _contradiction(row: _Row, here: Instance, there: Instance, line: int) -> LabelError:
    name = next(name for name in ("label", "split", "group") if getattr(here, name) != getattr(there, name))
    ours, theirs = (shown(getattr(one, name) or "") for one in (here, there))
    return row.error(
        name,
        f"video {shown(here.video)} has {name} {ours} here and {theirs} on line {line}; keep one of the two rows",
    )


def _resolve(row: _Row, ids: Mapping[str, str]) -> str | None:
    """The id that a name in a label file means, or None.

    Raises
    ------
    LabelError
        If the name leads out of the root.
    """
    name = row["video"]
    written = unescape(restore(name))  # as in our own CSV files
    plain = posixpath.normpath(name.strip().replace("\\", "/")) if name.strip() else ""
    # our own way of writing first: beside "=a" there may be a file whose very name is "'=a"
    found = next((candidate for candidate in (written, name, plain) if candidate in ids), None)
    if found is None and (plain.startswith(("/", "../")) or plain == ".." or re.match("[A-Za-z]:/", plain)):
        raise row.error(
            "video", f"{shown(name)} is not below the root; videos are named relative to the extracted folder"
        )
    return found


def _instance(row: _Row, video: str, key: str) -> Instance:
    split = row["split"].strip().lower()
    if split not in SPLITS:
        accepted = ", ".join(dict.fromkeys(filter(None, SPLITS.values())))
        raise row.error("split", f"unknown split {shown(row['split'])}; choose from {accepted}, or leave it empty")
    start, end = _seconds(row, "start_s"), _seconds(row, "end_s")
    if start is not None and end is not None and start >= end:
        raise row.error("end_s", f"start_s {start:g} is not before end_s {end:g}")
    if not row["label"].isprintable() and any("\ud800" <= letter <= "\udfff" for letter in row["label"]):
        raise row.error("label", f"label {shown(row['label'])} is not UTF-8; save the file as UTF-8")
    label = unescape(restore(row["label"])).strip() or None
    return Instance(video, key, label, unescape(restore(row["group"])).strip(), SPLITS[split], start, end)


def _seconds(row: _Row, name: str) -> float | None:
    text = row[name]
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise row.error(name, f"{name} is {shown(text)}; seconds from 0 on are accepted, or an empty cell")
    return value


@dataclass
class _Record:
    """One row of the file: `line` where it begins, its cells, and the text that they were read from."""

    line: int
    cells: list[str]
    text: str
    delimiter: str

    def place(self, cell: int) -> str:
        """``LINE:COLUMN`` of a cell, in characters from 1; a cell in quotes begins with its quote."""
        line, column, passed = self.line, 1, 0
        begins, in_quotes, quoted = True, False, False  # of the cell that the letter is in
        for letter, following in itertools.pairwise(self.text + "\n"):
            if passed == cell:
                break
            if letter == '"' and (begins or in_quotes):
                in_quotes, quoted = True, not quoted
            begins = letter == self.delimiter and not quoted
            if begins:
                passed, in_quotes = passed + 1, False
            column += 1
            if letter == "\n" or (letter == "\r" and following != "\n"):
                line, column = line + 1, 1
        return f"{line}:{column}"


@dataclass
class _Row:
    """A record under our names; absent optional columns are empty."""

    path: Path
    record: _Record
    columns: Mapping[str, int | None]

    def __getitem__(self, name: str) -> str:
        at = self.columns[name]
        return "" if at is None else self.record.cells[at]

    def error(self, name: str, message: str) -> LabelError:
        """What is wrong with one cell, with its place."""
        return LabelError(f"{self.path}:{self.record.place(self.columns[name] or 0)}: {message}")


def _rows(path: Path, columns: dict[str, str]) -> Iterator[_Row]:
    """Rows with something in them."""
    wanted = {name: columns.get(name, name) for name in COLUMNS}
    records = _records(path, wanted)
    first = next(records, _Record(1, [], "", ","))
    header = [cell.strip() for cell in first.cells]
    places = _places(path, first, header, wanted, columns)
    for record in records:
        if not any(cell.strip() for cell in record.cells):
            continue
        if len(record.cells) != len(header):
            raise LabelError(
                f"{path}:{record.line}: {len(record.cells)} cells, the header has {len(header)}; a name that holds the"
                ' delimiter goes between "quotes"'
            )
        yield _Row(path, record, places)


def _records(path: Path, wanted: Mapping[str, str]) -> Iterator[_Record]:
    """Records of the file; the first one is the header."""
    line, taken = 1, list[str]()
    try:
        untrusted.check_regular(path)
        with open(path, "rb") as binary, _decoded(binary) as file:
            lines = _lines(path, file, taken)
            first = next(lines, "")
            delimiter = _delimiter(first, wanted)
            reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True)
            for cells in reader:
                yield _Record(line, cells, "".join(taken), delimiter)
                taken.clear()
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


def _lines(path: Path, file: io.TextIOWrapper, taken: list[str]) -> Iterator[str]:
    """Lines with their ends; those that `taken` holds, of one record, are never longer than memory allows."""
    length = 0
    for number in itertools.count(1):
        line = file.readline(LONGEST_RECORD)
        if not line:
            return
        length = len(line) + (length if taken else 0)
        taken.append(line)
        if len(line) == LONGEST_RECORD or "\0" in line:
            raise LabelError(
                f"{path}:{number}: not a text file with lines; expected CSV with a header such as video,label"
            )
        if length > LONGEST_RECORD:
            raise LabelError(f"{path}:{number - len(taken) + 1}: not CSV (one row without end); is a quote left open?")
        yield line


def _delimiter(first: str, wanted: Mapping[str, str]) -> str:
    """The delimiter under which the header names most of the columns looked for, then has most cells."""

    def fit(delimiter: str) -> tuple[int, int]:
        try:
            # not strict here: under a wrong delimiter quotes may look misplaced
            cells = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])]
        except csv.Error:  # under a wrong delimiter the line is a single, endless cell
            return 0, 0
        return len(set(wanted.values()).intersection(cells)), len(cells)

    return max(DELIMITERS, key=fit)


def _places(
    path: Path, first: _Record, header: list[str], wanted: Mapping[str, str], columns: Mapping[str, str]
) -> dict[str, int | None]:
    """Position of each of our columns in the header; None for an optional one that is not there."""
    named = list(filter(None, header))
    present = ", ".join(cell[:60] for cell in named[:20]) + (", ..." if len(named) > 20 else "") or "none"
    for name, theirs in wanted.items():
        if theirs not in header and (name in REQUIRED or name in columns):
            said = f"no column {theirs!r}" + (f" for {name!r}" if theirs != name else "")
            way_out = f"; name it with --columns {name}=..." if name not in columns else ""
            raise LabelError(f"{path}:1: {said}; columns present: {present}{way_out}")
        if (count := header.count(theirs)) > 1:
            place = first.place(header.index(theirs, header.index(theirs) + 1))
            raise LabelError(f"{path}:{place}: column {theirs!r} is there {count} times; rename all but one")
    return {name: header.index(theirs) if theirs in header else None for name, theirs in wanted.items()}
