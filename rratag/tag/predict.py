"""From cached features to tags: the head over groups of videos, scores of every glimpse, and evidence.

Frames of one view share one softmax of attention; over several views the probabilities are averaged.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rratag.errors import CacheError, DamagedError, ModelError, StoppedError, UsageError
from rratag.explain.evidence import Evidence, peak
from rratag.features.store import JoinedStores
from rratag.head.scores import concatenation_scores, ensemble_scores, glimpse_scores
from rratag.records import Receipt
from rratag.video.views import ViewRule

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rratag.features.catalog import Entry
    from rratag.features.store import Features, SpecStore
    from rratag.model import Model

logger = logging.getLogger(__name__)

SCORES = {"ensemble": "scores", "concat": "concatenation_scores"}
"""``--score``: name on the command line, attribute of `Prediction`."""

GROUP_BYTES = 128 * 2**20
"""Maps held at once, as float32: videos of equal map shape among them go through the head together."""


@dataclass(frozen=True)
class Prediction:
    """What the model says about one video. K glimpses, V views per frame, T frames.

    Parameters
    ----------
    receipt : what became of the file; `ok` or `partial`
    class_names : sorted; positions are the class numbers below
    logits : of shape (V, K, classes)
    glimpse_scores : of shape (K, classes), each glimpse's softmax, mean over views
    scores : of shape (classes,), ensemble scores (Eq. 6), mean over views
    concatenation_scores : of shape (classes,), softmax of the summed logits (Eq. 4), mean over views
    attention : of shape (K, T), mass on each frame, mean over views; sums to 1 over T
    time_s : of shape (T,), seconds
    peak_frames : of shape (V, K), position of the frame that holds the greatest mass
    peak_boxes : of shape (V, K, 4), the box in it; x0, y0, x1, y1, fractions of the upright full picture
    """

    receipt: Receipt
    class_names: Sequence[str]
    logits: NDArray[np.float32]
    glimpse_scores: NDArray[np.float64]
    scores: NDArray[np.float64]
    concatenation_scores: NDArray[np.float64]
    attention: NDArray[np.float64]
    time_s: NDArray[np.float64]
    peak_frames: NDArray[np.int64]
    peak_boxes: NDArray[np.float64]

    @property
    def video(self) -> str:
        """The video's id."""
        return self.receipt.video

    @property
    def frames_used(self) -> int:
        """T, frames the head saw."""
        return len(self.time_s)

    def ranking(self, score: str = "ensemble") -> list[int]:
        """Class numbers by falling score (``ensemble`` or ``concat``); equal scores by class number."""
        return [int(label) for label in np.argsort(-getattr(self, SCORES[score]), kind="stable")]

    def evidence(self, label: int | str) -> Evidence:
        """When and where the model looked for `label` (class number or name).

        Of all glimpses the one with the highest score for this label (the first among equals); of its views the one in
        which that glimpse scores the label highest; there the frame with the greatest attention mass, and the smallest
        box of cells holding half of that frame's mass (`rratag.explain.evidence`).
        """
        number = self.class_names.index(label) if isinstance(label, str) else label
        glimpse = int(np.argmax(self.glimpse_scores[:, number]))
        view = int(np.argmax(_log_softmax(self.logits[:, glimpse])[:, number]))
        frame = int(self.peak_frames[view, glimpse])
        x0, y0, x1, y1 = (float(side) for side in self.peak_boxes[view, glimpse])
        return Evidence(glimpse, view, frame, float(self.time_s[frame]), (x0, y0, x1, y1))


def predict_cached(
    model: Model,
    store: SpecStore | Sequence[SpecStore],
    entries: Iterable[Entry],
    again: Callable[[Entry], Entry] | None = None,
) -> Iterator[Prediction | Receipt]:
    """Tag videos from the cache.

    Parameters
    ----------
    model : its head's device is where the head runs
    store : features of the model's meaning, or of another sampling or view the user asked for; several of equal
        meaning are asked in turn
    entries : of a listing, in any order
    again : called with an entry whose features are damaged or gone, extracts them again; None raises instead

    Returns
    -------
    One result per entry, in the order of `entries`: a `Prediction`, or the entry's receipt where it has no features.

    Raises
    ------
    CacheError
        If features that should be there are missing or damaged, once more after `again`.
    ModelError
        If the features do not have the channels the head was made for, or scores are not finite.

    Notes
    -----
    Memory is bounded by `GROUP_BYTES` of maps (or one video, if larger), whatever the number of entries.
    """
    stores = JoinedStores(store if isinstance(store, Sequence) else [store])
    rule = view_rule(stores.stores[0].spec.meaning)
    waiting: list[Receipt | _Loaded] = []
    held = 0
    for entry in entries:
        item = _load(stores, entry, again)
        if isinstance(item, _Loaded):
            size = item.features.maps.size * 4
            if held and held + size > GROUP_BYTES:
                yield from _flush(model, rule, waiting)
                waiting, held = [], 0
            held += size
        waiting.append(item)
        if not held:
            yield from _flush(model, rule, waiting)
            waiting = []
    yield from _flush(model, rule, waiting)


@dataclass(frozen=True)
class _Loaded:
    receipt: Receipt
    features: Features


def _load(store: JoinedStores, entry: Entry, again: Callable[[Entry], Entry] | None) -> Receipt | _Loaded:
    """Features of an entry; its receipt where it has none."""
    if not entry.receipt.usable:
        return entry.receipt
    try:
        return _Loaded(entry.receipt, store.read(entry.key))
    except DamagedError as error:
        if again is None:
            raise
        logger.warning("%s: its cached features are set aside and made again: %s", entry.id, error)
        try:
            return _load(store, again(entry), None)
        except StoppedError as problem:  # the other videos can be tagged all the same
            return Receipt(entry.id, "unreadable", "corrupt", f"its cached features, not the video: {problem}")


def _flush(model: Model, rule: ViewRule, waiting: list[Receipt | _Loaded]) -> Iterator[Prediction | Receipt]:
    """Run the head once per map shape; hand results back in order."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for position, item in enumerate(waiting):
        if isinstance(item, _Loaded):
            groups[item.features.maps.shape].append(position)
    done: dict[int, Prediction] = {}
    for positions in groups.values():
        loaded = [item for item in (waiting[position] for position in positions) if isinstance(item, _Loaded)]
        done.update(zip(positions, _predict_group(model, rule, loaded), strict=True))
    for position, item in enumerate(waiting):
        yield item if isinstance(item, Receipt) else done[position]


def view_rule(meaning: dict[str, Any]) -> ViewRule:
    """How the features' views lie in the picture, from a spec's meaning.

    Raises
    ------
    CacheError
        If the meaning does not say.
    """
    try:
        size = meaning["input_size"]
        resize = meaning["resize"] or size  # no shorter side to resize to where the whole picture is seen
        return ViewRule(meaning["crops"], size, resize, str(meaning["interpolation"]).partition(",")[0])
    except (KeyError, TypeError, UsageError) as error:
        raise CacheError(f"the features do not say how they see a picture ({error}); extract again") from error


def _predict_group(model: Model, rule: ViewRule, videos: list[_Loaded]) -> list[Prediction]:
    """Predictions for videos of equal (T, V, h, w, C)."""
    frames, views, height, width, channels = videos[0].features.maps.shape
    if channels != model.head_config.channels:
        raise ModelError(
            f"{videos[0].receipt.video}: features have {channels} channels, the model takes"
            f" {model.head_config.channels}; extract again with the model's backbone"
        )
    device = next(model.head.parameters()).device
    maps = torch.from_numpy(np.stack([video.features.maps for video in videos]))  # [B,T,V,h,w,C] float16
    with torch.inference_mode():
        maps = maps.to(device).float().transpose(1, 2).reshape(-1, frames, height, width, channels)  # [B*V,T,h,w,C]
        output = model.head(maps)
        logits = output.logits.float()
        per_glimpse = _by_view(glimpse_scores(logits), views)  # [B,V,K,classes]
        ensemble = _by_view(ensemble_scores(logits, output.weights), views).mean(axis=1)
        concatenation = _by_view(concatenation_scores(logits), views).mean(axis=1)
        attention = _by_view(output.attention, views)  # [B,V,K,T,h,w]
    all_logits = _by_view(logits, views)
    return [
        _prediction(
            model, rule, video, all_logits[row], per_glimpse[row], ensemble[row], concatenation[row], attention[row]
        )
        for row, video in enumerate(videos)
    ]


def _prediction(
    model: Model,
    rule: ViewRule,
    video: _Loaded,
    logits: NDArray[np.float64],
    per_glimpse: NDArray[np.float64],
    ensemble: NDArray[np.float64],
    concatenation: NDArray[np.float64],
    attention: NDArray[np.float64],
) -> Prediction:
    """One video's prediction; `logits`, `per_glimpse` [V,K,classes], `attention` [V,K,T,h,w]."""
    if not np.isfinite(logits).all():
        raise ModelError(
            f"{video.receipt.video}: the model's scores are not finite; its weights or features are damaged"
        )
    views, glimpses = logits.shape[:2]
    rectangles = rule.rectangles(video.receipt.width, video.receipt.height)  # [V,4]
    frames = np.zeros((views, glimpses), np.int64)
    boxes = np.zeros((views, glimpses, 4))
    for view in range(views):
        for glimpse in range(glimpses):
            frames[view, glimpse], boxes[view, glimpse] = peak(attention[view, glimpse], rectangles[view])
    return Prediction(
        receipt=video.receipt,
        class_names=model.class_names,
        logits=logits.astype(np.float32),
        glimpse_scores=per_glimpse.mean(axis=0),
        scores=ensemble,
        concatenation_scores=concatenation,
        attention=attention.sum(axis=(3, 4)).mean(axis=0),
        time_s=video.features.time_s,
        peak_frames=frames,
        peak_boxes=boxes,
    )


def _by_view(values: torch.Tensor, views: int) -> NDArray[np.float64]:
    """(B*V, ...) -> (B, V, ...) in float64 on the host."""
    return values.double().reshape(-1, views, *values.shape[1:]).cpu().numpy()


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over the last axis; for comparing views, whose logits have no common scale."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
