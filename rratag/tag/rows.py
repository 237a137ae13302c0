"""Predictions become rows: ranked, rounded, with their evidence; the same in every output format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from rratag.records import Receipt

if TYPE_CHECKING:
    from rratag.tag.fuse import Fused
    from rratag.tag.predict import Prediction

Box: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class TagRow:
    """One row of tags.csv.

    A failed video has one row with empty ``label`` and None for ``rank``, ``score``, ``time_s`` and ``box``.
    ``glimpses`` holds each glimpse's score of this label; ``time_s`` in seconds; ``box`` x0, y0, x1, y1 as fractions of
    the upright full picture.
    """

    video: str
    status: str
    reason: str = ""
    rank: int | None = None
    label: str = ""
    score: float | None = None
    glimpses: tuple[float, ...] = ()
    time_s: float | None = None
    box: Box | None = None
    frames_used: int = 0
    message: str = ""


@dataclass(frozen=True)
class About:
    """What all tags of a file have in common; the head of ``.json`` and ``.jsonl``.

    ``model``, ``spec`` (the features' meaning) and ``compute`` are JSON objects; ``num_glimpses`` is K; ``top`` rows
    per video; ``score`` is what ranks them, ``ensemble`` (Eq. 6) or ``concat`` (Eq. 4); ``crop_fusion`` how several
    views a frame became one score; ``test_frames`` how many of the cached frames counted at most, None for all. Of
    several fused models ``models`` names each with its weight, in order, ``num_glimpses`` counts those of all, and
    ``model``, ``spec`` and ``compute`` are the first one's.
    """

    model: dict[str, Any]
    spec: dict[str, Any]
    compute: dict[str, Any]
    num_glimpses: int
    top: int
    score: str = "ensemble"
    crop_fusion: str = "mean"
    test_frames: int | None = None
    models: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Tagged:
    """One video on its way into a file: its rows, and what only JSON holds; ``models`` is empty but for a fusion."""

    rows: list[TagRow]
    glimpses: list[dict[str, Any]]
    time_s: list[float]
    models: list[dict[str, Any]] = field(default_factory=list)


def tagged(result: Prediction | Fused | Receipt, about: About) -> Tagged:
    """The rows of one result, rounded as every format writes them."""
    if isinstance(result, Receipt):
        row = TagRow(result.video, result.status, result.reason, message=result.message)
        return Tagged([row], [], [])
    if len(result.glimpse_scores) != about.num_glimpses:
        raise ValueError(f"{len(result.glimpse_scores)} glimpses in the prediction, {about.num_glimpses} announced")
    ranking = result.ranking(about.score)[: about.top]
    scores = result.concatenation_scores if about.score == "concat" else result.scores
    receipt = result.receipt
    rows = []
    for rank, label in enumerate(ranking, start=1):
        evidence = result.evidence(label)
        x0, y0, x1, y1 = (_rounded(side, 4) for side in evidence.box)
        rows.append(
            TagRow(
                receipt.video,
                receipt.status,
                receipt.reason,
                rank,
                result.class_names[label],
                _rounded(scores[label], 6),
                tuple(_rounded(score, 6) for score in result.glimpse_scores[:, label]),
                _rounded(evidence.time_s, 3),
                (x0, y0, x1, y1),
                result.frames_used,
                receipt.message,
            )
        )
    parts = result.parts
    if len(parts) == 1:
        return Tagged(rows, _glimpses(parts[0], about.top), _times(parts[0]))
    glimpses = [
        {"model": number, **glimpse} for number, part in enumerate(parts) for glimpse in _glimpses(part, about.top)
    ]
    return Tagged(rows, glimpses, _times(parts[0]), [_part(part, about) for part in parts])


def _part(part: Prediction, about: About) -> dict[str, Any]:
    """What one model of a fusion says by itself."""
    scores = part.concatenation_scores if about.score == "concat" else part.scores
    return {
        "tags": [
            {"label": part.class_names[label], "score": _rounded(scores[label], 6)}
            for label in part.ranking(about.score)[: about.top]
        ],
        "frames_used": part.frames_used,
        "time_s": _times(part),
    }


def _times(part: Prediction) -> list[float]:
    return [_rounded(time, 3) for time in part.time_s]


def _glimpses(result: Prediction, top: int) -> list[dict[str, Any]]:
    """Every glimpse's own top tags and its attention on each frame."""
    return [
        {
            "tags": [
                {"label": result.class_names[label], "score": _rounded(scores[label], 6)}
                for label in (-scores).argsort(kind="stable")[:top]
            ],
            "attention": [_rounded(mass, 6) for mass in attention],
        }
        for scores, attention in zip(result.glimpse_scores, result.attention, strict=True)
    ]


def _rounded(value: float, digits: int) -> float:
    return round(float(value), digits) + 0.0  # + 0.0: no "-0.000"
