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
from rratag.evaluate.saved import Saved, table, whole
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


@dataclass(frozen=True)
class Comparison:
    """Two runs.

    Attributes
    ----------
    num_videos : labelled videos that both tagged
    figures : of both, by name
    only_first_right, only_second_right : of `num_videos`, those where the first tag of one run alone is right
    p_value : of McNemar's exact test, see `mcnemar`
    num_common : videos that both tagged, labelled or not
    changed : those of them whose first tag differs, by name
    """

    first: str
    second: str
    num_videos: int
    figures: dict[str, Difference]
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
    """Chance that two equally good runs differ so unevenly: McNemar's exact test, two-sided, in (0, 1].

    Of the n videos that one run alone gets right, each is the first's with probability 1/2, so that

        p = min(1, 2 sum_{i <= m} C(n, i) / 2^n),  m the smaller of the two counts.

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
    said = [first_tags(one) for one in (first, second)]
    common = sorted(said[0].keys() & said[1].keys())
    shared = [one for one in truth if one.video in said[0] and one.video in said[1]]
    labels = labels_of(shared)
    if not labels:
        raise LabelError(f"{first.name} and {second.name}: no labelled video that both tagged")
    changed = [_changed(video, labels.get(video, []), *(one[video] for one in said)) for video in common]
    right = [{video for video, own in labels.items() if one[video][0] in own} for one in said]
    if metrics is None:
        ways, num_scores = _plain([first, second], labels, right)
        groups = groups_of(shared)
    else:
        ways = [partial(METRICS[metrics].figures, judged_by(one.pool, truth, keep_top)) for one in (first, second)]
        groups, num_scores = groups_of(truth), max(len(one.pool.score) for one in (first, second))
    drawn = weights(groups, num_scores)
    alone = len(right[0] - right[1]), len(right[1] - right[0])
    return Comparison(
        first=first.name,
        second=second.name,
        num_videos=len(labels),
        figures=_differences(ways, drawn),
        num_draws=len(drawn),
        only_first_right=alone[0],
        only_second_right=alone[1],
        p_value=mcnemar(*alone),
        num_common=len(common),
        changed=[one for one in changed if one is not None],
    )


def _plain(each: Sequence[Saved], labels: Mapping[str, list[str]], right: Sequence[set[str]]) -> tuple[list[Way], int]:
    """The figures of `rratag evaluate` by the files' scores; top-1 alone where a file lacks some tags of a video."""
    if all(map(whole, each)):
        tables = [table(one, list(labels))[0] for one in each]
        truths = [truth_of(list(labels.values()), one.pool.labels) for one in each]
        ways: list[Way] = [partial(weighted_figures, *both) for both in zip(tables, truths, strict=True)]
        return ways, max(scores.size for scores in tables)
    found = [np.array([video in one for video in labels], bool) for one in right]
    return [partial(_top1, one) for one in found], len(labels)


def _top1(right: NDArray[np.bool_], drawn: NDArray[np.float32]) -> Draws:
    return {"top1": weighted_mean(right, drawn)}


def _differences(ways: Sequence[Way], drawn: NDArray[np.float32]) -> dict[str, Difference]:
    """Figures of two runs and what lies between them, both drawn alike."""
    once = np.ones((1, drawn.shape[1]), np.float32)
    values, draws = [way(once) for way in ways], [way(drawn) for way in ways]
    found = {}
    for name in values[0]:
        first, second = (float(one[name][0]) for one in values)
        between = interval(draws[0][name] - draws[1][name])
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
