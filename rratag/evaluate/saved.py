"""Saved predictions: read from a file, fused, judged; without model or cache."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rratag.errors import LabelError, UsageError
from rratag.evaluate.pool import Pool
from rratag.evaluate.report import Evaluation, ModelMetrics, evaluate_scores, score_metrics, truth_of
from rratag.evaluate.truth import groups_of, labels_of
from rratag.tag import submission
from rratag.tag.weighted import shares
from rratag.tag.writers import FORMAT, STDOUT, read_run, read_text
from rratag.untrusted import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rratag.records import Instance

logger = logging.getLogger(__name__)

_WHOLE = 1e-3  # how far the scores of all tags may be from 1 after rounding to six digits
_ROUNDED = 5e-6  # how far a weighted mean of scores of six digits may be from one that was rounded after it


@dataclass(frozen=True)
class Saved:
    """What a file of predictions holds, or several fused ones.

    Parameters
    ----------
    name : of the file, for messages; of several, joined
    weight : in a fusion
    pool : every prediction; ``labels`` sorted
    glimpses : of shape (P, K), what each glimpse gives; K is 0 where that is not known
    is_submission : whether ids are those of ActivityNet's form
    untagged : videos that the file names without a prediction, or that not all files of a fusion have
    score : what its scores are, ``ensemble`` (Eq. 6) or ``concat`` (Eq. 4); empty where it does not say
    is_mixed : whether Eq. 6 is not the plain mean of these glimpses: of several models, or of weighted ones
    """

    name: str
    weight: float
    pool: Pool
    glimpses: NDArray[np.float64]
    is_submission: bool = False
    untagged: tuple[str, ...] = ()
    score: str = ""
    is_mixed: bool = False

    @property
    def videos(self) -> list[str]:
        """All that the file names, tagged or not."""
        return [*self.pool.videos, *self.untagged]

    def called(self, name: str) -> str:
        """The id that these predictions have for a video of this path."""
        return submission.video_id(name) if self.is_submission else name


def read_saved(path: Path, weight: float = 1.0) -> Saved:
    """Predictions of a file that ``predict`` wrote, or anyone in ActivityNet's form (any name ending in ``.json``).

    Raises
    ------
    UsageError
        If it cannot be read or is neither.
    """
    if str(path) == STDOUT:
        raise UsageError("-: standard input is not read; give a file: predict --out tags.json, evaluate tags.json")
    if path.is_dir():
        raise UsageError(
            f"{path}: is a folder; give a file that predict wrote, or --root {path} to judge the model on it"
        )
    if path.suffix.lower() == ".json":
        text = read_text(path)
        if submission.is_submission(path) or ('"results"' in text and f'"{FORMAT}"' not in text):
            try:
                found = submission.parse(text)
            except ValueError as error:
                raise UsageError(f"{path}: not in ActivityNet's form ({str(error)[:300]})") from error
            pool = _pool(found.videos, found.video, found.labels, found.scores)
            return Saved(str(path), weight, pool, np.zeros((len(pool.score), 0)), is_submission=True)
    head, found_rows = read_run(path)
    rows = [row for row in found_rows if row.rank is not None]
    place = {video: number for number, video in enumerate(dict.fromkeys(row.video for row in rows))}
    pool = _pool(
        list(place), [place[row.video] for row in rows], [row.label for row in rows], [row.score or 0 for row in rows]
    )
    num_glimpses = len(rows[0].glimpses) if rows else 0
    glimpses = np.array([row.glimpses for row in rows], np.float64).reshape(len(rows), num_glimpses)
    untagged = {row.video: None for row in found_rows if row.status != "skipped" and row.video not in place}
    mixed = "models" in head or _has_weights(head)
    return Saved(
        str(path), weight, pool, glimpses, untagged=tuple(untagged), score=head.get("score") or "", is_mixed=mixed
    )


def _has_weights(head: Mapping[str, Any]) -> bool:
    """Whether the head of a file says that the model gives its glimpses weights."""
    try:
        return bool(head["model"]["head"]["glimpse_weights"] != "equal")
    except (KeyError, TypeError):
        return False


def _pool(videos: Sequence[str], video: Sequence[int], labels: Sequence[str], scores: Sequence[float]) -> Pool:
    names = sorted(set(labels))
    number = {name: place for place, name in enumerate(names)}
    label = np.array([number[name] for name in labels], np.int64)
    return Pool(videos, names, np.array(video, np.int64), label, np.array(scores, np.float64))


def read_all(files: Sequence[tuple[Path, float]]) -> tuple[Saved, list[Saved]]:
    """Predictions of one file, or several fused; and those of each file by itself where there are several.

    Raises
    ------
    UsageError
        As `read_saved`.
    LabelError
        As `fuse_saved`.
    """
    each = [read_saved(path, weight) for path, weight in files]
    if len(each) == 1:
        return each[0], []
    each = same_ids(each)
    return fuse_saved(each), each


def same_ids(each: Sequence[Saved]) -> list[Saved]:
    """With the ids of ActivityNet's form if one of them is in it.

    Raises
    ------
    UsageError
        If two videos of a file would have one id.
    """
    return [_renamed(one) for one in each] if any(one.is_submission for one in each) else list(each)


def fuse_saved(each: Sequence[Saved]) -> Saved:
    """The weighted mean of the final scores of every video that all have, as ``--model A --model B:1.5`` gives it.

    Parameters
    ----------
    each : of equal kinds of ids

    Raises
    ------
    LabelError
        If they have no video in common, or not the same labels of one: without all scores there is no mean.
    """
    tables = [_sorted(one) for one in each]
    common = sorted(set.intersection(*(set(one.pool.videos) for one in tables)))
    first = _of(tables[0], common)
    if not len(first.pool.score):
        raise LabelError(f"{' and '.join(one.name for one in each)}: no tagged video in common; fuse files of one set")
    proportions = shares([one.weight for one in each])
    scores, glimpses, total = first.pool.score * proportions[0], [first.glimpses], sum(proportions)
    for other, share in zip(tables[1:], proportions[1:], strict=True):
        own = _of(other, common)
        if not (
            own.pool.labels == first.pool.labels
            and np.array_equal(own.pool.video, first.pool.video)
            and np.array_equal(own.pool.label, first.pool.label)
        ):
            raise LabelError(
                f"{first.name} and {own.name} do not score the same labels of each video; write both with all tags,"
                " predict --top 1000, of models of the same tags"
            )
        scores = scores + own.pool.score * share
        glimpses.append(own.glimpses)
    return Saved(
        " and ".join(one.name for one in each),
        1.0,
        replace(first.pool, score=scores / total),
        np.concatenate(glimpses, axis=1),
        each[0].is_submission,
        tuple(sorted({name for one in each for name in (*one.pool.videos, *one.untagged)} - set(common))),
        _common_kind(each),
        is_mixed=True,
    )


def _common_kind(each: Sequence[Saved]) -> str:
    """What the scores of all files are; empty if that is not the same or not known."""
    kinds = [kind(one) for one in each]
    if {"ensemble", "concat"} <= set(kinds):
        logger.warning(
            "%s holds ensemble scores and %s concatenation scores: their mean is neither; predict all with one --score",
            *(each[kinds.index(known)].name for known in ("ensemble", "concat")),
        )
    return kinds[0] if len(set(kinds)) == 1 else ""


def _renamed(one: Saved) -> Saved:
    """With the ids of ActivityNet's form."""
    if one.is_submission:
        return one
    submission.check_ids([*one.pool.videos, *one.untagged])
    videos = [submission.video_id(name) for name in one.pool.videos]
    untagged = tuple(map(submission.video_id, one.untagged))
    return replace(one, pool=replace(one.pool, videos=videos), is_submission=True, untagged=untagged)


def _sorted(one: Saved) -> Saved:
    """Videos by name, rows by video and label; a label twice of one video is refused."""
    pool = one.pool
    names = sorted(pool.videos)
    number = {name: place for place, name in enumerate(names)}
    video = np.array([number[name] for name in pool.videos], np.int64)[pool.video]
    order = np.lexsort((pool.label, video))
    video, label = video[order], pool.label[order]
    again = np.flatnonzero((video[1:] == video[:-1]) & (label[1:] == label[:-1]))
    if len(again):
        raise LabelError(
            f"{one.name}: video {names[video[again[0]]]} has label {pool.labels[label[again[0]]]} twice; such scores"
            " have no mean"
        )
    return replace(one, pool=Pool(names, pool.labels, video, label, pool.score[order]), glimpses=one.glimpses[order])


def _of(one: Saved, videos: Sequence[str]) -> Saved:
    """Of these videos alone, all of which it has, in their order; of a file that `_sorted` put in order."""
    number = {name: place for place, name in enumerate(videos)}
    video = np.array([number.get(name, -1) for name in one.pool.videos], np.int64)[one.pool.video]
    keep = video >= 0
    seen = np.unique(one.pool.label[keep])
    pool = Pool(
        videos,
        [one.pool.labels[number] for number in seen],
        video[keep],
        np.searchsorted(seen, one.pool.label[keep]),
        one.pool.score[keep],
    )
    return replace(one, pool=pool, glimpses=one.glimpses[keep])


def evaluate_saved(together: Saved, each: Sequence[Saved], truth: Sequence[Instance]) -> Evaluation:
    """Figures of a file of predictions, or of several fused with weights.

    Parameters
    ----------
    together, each : as `read_all` gives them
    truth : as :func:`rratag.evaluate.truth.read_truth` gives it

    Raises
    ------
    LabelError
        If no tagged video is labelled, or a file does not hold every tag's score: figures need the whole ranking.
    """
    known = set(together.pool.videos)
    instances = [one for one in truth if one.video in known]
    if not instances:
        others = f"; labels are of {shown(truth[0].video)}: name videos as this file does" if truth else ""
        raise LabelError(f"{together.name}: no tagged video has a label{others}")
    for one in each or [together]:
        check_whole(one)
    labels = labels_of(instances)
    scores, glimpses = table(together, list(labels))
    right = truth_of(list(labels.values()), together.pool.labels, together.name)
    concatenation = None
    said = kind(together)
    if said == "concat" and not together.is_mixed and glimpses.shape[1]:
        said, concatenation, scores = "ensemble", scores, glimpses.mean(axis=1)
    found = evaluate_scores(scores, concatenation, glimpses, right, together.pool.labels, groups=groups_of(instances))
    models = [ModelMetrics(one.name, one.weight, score_metrics(table(one, list(labels))[0], right)) for one in each]
    return replace(found, score=said, models=models)


def gap(one: Saved) -> str:
    """What keeps a file from holding the score of every tag of each of its videos, once; empty if nothing does."""
    pool = one.pool
    count = max(len(pool.labels), 1)
    pairs, times = np.unique(pool.video * count + pool.label, return_counts=True)
    if len(again := pairs[times > 1]):
        return f"video {shown(pool.videos[again[0] // count])} has tag {shown(pool.labels[again[0] % count])} twice"
    lacking = np.flatnonzero(np.bincount(pairs // count, minlength=len(pool.videos)) < len(pool.labels))
    if len(lacking):
        own = pool.label[pool.video == lacking[0]]
        tag = pool.labels[np.setdiff1d(np.arange(count), own)[0]]
        return f"video {shown(pool.videos[lacking[0]])} has no score of tag {shown(tag)}"
    sums = np.bincount(pool.video, pool.score, minlength=len(pool.videos))
    # a tag that no video has is noticed by the sum; scores in ActivityNet's form need not be shares of 1
    wrong = np.flatnonzero(np.abs(sums - 1) > _WHOLE)
    if len(wrong) and not one.is_submission:
        return f"scores of video {shown(pool.videos[wrong[0]])} sum to {sums[wrong[0]]:.4g}, not 1"
    return ""


def check_whole(one: Saved) -> None:
    """Refuse a file without the score of every tag, such as one of the highest tags of each video only.

    Raises
    ------
    LabelError
        Naming the first video that shows it.
    """
    if found := gap(one):
        raise LabelError(
            f"{one.name}: {found}, and the figures need every tag's; run predict with --top"
            f" {max(len(one.pool.labels), 1000)}, judge by official scores (--metrics activitynet, kinetics or"
            " youtube8m), or evaluate without a file, from model and cache"
        )


def table(one: Saved, videos: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores (B, classes) and those of the glimpses (B, K, classes) of these videos, in their order."""
    pool = one.pool
    scores = np.zeros((len(pool.videos), len(pool.labels)))
    glimpses = np.zeros((len(pool.videos), len(pool.labels), one.glimpses.shape[1]))
    scores[pool.video, pool.label] = pool.score
    glimpses[pool.video, pool.label] = one.glimpses
    number = {name: place for place, name in enumerate(pool.videos)}
    places = [number[name] for name in videos]
    return scores[places], glimpses[places].transpose(0, 2, 1)


def kind(one: Saved) -> str:
    """What its scores are, as in `Saved`: as the file says, or by its glimpses where these leave no doubt."""
    if one.score or one.is_mixed or not one.glimpses.shape[1] or gap(one):
        return one.score
    scores, glimpses = table(one, one.pool.videos)
    if np.abs(scores - glimpses.mean(axis=1)).max(initial=0) < _ROUNDED:
        return "ensemble"
    if len(scores) * (scores.shape[1] - 1) < 2 * glimpses.shape[1]:
        return ""  # so few equations have a solution whatever the scores are
    return "ensemble" if _is_weighted_mean(scores, glimpses) else "concat"


def _is_weighted_mean(scores: NDArray[np.float64], glimpses: NDArray[np.float64]) -> bool:
    """Whether the same weights of the glimpses give all scores: a fusion of models, or glimpses with weights.

    Parameters
    ----------
    scores : of shape (B, classes)
    glimpses : of shape (B, K, classes)

    Notes
    -----
    Least squares over all scores.
    """
    known = glimpses.transpose(0, 2, 1).reshape(-1, glimpses.shape[1])
    weights = np.linalg.lstsq(known, scores.ravel(), rcond=None)[0]
    return bool(np.abs(known @ weights - scores.ravel()).max() < _ROUNDED)
