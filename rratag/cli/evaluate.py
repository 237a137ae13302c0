"""``rratag evaluate``: how well a model tags labelled videos."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rratag import config
from rratag.cli import judge, options
from rratag.cli.console import lines, out, printable, say, set_verbosity, track, warn
from rratag.errors import LabelError, UsageError

if TYPE_CHECKING:
    from rratag.evaluate.redundancy import Redundancy
    from rratag.evaluate.report import Evaluation, ScoreMetrics

KINDS = {"ensemble": "ensemble (Eq. 6)", "concat": "concatenation (Eq. 4)", "": "scores of the file"}
"""Of scores, as the table calls them."""
PARTS = ("test", "validation", "train", "all")


def evaluate(
    context: typer.Context,
    tags: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TAGS[:WEIGHT]",
            help="Files that `predict` wrote, or in ActivityNet's form; several are fused. Without any, the model and"
            " the cache are used.",
            show_default=False,
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", help="Official figures of TAGS instead: activitynet, kinetics or youtube8m."),
    ] = None,
    keep_top: Annotated[
        int | None,
        typer.Option("--keep-top", min=1, help="With --metrics: this many predictions of each video count, not all."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="FILE", help="Compare with this file of predictions, video by video."),
    ] = None,
    labels: options.Labels = None,
    columns: options.Columns = None,
    model: options.Models = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            help="test, validation, train or all of the model's own split, or for TAGS of that of --labels."
            "  [default: test, or validation without one; all of TAGS]",
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
    test_frames: options.TestFrames = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="A line for each tag.")] = False,
    figures: Annotated[
        Path | None,
        typer.Option(
            "--figures", metavar="FOLDER", help="Draw the confusion matrix and the scores of close tags (SVG)."
        ),
    ] = None,
    cache: options.Cache = config.CACHE_DIR,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Top-1/3/5, mean per-class accuracy, mAP, accuracy of every glimpse, both scores, and the most confused pairs.

    Several --model, or several TAGS, are fused, and judged by themselves as well, on the videos that all of them have.
    """
    set_verbosity(quiet=quiet)
    from rratag.data.labels import parse_columns

    names = parse_columns(columns) if columns else {}
    _check_together(context, tags, root, labels)
    folder = None if figures is None else judge.figures_folder(figures)
    missing: list[str] = []
    if tags:
        # folders divide no videos: what rratag.toml says of another command's split is no error then
        part = on if labels is not None or options.is_given(context, "on") else None
        saved, other = judge.read(tags, against, labels, names, part)
        if other is not None:
            _compare(saved, other, metrics, keep_top, folder, json=json)
            return
        if metrics is not None:
            official = saved.official(metrics, keep_top)
            judge.tell_official(official, saved.together.name, json=json, per_class=per_class)
            return
        found, judged = saved.evaluation(), saved.together.name
        if num_untagged := saved.num_untagged():
            what = "that not all files tagged" if saved.each else "without tags"
            warn(f"labelled videos {what}, which are not judged: {num_untagged}")
        if num_unlabelled := saved.num_unlabelled():
            warn(f"tagged videos without a label, which are not judged: {num_unlabelled}")
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
            test_frames=test_frames,
            workers=options.default_workers(),
            progress=track,
        )
    if folder is not None:
        judge.draw(folder, [(judged, found)])  # first: a reader of stdout may leave
    if json:
        typer.echo(json_module.dumps({"judged": judged, **found.to_json()}))
    else:
        _show(found, judged, per_class=per_class)
    if missing:
        warn(f"{len(missing)} labelled videos are not in the cache and not judged, e.g. {missing[0]}")


def _compare(
    saved: judge.Judgement,
    other: judge.Judgement,
    metrics: str | None,
    keep_top: int | None,
    folder: Path | None,
    *,
    json: bool,
) -> None:
    """Two runs on the same videos."""
    from rratag.evaluate.paired import compare

    found = compare(saved.together, other.together, saved.truth, metrics, keep_top)
    no_pictures: LabelError | None = None
    if folder is not None:
        runs = (saved, other)
        common = set.intersection(*(one.tagged() for one in runs))
        try:
            judge.draw(folder, [(one.together.name, one.evaluation(common)) for one in runs])
        except LabelError as error:  # of a file without all tags, which can be compared nevertheless
            no_pictures = LabelError(f"no pictures: {error}")
    judge.tell_comparison(found, json=json)
    if no_pictures is not None:
        raise no_pictures


def _check_together(context: typer.Context, tags: list[str] | None, root: Path | None, labels: Path | None) -> None:
    """Refuse options that do not exist, or that on the command line would change nothing here."""
    given = context.params
    if given["metrics"] is not None:
        from rratag.evaluate.official import check_metrics

        check_metrics(given["metrics"])
        if given["against"] is None:
            options.refuse_unused(context, ("figures",), "the pictures are of the plain figures; leave out --metrics")
    else:
        options.refuse_unused(context, ("keep_top",), "it is about official figures: --metrics activitynet")
    if tags:
        unused = ("model", "root", "crops", "crop_fusion", "test_on", "test_frames")
        options.refuse_unused(context, unused, "a file of tags is judged as it is")
    else:
        because = "it is about saved predictions: predict --top 1000 --out tags.json, then evaluate tags.json"
        options.refuse_unused(context, ("metrics", "keep_top", "against"), because)
        if given["on"] not in (None, *PARTS):
            raise UsageError(f"unknown --on {given['on']!r}; choose from {', '.join(PARTS)}")
        if root is not None:
            options.refuse_unused(context, ("on",), "with --root all its labelled videos are judged")
        else:
            because = "the model has its own labels; give TAGS or --root"
            options.refuse_unused(context, ("labels", "columns"), because)
    if given["against"] is not None:
        options.refuse_unused(context, ("per_class",), "two runs are compared as a whole")
    if labels is None:
        options.refuse_unused(context, ("columns",), options.COLUMNS_ALONE)


def _show(found: Evaluation, judged: str, *, per_class: bool) -> None:
    several = f", {found.num_several} of them with several tags" if found.num_several else ""
    tags = f"{found.num_classes_seen} of {found.num_classes} tags"
    out.print(printable(f"{judged}: {found.num_videos} videos{several}, {tags}"), markup=False)
    table = [["", "top-1", "top-3", "top-5", "mean per class", "mAP", "calibration error"]]
    for kind, score in ((found.score, found.ensemble), ("concat", found.concatenation)):
        if score is not None:
            table.append([KINDS[kind], *_figures(score)])
        if score is found.ensemble and found.intervals:
            between = (found.intervals.get(name) for name in judge.NAMES)
            table.append(["  95 %", *(f"{one.low:.3f}-{one.high:.3f}" if one else "" for one in between), ""])
    for one in found.models:
        table.append([f"{printable(one.name)} alone, weight {one.weight:g}", *_figures(one.ensemble)])
    lines(table)
    if found.redundancy is not None:
        lines(_glimpse_lines(found.redundancy, found.glimpse_accuracy))
    elif found.glimpse_accuracy:
        out.print("glimpses alone: " + " ".join(f"{share:.3f}" for share in found.glimpse_accuracy))
    if per_class:
        lines(judge.class_lines(found.per_class))
    for pair in found.confused_pairs:
        out.print(printable(f"  {pair.label} taken for {pair.predicted}: {pair.count}"), markup=False)
    if found.num_videos < 30:
        warn(f"{found.num_videos} videos say little: one video is {100 / found.num_videos:.0f} points")
    if found.num_classes_seen < found.num_classes:
        say("tags without a judged video count in no mean")


def _figures(score: ScoreMetrics) -> list[str]:
    figures = (score.top1, score.top3, score.top5, score.mean_per_class_accuracy, score.mean_average_precision)
    error = score.calibration_error
    return [*(f"{figure:.3f}" for figure in figures), "" if error is None else f"{error:.3f}"]


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
