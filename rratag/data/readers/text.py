"""Text of a label file that a stranger wrote: bounded lines, and rows of CSV with the place of every cell."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rratag import untrusted
from rratag.errors import LabelError, UsageError

DELIMITERS = (",", ";", "\t")
LONGEST_RECORD = 2**20
"""In characters: a file without line ends, or with a quote left open, is refused before it fills the memory."""
HEAD = 2**16
"""Characters by which the kind of a file is recognised."""


@dataclass
class Record:
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
class Row:
    """A record under our names of the columns; absent optional ones are empty."""

    path: Path
    record: Record
    columns: Mapping[str, int | None]

    def __getitem__(self, name: str) -> str:
        at = self.columns[name]
        return "" if at is None else self.record.cells[at]

    def place(self, name: str) -> str:
        """``FILE:LINE:COLUMN`` of a cell."""
        return f"{self.path}:{self.record.place(self.columns[name] or 0)}"

    def error(self, name: str, message: str) -> LabelError:
        """What is wrong with one cell, with its place."""
        return LabelError(f"{self.place(name)}: {message}")


def rows(
    path: Path, required: Sequence[str], optional: Sequence[str] = (), renamed: Mapping[str, str] | None = None
) -> Iterator[Row]:
    """Rows with something in them.

    Parameters
    ----------
    renamed : our names of columns to those of the file; None if this kind of file has names of its own

    Raises
    ------
    LabelError
        With file and line, if the file cannot be read, a column is missing or a row does not fit the header.
    """
    theirs = {name: (renamed or {}).get(name, name) for name in (*required, *optional)}
    records = _records(path, set(theirs.values()))
    first = next(records, Record(1, [], "", ","))
    header = [cell.strip() for cell in first.cells]
    places = _places(path, first, header, theirs, required, renamed)
    for record in records:
        if not any(cell.strip() for cell in record.cells):
            continue
        if len(record.cells) != len(header):
            raise LabelError(
                f"{path}:{record.line}: {len(record.cells)} cells, the header has {len(header)}; a name that holds the"
                ' delimiter goes between "quotes"'
            )
        for place, cell in enumerate(record.cells):
            if cell[:1].isspace() and cell.lstrip().startswith('"'):
                raise LabelError(
                    f"{path}:{record.place(place)}: a blank before a quote, which then means nothing; take it out"
                )
        yield Row(path, record, places)


def head(path: Path) -> str:
    """The first `HEAD` characters, fewer bytes than which tell the kind of no file.

    Raises
    ------
    LabelError
        If it cannot be read.
    UsageError
        If it is not there.
    """
    with _opened(path) as file:
        return file.read(HEAD)


def header_cells(first: str) -> list[list[str]]:
    """Cells of the first line of a file by each of `DELIMITERS`."""
    return [_cells(first, delimiter) for delimiter in DELIMITERS]


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with something in them, without blanks at both ends, with their numbers.

    Raises
    ------
    LabelError
        If the file cannot be read or is no text.
    """
    taken: list[str] = []
    with _opened(path) as file:
        for number, line in enumerate(_lines(path, file, taken), start=1):
            taken.clear()
            if line.strip():
                yield number, line.strip()


@contextmanager
def _opened(path: Path) -> Iterator[io.TextIOWrapper]:
    try:
        untrusted.check_regular(path)
        with open(path, "rb") as binary, _decoded(binary) as file:
            yield file
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such label file") from error
    except OSError as error:
        raise LabelError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeError as error:
        raise LabelError(f"{path}: not text that can be read ({error}); save it in UTF-8") from error


def _records(path: Path, wanted: set[str]) -> Iterator[Record]:
    """Records of the file; the first one is the header."""
    line, taken = 1, list[str]()
    with _opened(path) as file:
        lines = _lines(path, file, taken)
        first = next(lines, "")
        delimiter = _delimiter(first, wanted)
        reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                yield Record(line, cells, "".join(taken), delimiter)
                taken.clear()
                line = reader.line_num + 1
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


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        # not strict here: under a wrong delimiter quotes may look misplaced
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:  # under a wrong delimiter the line is a single, endless cell
        return []


def _delimiter(first: str, wanted: set[str]) -> str:
    """The delimiter under which the header names most of the columns looked for, then has most cells."""

    def fit(delimiter: str) -> tuple[int, int]:
        cells = _cells(first, delimiter)
        return len(wanted.intersection(cells)), len(cells)

    return max(DELIMITERS, key=fit)


def _places(
    path: Path,
    first: Record,
    header: list[str],
    theirs: Mapping[str, str],
    required: Sequence[str],
    renamed: Mapping[str, str] | None,
) -> dict[str, int | None]:
    """Position of each of our columns in the header; None for an optional one that is not there."""
    named = list(filter(None, header))
    present = ", ".join(cell[:60] for cell in named[:20]) + (", ..." if len(named) > 20 else "") or "none"
    for ours, name in theirs.items():
        if name not in header and (ours in required or ours in (renamed or {})):
            said = f"no column {name!r}" + (f" for {ours!r}" if ours != name else "")
            way_out = "" if renamed is None or ours in renamed else f"; name it with --columns {ours}=..."
            raise LabelError(f"{path}:1: {said}; columns present: {present}{way_out}")
        if name not in header and (like := next((one for one in header if one.lower() == name.lower()), "")):
            raise LabelError(
                f"{path}:{first.place(header.index(like))}: column {like!r} is not {name!r}; write it so"
                + ("" if renamed is None else f", or --columns {ours}={like}")
            )
        if (count := header.count(name)) > 1:
            place = first.place(header.index(name, header.index(name) + 1))
            raise LabelError(f"{path}:{place}: column {name!r} is there {count} times; rename all but one")
    return {ours: header.index(name) if name in header else None for ours, name in theirs.items()}
