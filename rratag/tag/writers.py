r"""Tags as files: ``.csv``, ``.json``, ``.jsonl``, and the reader that takes them back; and ActivityNet's form.

One row per video and rank, sorted by the bytes of the video's id, then rank; a failed video has one row. A byte of a
name that is not UTF-8 is written ``\xNN``; in CSV a cell that a spreadsheet would execute has a leading ``'``.
`read_tags` undoes both exactly. Adding a format is one entry of `WRITERS`.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rratag
from rratag import files, untrusted
from rratag.data.cells import csv_line, escape, restore, text_cell, unescape
from rratag.errors import RratagError, UsageError
from rratag.records import Receipt
from rratag.tag import submission
from rratag.tag.rows import About, Tagged, TagRow, tagged
from rratag.untrusted import shown

if TYPE_CHECKING:
    from rratag.tag.fuse import Fused
    from rratag.tag.predict import Prediction

__all__ = ["WRITERS", "About", "TagRow", "Writer", "read_run", "read_tags", "write_report", "write_tags", "writer_for"]

FORMAT = "rratag-tags"
VERSION = 1
STDOUT = "-"


@dataclass(frozen=True)
class Writer:
    """An output format: the text before, for each video, between videos and after, and the way back: head and rows."""

    begin: Callable[[About], str]
    video: Callable[[Tagged, About], str]
    between: str
    end: str
    read: Callable[[str], tuple[Mapping[str, Any], Iterator[TagRow]]]


def writer_for(out: str | Path) -> Writer:
    """The format that the suffix of `out` names; ``-`` is CSV on stdout. Checks that the file could be written.

    Raises
    ------
    UsageError
        If the suffix is unknown, or the folder is missing or cannot be written.
    """
    if str(out) == STDOUT:
        return WRITERS[".csv"]
    path = Path(out)
    writer = _by_suffix(path, "--out")
    check_place(path, "--out")
    return writer


def check_place(path: Path, option: str) -> None:
    """Refuse a file that could not be written, before hours of work.

    Raises
    ------
    UsageError
        If `path` is a folder, or its folder is missing or cannot be written.
    """
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; {option} takes a file")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: is a device or pipe, which is not replaced; {option} takes a file, or - for stdout")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: folder {path.parent} does not exist; make it, or give another {option}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{path}: folder {path.parent} cannot be written; give another {option}")


def write_tags(results: Iterable[Prediction | Fused | Receipt], out: str | Path, about: About) -> None:
    """Write all results at once, or nothing: temporary file, fsync, rename.

    Parameters
    ----------
    results : in any order; a `Receipt` is a video without tags. Read once, each turned into text at once
    out : path ending in a suffix of `WRITERS`, or ``-``

    Raises
    ------
    UsageError
        If `out` has an unknown suffix or cannot be written.
    RratagError
        If the disk is full.
    """
    writer = writer_for(out)
    texts = sorted((os.fsencode(result.video), writer.video(tagged(result, about), about)) for result in results)
    content = (writer.begin(about) + writer.between.join(text for _, text in texts if text) + writer.end).encode()
    _put(out, content)


def write_report(out: str | Path, receipts: Iterable[Receipt]) -> None:
    """Write ``extract --report``: a CSV row per candidate in the order given, columns as in `Receipt`.

    Raises
    ------
    UsageError
        If `out` cannot be written; ``-`` is stdout.
    RratagError
        If the disk is full.
    """
    if str(out) != STDOUT:
        check_place(Path(out), "--report")
    lines = [csv_line(field.name for field in fields(Receipt))]
    for receipt in receipts:
        values = ("" if value is None else value for value in asdict(receipt).values())
        lines.append(csv_line(text_cell(value) if isinstance(value, str) else f"{value:.10g}" for value in values))
    _put(out, "".join(lines).encode())


def _put(out: str | Path, content: bytes) -> None:
    """All of `content` or nothing."""
    if str(out) == STDOUT:
        if sys.stdout is None:
            raise RratagError("stdout is closed; give a file instead of -")
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    try:
        files.write_atomically(Path(os.path.realpath(out)), content)  # a link stays one
    except OSError as error:
        raise RratagError(f"{out}: cannot be written ({error.strerror}); choose another place") from error


def read_tags(path: str | Path) -> list[TagRow]:
    """Rows of a file that `write_tags` wrote, names exactly as they were.

    Raises
    ------
    UsageError
        If the suffix is unknown, or the file cannot be read or is not one of ours.
    """
    return read_run(path)[1]


def read_run(path: str | Path) -> tuple[Mapping[str, Any], list[TagRow]]:
    """The head of a file, which a CSV has not, and its rows; else as `read_tags`."""
    path = Path(path)
    reader = _by_suffix(path, "tags file").read
    text = read_text(path)
    try:
        head, rows = reader(text)
        return head, list(_checked(rows))
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UsageError(f"{path}: not a tags file of rratag ({str(error)[:300]})") from error


def read_text(path: Path) -> str:
    """Text of a file that is expected to hold tags.

    Raises
    ------
    UsageError
        If it cannot be read or is not UTF-8.
    """
    try:
        untrusted.check_regular(path)
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: not UTF-8 at byte {error.start}; expected a file written by rratag predict"
        ) from error


def _checked(rows: Iterable[TagRow]) -> Iterator[TagRow]:
    """Rows as `write_tags` wrote them: each video once, its ranks from 1, all with as many glimpses.

    Raises
    ------
    ValueError
        At the first row that is not.
    """
    seen: set[str] = set()
    num_glimpses = 0
    for video, group in itertools.groupby(rows, key=lambda row: row.video):
        if video in seen:
            raise ValueError(f"video {shown(video)} is there twice")
        os.fsencode(video)  # no surrogates but those that stand for bytes
        seen.add(video)
        labels: set[str] = set()
        again, own = _partition(group)
        for row in again:
            if fault := _fault(row, 1, num_glimpses):
                raise ValueError(f"video {shown(video)}: {fault}")
            yield row
        for rank, row in enumerate(own, start=1):
            num_glimpses = num_glimpses or len(row.glimpses)
            fault = _fault(row, rank, num_glimpses)
            if fault or row.label in labels:
                raise ValueError(f"video {shown(video)}, row {rank}: {fault or 'a label that is there twice'}")
            labels.add(row.label)
            yield row


def _partition(rows: Iterable[TagRow]) -> tuple[list[TagRow], list[TagRow]]:
    """Rows that say that a video was reached once more, and its own."""
    found = list(rows)
    again = [row for row in found if row.reason == "duplicate_path"]
    return again, [row for row in found if row.reason != "duplicate_path"]


def _fault(row: TagRow, rank: int, num_glimpses: int) -> str:
    """What is wrong with the row that stands at `rank` of its video; empty if nothing is."""
    try:
        usable = Receipt(row.video, row.status, row.reason).usable
    except ValueError as error:
        return str(error)
    if not (row.rank == rank if usable else row.rank is None and rank == 1) or isinstance(row.rank, bool):
        return f"rank {shown(row.rank)} where {rank if usable else 'none'} is expected"
    if usable and (len(row.glimpses) != num_glimpses or not all(map(_is_share, (row.score, *row.glimpses)))):
        return f"scores that are not {num_glimpses + 1} numbers from 0 to 1"
    if not all(map(_is_share, row.box or ())) or not (row.time_s is None or _is_number(row.time_s)):
        return "a time or box that is none"
    return "" if type(row.frames_used) is int and row.frames_used >= 0 else "frames_used is no count"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _by_suffix(path: Path, what: str) -> Writer:
    if submission.is_submission(path):
        return SUBMISSION
    if path.suffix.lower() not in WRITERS:
        accepted = ", ".join([*WRITERS, submission.SUFFIX]) + (", or -" if what == "--out" else "")
        raise UsageError(f"{what} {str(path)!r}: unknown suffix {path.suffix!r}; choose from {accepted}")
    return WRITERS[path.suffix.lower()]


# --- csv ---

_LEFT = ("video", "status", "reason", "rank", "label", "score")
_RIGHT = ("time_s", "box", "frames_used", "message")


def columns(num_glimpses: int) -> list[str]:
    """Columns of tags.csv for K glimpses."""
    return [*_LEFT, *(f"glimpse_{k}" for k in range(1, num_glimpses + 1)), *_RIGHT]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _csv_row(row: TagRow, num_glimpses: int) -> str:
    return csv_line(
        [
            *(text_cell(value) for value in (row.video, row.status, row.reason)),
            "" if row.rank is None else str(row.rank),
            text_cell(row.label),
            _number(row.score, 6),
            *((_number(score, 6) for score in row.glimpses) if row.glimpses else [""] * num_glimpses),
            _number(row.time_s, 3),
            "" if row.box is None else ",".join(f"{side:.4f}" for side in row.box),
            str(row.frames_used),
            text_cell(row.message),
        ]
    )


def _csv_begin(about: About) -> str:
    return csv_line(columns(about.num_glimpses))


def _csv_video(video: Tagged, about: About) -> str:
    return "".join(_csv_row(row, about.num_glimpses) for row in video.rows)


def _csv_read(text: str) -> tuple[Mapping[str, Any], Iterator[TagRow]]:
    return {}, _csv_rows(text)


def _csv_rows(text: str) -> Iterator[TagRow]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = next(rows, [])
    num_glimpses = len(header) - len(_LEFT) - len(_RIGHT)
    if num_glimpses < 0 or header != columns(num_glimpses):
        raise ValueError(f"columns {shown(','.join(header))} instead of {','.join(columns(1))!r}")
    for cells in rows:
        if len(cells) != len(header):
            raise ValueError(f"line {rows.line_num}: {len(cells)} cells instead of {len(header)}")
        cell = dict(zip(header, cells, strict=True))
        scores = cells[len(_LEFT) : len(_LEFT) + num_glimpses]
        yield _row(
            {name: restore(text) for name, text in cell.items()},
            rank=int(cell["rank"]) if cell["rank"] else None,
            score=float(cell["score"]) if cell["score"] else None,
            glimpses=[float(score) for score in scores] if cell["rank"] else [],
            time_s=float(cell["time_s"]) if cell["time_s"] else None,
            box=[float(side) for side in cell["box"].split(",")] if cell["box"] else None,
            frames_used=int(cell["frames_used"]),
        )


def _row(
    texts: Mapping[str, str],
    *,
    rank: int | None = None,
    score: float | None = None,
    glimpses: Sequence[float] = (),
    time_s: float | None = None,
    box: Sequence[float] | None = None,
    frames_used: int,
) -> TagRow:
    """A row from a file's cells; `texts` as written, ``label`` among them where there is one."""
    video, status, reason, label, message = (
        unescape(texts.get(name, "")) for name in ("video", "status", "reason", "label", "message")
    )
    x0, y0, x1, y1 = box or (0.0,) * 4
    place = None if box is None else (x0, y0, x1, y1)
    return TagRow(video, status, reason, rank, label, score, tuple(glimpses), time_s, place, frames_used, message)


# --- json, jsonl ---


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _escaped(value: Any) -> Any:
    """`value` with every string in it as valid Unicode: a class may be named after a folder that is not UTF-8."""
    if isinstance(value, dict):
        return {_escaped(name): _escaped(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_escaped(one) for one in value]
    return escape(value) if isinstance(value, str) else value


def _head(about: About) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "rratag": rratag.__version__,
        "model": _escaped(about.model),
        "spec": _escaped(about.spec),
        "compute": _escaped(about.compute),
        "num_glimpses": about.num_glimpses,
        "top": about.top,
        "score": about.score,
        **({} if about.crop_fusion == "mean" else {"crop_fusion": about.crop_fusion}),
        **({} if about.test_frames is None else {"test_frames": about.test_frames}),
        **({"models": _escaped(about.models)} if about.models else {}),
    }


def _record(video: Tagged) -> dict[str, Any]:
    """One video as a JSON object; a failed one has no tags."""
    first = video.rows[0]
    return {
        **{name: escape(getattr(first, name)) for name in ("video", "status", "reason", "message")},
        "frames_used": first.frames_used,
        "tags": [
            {
                "rank": row.rank,
                "label": escape(row.label),
                "score": row.score,
                "glimpses": row.glimpses,
                "time_s": row.time_s,
                "box": row.box,
            }
            for row in video.rows
            if row.rank is not None
        ],
        "glimpses": [_with_labels(glimpse) for glimpse in video.glimpses],
        "time_s": video.time_s,
        **({"models": [_with_labels(model) for model in video.models]} if video.models else {}),
    }


def _with_labels(part: dict[str, Any]) -> dict[str, Any]:
    """A glimpse or model with the labels of its tags as a file holds them."""
    return {**part, "tags": [{**tag, "label": escape(tag["label"])} for tag in part["tags"]]}


def _json_begin(about: About) -> str:
    return _dump(_head(about))[:-1] + ', "videos": [\n'


def _record_rows(record: dict[str, Any]) -> Iterator[TagRow]:
    frames_used = record["frames_used"]
    if not record["tags"]:
        yield _row(record, frames_used=frames_used)
    for tag in record["tags"]:
        values = {name: tag[name] for name in ("rank", "score", "glimpses", "time_s", "box")}
        yield _row({**record, "label": tag["label"]}, **values, frames_used=frames_used)


def _check_head(head: Any) -> None:
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise ValueError(f"no {FORMAT!r} in its head")
    if head.get("version") != VERSION:
        raise ValueError(f"format version {shown(head.get('version'))}, this program reads {VERSION}")
    if head.get("score") not in (None, "ensemble", "concat"):
        raise ValueError(f"score {shown(head['score'])} instead of ensemble or concat")


def _json_read(text: str) -> tuple[Mapping[str, Any], Iterator[TagRow]]:
    content = untrusted.parse_json(text, max_values=len(text))
    _check_head(content)
    return content, itertools.chain.from_iterable(map(_record_rows, content["videos"]))


def _jsonl_read(text: str) -> tuple[Mapping[str, Any], Iterator[TagRow]]:
    # not splitlines(): a name may hold U+2028 and others that it would split at
    head, *records = (untrusted.parse_json(line) for line in text.split("\n") if line.strip())
    _check_head(head)
    return head, itertools.chain.from_iterable(map(_record_rows, records))


WRITERS: dict[str, Writer] = {
    ".csv": Writer(_csv_begin, _csv_video, "", "", _csv_read),
    ".json": Writer(_json_begin, lambda video, about: _dump(_record(video)), ",\n", "\n]}\n", _json_read),
    ".jsonl": Writer(
        lambda about: _dump(_head(about)) + "\n", lambda video, about: _dump(_record(video)) + "\n", "", "", _jsonl_read
    ),
}
"""Output formats by suffix. The head of ``.jsonl`` is its first line."""


def _no_way_back(text: str) -> tuple[Mapping[str, Any], Iterator[TagRow]]:
    raise ValueError("ActivityNet's form holds labels and scores alone")


SUBMISSION = Writer(submission.begin, submission.video, ",\n", "\n}}\n", _no_way_back)
"""ActivityNet's form, of files that end in `submission.SUFFIX`; `submission.parse` reads it."""
