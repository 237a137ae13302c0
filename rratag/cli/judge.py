"""What ``rratag evaluate TAGS`` does: saved predictions are read, fused, judged, compared, drawn."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rratag.cli import options
from rratag.cli.console import lines, out, printable, say, warn
from rratag.errors import UsageError

if TYPE_CHECKING:
    from rratag.evaluate.confusion import ClassFigures
    from rratag.evaluate.official import Official
    from rratag.evaluate.paired import Comparison
    from rratag.evaluate.report import Evaluation
    from rratag.evaluate.saved import Saved
    from rratag.records import Instance

SHOWN = 20
"""Videos whose first tag changed, in text; ``--json`` holds all."""


@dataclass(frozen=True)
class Judgement:
    """Saved predictions with their ground truth: of one file or several fused, and of each file of a fusion.

    Of runs that are compared, `truth` is that of both.
    """

    together: Saved
    each: list[Saved]
    truth: list[Instance]

    def evaluation(self, among: Iterable[str] | None = None) -> Evaluation:
        """The plain figures, of all videos or of those that stand `among` these."""
        from rratag.evaluate.saved import evaluate_saved

        wanted = {one.video for one in self.truth} if among is None else set(among)
        return evaluate_saved(self.together, self.each, [one for one in self.truth if one.video in wanted])

    def tagged(self) -> set[str]:
        """Videos with predictions."""
        pool = self.together.pool
        return {pool.videos[number] for number in set(pool.video.tolist())}

    def num_untagged(self) -> int:
        """Labelled videos without predictions."""
        return len({one.video for one in self.truth} - self.tagged())

    def num_unlabelled(self) -> int:
        """Videos with predictions and without a label."""
        return len(self.tagged() - {one.video for one in self.truth})

    def official(self, metrics: str, keep_top: int | None) -> Official:
        """Those of a data set's script."""
        from rratag.evaluate.official import official

        return official(metrics, self.together.pool, self.truth, keep_top)


def read(
    tags: Sequence[str],
    against: str | None,
    labels: Path | None,
    columns: dict[str, str],
    part: str | None,
) -> tuple[Judgement, Judgement | None]:
    """Predictions of `tags`, and those that they are compared with, under equal ids."""
    from rratag.evaluate.saved import read_all, same_ids
    from rratag.evaluate.truth import read_truth
    from rratag.tag.weighted import parse_weighted

    together, each = read_all([parse_weighted(text, "TAGS", "FILE") for text in tags])
    if against is None:
        truth = read_truth(together.videos, labels, columns, part, together.called)
        return Judgement(together, each, truth), None
    other, _ = read_all([(Path(against), 1.0)])
    together, other = same_ids([together, other])
    each = same_ids([*each, together])[:-1]
    videos = list(dict.fromkeys([*together.videos, *other.videos]))
    truth = read_truth(videos, labels, columns, part, together.called)
    return Judgement(together, each, truth), Judgement(other, [], truth)


def tell_official(found: Official, judged: str, *, json: bool, per_class: bool) -> None:
    """Print the figures of a data set's script."""
    if json:
        typer.echo(json_module.dumps({"judged": judged, **found.to_json()}))
        return
    kept = "" if found.keep_top is None else f", the {found.keep_top} highest of each video"
    out.print(
        printable(
            f"{judged}, {found.metrics}: {found.num_videos} videos, {found.num_classes} tags,"
            f" {found.num_predictions} predictions{kept}"
        ),
        markup=False,
    )
    rows = [["", "", "95 %"]]
    rows += [[name, f"{one.value:.4f}", _between(one.low, one.high)] for name, one in found.figures.items()]
    lines(rows)
    if per_class and found.per_class:
        lines([["tag", "videos", "AP"], *_precisions(found)])
    tell_counts("", found.num_without, found.num_outside, found.metrics)


def tell_counts(whose: str, num_without: int, num_outside: int, metrics: str) -> None:
    """Videos that only one of ground truth and predictions has, of official figures."""
    if num_without:
        warn(f"{whose}videos of the ground truth without a prediction, which counts as wrong: {num_without}")
    if num_outside:
        as_what = "are left out" if metrics == "youtube8m" else "count as wrong, as in the script"
        warn(f"{whose}predicted videos that the ground truth does not have, which {as_what}: {num_outside}")


def _precisions(found: Official) -> list[list[str]]:
    return [[one.label, str(one.num_videos), f"{one.average_precision:.4f}"] for one in found.per_class]


def tell_comparison(found: Comparison, *, json: bool) -> None:
    """Print by how much two runs differ, and on which videos."""
    if json:
        typer.echo(json_module.dumps(found.to_json()))
        return
    both = f"{found.num_videos} labelled videos"
    if found.metrics:
        both = f"{found.num_truth} labelled videos by {found.metrics}, {found.num_videos} of them tagged by both"
    out.print(printable(f"{found.first} against {found.second}: {both}"), markup=False)
    rows = [["", "first", "second", "difference", "95 %", "noise?"]]
    for name, one in found.figures.items():
        sure = one.low is not None and one.high is not None
        noise = ("within" if (one.low or 0) <= 0 <= (one.high or 0) else "beyond") if sure else ""
        figures = [f"{one.first:.4f}", f"{one.second:.4f}", f"{one.difference:+.4f}"]
        rows.append([NAMES.get(name, name), *figures, _between(one.low, one.high, sign="+"), noise])
    lines(rows)
    _tell_coverage(found)
    out.print(
        f"right by the first alone {found.only_first_right}, by the second alone {found.only_second_right}:"
        f" McNemar's exact p = {found.p_value:.3g}"
    )
    out.print(f"first tag changed: {len(found.changed)} of {found.num_common} videos")
    for video in found.changed[:SHOWN]:
        truly = f"{' or '.join(video.labels)}: " if video.labels else ""
        said = (
            f"{video.first} {video.first_score:.3f}{_mark(video.first_right)},"
            f" {video.second} {video.second_score:.3f}{_mark(video.second_right)}"
        )
        out.print(printable(f"  {video.video}  {truly}{said}"), markup=False)
    if len(found.changed) > SHOWN:
        say(f"... and {len(found.changed) - SHOWN} more; --json holds all")


def _tell_coverage(found: Comparison) -> None:
    """Which videos are in no figure, or count as wrong, and why there is top-1 alone."""
    if found.top1_because:
        warn(f"top-1 alone, for the other figures need the score of every tag ({found.top1_because})")
    each = ((found.first, found.first_coverage), (found.second, found.second_coverage))
    if not found.metrics:
        alone = [own.alone for _, own in each]
        if neither := found.num_truth - found.num_videos - sum(alone):
            warn(f"labelled videos that neither tagged, which are not compared: {neither}")
        for name, own in each:
            if own.alone:
                warn(f"labelled videos that {name} alone tagged, which are not compared: {own.alone}")
        return
    for name, own in each:
        tell_counts(f"{name}: ", own.without, own.outside, found.metrics)


NAMES = {
    "top1": "top-1",
    "top3": "top-3",
    "top5": "top-5",
    "mean_per_class_accuracy": "mean per class",
    "mean_average_precision": "mAP",
}
"""Figures of a table, by the names that JSON has."""


def _mark(right: bool | None) -> str:
    return "" if right is None else " right" if right else " wrong"


def _between(low: float | None, high: float | None, sign: str = "") -> str:
    return "" if low is None or high is None else f"{low:{sign}.4f} to {high:{sign}.4f}"


def class_lines(found: Sequence[ClassFigures]) -> list[list[str]]:
    """A line per tag, those without videos too."""
    table = [["tag", "videos", "right", "predicted", "accuracy", "AP", "score", "confused with", "its score", "gap"]]
    for one in found:
        other = one.most_confusing
        table.append(
            [
                one.label,
                *map(str, (one.num_videos, one.num_right, one.num_predicted)),
                *map(_figure, (one.accuracy, one.average_precision, one.confidence)),
                "" if other is None else other.label,
                "" if other is None else _figure(other.confidence),
                "" if one.gap is None else f"{one.gap:+.3f}",
            ]
        )
    return table


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def figures_folder(folder: Path) -> Path:
    """The folder of ``--figures``, made before hours of work and not after."""
    folder = options.absolute(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be made ({error.strerror}); --figures takes a folder, new or old"
        ) from error
    return folder


def draw(folder: Path, runs: Sequence[tuple[str, Evaluation]]) -> None:
    """Write the pictures of one run, or of two that are compared, and say where."""
    from rratag.evaluate.matrix import confidences_svg, confusion_matrix_svg
    from rratag.files import write_atomically

    pictures: dict[str, Any] = {}
    for place, (name, found) in enumerate(runs):
        labels = [one.label for one in found.per_class]
        file = "confusion.svg" if place == 0 else "confusion-against.svg"
        if found.confusion is not None:
            pictures[file] = confusion_matrix_svg(f"{name}: {found.num_videos} videos", found.confusion, labels)
    if len(runs[0][1].per_class) > 1:
        pictures["confidences.svg"] = confidences_svg([(name, found.per_class) for name, found in runs])
    for file, text in pictures.items():
        write_atomically(folder / file, text.encode())
        say(f"wrote {folder / file}")
