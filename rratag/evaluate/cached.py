"""Judge a model by cached features of labelled videos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from rratag.data.labels import LabelSet, from_csv, from_folders
from rratag.errors import LabelError, ModelError
from rratag.evaluate.report import Evaluation, evaluate
from rratag.features.catalog import Catalog, Entry
from rratag.features.extract import RunOptions
from rratag.features.spec import differences, digest
from rratag.features.store import Features, FeatureStore, JoinedStores, SpecStore
from rratag.model import LABELS_FILE, Model, load_model
from rratag.records import Instance, Receipt
from rratag.tag.predict import Prediction, predict_cached
from rratag.tag.run import Tagging, model_request
from rratag.train.run import find_listings
from rratag.video.discover import discover
from rratag.video.plan import frames_inside


def evaluate_model(
    folder: Path,
    cache: Path,
    *,
    part: str | None = None,
    root: Path | None = None,
    labels: Path | None = None,
    columns: dict[str, str] | None = None,
    workers: int = 1,
    progress: Callable[[Iterable[Receipt], int, str], Iterable[Receipt]] = lambda receipts, total, name: receipts,
) -> tuple[Evaluation, str, list[str]]:
    """Figures of a model folder, which videos they are of, and labelled videos that the cache does not hold.

    Parameters
    ----------
    part : "test", "validation", "train" or "all" of the model's own split; None is test, or validation without a test
    root : judge all labelled videos of this extracted folder instead
    labels : label file of `root`; by default the first folder below it is the tag
    workers, progress : decode processes, and what the receipts pass through, where the model has its own backbone and
        its features are not cached yet

    Raises
    ------
    ModelError
        If the model or its labels are missing, or the cached features are not what it takes.
    LabelError
        If there is no labelled video to judge.
    """
    model, store = load_model(folder), FeatureStore(cache)
    stores = _stores(model, store) if model.backbone is None else []
    if root is None:
        found, part = _own_part(folder, model, store, part)
        judged = f"{part} part of {folder}"
    else:
        ids_to_keys = find_listings(store, [root])[0].ids_to_keys()
        found = LabelSet(from_folders(ids_to_keys)) if labels is None else from_csv(labels, ids_to_keys, columns)
        judged = str(root)
    instances = [one for one in found.instances if one.label is not None]
    if not instances:
        gone = f"; the cache does not hold {len(found.missing)} labelled ones" if found.missing else ""
        raise LabelError(f"{judged}: no labelled video to judge{gone}")
    missing = list(found.missing)
    if model.backbone is not None:
        _extract(model, store, root, instances, workers, progress)
        stores = _stores(model, store)
        missing += [one.video for one in instances if not JoinedStores(stores).has(one.key)]
        instances = [one for one in instances if JoinedStores(stores).has(one.key)]
    judgement = evaluate(predictions(model, stores, instances), [str(one.label) for one in instances])
    return judgement, judged, missing


def _extract(
    model: Model,
    store: FeatureStore,
    root: Path | None,
    instances: Sequence[Instance],
    workers: int,
    progress: Callable[[Iterable[Receipt], int, str], Iterable[Receipt]],
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


def predictions(model: Model, stores: Sequence[SpecStore], instances: Sequence[Instance]) -> list[Prediction]:
    """One prediction per instance, in order; of one with bounds, by the cached frames inside them."""
    found: list[Prediction] = []
    for bounds, group in groupby(instances, key=lambda one: (one.start_s, one.end_s)):
        inside = stores if bounds == (None, None) else [_Interval(store, *bounds) for store in stores]
        entries = (_entry(JoinedStores(stores), one) for one in group)
        found += (result for result in predict_cached(model, inside, entries) if isinstance(result, Prediction))
    return found


def _entry(stores: JoinedStores, one: Instance) -> Entry:
    header = stores.header(one.key)
    return Entry(header.source_size, 0, header.sha256, replace(header.receipt, video=one.video))


class _Interval(SpecStore):
    """A store that gives only the cached frames inside an interval, as training saw them."""

    def __init__(self, store: SpecStore, start_s: float | None, end_s: float | None) -> None:
        super().__init__(store.folder, store.spec)
        self._store, self._bounds = store, (start_s, end_s)

    def read(self, key: str, frames: Sequence[int] | None = None) -> Features:
        inside = frames_inside(self._store.header(key).time_s, *self._bounds)
        return self._store.read(key, (inside if frames is None else inside[list(frames)]).tolist())


def _stores(model: Model, store: FeatureStore) -> list[SpecStore]:
    """Specs of the model's meaning."""
    found = store.with_meaning(digest(model.meaning))
    if not found:
        others = store.specs()
        nearest = min((differences(model.meaning, other.spec.meaning) for other in others), key=len, default=[])
        said = f" (nearest: {'; '.join(nearest)})" if nearest else ""
        raise ModelError(f"{store.cache}: no features of the kind this model takes{said}; extract with its settings")
    return found


def _own_part(folder: Path, model: Model, store: FeatureStore, part: str | None) -> tuple[LabelSet, str]:
    """Videos of one part of the split that the model was trained with, and which part that is."""
    path = folder / LABELS_FILE
    if not path.is_file():
        raise ModelError(f"{path}: missing; name an extracted folder with --root")
    ids_to_keys: dict[str, str] = {}
    catalog = Catalog(store.cache)
    for root in model.info.get("roots", []):
        listing = catalog.find(Path(root), "extract")
        if listing is not None:
            ids_to_keys |= listing.ids_to_keys()
    found = from_csv(path, ids_to_keys)
    if part is None:
        part = "test" if any(one.split == "test" for one in found.instances) else "validation"
    return LabelSet([one for one in found.instances if part in ("all", one.split)], found.missing), part
