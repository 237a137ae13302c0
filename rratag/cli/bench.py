"""``rratag bench``: what each stage costs on this machine, beside the naive way to do the same."""

from __future__ import annotations

import json as json_module
import os
import platform
from typing import TYPE_CHECKING, Annotated

import typer

from rratag import config
from rratag.cli import options
from rratag.cli.console import lines, out, printable, say, set_verbosity
from rratag.errors import UsageError

if TYPE_CHECKING:
    from rratag.bench.measure import Line

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def bench(
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            help="start, decode, preprocess, forward, extract, read, train or evaluate; repeatable, all by default.",
        ),
    ] = None,
    backbone: options.Backbone = config.BACKBONE,
    weights: options.Weights = None,
    channels: Annotated[
        int, typer.Option("--channels", min=1, max=2**16, help="C of the maps of read, train and evaluate.")
    ] = 1280,
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=1000, help="Turns of each way; the median counts.")] = 5,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure what decoding, the CNN, the cache and the head cost here, in turns with the naive ways.

    Costs are processor time, which other work on the machine disturbs little, of all threads together. How long your
    folder will take says `extract --dry-run`.
    """
    set_verbosity(quiet=quiet)
    from rratag.bench.stages import STAGES, Settings, measure

    for name in only or ():
        if name not in STAGES:
            raise UsageError(f"unknown --only {name!r}; choose from {', '.join(STAGES)}")
    machine = _machine()
    if not json:
        out.print(printable(machine), markup=False)
    found = []
    stages = [name for name in STAGES if name in (only or STAGES)]
    for line in measure(Settings(backbone, weights, channels, rounds), stages):
        found.append(line.to_json())
        if not json:
            _tell(line)
    if json:
        typer.echo(json_module.dumps({"machine": machine, "rounds": rounds, "lines": found}, indent=1))
    elif rounds < 5:
        say(f"medians of {rounds} rounds say little; give --rounds 5 or more")


def _machine() -> str:
    """Processor, what it can, and how many cores this process may use."""
    name, flags = platform.processor() or platform.machine(), set[str]()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            about = dict(line.split(":", 1) for line in file.read().splitlines() if ":" in line)
        about = {key.strip(): value.strip() for key, value in about.items()}
        name, flags = about.get("model name", name), set(about.get("flags", "").split())
    except OSError:  # another system than Linux
        pass
    has = " ".join(flag for flag in FLAGS if flag in flags)
    return f"{name}, {os.cpu_count()} CPUs{', ' if has else ''}{has}"


def _tell(line: Line) -> None:
    from rratag.bench.measure import OURS

    out.print()
    rows = [[line.stage, f"ms a {line.unit}", "of rratag's", line.error_of]]
    for way, cost in line.cost_ms.items():
        ratio = "" if way == OURS else f"{line.speedup[way]:.2f}x"
        error = f"{line.error[way]:.2g}" if way in line.error else ""
        rows.append([f"  {way}", f"{cost:.2f}", ratio, error])
    rows += [[f"  {way}", "-", "", why] for way, why in line.skipped.items()]
    lines(rows)
