"""``rratag cache``: what is in the feature cache."""

from __future__ import annotations

import json as json_module
from typing import Any

import typer

from rratag import config
from rratag.cli import options
from rratag.cli.console import lines, one_line_errors, out, printable, set_verbosity

app = typer.Typer(no_args_is_help=True, help="Look into the feature cache.", rich_markup_mode=None)


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
    names = ("spec", "backbone", "crops", "input_size", "sampling", "compute", "videos")
    lines([[*names, "MiB"], *([*(str(row[name]) for name in names), f"{row['bytes'] / 2**20:.1f}"] for row in specs)])
    roots_shown = ("root", "command", "when", "spec")
    lines(
        [
            [*roots_shown, "usable"],
            *([*(str(root[name]) for name in roots_shown), f"{root['usable']} of {root['videos']}"] for root in roots),
        ]
    )


def _spec_row(spec: Any) -> dict[str, Any]:
    meaning = spec.spec.meaning
    keys = spec.keys()
    return {
        "spec": spec.folder.name,
        "backbone": meaning["backbone"],
        "crops": meaning["crops"],
        "input_size": meaning["input_size"],
        "sampling": _words({name: value for name, value in meaning["sampling"].items() if name != "rule"}),
        "compute": _words(spec.spec.compute),
        "videos": len(keys),
        "bytes": sum(spec.path(key).stat().st_size for key in keys),
    }


def _words(values: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(values.items()) if value is not None)
