"""Progress, the closing summary, error lines and exit codes. stdout is data, stderr is talk."""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from typing import IO, Any, ParamSpec, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from rratag.errors import RratagError
from rratag.records import STATUSES, Receipt

EXIT_OK = 0
EXIT_STOPPED = 1
EXIT_USAGE = 2
EXIT_SOME_FAILED = 3
EXIT_INTERRUPTED = 130

PLAIN_SECONDS = 30.0
"""How often progress is told where stderr is not a terminal."""


class _Talk(Console):
    """stderr; where nobody reads it any more, the work goes on in silence."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        _drop(self.file)


class _Data(Console):
    """stdout; see `one_line_errors` for a reader that has gone."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, "the reader of stdout has gone")


err = _Talk(stderr=True, highlight=False, soft_wrap=True, emoji=False)
out = _Data(highlight=False, soft_wrap=True, emoji=False)

_quiet = False

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def set_verbosity(*, quiet: bool = False, verbose: bool = False) -> None:
    """Attach one handler to our loggers; `quiet` leaves errors only."""
    global _quiet
    _quiet = quiet
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.WARNING
    root = logging.getLogger("rratag")
    root.handlers[:] = [_Told()]
    root.setLevel(level)
    root.propagate = False


class _Told(logging.Handler):
    """A record as one line on stderr, like `warn`."""

    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else None
        err.print(f"{record.levelname.lower()}: {printable(self.format(record))}", markup=False, style=style)


def say(text: str) -> None:
    """One line of talk on stderr; nothing with --quiet."""
    if not _quiet:
        err.print(printable(text), markup=False)


def show(renderable: Any) -> None:
    """A table or other rich object on stderr; nothing with --quiet."""
    if not _quiet:
        err.print(renderable)


def lines(rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns on stdout, nothing cut off; the first row is the header."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (printable(cell).ljust(width) for cell, width in zip(row, widths, strict=True))
        out.print("  ".join(cells).rstrip(), markup=False)


def warn(text: str) -> None:
    """One line on stderr that --quiet does not hide."""
    err.print(f"warning: {printable(text)}", markup=False, style="yellow")


def printable(text: str) -> str:
    r"""`text` on one line, without control and direction-changing characters; a byte that is not UTF-8 is ``\xNN``."""
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()  # of any other lone surrogate too, which UTF-8 has no bytes for


def one_line_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what a user can cause into one line on stderr and an exit code; Ctrl-C into 130.

    A command writes its data when its work is done, so that it ends with 0 where the reader of stdout has gone.
    """
    import typer

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except RratagError as error:
            err.print(f"error: {printable(str(error))}", markup=False, style="red")
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            err.print("interrupted; finished work is kept, the same command goes on", markup=False)
            raise typer.Exit(EXIT_INTERRUPTED) from error
        except BrokenPipeError as error:
            if not _lost(sys.stdout):
                raise  # a pipe of our own, to a decoder: no end of the work
            raise typer.Exit(EXIT_OK) from error
        except OSError as error:  # of the system: a full disk behind stdout, a working folder that has gone
            where = f"{error.filename}: " if error.filename else ""
            err.print(f"error: {printable(where + (error.strerror or str(error)))}", markup=False, style="red")
            raise typer.Exit(EXIT_STOPPED) from error

    return guarded


def _lost(file: IO[str]) -> bool:
    """Whether the reader of `file` has gone; what could not be written is dropped then."""
    try:
        # a flush would do, were it not for unbuffered output, which keeps nothing that it could try again
        print(file=file, flush=True)
    except BrokenPipeError:
        _drop(file)
        return True
    return False


def _drop(file: IO[str]) -> None:
    """Let all that is still written to `file` go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, file.fileno())
    os.close(nowhere)


class Report:
    """Counts what became of every candidate and owns the exit code.

    With `strict`, partial counts as failed.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.receipts: list[Receipt] = []

    def add(self, receipt: Receipt) -> None:
        """Count one candidate."""
        self.receipts.append(receipt)

    @property
    def num_usable(self) -> int:
        """Videos that have features."""
        return sum(receipt.usable for receipt in self.receipts)

    def failed(self, receipt: Receipt) -> bool:
        """Whether this candidate makes the run end with 3."""
        good = ("ok", "skipped") if self.strict else ("ok", "partial", "skipped")
        return receipt.status not in good

    @property
    def exit_code(self) -> int:
        """0, 3 if some failed, 1 if nothing usable was produced."""
        if not self.num_usable:
            return EXIT_STOPPED
        return EXIT_SOME_FAILED if any(map(self.failed, self.receipts)) else EXIT_OK

    def summary(self) -> str:
        """Counts of every status, which add up to the number of candidates."""
        counts = Counter(receipt.status for receipt in self.receipts)
        parts = [f"{counts[status]} {status}" for status in STATUSES if counts[status]]
        return f"{len(self.receipts)} videos: {', '.join(parts) or 'none'}"

    def tell(self, shown: int = 20) -> None:
        """One line for each of the first `shown` videos that are not ok, then the counts."""
        odd = [receipt for receipt in self.receipts if receipt.status != "ok"]
        for receipt in odd[:shown]:
            reason = f": {receipt.reason}" if receipt.reason else ""
            message = f" ({receipt.message})" if receipt.message else ""
            say(f"{receipt.video}: {receipt.status}{reason}{message}")
        if len(odd) > shown:
            say(f"... and {len(odd) - shown} more; --report FILE.csv keeps them all")
        say(self.summary())


def track(receipts: Iterable[Receipt], total: int, label: str) -> Iterator[Receipt]:
    """Pass receipts on while showing progress with frames/s."""
    start = time.monotonic()
    frames = 0

    def rate(receipt: Receipt) -> str:
        nonlocal frames
        frames += receipt.frames_decoded
        return f"{frames / max(time.monotonic() - start, 1e-3):.0f} frames/s"

    return steps(receipts, total, label, rate)


def steps(items: Iterable[T], total: int, label: str, rate: Callable[[T], str] = lambda item: "") -> Iterator[T]:
    """Pass items on while showing progress: a bar with ETA, or a plain line every 30 s."""
    if _quiet:
        yield from items
        return
    start = told = time.monotonic()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(label, total=total, rate="")
        for done, item in enumerate(items, 1):
            now = time.monotonic()
            shown = rate(item)
            progress.update(task, advance=1, rate=shown)
            if not err.is_terminal and now - told >= PLAIN_SECONDS:
                left = (now - start) / done * (total - done)
                say(", ".join(filter(None, [f"{label}: {done}/{total}", shown, f"about {left:.0f} s left"])))
                told = now
            yield item
