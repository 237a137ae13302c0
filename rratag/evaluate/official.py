"""Figures as the scripts of public sets make them, by name, each with its interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rratag.errors import UsageError
from rratag.evaluate.activitynet import activitynet, average_precisions, kinetics
from rratag.evaluate.bootstrap import interval, weights
from rratag.evaluate.pool import Judged, Pool, judge
from rratag.evaluate.truth import groups_of, labels_of
from rratag.evaluate.youtube8m import youtube8m

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rratag.records import Instance

Draws = dict[str, "NDArray[np.float64]"]
"""Figures by name, one value for each row of weights."""


@dataclass(frozen=True)
class Metric:
    """Figures of one set: of weighted videos, and whether there is an average precision of every class."""

    figures: Callable[[Judged, NDArray[np.float32]], Draws]
    by_class: bool


METRICS = {
    "activitynet": Metric(activitynet, by_class=True),
    "kinetics": Metric(kinetics, by_class=True),
    "youtube8m": Metric(youtube8m, by_class=False),
}
"""``--metrics``."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and its 95 % interval; None where resampling says nothing."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class ClassPrecision:
    """A class of the ground truth, its videos and its average precision."""

    label: str
    num_videos: int
    average_precision: float


@dataclass(frozen=True)
class Official:
    """What the script of a set says.

    ``num_videos`` and ``num_classes`` are those of the ground truth, ``num_without`` its videos without a prediction,
    ``num_outside`` predicted videos that it does not have. ``keep_top`` is None where all predictions count.
    """

    metrics: str
    num_videos: int
    num_classes: int
    num_without: int
    num_outside: int
    num_predictions: int
    keep_top: int | None
    num_draws: int
    figures: dict[str, Figure]
    per_class: list[ClassPrecision] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers."""
        return asdict(self)


def check_metrics(name: str) -> None:
    """Refuse figures that do not exist.

    Raises
    ------
    UsageError
        Naming those that do.
    """
    if name not in METRICS:
        raise UsageError(f"unknown --metrics {name!r}; choose from {', '.join(METRICS)}")


def official(name: str, pool: Pool, truth: Sequence[Instance], keep_top: int | None = None) -> Official:
    """Judge predictions as the script of a set does.

    Parameters
    ----------
    name : of `METRICS`
    truth : as :func:`rratag.evaluate.truth.read_truth` gives it
    keep_top : highest predictions of each video that count; None for all, as the scripts do

    Raises
    ------
    LabelError
        Where the script would fail; see :func:`rratag.evaluate.activitynet.check_labels`.
    """
    labels = labels_of(truth)
    judged = judged_by(pool, truth, keep_top)
    once = np.ones((1, len(labels)), np.float32)
    drawn = weights(groups_of(truth), len(judged.video))
    values, draws = METRICS[name].figures(judged, once), METRICS[name].figures(judged, drawn)
    predicted = {pool.videos[number] for number in np.unique(pool.video)}
    by_class = average_precisions(judged, once) if METRICS[name].by_class else {}
    count = np.bincount(judged.true_label, minlength=len(judged.labels))
    return Official(
        metrics=name,
        num_videos=len(labels),
        num_classes=int((count > 0).sum()),
        num_without=len(labels.keys() - predicted),
        num_outside=len(predicted - labels.keys()),
        num_predictions=len(judged.video),
        keep_top=keep_top,
        num_draws=len(drawn),
        figures={key: figure(float(value[0]), draws[key]) for key, value in values.items()},
        per_class=[
            ClassPrecision(label, int(count[judged.labels.index(label)]), float(area[0]))
            for label, area in by_class.items()
        ],
    )


def judged_by(pool: Pool, truth: Sequence[Instance], keep_top: int | None) -> Judged:
    """The pool against the truth, cut off where that is wanted."""
    judged = judge(pool, labels_of(truth))
    return judged if keep_top is None else judged.kept(keep_top)


def figure(value: float, draws: NDArray[np.float64]) -> Figure:
    """A figure with the interval of its draws."""
    found = interval(draws, value)
    return Figure(value, found.low if found else None, found.high if found else None)
