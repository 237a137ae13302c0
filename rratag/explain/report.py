"""The numbers of a report: predictions in, one card a video out, as JSON values. No files, no pictures.

Texts stand as they are, bytes that are not UTF-8 as surrogates; ``shown`` and ``name`` are what a reader sees of them.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rratag.data.labels import from_file, from_folders, whole_videos
from rratag.evaluate.bootstrap import group_names
from rratag.evaluate.matrix import readable
from rratag.evaluate.report import Evaluation, evaluate
from rratag.explain.account import account
from rratag.explain.pictures import relative
from rratag.records import Instance, Receipt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rratag.tag.predict import Prediction

FRAMES_SHOWN, FRAMES_ENLARGED = 8, 4
TAGS_SHOWN = 5
UNSURE = 0.5
"""A video whose first tag has a lower score is called unsure."""

Card = dict[str, Any]


@dataclass(frozen=True)
class Truth:
    """What is known about the videos of a report.

    Attributes
    ----------
    labels : of each labelled video its instances
    missing : names of the label file that are no video of the report
    doubts : lines about what of the file is not used
    trained : ids of videos that trained the model, which say nothing about it
    """

    labels: dict[str, list[Instance]]
    missing: Sequence[str] = ()
    doubts: Sequence[str] = ()
    trained: frozenset[str] = frozenset()


def known_labels(
    videos: Iterable[str], class_names: Sequence[str], labels: Path | None, columns: dict[str, str] | None = None
) -> Truth:
    """Labels of videos, from a label file or else from folders; a folder that no tag is called after says nothing.

    Raises
    ------
    LabelError
        As :func:`rratag.data.labels.from_file`.
    """
    ids = dict.fromkeys(videos, "")
    known: dict[str, list[Instance]] = {}
    if labels is None:
        instances = [one for one in from_folders(ids) if one.label in class_names]
        missing, doubts = [], []
    else:
        found = from_file(labels, ids, columns, alone=True)
        instances = [one for one in found.instances if one.label is not None]
        missing, doubts = found.missing, found.doubts
    for one in instances:
        known.setdefault(one.video, []).append(one)
    return Truth(known, missing, doubts)


def judged(predictions: Sequence[Prediction], truth: Truth) -> tuple[Evaluation | None, int]:
    """Scores by what is known, None where that is nothing; and the number of labels that are no tag of the model.

    Videos that trained the model are left out.
    """
    pairs, unknown = [], 0
    for found in predictions:
        if found.video in truth.trained:
            continue
        for one in whole_videos(truth.labels.get(found.video, ())):
            if one.label in found.class_names:
                pairs.append((found, one))
            else:
                unknown += 1
    if not pairs:
        return None, unknown
    groups = group_names([one.group for _, one in pairs], [one.video for _, one in pairs])
    return evaluate([found for found, _ in pairs], [str(one.label) for _, one in pairs], groups=groups), unknown


def frames_to_show(attention: NDArray[np.floating], peaks: Sequence[int]) -> tuple[list[int], list[int]]:
    """Which frames of a video a report shows.

    Parameters
    ----------
    attention : of shape (K, T), mass of each glimpse on each frame
    peaks : the frame of each glimpse's evidence

    Returns
    -------
    Positions in [0, T), rising: of all that are shown, at most :data:`FRAMES_SHOWN`; and of those among them that are
    enlarged: the peaks, then those with the most attention of all glimpses. The others fill the widest gaps.
    """
    count = attention.shape[1]
    by_mass = np.argsort(-attention.sum(axis=0), kind="stable").tolist()
    enlarged = list(dict.fromkeys([*peaks, *by_mass]))[:FRAMES_ENLARGED]
    shown = set(enlarged)
    while len(shown) < min(FRAMES_SHOWN, count):
        gaps = [min(abs(place - one) for one in shown) for place in range(count)]
        shown.add(int(np.argmax(gaps)))
    return sorted(shown), sorted(enlarged)


def layer(heat: NDArray[np.floating]) -> dict[str, Any]:
    """Heat (K, F, rows, columns), at least 0, as bytes in base64; of one scale for all frames of a glimpse."""
    levels = np.stack([np.round(255 * relative(one)) for one in heat]).astype(np.uint8)
    rows, columns = levels.shape[2:]
    return {"rows": rows, "columns": columns, "levels": base64.b64encode(levels.tobytes()).decode()}


def card(
    found: Prediction, weights: Sequence[float], rectangles: NDArray[np.float64], known: Sequence[Instance]
) -> Card:
    """One tagged video.

    Parameters
    ----------
    found : with its cells
    weights : of the glimpses
    rectangles : of shape (V, 4), where each view lies in the upright full picture
    known : its labels
    """
    first = found.ranking()[0]
    told = account(found.glimpse_scores, weights, first)
    places = [found.evidence_of(k, first) for k in range(len(weights))]
    speaking = found.evidence(first)
    shown, enlarged = frames_to_show(found.attention, [place.frame for place in places])
    assert found.cells is not None
    ranked = np.sort(found.scores)[::-1]
    return {
        **_about(found.receipt, known),
        "rows": [
            [number, _share(found.scores[number]), *map(_share, found.glimpse_scores[:, number])]
            for number in _tags(found, [one.first for one in told.glimpses], known)
        ],
        "margin": _share(ranked[0] - ranked[1]) if len(ranked) > 1 else 1.0,
        "firsts": [one.first for one in told.glimpses],
        "agreeing": told.agreeing,
        "changed": None if told.changed_by is None else told.changed_by + 1,
        "speaking": speaking.glimpse,
        "times": [round(float(time), 3) for time in found.time_s],
        "attention": [[_share(mass) for mass in row] for row in found.attention],
        "peaks": [[place.frame, *(round(side, 4) for side in place.box)] for place in places],
        "shown": shown,
        "enlarged": enlarged,
        "view": speaking.view,
        "rectangle": [round(float(side), 4) for side in rectangles[speaking.view]],
        "heat": layer(found.cells[speaking.view][:, enlarged]),
    }


def failed_card(receipt: Receipt, known: Sequence[Instance]) -> Card:
    """A video without tags."""
    return {**_about(receipt, known), "rows": []}


def _about(receipt: Receipt, known: Sequence[Instance]) -> Card:
    labels = list(dict.fromkeys(str(one.label) for one in known))
    return {
        "id": receipt.video,
        "name": readable(receipt.video),
        "status": receipt.status,
        "reason": receipt.reason,
        "message": readable(receipt.message),
        "truth": [{"name": label, "shown": readable(label)} for label in labels],
        # as `train --labels` reads them
        "labels": [
            [one.label, one.start_s, one.end_s, one.split, one.group, "1" if len(labels) > 1 else ""] for one in known
        ],
    }


def _tags(found: Prediction, firsts: Sequence[int], known: Sequence[Instance]) -> list[int]:
    """Classes whose scores are shown, highest first: the best ones, the glimpses' first ones and the true ones."""
    ranking = found.ranking()
    true = {found.class_names.index(one.label) for one in known if one.label in found.class_names}
    wanted = {*ranking[:TAGS_SHOWN], *firsts, *true}
    return [number for number in ranking if number in wanted]


def _share(value: float) -> float:
    return round(float(value), 4) + 0.0


def without_cells(found: Prediction) -> Prediction:
    """`found` in the little memory that its scores take."""
    return replace(found, cells=None)
