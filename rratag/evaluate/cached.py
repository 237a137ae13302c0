"""Judge a model, or several fused ones, by cached features of labelled videos."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rratag.data.labels import LabelSet, from_csv, from_file, from_folders, whole_videos
from rratag.data.short import is_bounded
from rratag.errors import LabelError, ModelError, UsageError
from rratag.evaluate.bootstrap import group_names
from rratag.evaluate.redundancy import Redundancy, applies_to, measure
from rratag.evaluate.report import Evaluation, ModelMetrics, evaluate, truth_of
from rratag.features.catalog import Catalog, Entry
from rratag.features.extract import RunOptions
from rratag.features.spec import differences, digest
from rratag.features.store import FeatureStore, JoinedStores, SpecStore
from rratag.model import LABELS_FILE, Model
from rratag.records import RGB, Instance, Receipt
from rratag.tag.fuse import Stream, fuse, load_streams
from rratag.tag.predict import Prediction, check_crop_fusion, check_views, predict_cached
from rratag.tag.run import Tagging, model_request
from rratag.train.run import find_listings
from rratag.video.discover import discover
from rratag.video.plan import chosen_frames
from rratag.video.views import CROPS

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

TEST_ON = ("video", "instance")

Progress = Callable[[Iterable[Receipt], int, str], Iterable[Receipt]]


def evaluate_model(
    folder: Path | Sequence[tuple[Path, float]],
    cache: Path,
    *,
    part: str | None = None,
    root: Path | None = None,
    labels: Path | None = None,
    columns: dict[str, str] | None = None,
    crops: str | None = None,
    crop_fusion: str = "mean",
    test_on: str = "video",
    test_frames: int | None = None,
    workers: int = 1,
    progress: Progress = lambda receipts, total, name: receipts,
) -> tuple[Evaluation, str, list[str]]:
    """Figures of a model folder, which videos they are of, and labelled videos that the cache does not hold.

    Parameters
    ----------
    folder : of the model; or folders and weights of several that are fused (`rratag.tag.fuse`), judged on the videos
        that stand in this part of the split of each and in the cache for each
    part : "test", "validation", "train" or "all" of the model's own split; None is test, or validation without a test
    root : judge all labelled videos of this extracted folder instead
    labels : label file of `root`; by default the first folder below it is the tag
    crops : cached features of other views than the model's own
    crop_fusion : how several views a frame become one score; see `rratag.tag.predict`
    test_on : "video" judges whole videos, by all their cached frames, against each label that the instances of the
        video have; "instance" each labelled interval, by the cached frames inside it
    test_frames : of these frames those at the middles of this many equal slices; all by default
    workers, progress : decode processes, and what the receipts pass through, where a model has its own backbone and
        its features are not cached yet

    Raises
    ------
    ModelError
        If a model or its labels are missing, the cached features are not what it takes, or models differ in their tags.
    LabelError
        If there is no labelled video to judge, or two models were trained on different labels of a video.
    UsageError
        If `crops`, `crop_fusion` or `test_on` is unknown, or `crop_fusion` would change nothing.
    """
    if test_on not in TEST_ON:
        raise UsageError(f"unknown --test-on {test_on!r}; choose from {', '.join(TEST_ON)}")
    streams = load_streams([(folder, 1.0)] if isinstance(folder, Path) else folder)
    check_crop_fusion(crop_fusion, [stream.model for stream in streams])
    store = FeatureStore(cache)
    # features of a model's own backbone may yet have to be extracted
    known = [None if _extracts(stream.model, crops) else _stores(stream.model, store, crops) for stream in streams]
    found, judged = _labelled(streams, store, part, root, labels, columns, untimed=test_on == "video")
    labelled = [one for one in found.instances if one.label is not None]
    instances = _whole(labelled) if test_on == "video" else labelled
    extract = partial(_extract, store=store, root=root, workers=workers, progress=progress)
    stores, kept = _ready(streams, known, store, crops, instances, extract) if instances else ([], [])
    missing = found.missing + sorted({one.video for one in instances} - {one.video for one in kept})
    if not kept:
        gone = f"; the cache does not hold {len(missing)} labelled ones" if missing else ""
        raise LabelError(f"{judged}: no labelled video to judge{gone}")
    check_views(crop_fusion, (own[0].spec.meaning for own in stores))
    return _judged(streams, stores, kept, crop_fusion, test_frames), judged, missing


def _ready(
    streams: Sequence[Stream],
    known: Sequence[list[SpecStore] | None],
    store: FeatureStore,
    crops: str | None,
    instances: Sequence[Instance],
    extract: Callable[[Model, Sequence[Instance]], None],
) -> tuple[list[list[SpecStore]], list[Instance]]:
    """Of each model the cached features, made where they are not `known`, and the instances that all of them hold."""
    stores = []
    for stream, own in zip(streams, known, strict=True):
        if own is None:
            extract(stream.model, instances)
        stores.append(own or _stores(stream.model, store, crops))
    return stores, [one for one in instances if all(JoinedStores(own).has(one.key) for own in stores)]


def _merged(instances: Sequence[Instance]) -> tuple[list[Instance], list[list[str]]]:
    """Each video or interval once, and its labels."""
    found: dict[tuple[str, float | None, float | None], tuple[Instance, list[str]]] = {}
    for one in instances:
        found.setdefault((one.video, one.start_s, one.end_s), (one, []))[1].append(str(one.label))
    return [one for one, _ in found.values()], [own for _, own in found.values()]


def _whole(instances: Sequence[Instance]) -> list[Instance]:
    """Whole videos instead of intervals, with a line if that makes a difference."""
    found = whole_videos(instances)
    if num_bounded := sum(map(is_bounded, instances)):
        logger.warning(
            "%d labelled intervals are judged as whole videos; --test-on instance judges each by its own frames",
            num_bounded,
        )
    return found


def _extracts(model: Model, crops: str | None) -> bool:
    """Whether missing features are extracted: those of a backbone that the model alone has, by its own views."""
    return model.backbone is not None and crops in (None, model.meaning.get("crops"))


def _extract(
    model: Model,
    instances: Sequence[Instance],
    *,
    store: FeatureStore,
    root: Path | None,
    workers: int,
    progress: Progress,
) -> None:
    """Features of the model's own backbone for these videos, as far as they are not there."""
    known = store.with_meaning(digest(model.meaning))
    wanted = {one.video for one in instances if not any(own.has(one.key) for own in known)}
    if not wanted:
        return
    for folder in [Path(name) for name in model.info.get("roots", [])] if root is None else [root]:
        found = discover([str(folder)])
        videos = [video for video in found.videos if video.id in wanted]
        if videos:
            part = replace(found, videos=videos, failures=[], is_whole=False)
            tagging = Tagging(model, part, model_request(model), store, RunOptions(workers))
            for _ in progress(tagging.extract(), len(videos), "evaluate"):
                pass


def _judged(
    streams: Sequence[Stream],
    stores: Sequence[Sequence[SpecStore]],
    labelled: Sequence[Instance],
    crop_fusion: str,
    test_frames: int | None,
) -> Evaluation:
    """Figures of the models' predictions together, and of each."""
    instances, names = _merged(labelled)
    groups = group_names([one.group for one in instances], [one.video for one in instances])
    each = [
        predictions(stream.model, own, instances, crop_fusion, test_frames)
        for stream, own in zip(streams, stores, strict=True)
    ]
    if len(each) == 1:
        alone, model = evaluate(each[0], names, groups=groups), streams[0].model
        if crop_fusion != "mean" or not applies_to(model.head):
            return alone
        return replace(alone, redundancy=_redundancy(model, stores[0], instances, names, each[0], test_frames))
    weights = [stream.weight for stream in streams]
    together = evaluate([fuse(parts, weights) for parts in zip(*each, strict=True)], names, groups=groups)
    models = [
        ModelMetrics(stream.name, stream.weight, evaluate(own, names).ensemble)
        for stream, own in zip(streams, each, strict=True)
    ]
    return replace(together, models=models)


def _redundancy(
    model: Model,
    stores: Sequence[SpecStore],
    instances: Sequence[Instance],
    names: Sequence[list[str]],
    said: Sequence[Prediction],
    test_frames: int | None,
) -> Redundancy:
    joined = JoinedStores(stores)

    def maps_of(one: Instance) -> NDArray[np.float16]:
        frames = chosen_frames(joined.header(one.key).time_s, one.start_s, one.end_s, most=test_frames)
        return joined.read(one.key, frames.tolist()).maps

    return measure(
        model.head,
        map(maps_of, instances),
        np.stack([one.glimpse_scores for one in said]),
        truth_of(names, model.class_names),
        group_names([one.group for one in instances], [one.video for one in instances]),
    )


def predictions(
    model: Model,
    stores: Sequence[SpecStore],
    instances: Sequence[Instance],
    crop_fusion: str = "mean",
    test_frames: int | None = None,
) -> list[Prediction]:
    """One prediction per instance, in order; of one with bounds, by the cached frames inside them: `chosen_frames`."""
    found: list[Prediction] = []
    for bounds, group in groupby(instances, key=lambda one: (one.start_s, one.end_s)):
        entries = (_entry(JoinedStores(stores), one) for one in group)
        frames_of = partial(chosen_frames, start_s=bounds[0], end_s=bounds[1], most=test_frames)
        all_of_them = bounds == (None, None) and test_frames is None
        results = predict_cached(
            model, stores, entries, crop_fusion=crop_fusion, frames_of=None if all_of_them else frames_of
        )
        found += (result for result in results if isinstance(result, Prediction))
    return found


def _labelled(
    streams: Sequence[Stream],
    store: FeatureStore,
    part: str | None,
    root: Path | None,
    labels: Path | None,
    columns: dict[str, str] | None,
    *,
    untimed: bool,
) -> tuple[LabelSet, str]:
    """Videos to judge, and what they are called."""
    if root is not None:
        ids_to_keys = find_listings(store, [root], streams[0].model.meaning.get("modality", RGB))[0].ids_to_keys()
        found = (
            LabelSet(from_folders(ids_to_keys))
            if labels is None
            else from_file(labels, ids_to_keys, columns, alone=True, untimed=untimed)
        )
        for line in found.doubts:
            logger.warning(line)
        return found, str(root)
    names = [stream.name for stream in streams]
    found, part = _own_part(Path(names[0]), streams[0].model, store, part)
    for stream in streams[1:]:
        theirs, _ = _own_part(Path(stream.name), stream.model, store, part)
        found = _common(found, theirs, f"the {part} parts of {names[0]} and {stream.name}")
    return found, f"{part} part of {' and '.join(names)}"


def _common(ours: LabelSet, theirs: LabelSet, what: str) -> LabelSet:
    """Instances of both parts: a video that one of the models was trained on is no test of the other.

    Raises
    ------
    LabelError
        If there is none, or a label differs.
    """
    known: dict[tuple[str, float | None, float | None], set[str | None]] = {}
    for one in theirs.instances:
        known.setdefault((one.video, one.start_s, one.end_s), set()).add(one.label)
    kept = [one for one in ours.instances if (one.video, one.start_s, one.end_s) in known]
    for one in kept:
        others = known[one.video, one.start_s, one.end_s]
        if one.label not in others:
            other = min(map(str, others))
            raise LabelError(
                f"{what}: {one.video} is {one.label!r} in one and {other!r} in the other; train on the same labels"
            )
    if ours.instances and not kept:
        raise LabelError(
            f"{what} have no video in common; train both with the same --labels (labels.csv of one of them), or give"
            " --root"
        )
    if left_out := len(ours.instances) - len(kept) + len(theirs.instances) - len(kept):
        logger.warning("%s differ: %d labelled videos are in one alone and not judged", what, left_out)
    return LabelSet(kept, sorted({*ours.missing, *theirs.missing}))


def _entry(stores: JoinedStores, one: Instance) -> Entry:
    header = stores.header(one.key)
    return Entry(header.source_size, 0, header.sha256, replace(header.receipt, video=one.video))


def _stores(model: Model, store: FeatureStore, crops: str | None) -> list[SpecStore]:
    """Specs of the model's meaning, or of other views than its own and else the same."""
    wanted = model.meaning
    if crops is None or crops == wanted.get("crops"):
        found = store.with_meaning(digest(wanted))
    elif crops not in CROPS:
        raise UsageError(f"unknown --crops {crops!r}; choose from {', '.join(CROPS)}")
    else:
        wanted = {**wanted, "crops": crops}
        # the scale of the views goes with them
        found = [one for one in store.specs() if one.spec.meaning | {"resize": wanted.get("resize")} == wanted]
    if not found:
        others = store.specs()
        nearest = min((differences(wanted, other.spec.meaning) for other in others), key=len, default=[])
        said = f" (nearest: {'; '.join(nearest)})" if nearest else ""
        with_crops = f" and --crops {crops}" if crops else ""
        raise ModelError(
            f"{store.cache}: no features of the kind this model takes{said}; extract with its settings{with_crops}"
        )
    return found


def trained_on(folder: Path, model: Model, store: FeatureStore) -> set[str]:
    """Keys of the videos that trained a model, as far as its folder and this cache know them."""
    if not (folder / LABELS_FILE).is_file():
        return set()
    return {one.key for one in _own_part(folder, model, store, "train")[0].instances}


def _own_part(folder: Path, model: Model, store: FeatureStore, part: str | None) -> tuple[LabelSet, str]:
    """Videos of one part of the split that the model was trained with, and which part that is."""
    path = folder / LABELS_FILE
    if not path.is_file():
        raise ModelError(f"{path}: missing; name an extracted folder with --root")
    ids_to_keys: dict[str, str] = {}
    catalog = Catalog(store.cache)
    modality = model.meaning.get("modality", RGB)
    for root in map(Path, model.info.get("roots", [])):
        # a video that fails in one modality only stands in the listing of the other
        listing = catalog.find(root, "extract", modality=modality) or catalog.find(root, "extract")
        if listing is not None:
            ids_to_keys |= listing.ids_to_keys()
    found = from_csv(path, ids_to_keys)
    if part is None:
        part = "test" if any(one.split == "test" for one in found.instances) else "validation"
    labelled = (one for one in found.instances if one.label is not None)  # others came to the root since
    return LabelSet([one for one in labelled if part in ("all", one.split)], found.missing), part
