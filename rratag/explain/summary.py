"""The top of a report: what was tagged and by what, figures with their counts, confusions, curves of the training."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rratag import untrusted
from rratag.evaluate.figures import Curve, line_chart
from rratag.evaluate.matrix import confusion_matrix_svg, readable
from rratag.model import HISTORY_FILE

if TYPE_CHECKING:
    from rratag.evaluate.report import Evaluation

MAX_HISTORY = 2**24
MOST_DRAWN = 60
"""Classes of a confusion matrix that is drawn."""

CURVES = (
    ("Training cross entropy", "nats", "train_glimpse_{}", "train_Le"),
    ("Validation accuracy", "accuracy", "validation_glimpse_{}", "validation_accuracy"),
)
"""Title, unit, column of each glimpse and of the ensemble in the history of a model."""


def figures(found: Evaluation | None) -> dict[str, Any]:
    """What the template shows of the scores; ``tiles`` is empty where no label is known."""
    if found is None:
        return {"tiles": [], "glimpses": [], "pairs": [], "classes": [], "matrix": "", "seen": 0}
    named = [("top-1", "top1"), ("top-3", "top3"), ("top-5", "top5")]
    tiles = []
    for place, (title, name) in enumerate(named):
        if place and found.num_classes <= 2 * place + 1:  # all tags are among so many
            continue
        value = getattr(found.ensemble, name)
        tiles.append(_tile(title, value, f"{round(value * found.num_videos)} of {found.num_videos}", found, name))
    of_classes = f"{found.num_classes_seen} tags"
    tiles.append(
        _tile("mean per tag", found.ensemble.mean_per_class_accuracy, of_classes, found, "mean_per_class_accuracy")
    )
    tiles.append(_tile("mAP", found.ensemble.mean_average_precision, of_classes, found, "mean_average_precision"))
    classes = [
        {**asdict(one), "label": readable(one.label), "name": one.label, "other": readable(one.most_confusing.label)}
        if one.most_confusing
        else {**asdict(one), "label": readable(one.label), "name": one.label, "other": ""}
        for one in found.per_class
    ]
    names = [one.label for one in found.per_class]
    drawn = found.confusion is not None and 1 < len(names) <= MOST_DRAWN
    title = f"{found.num_videos} videos: rows are the true tags, columns the first ones"
    return {
        "tiles": tiles,
        "glimpses": found.glimpse_accuracy,
        "pairs": [
            {
                **asdict(one),
                "label": readable(one.label),
                "predicted": readable(one.predicted),
                "tags": [one.label, one.predicted],
            }
            for one in found.confused_pairs
        ],
        "classes": classes,
        "matrix": confusion_matrix_svg(title, found.confusion, names) if drawn and found.confusion is not None else "",
        "seen": found.num_videos,
    }


def _tile(title: str, value: float, count: str, found: Evaluation, name: str) -> dict[str, Any]:
    between = found.intervals.get(name)
    return {
        "title": title,
        "value": value,
        "count": count,
        "between": f"{between.low:.2f} to {between.high:.2f}" if between else "",
    }


def charts(folder: Path, num_glimpses: int) -> list[str]:
    """SVG documents of how a model's training went; none where its folder holds no history that can be read."""
    rows = _history(folder / HISTORY_FILE)
    drawn = []
    for title, unit, of_glimpse, of_all in CURVES:
        columns = {f"glimpse {k}": of_glimpse.format(k) for k in range(1, num_glimpses + 1)}
        columns["ensemble"] = of_all
        curves = [
            Curve(name, values, [0.0] * len(values))
            for name, column in columns.items()
            if (values := [row[column] for row in rows if column in row]) and len(values) == len(rows)
        ]
        if curves:
            drawn.append(line_chart(title, unit, curves))
    return drawn


def _history(path: Path) -> Sequence[dict[str, float]]:
    """Rows of ``history.csv``, of whatever in it is a finite number."""
    try:
        text = untrusted.read_bytes(path, MAX_HISTORY).decode("utf-8-sig")
        return [
            {name: value for name, cell in row.items() if name and math.isfinite(value := _number(cell))}
            for row in csv.DictReader(io.StringIO(text, newline=""), strict=True)
        ]
    except (OSError, ValueError, csv.Error):
        return []


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return math.nan
