"""Which readers there are, and the one that a file needs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

from rratag.data.readers import (
    activitynet,
    hmdb51,
    kinetics,
    own_csv,
    something,
    textlist,
    ucf101,
    youtube,
)
from rratag.data.readers.annotation import Annotation
from rratag.data.readers.opened import LabelFile, parts_beside
from rratag.errors import LabelError
from rratag.untrusted import shown
from rratag.video.discover import VIDEO_SUFFIXES

CSV = "csv"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reader:
    """A kind of label file.

    Attributes
    ----------
    says : what such a file looks like, in a few words
    recognise : whether a file is of this kind; asked in the order of the table
    read : its annotations, one after the other
    parts : the other files of the set that a file is one part of
    """

    says: str
    recognise: Callable[[LabelFile], bool]
    read: Callable[[LabelFile], Iterator[Annotation]]
    parts: Callable[[Path], list[Path]] = lambda path: []


def _is_csv(file: LabelFile) -> bool:
    """Whether the header names one of our required columns; which other is missing our reader says best."""
    return not file.is_json and file.names(*own_csv.REQUIRED) > 0


READERS: dict[str, Reader] = {
    "kinetics": Reader(kinetics.SAYS, kinetics.recognise, kinetics.read, parts_beside),
    CSV: Reader("CSV (video,label[,start_s,end_s,split,group])", _is_csv, lambda file: own_csv.read(file.path)),
    "activitynet": Reader(activitynet.SAYS, activitynet.recognise, activitynet.read),
    "youtube": Reader(youtube.SAYS, youtube.recognise, youtube.read, parts_beside),
    "something": Reader(something.SAYS, something.recognise, something.read, parts_beside),
    "hmdb51": Reader(hmdb51.SAYS, hmdb51.recognise, hmdb51.read, hmdb51.parts),
    "ucf101": Reader(ucf101.SAYS, ucf101.recognise, ucf101.read, parts_beside),
    "list": Reader(textlist.SAYS, textlist.recognise, textlist.read, parts_beside),
}


@dataclass(frozen=True)
class Reading:
    """A label file whose kind is known: its `kind`, the `files` that belong to it, and what they say."""

    kind: str
    files: list[Path]
    annotations: Iterator[Annotation]


def read(path: Path, columns: Mapping[str, str] | None = None, *, alone: bool = False) -> Reading:
    """Recognise the kind of a label file by its content.

    Parameters
    ----------
    columns : our column names to the file's: the file is a CSV then
    alone : leave out the files of the other splits that lie beside it

    Returns
    -------
    Annotations are read as they are asked for; what is wrong further down is raised then.

    Raises
    ------
    LabelError
        If the kind is none of `READERS`, or the file cannot be read.
    UsageError
        If there is no such file.
    """
    if columns:
        return Reading(CSV, [path], own_csv.read(path, columns))
    first = LabelFile(path)
    kind = next((name for name, reader in READERS.items() if reader.recognise(first)), None)
    if kind is None:
        raise _unknown(first)
    reader = READERS[kind]
    beside = [] if alone and reader.parts is parts_beside else list(map(LabelFile, reader.parts(path)))
    files = [first, *(other for other in beside if reader.recognise(other))]
    for other in beside:
        if other not in files:
            logger.warning("%s lies beside %s, but is not of its kind (%s): not read", other.path, path.name, kind)
    return Reading(kind, [one.path for one in files], chain.from_iterable(map(reader.read, files)))


def _is_no_header(cell: str) -> bool:
    return cell.isdecimal() or PurePosixPath(cell).suffix.lower() in VIDEO_SUFFIXES


def _unknown(file: LabelFile) -> LabelError:
    accepted = "; ".join(reader.says for reader in READERS.values())
    if "\0" in file.head:
        found = "it holds NUL characters, as UTF-16 without its mark does (save it as UTF-8)"
    elif not file.head:
        found = "it is empty"
    elif file.is_json:
        found = "it is other JSON"
    elif len(file.columns) > 1 and any(map(_is_no_header, file.columns)):
        found = "the first line names a video and no columns (put a line such as video,label above it)"
    elif len(file.columns) > 1:
        present = ", ".join(cell[:60] for cell in file.columns[:20])
        found = f"the first line has the columns {present} (--columns video=...,label=... names yours)"
    else:
        found = f"it begins with {shown(file.lines[0] if file.lines else file.head)}"
    return LabelError(f"{file.path}: not a label file of a known kind, {found}; accepted: {accepted}")
