"""Late fusion: several models tag the same videos, and their scores are averaged with weights (section 5.3).

    scores = sum_m w_m scores_m / sum_m w_m

over the ensemble scores (Eq. 6) of every model, and likewise over the concatenation scores (Eq. 4). The models may look
at different features; each keeps its own glimpses, which stand side by side in the order of the models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rratag.errors import ModelError
from rratag.features.extract import RunOptions
from rratag.features.request import Request
from rratag.features.spec import digest
from rratag.features.store import FeatureStore
from rratag.records import Receipt
from rratag.tag.predict import Prediction, Scored
from rratag.tag.run import Override, Tagging
from rratag.tag.weighted import parse_weighted, shares
from rratag.untrusted import shown
from rratag.video.discover import Discovery

if TYPE_CHECKING:
    from rratag.explain.evidence import Evidence
    from rratag.model import Model


@dataclass(frozen=True)
class Stream:
    """One model of a fusion: `name` as the user gave it, `weight` above 0; only the proportions of weights count."""

    name: str
    weight: float
    model: Model


@dataclass(frozen=True)
class Fused(Scored):
    """What several models say about one video; ``glimpse_scores`` holds those of all of them side by side.

    Parameters
    ----------
    parts : what each model says by itself, in the order of the models
    """

    parts: tuple[Prediction, ...]

    @property
    def frames_used(self) -> int:
        """Frames that every model saw at least."""
        return min(part.frames_used for part in self.parts)

    def evidence(self, label: int | str) -> Evidence:
        """When and where the glimpse looked that scores `label` highest, of all glimpses of all models.

        `glimpse` counts through all of them; see `Prediction.evidence`.
        """
        number = self.class_names.index(label) if isinstance(label, str) else label
        best = int(np.argmax([part.glimpse_scores[:, number].max() for part in self.parts]))
        found = self.parts[best].evidence(number)
        before = sum(len(part.glimpse_scores) for part in self.parts[:best])
        return replace(found, glimpse=before + found.glimpse)


def parse_model(text: str) -> tuple[Path, float]:
    """Folder and weight of ``--model FOLDER[:WEIGHT]``; see `parse_weighted`."""
    return parse_weighted(text, "--model", "FOLDER")


def load_streams(models: Sequence[tuple[Path, float]]) -> list[Stream]:
    """Models of equal tags, with their weights.

    Raises
    ------
    ModelError
        If one cannot be loaded, or their tags differ.
    """
    from rratag.model import load_model

    streams = [Stream(str(path), weight, load_model(path)) for path, weight in models]
    first = streams[0]
    for other in streams[1:]:
        names = [set(stream.model.class_names) for stream in (first, other)]
        if names[0] == names[1] and first.model.class_names != other.model.class_names:
            raise ModelError(f"{other.name}: its tags are not in the order of those of {first.name}; train again")
        if names[0] != names[1]:
            one = min(names[0] ^ names[1])
            holder = first if one in names[0] else other
            raise ModelError(
                f"{first.name} and {other.name} have different tags ({len(names[0])} and {len(names[1])}; {shown(one)}"
                f" is one of {holder.name} alone); models are fused that were trained on the same tags"
            )
    return streams


def fuse(parts: Sequence[Prediction], weights: Sequence[float], receipt: Receipt | None = None) -> Fused:
    """One video's scores from those of several models.

    Parameters
    ----------
    parts : one of each model; equal class names in equal order
    weights : above 0, one of each model
    receipt : of the video; that of the first model by default

    Raises
    ------
    ValueError
        If the class names differ, or the numbers of parts and weights do.
    """
    if len(parts) != len(weights) or any(list(part.class_names) != list(parts[0].class_names) for part in parts):
        raise ValueError(f"{len(parts)} predictions of equal class names expected with {len(weights)} weights")
    proportions = shares(weights)
    return Fused(
        receipt=receipt or parts[0].receipt,
        class_names=parts[0].class_names,
        glimpse_scores=np.concatenate([part.glimpse_scores for part in parts]),
        scores=np.average([part.scores for part in parts], axis=0, weights=proportions),
        concatenation_scores=np.average([part.concatenation_scores for part in parts], axis=0, weights=proportions),
        parts=tuple(parts),
    )


def fuse_results(results: Sequence[Prediction | Receipt], streams: Sequence[Stream]) -> Prediction | Fused | Receipt:
    """What all models together say about one video, or its receipt where one of them has no features of it.

    Raises
    ------
    ValueError
        If the results are not of one video.
    """
    if len({result.video for result in results}) != 1:
        raise ValueError(f"results of one video expected, got {[result.video for result in results]}")
    if len(results) == 1:
        return results[0]
    receipts = [result if isinstance(result, Receipt) else result.receipt for result in results]
    receipt = worst(receipts, [stream.name for stream in streams])
    parts = [result for result in results if isinstance(result, Prediction)]
    if len(parts) < len(results):
        return receipt
    return fuse(parts, [stream.weight for stream in streams], receipt)


def worst(receipts: Sequence[Receipt], names: Sequence[str]) -> Receipt:
    """What became of a video in all streams: the worst of its receipts, its message naming the streams it is of.

    A video that fails in one stream fails: scores of some of the models are no scores of all of them.
    """
    said = {(receipt.status, receipt.reason, receipt.message) for receipt in receipts}
    if len(said) == 1:
        return receipts[0]
    found = max(receipts, key=lambda receipt: (not receipt.usable, receipt.status == "partial"))  # first among equals
    notes = [
        f"model {_one_line(name)}: {receipt.message or receipt.status}"
        for name, receipt in zip(names, receipts, strict=True)
        if receipt.message or receipt.status != "ok"
    ]
    return replace(found, message="; ".join(notes))


def _one_line(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)


class Fusion:
    """One prediction run of several models over one root: each video is decoded once for each kind of features.

    Parameters
    ----------
    streams : at least one; a single one is tagged as by itself
    requests : of each model, see `rratag.tag.run.model_request`

    Raises
    ------
    ModelError
        As `Tagging`.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        requests: Sequence[Request],
        discovery: Discovery,
        store: FeatureStore,
        options: RunOptions,
        override: Override | None = None,
        crop_fusion: str = "mean",
    ) -> None:
        self.streams = list(streams)
        groups: dict[tuple[str, Request], list[int]] = {}
        for number, (stream, request) in enumerate(zip(streams, requests, strict=True)):
            groups.setdefault((digest(stream.model.meaning), request), []).append(number)
        self.taggings: list[Tagging] = []
        self._places: dict[int, tuple[Tagging, int]] = {}
        for (_, request), numbers in groups.items():
            models = [streams[number].model for number in numbers]
            tagging = Tagging(models, discovery, request, store, options, override, crop_fusion)
            self.taggings.append(tagging)
            self._places |= {number: (tagging, place) for place, number in enumerate(numbers)}

    def tagging(self, number: int) -> Tagging:
        """The run that tags by the model of this number."""
        return self._places[number][0]

    def predictions(self) -> Iterator[Prediction | Fused | Receipt]:
        """One result per candidate, sorted by id, once every one of `taggings` has extracted."""
        each = [
            tagging.predictions(place) for tagging, place in map(self._places.__getitem__, range(len(self.streams)))
        ]
        for results in zip(*each, strict=True):
            yield fuse_results(results, self.streams)
