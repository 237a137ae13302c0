"""Long tests, seeded so that each can be repeated: python -m tests.soak [--seed N] [--budget SECONDS] [--only PARTS].

A part is a module with ``PLANNED``, its number of trials, and ``trials(seed, folder)``, which yields a string for each
trial: "" where all held, else one line that says what was wrong and how to repeat it.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

SHARES = {"kills": 0.4, "mutations": 0.3, "bad-files": 0.15, "links": 0.15}
"""The parts in their order, and the share of ``--budget`` of each; what one leaves over goes to those after it."""


class Part(Protocol):
    """What a module of a part holds."""

    PLANNED: int
    trials: Callable[[int, Path], Iterator[str]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; 1 if a trial failed, or a part did none."""
    options = _parse(arguments)
    with tempfile.TemporaryDirectory(prefix="rratag-soak-") as temporary:
        folder = (options.keep or Path(temporary)).absolute()
        until = None if options.budget is None else time.monotonic() + options.budget
        good = True
        for place, name in enumerate(options.only):
            left = None if until is None else max(0.0, until - time.monotonic())
            share = SHARES[name] / sum(SHARES[other] for other in options.only[place:])
            seconds = None if left is None else left * share
            good &= run_part(name, options.seed, folder / name, seconds)
    return 0 if good else 1


def load(name: str) -> Part:
    """The module of a part."""
    return importlib.import_module(f"tests.soak.{name.replace('-', '_')}")  # type: ignore[return-value]


def run_part(
    name: str, seed: int, folder: Path, seconds: float | None = None, load: Callable[[str], Part] = load
) -> bool:
    """Do the trials of a part until they or the `seconds` end, tell each failure at once; whether all held."""
    folder.mkdir(parents=True)
    started = time.monotonic()
    done = failures = planned = 0
    try:
        part = load(name)
        planned = part.PLANNED
        with closing(part.trials(seed, folder)) as trials:
            for fault in trials:
                done += 1
                if fault:
                    failures += 1
                    _tell(f"{name}: {fault}")
                if seconds is not None and time.monotonic() - started >= seconds:
                    break
    except Exception as error:  # a part that cannot go on is a failure; the others still run
        failures += 1
        _tell(f"{name}: stopped by {type(error).__name__}: {error}")
    took = time.monotonic() - started
    _tell(f"{name}: {done} of {planned} trials, {failures} failures, {took:.0f} s, seed {seed}")
    return done > 0 and failures == 0


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Long seeded tests.")
    parser.add_argument("--seed", type=int, default=0, help="another one gives other trials (default 0)")
    parser.add_argument("--budget", type=float, help="seconds for all parts together, about; without it, all trials")
    parser.add_argument("--only", type=_parts, default=list(SHARES), help=f"some of {','.join(SHARES)}")
    parser.add_argument("--keep", type=Path, help="an empty folder to work in, kept at the end")
    options = parser.parse_args(arguments)
    if options.keep is not None and options.keep.exists() and any(options.keep.iterdir()):
        parser.error(f"--keep {options.keep}: not empty")
    return options


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - SHARES.keys():
        raise argparse.ArgumentTypeError(f"unknown part {sorted(unknown)[0]!r}; choose from {', '.join(SHARES)}")
    return [name for name in SHARES if name in names]


if __name__ == "__main__":
    sys.exit(main())
