"""``rratag evaluate``: how well a model tags labelled videos."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rratag import config
from rratag.cli import options
from rratag.cli.console import lines, out, printable, say, set_verbosity, track, warn
from rratag.errors import UsageError

if TYPE_CHECKING:
    from rratag.evaluate.redundancy import Redundancy
    from rratag.evaluate.report import Evaluation, ScoreMetrics

PARTS = ("test", "validation", "train", "all")


def evaluate(
    context: typer.Context,
    tags: Annotated[
        Path | None,
        typer.Argument(
            metavar="[TAGS]",
            help="A file that `predict` wrote; without it the model and the cache are used.",
            show_default=False,
        ),
    ] = None,
    labels: options.Labels = None,
    columns: options.Columns = None,
    model: options.Models = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            help="test, validation, train or all of the model's own split.  [default: test, or validation without one]",
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option("--root", help="Another extracted folder, all of whose labelled videos are judged."),
    ] = None,
    crops: Annotated[
        str | None,
        typer.Option(
            "--crops", help="Judge by cached features of other views than the model's: see `extract --crops`."
        ),
    ] = None,
    crop_fusion: options.CropFusion = "mean",
    test_on: options.TestOn = "video",
    cache: options.Cache = config.CACHE_DIR,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Top-1/3/5, mean per-class accuracy, mAP, accuracy of every glimpse, both scores, and the most confused pairs.

    Several --model are fused, and judged by themselves as well, on the videos that all of them have.
    """
    set_verbosity(quiet=quiet)
    from rratag.data.labels import parse_columns

    if on is not None and on not in PARTS:
        raise UsageError(f"unknown --on {on!r}; choose from {', '.join(PARTS)}")
    names = parse_columns(columns) if columns else {}
    _check_together(context, tags, root, labels)
    missing: list[str] = []
    if tags is not None:
        from rratag.evaluate.saved import evaluate_tags

        found, judged = evaluate_tags(tags, labels, names), str(tags)
    else:
        from rratag.evaluate.cached import evaluate_model

        found, judged, missing = evaluate_model(
            options.models(model),
            options.absolute(cache),
            part=on,
            root=root,
            labels=labels,
            columns=names,
            crops=crops,
            crop_fusion=crop_fusion,
            test_on=test_on,
            workers=options.default_workers(),
            progress=track,
        )
    if json:
        typer.echo(json_module.dumps({"judged": judged, **found.to_json()}))
    else:
        _show(found, judged)
    if missing:
        warn(f"{len(missing)} labelled videos are not in the cache and not judged, e.g. {missing[0]}")


def _check_together(context: typer.Context, tags: Path | None, root: Path | None, labels: Path | None) -> None:
    """Refuse options on the command line that would change nothing here."""
    if tags is not None:
        unused = ("model", "root", "on", "crops", "crop_fusion", "test_on")
        options.refuse_unused(context, unused, "a file of tags is judged as it is")
    elif root is not None:
        options.refuse_unused(context, ("on",), "with --root all its labelled videos are judged")
    else:
        options.refuse_unused(context, ("labels", "columns"), "the model has its own labels; give TAGS or --root")
    if labels is None:
        options.refuse_unused(context, ("columns",), options.COLUMNS_ALONE)


def _show(found: Evaluation, judged: str) -> None:
    out.print(
        printable(f"{judged}: {found.num_videos} videos, {found.num_classes_seen} of {found.num_classes} tags"),
        markup=False,
    )
    table = [["", "top-1", "top-3", "top-5", "mean per class", "mAP"]]
    for name, score in (("ensemble (Eq. 6)", found.ensemble), ("concatenation (Eq. 4)", found.concatenation)):
        if score is not None:
            table.append([name, *_figures(score)])
    for one in found.models:
        table.append([f"{printable(one.name)} alone, weight {one.weight:g}", *_figures(one.ensemble)])
    lines(table)
    if found.redundancy is not None:
        lines(_glimpse_lines(found.redundancy, found.glimpse_accuracy))
    elif found.glimpse_accuracy:
        out.print("glimpses alone: " + " ".join(f"{share:.3f}" for share in found.glimpse_accuracy))
    for pair in found.confused_pairs:
        out.print(printable(f"  {pair.label} taken for {pair.predicted}: {pair.count}"), markup=False)
    if found.num_videos < 30:
        warn(f"{found.num_videos} videos say little: one video is {100 / found.num_videos:.0f} points")
    if found.num_classes_seen < found.num_classes:
        say("tags without a judged video count in no mean")


def _figures(score: ScoreMetrics) -> list[str]:
    figures = (score.top1, score.top3, score.top5, score.mean_per_class_accuracy, score.mean_average_precision)
    return [f"{figure:.3f}" for figure in figures]


def _glimpse_lines(found: Redundancy, alone: list[float]) -> list[list[str]]:
    """A line per glimpse: its accuracy, what it adds to those before it, what was reduced before it, its overlap."""
    table = [["glimpse", "alone", "first k", "adds", "95 %", "noise?", "x-tilde<0", "silenced", "overlap with 1, 2..."]]
    table.append(["1", f"{alone[0]:.3f}", f"{found.first_accuracy[0]:.3f}", *[""] * 6])
    for k, gain in enumerate(found.gains, start=1):
        step = found.reductions[k - 1] if found.reductions else None
        table.append(
            [
                str(k + 1),
                f"{alone[k]:.3f}",
                f"{found.first_accuracy[k]:.3f}",
                f"{gain.difference:+.3f}",
                f"{gain.low:+.3f} to {gain.high:+.3f}",
                "within" if gain.low <= 0 <= gain.high else "beyond",
                "" if step is None else f"{step.negative:.2f}",
                "" if step is None else f"{step.silenced:.2f}",
                " ".join(f"{share:.2f}" for share in found.overlap[k][:k]),
            ]
        )
    return table
