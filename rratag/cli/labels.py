"""``rratag labels``: what a label file says, before anything is decoded."""

from __future__ import annotations

import json as json_module
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rratag import config
from rratag.cli import options
from rratag.cli.console import EXIT_STOPPED, lines, out, printable, say, set_verbosity, warn
from rratag.errors import LabelError, UsageError
from rratag.untrusted import shown

if TYPE_CHECKING:
    from rratag.data.labels import LabelSet
    from rratag.data.summary import Summary

SHOWN = 5
"""Names shown of each sort before the rest is only counted; --json has all."""
SHOWN_TAGS = 30
"""Lines of the table of tags: of more, the largest and the smallest are shown."""


def labels(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Label file of any kind: docs/labels.md lists them.", show_default=False),
    ],
    root: Annotated[
        Path | None,
        typer.Argument(metavar="[ROOT]", help="Folder of the videos, to say which are missing.", show_default=False),
    ] = None,
    columns: options.Columns = None,
    train_frames: options.TrainFrames = config.TRAIN_FRAMES,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="FILE.csv", help="Write the labels as our own CSV.", show_default=False),
    ] = None,
    listed: Annotated[
        str | None,
        typer.Option(
            "--list",
            metavar="PART",
            help="Print nothing but the paths of the labelled videos of train, validation or test, for `predict`.",
            show_default=False,
        ),
    ] = None,
    cache: options.Cache = config.CACHE_DIR,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show what a label file says: its kind, tags, splits, and what is missing, doubled or contradicts itself.

    Nothing is decoded. With ROOT, names are looked for among the files below it; if it was extracted, the labelled
    intervals with too few cached frames are counted too. Ends with 1 if nothing can be trained on the file as it is.
    """
    set_verbosity(quiet=quiet)
    from rratag.data.labels import from_file, parse_columns
    from rratag.data.summary import files_below, short_in_cache, summarise
    from rratag.tag.writers import check_place

    if root is None:
        options.refuse_unused(context, ("cache",), "without ROOT it is not known which cached videos are meant")
    if write is not None:
        if write.suffix.lower() != ".csv":
            raise UsageError(f"{write}: --write takes a name that ends in .csv")
        check_place(write, "--write")
    if listed is not None:
        options.refuse_unused(context, ("json",), "--list prints paths")
        _check_part(listed, root)
    names = parse_columns(columns) if columns else None
    ids = None if root is None else dict.fromkeys(files_below(root), "")
    found = from_file(file, ids, names, tell_conflicts=True)
    if write is not None and any(write.resolve() == one.resolve() for one in found.files):
        raise UsageError(f"{write}: is the label file itself; give --write another name")
    short = None if root is None else short_in_cache(found, root, options.absolute(cache), train_frames)
    summary = summarise(found, train_frames, short)
    if listed is not None and root is not None:
        _list(found, root, listed)
    elif json:
        typer.echo(json_module.dumps(summary.to_json()))
    else:
        _show(summary)
    if write is not None:
        _write(write, found, is_below=root is not None)
    if not summary.tags:
        warn(f"{file}: no video is labelled")
    if summary.conflicts or not summary.tags:
        raise typer.Exit(EXIT_STOPPED)


def _check_part(part: str, root: Path | None) -> None:
    from rratag.data.splits import PARTS

    if part not in PARTS:
        raise UsageError(f"unknown --list {part!r}; choose from {', '.join(PARTS)}")
    if root is None:
        raise UsageError(f"--list {part}: without ROOT it is not known where the videos are; give their folder")


def _list(found: LabelSet, root: Path, part: str) -> None:
    """Paths of the videos of a part, one a line, in the bytes that the system has for them."""
    videos = dict.fromkeys(one.video for one in found.instances if one.label is not None and one.split == part)
    if not videos:
        raise LabelError(f"no video below {root} is labelled and in the {part} part")
    if broken := next((video for video in videos if "\n" in video or "\r" in video), None):
        raise LabelError(f"{shown(broken)}: holds a line end, so that a list cannot name it; rename the file")
    folder = options.absolute(root)
    sys.stdout.buffer.writelines(os.fsencode(folder / video) + b"\n" for video in videos)
    sys.stdout.flush()


def _write(path: Path, found: LabelSet, *, is_below: bool) -> None:
    from rratag.data.label_file import labels_csv
    from rratag.data.readers.annotation import leads_out
    from rratag.files import write_atomically

    if found.conflicts:
        warn(f"{path}: not written, since labels contradict each other")
        return
    if not found.class_names:
        return  # said by the caller
    if not is_below and (outside := next((one.video for one in found.instances if leads_out(one.video)), None)):
        raise LabelError(f"{path}: not written, since {shown(outside)} is no path below a folder; give ROOT")
    write_atomically(path, labels_csv(found.instances).encode())
    say(f"wrote {path}")


def _show(found: Summary) -> None:
    from rratag.data.readers.table import READERS

    _line("kind", f"{found.kind}: {READERS[found.kind].says}")
    _line("files", f"{len(found.files)}: {_some(found.files)}")
    _line("tags", str(len(found.tags)))
    parts = list(found.instances)
    if parts:
        out.print()
        totals = [["videos", *(str(found.videos[part]) for part in parts)]]
        totals.append(["instances", *(str(found.instances[part]) for part in parts)])
        lines([["", *parts], *totals, ["", *[""] * len(parts)], *_tag_lines(found, parts)])
        out.print()
    if found.intervals is not None:
        _line("intervals", _intervals(found))
    counts = (("several labels", found.num_several), ("duplicates", found.duplicates))
    for name, count in counts:
        if count:
            _line(name, str(count))
    named = (
        ("missing", found.missing),
        ("unlabelled", found.unlabelled),
        ("other videos", found.unnamed),
        ("ambiguous", found.ambiguous),
        ("left out", found.left_out),
        ("without train", found.untrained),
        ("conflicts", found.conflicts),
    )
    for name, names in named:
        if names:
            _line(name, f"{len(names)}: {_some(names)}")
    if found.short is not None:
        warn(str(found.short))


def _tag_lines(found: Summary, parts: Sequence[str]) -> list[list[str]]:
    """Instances of each tag, or of the tags with most and with fewest."""
    rows = [[tag, *(str(counts.get(part, 0)) for part in parts)] for tag, counts in found.tags.items()]
    if len(rows) <= SHOWN_TAGS:
        return rows
    rows.sort(key=lambda row: -sum(map(int, row[1:])))
    half = SHOWN_TAGS // 2
    left_out = [f"... {len(rows) - 2 * half} more tags", *[""] * len(parts)]
    return [*rows[:half], left_out, *rows[-half:]]


def _intervals(found: Summary) -> str:
    one = found.intervals
    assert one is not None
    if one.shortest_s is None:
        return str(one.num)
    if not one.fps_all:
        return f"{one.num}, the shortest {one.shortest_s:g} s"
    most = f", --fps {one.fps_most:g} into 95 % of them" if one.fps_most < one.fps_all else ""
    return (
        f"{one.num}, the shortest {one.shortest_s:g} s; --fps {one.fps_all:g} puts {one.num_frames} frames into all"
        f"{most}"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _line(name: str, text: str) -> None:
    out.print(f"{name:<16}{printable(text)}", markup=False)
