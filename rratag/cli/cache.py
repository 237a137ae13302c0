"""``rratag cache``: what is in the feature cache, whether it is whole, and what of it may go."""

from __future__ import annotations

import json as json_module
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rratag import config
from rratag.cli import options
from rratag.cli.console import EXIT_SOME_FAILED, lines, one_line_errors, out, printable, say, set_verbosity, steps
from rratag.errors import UsageError
from rratag.records import RGB

if TYPE_CHECKING:
    from rratag.features.upkeep import Removal

SHOWN = 20
"""Files named before the rest is only counted."""

app = typer.Typer(no_args_is_help=True, help="Look into the feature cache, check it, tidy it.", rich_markup_mode=None)


@app.callback()
def _cache() -> None:
    pass  # makes typer keep `ls` as a word of its own


@app.command("ls")
@one_line_errors
def ls(cache: options.Cache = config.CACHE_DIR, json: options.Json = False) -> None:
    """List the specs with their features, and the folders that were scanned."""
    from rratag.features.catalog import Catalog
    from rratag.features.store import FeatureStore

    set_verbosity()
    folder = options.absolute(cache)
    store = FeatureStore(folder)
    specs = [_spec_row(spec) for spec in store.specs()]
    roots = [
        {
            "root": str(listing.root),
            "command": listing.command,
            "when": listing.when,
            "spec": listing.spec,
            "videos": len(listing.entries),
            "usable": sum(entry.receipt.usable for entry in listing.entries),
        }
        for listing in Catalog(folder).all()
    ]
    if json:
        typer.echo(json_module.dumps({"cache": str(folder), "specs": specs, "roots": roots}, indent=1))
        return
    out.print(printable(str(folder)), markup=False)
    names = ("spec", "backbone", "modality", "crops", "view", "input_size", "sampling", "compute", "videos")
    lines([[*names, "MiB"], *([*(str(row[name]) for name in names), f"{row['bytes'] / 2**20:.1f}"] for row in specs)])
    roots_shown = ("root", "command", "when", "spec")
    lines(
        [
            [*roots_shown, "usable"],
            *([*(str(root[name]) for name in roots_shown), f"{root['usable']} of {root['videos']}"] for root in roots),
        ]
    )


@app.command("verify")
@one_line_errors
def verify(cache: options.Cache = config.CACHE_DIR, json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Read every cached file whole; move damaged ones aside and name the videos to extract again.

    Ends with 3 if a file is not as it was written.
    """
    from rratag.features import upkeep
    from rratag.features.store import FeatureStore

    set_verbosity(quiet=quiet)
    store = FeatureStore(options.absolute(cache))
    checked = list(steps(upkeep.verify(store), upkeep.count(store), "verify"))
    bad = [one for one in checked if one.problem]
    if json:
        rows = [
            {"file": str(one.path), "problem": one.problem, "moved_to": _or_none(one.moved_to), "videos": one.videos}
            for one in bad
        ]
        typer.echo(json_module.dumps({"files": len(checked), "damaged": rows}, indent=1))
    else:
        for one in bad:
            out.print(printable(one.problem), markup=False)
            for video in one.videos:
                out.print(printable(f"  {video}"), markup=False)
    say(f"{len(checked)} files: {len(checked) - len(bad)} whole, {len(bad)} not")
    if any(one.moved_to for one in bad):
        say("damaged files were moved aside; run rratag extract on their folders again")
    if bad:
        raise typer.Exit(EXIT_SOME_FAILED)


Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("prune")
@one_line_errors
def prune(
    context: typer.Context,
    cache: options.Cache = config.CACHE_DIR,
    models: Annotated[
        Path, typer.Option("--models", help="Folder of the models whose features are needed.")
    ] = config.MODELS_DIR,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; change nothing.")] = False,
    yes: Yes = False,
    quiet: options.Quiet = False,
) -> None:
    """Delete features that no scanned folder holds any more, and those that no model uses. Asks before each.

    A spec that was extracted and never trained on is used by no model, too. With --yes those go only if --models says
    where all models are. Files of the last hour stay.
    """
    from rratag.features import upkeep
    from rratag.features.store import FeatureStore

    set_verbosity(quiet=quiet)
    store = FeatureStore(options.absolute(cache))
    found = [upkeep.unknown(store), upkeep.unused(store, options.absolute(models))]
    gone = {one.path for one in found[0]}
    found[1] = [one for one in found[1] if one.path not in gone]
    # models may lie anywhere: without a word about where, nobody but a person can say that no model needs these
    sure = [yes, yes and options.is_given(context, "models")]
    for removals, agreed in zip(found, sure, strict=True):
        _tell(removals)
        if removals and not dry_run:
            if agreed or (not yes and _agreed(removals)):
                _remove(removals)
            elif yes:
                say(f"kept: say with --models where all models are (looked in {models})")
    if not any(found):
        say("nothing to prune")


@app.command("gc")
@one_line_errors
def gc(
    cache: options.Cache = config.CACHE_DIR,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; change nothing.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Delete what killed runs left over and what `verify` moved aside. No features are lost."""
    from rratag.features import upkeep
    from rratag.features.store import FeatureStore

    set_verbosity(quiet=quiet)
    removals = upkeep.leftovers(FeatureStore(options.absolute(cache)))
    _tell(removals)
    if not dry_run:
        _remove(removals)


def _tell(removals: Sequence[Removal]) -> None:
    """The first files by name on stdout, then how many there are of each kind."""
    for removal in removals[:SHOWN]:
        out.print(printable(f"{removal.path}: {removal.why}"), markup=False)
    if len(removals) > SHOWN:
        out.print(f"... and {len(removals) - SHOWN} more", markup=False)
    for why, number in Counter(removal.why for removal in removals).items():
        size = sum(removal.size for removal in removals if removal.why == why)
        say(f"{number} files, {size / 2**20:.1f} MiB: {why}")


def _agreed(removals: Sequence[Removal]) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here; see what would go with --dry-run, then give --yes")
    return typer.confirm(f"Delete these {len(removals)} files?", err=True)


def _remove(removals: Sequence[Removal]) -> None:
    from rratag.features import upkeep

    number, size = upkeep.remove(removals)
    say(f"deleted {number} files, {size / 2**20:.1f} MiB")


def _or_none(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _spec_row(spec: Any) -> dict[str, Any]:
    meaning = {"backbone": "?", "modality": RGB, "crops": "?", "input_size": "?", "sampling": {}, **spec.spec.meaning}
    keys = spec.keys()
    return {
        "spec": spec.folder.name,
        "backbone": meaning["backbone"],
        "modality": meaning["modality"],
        "crops": meaning["crops"],
        "view": str(meaning["view"].get("name", "?")) if "view" in meaning else "-",
        "input_size": meaning["input_size"],
        "sampling": _words({name: value for name, value in meaning["sampling"].items() if name != "rule"}),
        "compute": _words(spec.spec.compute),
        "videos": len(keys),
        "bytes": sum(spec.path(key).stat().st_size for key in keys),
    }


def _words(values: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(values.items()) if value is not None)
