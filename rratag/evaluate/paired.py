"""Two runs on the same videos: by how much they differ, whether that is more than chance, and which videos changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from rratag.errors import LabelError
from rratag.evaluate.bootstrap import interval, weights
from rratag.evaluate.metrics import weighted_figures
from rratag.evaluate.official import METRICS, Draws, judged_by
from rratag.evaluate.pool import judge
from rratag.evaluate.precision import weighted_mean
from rratag.evaluate.report import truth_of
from rratag.evaluate.saved import Saved, gap, table
from rratag.evaluate.truth import groups_of, labels_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rratag.records import Instance

Way = Callable[["NDArray[np.float32]"], Draws]
"""From weights (R, videos) to figures of shape (R,)."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of both runs, first less second, and the 95 % interval of that; None where resampling says nothing.

    The bootstrap is paired: each draw has the same videos of both.
    """

    first: float
    second: float
    difference: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Changed:
    """A video whose first tag differs; ``labels`` are the true ones, ``..._right`` is None where there is none."""

    video: str
    labels: list[str]
    first: str
    first_score: float
    first_right: bool | None
    second: str
    second_score: float
    second_right: bool | None


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which videos a run has.

    Attributes
    ----------
    without : labelled videos that it did not tag
    alone : labelled videos that it tagged and the other run did not
    outside : videos that it tagged and that have no label
    """

    without: int
    alone: int
    outside: int


@dataclass(frozen=True)
class Comparison:
    """Two runs.

    Attributes
    ----------
    metrics : the official figures, see :data:`rratag.evaluate.official.METRICS`; empty for the plain ones
    num_videos : labelled videos that both tagged
    num_truth : labelled videos, tagged or not: what official figures are of
    first_coverage, second_coverage : which videos a run has
    figures : of both, by name
    top1_because : why there is no plain figure but top-1: what a file lacks; empty if there are all
    only_first_right, only_second_right : of `num_videos`, those where the first tag of one run alone is right
    p_value : of McNemar's exact test, see `mcnemar`
    num_common : videos that both tagged, labelled or not
    changed : those of them whose first tag differs, by name
    """

    first: str
    second: str
    metrics: str
    num_videos: int
    num_truth: int
    first_coverage: Coverage
    second_coverage: Coverage
    figures: dict[str, Difference]
    top1_because: str
    num_draws: int
    only_first_right: int
    only_second_right: int
    p_value: float
    num_common: int
    changed: list[Changed]

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers."""
        return asdict(self)


def mcnemar(only_first: int, only_second: int) -> float:
    """Chance that two equally good runs differ so unevenly: McNemar's exact test, two-sided, in [0, 1].

    Of the n videos that one run alone gets right, each is the first's with probability 1/2, so that

        p = min(1, 2 sum_{i <= m} C(n, i) / 2^n),  m the smaller of the two counts,

    which is 0 where it is smaller than any number that a computer has.

    It takes videos as independent; those of one group (cut from one recording) are not, which the bootstrap respects.
    """
    total, smaller = only_first + only_second, min(only_first, only_second)
    term: int = 1
    ways: int = 1
    for place in range(smaller):
        term = term * (total - place) // (place + 1)
        ways += term
    return min(1.0, 2 * ways / (1 << total))


def compare(
    first: Saved, second: Saved, truth: Sequence[Instance], metrics: str | None = None, keep_top: int | None = None
) -> Comparison:
    """Set two runs beside each other.

    Parameters
    ----------
    first, second : of equal kinds of ids, see :func:`rratag.evaluate.saved.same_ids`
    truth : as :func:`rratag.evaluate.truth.read_truth` gives it
    metrics, keep_top : official figures, over all of `truth`, instead of those of the videos that both tagged; see
        :func:`rratag.evaluate.official.official`

    Raises
    ------
    LabelError
        If no labelled video was tagged by both; or as `official`.
    """
    runs = (first, second)
    said = [first_tags(run) for run in runs]
    one, other, wanted = set(said[0]), set(said[1]), {instance.video for instance in truth}
    shared = [instance for instance in truth if instance.video in one & other]
    labels = labels_of(shared)
    if not labels:
        raise LabelError(f"{first.name} and {second.name}: no labelled video that both tagged")
    changed = [_changed(video, labels.get(video, []), *(run[video] for run in said)) for video in sorted(one & other)]
    right = [{video for video, own in labels.items() if run[video][0] in own} for run in said]
    lacking = [f"{run.name}: {found}" for run in runs if (found := gap(run))] if metrics is None else []
    if metrics is not None:
        ways, num_scores = _official(runs, truth, metrics, keep_top)
    elif lacking:
        ways, num_scores = [_top1(labels, run) for run in right], len(labels)
    else:
        ways, num_scores = _plain(runs, labels)
    drawn = weights(groups_of(shared if metrics is None else truth), num_scores)
    alone = len(right[0] - right[1]), len(right[1] - right[0])
    return Comparison(
        first=first.name,
        second=second.name,
        metrics=metrics or "",
        num_videos=len(labels),
        num_truth=len(wanted),
        first_coverage=Coverage(len(wanted - one), len(wanted & one - other), len(one - wanted)),
        second_coverage=Coverage(len(wanted - other), len(wanted & other - one), len(other - wanted)),
        figures=_differences(ways, drawn),
        top1_because="; ".join(lacking),
        num_draws=len(drawn),
        only_first_right=alone[0],
        only_second_right=alone[1],
        p_value=mcnemar(*alone),
        num_common=len(one & other),
        changed=[video for video in changed if video is not None],
    )


def _official(
    each: Sequence[Saved], truth: Sequence[Instance], metrics: str, keep_top: int | None
) -> tuple[list[Way], int]:
    """The figures of a set's script, and the number of scores that they are made of."""
    ways: list[Way] = [partial(METRICS[metrics].figures, judged_by(one.pool, truth, keep_top)) for one in each]
    return ways, max(len(one.pool.score) for one in each)


def _plain(each: Sequence[Saved], labels: Mapping[str, list[str]]) -> tuple[list[Way], int]:
    """The figures of `rratag evaluate` by the scores of files that hold all, and the number of these."""
    tables = [table(one, list(labels))[0] for one in each]
    truths = [truth_of(list(labels.values()), one.pool.labels, one.name) for one in each]
    ways: list[Way] = [partial(weighted_figures, *both) for both in zip(tables, truths, strict=True)]
    return ways, max(scores.size for scores in tables)


def _top1(labels: Mapping[str, list[str]], right: set[str]) -> Way:
    """Top-1 alone, by the videos that are right."""
    found = np.array([video in right for video in labels], bool)
    return lambda drawn: {"top1": weighted_mean(found, drawn)}


def _differences(ways: Sequence[Way], drawn: NDArray[np.float32]) -> dict[str, Difference]:
    """Figures of two runs and what lies between them, both drawn alike."""
    once = np.ones((1, drawn.shape[1]), np.float32)
    values, draws = [way(once) for way in ways], [way(drawn) for way in ways]
    found = {}
    for name in values[0]:
        first, second = (float(one[name][0]) for one in values)
        between = interval(draws[0][name] - draws[1][name], first - second, -1.0)
        found[name] = Difference(
            first, second, first - second, between.low if between else None, between.high if between else None
        )
    return found


def first_tags(one: Saved) -> dict[str, tuple[str, float]]:
    """Of each video the tag of the highest score, the earlier name among equals, and its score."""
    judged = judge(one.pool, {})
    return {
        one.pool.videos[video]: (one.pool.labels[label], float(score))
        for video, label, score in zip(
            *(part[judged.place == 0].tolist() for part in (one.pool.video, one.pool.label, one.pool.score)),
            strict=True,
        )
    }


def _changed(video: str, labels: Sequence[str], first: tuple[str, float], second: tuple[str, float]) -> Changed | None:
    """The video if its first tag differs."""
    if first[0] == second[0]:
        return None
    rights = [one[0] in labels if labels else None for one in (first, second)]
    return Changed(video, list(labels), *first, rights[0], *second, rights[1])
