"""``rratag compare``: the paper's tables on one's own videos."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rratag import config
from rratag.cli import options
from rratag.cli.console import lines, out, say, set_verbosity, steps, warn
from rratag.cli.train import tell_features
from rratag.errors import UsageError

if TYPE_CHECKING:
    from rratag.train.grid import Grid, Result, Row
    from rratag.train.i3d import I3D, I3DEpoch

I3D_SEED = 0
"""Its one training takes as long as many heads."""


def compare(
    context: typer.Context,
    roots: options.Roots = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table",
            help="losses (Table 3), glimpses, variants (Table 4), baselines (Table 6) or controls (a few rows of these"
            " that say what helps); repeatable, all by default.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=100, help="Splits and trainings of each head.")] = 5,
    labels: options.Labels = None,
    columns: options.Columns = None,
    group_by: options.GroupBy = None,
    epochs: options.Epochs = None,
    views: options.Views = None,
    modality: options.CachedModality = None,
    out_folder: Annotated[
        Path, typer.Option("--out", help="Folder of the results; what is in it is not computed again.")
    ] = config.STATE_DIR / "compare",
    figures: Annotated[
        Path | None,
        typer.Option(
            "--figures",
            metavar="FOLDER",
            help="Draw losses and accuracies by epoch, like the paper's Fig. 5, as SVG files.",
            show_default=False,
        ),
    ] = None,
    i3d: Annotated[
        str | None,
        typer.Option(
            "--i3d",
            metavar="RESNET",
            help="I3D of Table 6, inflated from tv:resnet50 or another ResNet of torchvision and trained end to end"
            " from the videos, one seed; instead of the tables, or beside those that --table names.",
            show_default=False,
        ),
    ] = None,
    i3d_weights: Annotated[
        str | None,
        typer.Option(
            "--i3d-weights",
            metavar="FILE|random",
            help="First weights of the ResNet; its own by default, if they are at hand.",
            show_default=False,
        ),
    ] = None,
    i3d_size: Annotated[
        int, typer.Option("--i3d-size", min=64, max=2048, help="Side of the pictures that I3D sees, in pixels.")
    ] = 112,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            envvar="RRATAG_WORKERS",
            min=1,
            max=256,
            help="Heads that train at a time; decode processes of --i3d.",
            show_default="CPU count, at most 8",
        ),
    ] = options.default_workers(),
    cache: options.Cache = config.CACHE_DIR,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train many heads on the same cached videos and lay the figures out like the paper's tables.

    Each seed splits the videos anew, 60/20/20 by group, the same for all heads; epochs are chosen on the validation
    part, the test part is read once. A run that was killed goes on where it was.
    """
    set_verbosity(quiet=quiet)
    from rratag.data.labels import parse_columns
    from rratag.features.store import FeatureStore
    from rratag.train.fit import TrainConfig
    from rratag.train.grid import BASE, TABLES, Grid, distinct, rows
    from rratag.train.run import LabelOptions
    from rratag.train.side_by_side import run_side_by_side
    from rratag.video.augment import parse_views

    chosen = table or ([] if i3d else list(TABLES))
    if unknown := [name for name in chosen if name not in TABLES]:
        raise UsageError(f"unknown --table {unknown[0]!r}; choose from {', '.join(TABLES)}")
    options.check_modality(modality)
    if labels is None:
        options.refuse_unused(context, ("columns",), options.COLUMNS_ALONE)
    if not chosen:
        options.refuse_unused(context, ("figures", "seeds", "modality"), "it is about tables; name one with --table")
    if i3d is None:
        options.refuse_unused(context, ("i3d_weights", "i3d_size"), "it is about --i3d")
    label_options = LabelOptions(labels, parse_columns(columns) if columns else None, group_by)
    if figures is not None:
        figures = options.absolute(figures)
        figures.mkdir(parents=True, exist_ok=True)  # before hours of training, not after
    store = FeatureStore(options.absolute(cache))
    runs = options.absolute(out_folder) / "runs"
    grid = Grid(store, roots or [], label_options, runs, TrainConfig(epochs=epochs), parse_views(views), modality)
    inflated = _inflated(grid, i3d, i3d_weights, i3d_size, epochs, workers) if i3d else None
    tell_features(grid.data(I3D_SEED))
    contenders = distinct(chosen)
    splits = range(seeds) if contenders else []
    runs_of_all = run_side_by_side(grid, contenders, splits, workers)
    results = list(steps(runs_of_all, len(contenders) * seeds, "compare"))
    tables = {name: rows(TABLES[name], results) for name in chosen}
    if figures is not None:
        _draw(figures, results, chosen)
    if inflated is not None:
        pair = [_run(inflated), *grid.run([BASE], [I3D_SEED])]
        tables["i3d"] = rows([inflated.config.contender, BASE], pair)
    _print(tables, json=json)


def _inflated(grid: Grid, backbone: str, weights: str | None, size: int, epochs: int | None, workers: int) -> I3D:
    from rratag.train.i3d import I3D, I3DConfig

    settings = I3DConfig(backbone, weights, size)
    return I3D(grid, replace(settings, epochs=epochs or settings.epochs), workers)


def _run(inflated: I3D) -> Result:
    """Train it, with a line for each epoch: they take minutes."""

    def told(one: I3DEpoch) -> None:
        judged = "" if one.validation is None else f", validation accuracy {one.validation[1]:.3f}"
        say(f"I3D epoch {one.epoch}/{inflated.config.epochs}: loss {one.loss:.3f}{judged}, {one.seconds:.0f} s")

    if inflated.backbone.is_random:
        warn("I3D starts from random weights; the paper's starts from ImageNet's: --i3d-weights FILE")
    return inflated.run(I3D_SEED, told)


def _print(tables: dict[str, list[Row]], *, json: bool) -> None:
    if json:
        import json as json_module

        made = {name: [asdict(row) | {"within_noise": row.within_noise} for row in one] for name, one in tables.items()}
        typer.echo(json_module.dumps(made, indent=1))
        return
    for name, one in tables.items():
        out.print(f"\n{name}: {_described(one)}", markup=False)
        lines(_cells(one))
    say("difference: top-1 less that of RRA with 4 glimpses and Li+Le on the same test videos, with its 95 % interval")
    say("paper: mAP on ActivityNet v1.3 with ResNet-152; other data, so only the order can be compared")


def _draw(folder: Path, results: list[Result], tables: list[str]) -> None:
    """Write the figures and say where."""
    from rratag.files import write_atomically
    from rratag.train import curves

    for name, text in curves.figures(results, tables).items():
        write_atomically(folder / name, text.encode())
        say(f"wrote {folder / name}")


def _described(found: list[Row]) -> str:
    return f"{found[0].num_seeds} seeds, {found[0].num_videos} test videos in all"


def _cells(found: list[Row]) -> list[list[str]]:
    header = ["head", "top-1", "+-", "concatenation", "mAP", "difference", "95 %", "noise?", "glimpses", "paper"]
    return [header, *(_line(row) for row in found)]


def _line(row: Row) -> list[str]:
    interval = "" if row.low is None or row.high is None else f"{100 * row.low:+.1f} to {100 * row.high:+.1f}"
    return [
        row.name,
        _percent(row.top1),
        _percent(row.top1_spread),
        _percent(row.top1_concatenation),
        _percent(row.mean_average_precision),
        "" if row.difference is None else f"{100 * row.difference:+.1f}",
        interval,
        "" if row.difference is None else "within" if row.within_noise else "beyond",
        " ".join(_percent(one) for one in row.glimpse_accuracy),
        "" if row.paper is None else f"{row.paper:.2f}",
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
