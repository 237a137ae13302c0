"""From features to tags: the head over groups of videos, scores of every glimpse, and evidence.

Several views a frame are fused in one of two ways (`CROP_FUSIONS`). ``mean``: the frames of one view share one softmax
of attention, and the probabilities are averaged over the views. ``joint``: all views of all frames share one softmax.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rratag.errors import CacheError, DamagedError, ModelError, StoppedError, UsageError
from rratag.explain.evidence import Evidence, peak, peak_frame
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

CROP_FUSIONS = ("mean", "joint")
"""``--crop-fusion``: one softmax of attention a view and the mean of the probabilities, or one softmax over all."""

FramesOf = Callable[["NDArray[np.float64]"], "NDArray[np.int64]"]

GROUP_BYTES = 128 * 2**20
"""Maps held at once, as float32: videos of equal map shape among them go through the head together."""


@dataclass(frozen=True)
class Scored:
    """Scores of one video, of one model or of several fused ones. K glimpses.

    Parameters
    ----------
    receipt : what became of the file; `ok` or `partial`
    class_names : sorted; positions are the class numbers below
    glimpse_scores : of shape (K, classes), each glimpse's softmax, mean over views
    scores : of shape (classes,), ensemble scores (Eq. 6), mean over views
    concatenation_scores : of shape (classes,), softmax of the summed logits (Eq. 4), mean over views
    """

    receipt: Receipt
    class_names: Sequence[str]
    glimpse_scores: NDArray[np.float64]
    scores: NDArray[np.float64]
    concatenation_scores: NDArray[np.float64]

    @property
    def video(self) -> str:
        """The video's id."""
        return self.receipt.video

    def ranking(self, score: str = "ensemble") -> list[int]:
        """Class numbers by falling score (``ensemble`` or ``concat``); equal scores by class number."""
        return [int(label) for label in np.argsort(-getattr(self, SCORES[score]), kind="stable")]


@dataclass(frozen=True)
class Prediction(Scored):
    """What one model says about one video. K glimpses, V passes of the head, T frames.

    V is the number of views a frame, each of which is a pass of its own, or 1 where they are fused jointly.

    Parameters
    ----------
    logits : of shape (V, K, classes)
    attention : of shape (K, T), mass on each frame, mean over views; sums to 1 over T
    time_s : of shape (T,), seconds
    peak_frames : of shape (V, K), position of the frame that holds the greatest mass
    peak_boxes : of shape (V, K, 4), the box in it; x0, y0, x1, y1, fractions of the upright full picture
    peak_views : of shape (V, K), the view of that frame; None where pass v is view v
    cells : of shape (V, K, T, h, w), the attention itself, where it was asked for; of joint views (1, K, T*V, h, w)
    """

    logits: NDArray[np.float32]
    attention: NDArray[np.float64]
    time_s: NDArray[np.float64]
    peak_frames: NDArray[np.int64]
    peak_boxes: NDArray[np.float64]
    peak_views: NDArray[np.int64] | None = None
    cells: NDArray[np.float32] | None = None

    @property
    def frames_used(self) -> int:
        """T, frames the head saw."""
        return len(self.time_s)

    @property
    def parts(self) -> tuple[Prediction, ...]:
        """Itself alone; of several fused models one each."""
        return (self,)

    def evidence(self, label: int | str) -> Evidence:
        """When and where the model looked for `label` (class number or name): `evidence_of` the glimpse for it.

        That is the one with the highest score for this label, the first among equals.
        """
        number = self.class_names.index(label) if isinstance(label, str) else label
        return self.evidence_of(int(np.argmax(self.glimpse_scores[:, number])), number)

    def evidence_of(self, glimpse: int, number: int) -> Evidence:
        """When and where this glimpse looked for the class of this number.

        Of its views the one in which it scores the class highest; there the frame with the greatest attention mass, and
        the smallest box of cells holding half of that frame's mass (`rratag.explain.evidence`). Where the views are
        fused jointly, the view of a frame that holds the greatest mass among all views of all frames.
        """
        row = int(np.argmax(_log_softmax(self.logits[:, glimpse])[:, number]))
        view = row if self.peak_views is None else int(self.peak_views[row, glimpse])
        frame = int(self.peak_frames[row, glimpse])
        x0, y0, x1, y1 = (float(side) for side in self.peak_boxes[row, glimpse])
        return Evidence(glimpse, view, frame, float(self.time_s[frame]), (x0, y0, x1, y1))


def predict_cached(
    model: Model,
    store: SpecStore | Sequence[SpecStore],
    entries: Iterable[Entry],
    again: Callable[[Entry], Entry] | None = None,
    crop_fusion: str = "mean",
    frames_of: FramesOf | None = None,
    *,
    keep_cells: bool = False,
) -> Iterator[Prediction | Receipt]:
    """Tag videos from the cache.

    Parameters
    ----------
    model : its head's device is where the head runs
    store : features of the model's meaning, or of another sampling or view the user asked for; several of equal
        meaning are asked in turn
    entries : of a listing, in any order
    again : called with an entry whose features are damaged or gone, extracts them again; None raises instead
    crop_fusion : one of `CROP_FUSIONS`
    frames_of : times of a video's cached frames, in seconds, to the positions of those that count; all by default
    keep_cells : give the attention to every cell, too: some ten thousand numbers a video

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
        item = _load(stores, entry, again, frames_of)
        if isinstance(item, _Loaded):
            size = item.features.maps.size * 4
            if held and held + size > GROUP_BYTES:
                yield from _flush(model, rule, waiting, crop_fusion, keep_cells)
                waiting, held = [], 0
            held += size
        waiting.append(item)
        if not held:
            yield from _flush(model, rule, waiting, crop_fusion, keep_cells)
            waiting = []
    yield from _flush(model, rule, waiting, crop_fusion, keep_cells)


@dataclass(frozen=True)
class _Loaded:
    receipt: Receipt
    features: Features


def _load(
    store: JoinedStores, entry: Entry, again: Callable[[Entry], Entry] | None, frames_of: FramesOf | None
) -> Receipt | _Loaded:
    """Features of an entry; its receipt where it has none."""
    if not entry.receipt.usable:
        return entry.receipt
    try:
        frames = None if frames_of is None else frames_of(store.header(entry.key).time_s).tolist()
        return _Loaded(entry.receipt, store.read(entry.key, frames))
    except DamagedError as error:
        if again is None:
            raise
        logger.warning("%s: its cached features are set aside and made again: %s", entry.id, error)
        try:
            return _load(store, again(entry), None, frames_of)
        except StoppedError as problem:  # the other videos can be tagged all the same
            return Receipt(entry.id, "unreadable", "corrupt", f"its cached features, not the video: {problem}")


def _flush(
    model: Model, rule: ViewRule, waiting: list[Receipt | _Loaded], crop_fusion: str, keep_cells: bool
) -> Iterator[Prediction | Receipt]:
    """Run the head once per map shape; hand results back in order."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for position, item in enumerate(waiting):
        if isinstance(item, _Loaded):
            groups[item.features.maps.shape].append(position)
    done: dict[int, Prediction] = {}
    for positions in groups.values():
        loaded = [item for item in (waiting[position] for position in positions) if isinstance(item, _Loaded)]
        done.update(zip(positions, _predict_group(model, rule, loaded, crop_fusion, keep_cells), strict=True))
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


def predict_features(
    model: Model, meaning: dict[str, Any], receipt: Receipt, features: Features, crop_fusion: str = "mean"
) -> Prediction:
    """Tag one video from features in memory; `meaning` is theirs. Errors as of `predict_cached`."""
    (found,) = _predict_group(model, view_rule(meaning), [_Loaded(receipt, features)], crop_fusion)
    return found


def check_crop_fusion(name: str, models: Sequence[Model]) -> None:
    """Refuse a way to fuse views that is unknown, or that a head cannot take.

    Raises
    ------
    UsageError
        If so.
    """
    if name not in CROP_FUSIONS:
        raise UsageError(f"unknown --crop-fusion {name!r}; choose from {', '.join(CROP_FUSIONS)}")
    if name == "joint" and any(model.head_config.kind == "single-frame" for model in models):
        raise UsageError("--crop-fusion joint: a single-frame head looks at one picture alone; use mean")


def check_views(crop_fusion: str, meanings: Iterable[dict[str, Any]]) -> None:
    """Refuse a way to fuse views where no features have several; `meanings` are theirs.

    Raises
    ------
    UsageError
        If so.
    """
    if crop_fusion != "mean" and all(view_rule(meaning).num_views == 1 for meaning in meanings):
        raise UsageError(
            f"--crop-fusion {crop_fusion} changes nothing here: a frame has one view; give --crops 3, 5 or 10"
        )


def _predict_group(
    model: Model, rule: ViewRule, videos: list[_Loaded], crop_fusion: str, keep_cells: bool = False
) -> list[Prediction]:
    """Predictions for videos of equal (T, V, h, w, C)."""
    _, views, height, width, channels = videos[0].features.maps.shape
    if channels != model.head_config.channels:
        raise ModelError(
            f"{videos[0].receipt.video}: features have {channels} channels, the model takes"
            f" {model.head_config.channels}; extract again with the model's backbone"
        )
    device = next(model.head.parameters()).device
    maps = torch.from_numpy(np.stack([video.features.maps for video in videos]))  # [B,T,V,h,w,C] float16
    passes = 1 if crop_fusion == "joint" else views
    with torch.inference_mode():
        maps = maps.to(device).float()
        if passes > 1:
            maps = maps.transpose(1, 2)  # [B,V,T,h,w,C]
        # a pass takes the frames of one view, or all views of all frames: [B*V,T,h,w,C] or [B,T*V,h,w,C]
        output = model.head(maps.reshape(len(videos) * passes, -1, height, width, channels))
        logits = output.logits.float()
        per_glimpse = _by_pass(glimpse_scores(logits), passes)  # [B,P,K,classes]
        ensemble = _by_pass(ensemble_scores(logits, output.weights), passes).mean(axis=1)
        concatenation = _by_pass(concatenation_scores(logits), passes).mean(axis=1)
        attention = _by_pass(output.attention, passes)  # [B,P,K,T,h,w]; [B,1,K,T*V,h,w] if joint
    all_logits = _by_pass(logits, passes)
    found = [
        _prediction(
            model, rule, video, all_logits[row], per_glimpse[row], ensemble[row], concatenation[row], attention[row]
        )
        for row, video in enumerate(videos)
    ]
    return (
        [replace(one, cells=attention[row].astype(np.float32)) for row, one in enumerate(found)]
        if keep_cells
        else found
    )


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
    """One video's prediction; `logits`, `per_glimpse` [P,K,classes], `attention` [P,K,T*V/P,h,w]."""
    if not np.isfinite(logits).all():
        raise ModelError(
            f"{video.receipt.video}: the model's scores are not finite; its weights or features are damaged"
        )
    passes, glimpses = logits.shape[:2]
    frames = len(video.features.time_s)
    rectangles = rule.rectangles(video.receipt.width, video.receipt.height)  # [V,4]
    peaks = np.zeros((2, passes, glimpses), np.int64)  # frame and view
    boxes = np.zeros((passes, glimpses, 4))
    joint = passes < len(rectangles)
    for row in range(passes):
        for glimpse in range(glimpses):
            place = peak_frame(attention[row, glimpse])
            frame, view = divmod(place, len(rectangles)) if joint else (place, row)
            peaks[:, row, glimpse] = frame, view
            _, boxes[row, glimpse] = peak(attention[row, glimpse, place : place + 1], rectangles[view])
    by_frame = attention.sum(axis=(3, 4)).reshape(passes, glimpses, frames, -1).sum(axis=-1)
    return Prediction(
        receipt=video.receipt,
        class_names=model.class_names,
        logits=logits.astype(np.float32),
        glimpse_scores=per_glimpse.mean(axis=0),
        scores=ensemble,
        concatenation_scores=concatenation,
        attention=by_frame.mean(axis=0),
        time_s=video.features.time_s,
        peak_frames=peaks[0],
        peak_boxes=boxes,
        peak_views=peaks[1] if joint else None,
    )


def _by_pass(values: torch.Tensor, passes: int) -> NDArray[np.float64]:
    """(B*P, ...) -> (B, P, ...) in float64 on the host."""
    return values.double().reshape(-1, passes, *values.shape[1:]).cpu().numpy()


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over the last axis; for comparing views, whose logits have no common scale."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
