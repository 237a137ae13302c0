"""Running the tool so that nothing it does can take the soak with it, and what must hold whenever it has run."""

from __future__ import annotations

import csv
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from rratag.data.cells import restore, unescape
from rratag.records import STATUSES

LISTED_CODES = (0, 1, 2, 3)
LONGEST_LINE = 5000
"""Characters of a line on stderr; a message quotes what it found, but not whole files."""
MOST_LINES = 40
"""Lines on stderr: at most 20 videos are named, and a few lines stand around them."""
SPARE_BYTES = 4 << 30
"""Address space that a trial in a process of its own may take beyond what it was born with."""

HEAVY = (
    "tests.soak.mutations",
    "torch",
    "timm",
    "torchvision",
    "sklearn",
    "h5py",
    "hdf5plugin",
    "safetensors.torch",
    "av",
)


@dataclass(frozen=True)
class Ended:
    """How a command ended. `code` is negative for a signal, None where it had to be killed at the limit."""

    code: int | None
    out: str
    err: str
    seconds: float = 0.0
    peak_mib: int = 0


def run_process(command: Sequence[object], folder: Path, *, limit_s: float) -> Ended:
    """Run `command` in `folder`, without settings from outside; killed with its children after `limit_s`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RRATAG_")}
    environment["RRATAG_RUNTIME"] = "torch"  # compiling takes longer than what is computed
    started = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.NamedTemporaryFile() as memory:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _MEASURED, memory.name, *(str(word) for word in command)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            process.wait(limit_s)
            late = False
        except subprocess.TimeoutExpired:
            late = True
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        texts = [_text(file) for file in (out, err)]
        peak = int(memory.read() or 0) >> 10
    return Ended(None if late else process.returncode, *texts, time.monotonic() - started, peak)


_MEASURED = """
import os, signal, sys
pid = os.fork()
if not pid:
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    finally:
        os._exit(127)
_, status, usage = os.wait4(pid, 0)
with open(sys.argv[1], "w") as file:
    file.write(str(usage.ru_maxrss))
code = os.waitstatus_to_exitcode(status)
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
    os.kill(os.getpid(), -code)
sys.exit(code)
"""
"""Runs a command, notes the most memory (KiB) that it or a child of it had at a time, and ends as it ended. A small
process must do that: what the system says of a child includes what its parent had when it forked."""


def _text(file: tempfile._TemporaryFileWrapper[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "backslashreplace")


def rratag(*arguments: object, folder: Path, limit_s: float = 300) -> Ended:
    """Run the tool as a user does."""
    return run_process([sys.executable, "-m", "rratag", *arguments], folder, limit_s=limit_s)


def fault_of(ended: Ended, *, codes: Collection[int] = LISTED_CODES) -> str:
    """What is wrong with how a command ended, whatever it was given; "" if nothing."""
    lines = ended.err.splitlines()
    last = lines[-1] if lines else "nothing on stderr"
    if ended.code is None:
        return f"still running after {ended.seconds:.0f} s"
    if "Traceback" in ended.err or "Fatal Python error" in ended.err:
        return f"traceback ({last})"
    if ended.code not in codes:
        return f"ended with {ended.code} ({last})"
    if sum(line.startswith("error: ") for line in lines) > 1:
        return "more than one error line"
    if ended.code == 2 and not any(line.lower().startswith(("error: ", "usage: ")) for line in lines):
        return f"ended with 2 without an error line ({last})"
    if len(lines) > MOST_LINES or any(len(line) > LONGEST_LINE for line in lines):
        return f"{len(lines)} lines on stderr, the longest of {max(map(len, lines))} characters"
    return ""


def rows_of(report: Path) -> list[dict[str, str]]:
    """Rows of ``--report``, their names as they were; none where it was not written."""
    if not report.exists():
        return []
    with open(report, newline="", encoding="utf-8") as file:
        return [{**row, "video": unescape(restore(row["video"]))} for row in csv.DictReader(file)]


def row_faults(rows: Sequence[dict[str, str]], names: Collection[str]) -> dict[str, str]:
    """What is wrong with the rows of a report over the files `names`, by name: exactly one row each, with
    a known status and a message of one line."""
    counts = Counter(row["video"] for row in rows)
    faults = {name: f"{counts[name]} rows" for name in names if counts[name] != 1}
    faults |= dict.fromkeys(counts.keys() - set(names), "a row of a file that is not there")
    for row in rows:
        if row["status"] not in STATUSES or (row["reason"] and row["reason"] not in STATUSES[row["status"]]):
            faults[row["video"]] = f"unknown status {row['status']!r}, reason {row['reason']!r}"
        if not row["message"].isprintable():
            faults[row["video"]] = f"its message is not one line of text: {row['message']!r}"
    return faults


def apart(function: Callable[..., str], *arguments: object, limit_s: float) -> str:
    """What `function` returns in a process of its own; else how that process ended: no crash or hang spreads.

    The process is forked from one that has imported what is heavy, so that this costs milliseconds.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(HEAVY))
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        if not receiver.poll(limit_s):
            process.kill()
            return f"still running after {limit_s:.0f} s"
        return str(receiver.recv())
    except EOFError:
        process.join()
        return f"the process died ({process.exitcode})"
    finally:
        process.join()
        receiver.close()


def _answer(sender: Connection, function: Callable[..., str], arguments: Sequence[object]) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        answer = function(*arguments)
    except BaseException as error:  # whatever it is, it is what this trial was looking for
        answer = f"unhandled {type(error).__name__}: {str(error)[:300]}{_where(error)}"
    sender.send(answer)


def _where(error: BaseException) -> str:
    import traceback

    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "rratag" in frame.filename]
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
