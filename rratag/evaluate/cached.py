"""Judge a model by cached features of labelled videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np

from rratag.data.labels import LabelSet, from_csv, from_folders
from rratag.errors import LabelError, ModelError
from rratag.evaluate.bootstrap import group_names
from rratag.evaluate.redundancy import Redundancy, applies_to, measure
from rratag.evaluate.report import Evaluation, evaluate, numbers
from rratag.features.catalog import Catalog, Entry
from rratag.features.spec import differences, digest
from rratag.features.store import Features, FeatureStore, JoinedStores, SpecStore
from rratag.model import LABELS_FILE, Model, load_model
from rratag.records import Instance
from rratag.tag.predict import Prediction, predict_cached
from rratag.train.run import find_listings
from rratag.video.plan import frames_inside


def evaluate_model(
    folder: Path,
    cache: Path,
    *,
    part: str | None = None,
    root: Path | None = None,
    labels: Path | None = None,
    columns: dict[str, str] | None = None,
) -> tuple[Evaluation, str, list[str]]:
    """Figures of a model folder, which videos they are of, and labelled videos that the cache does not hold.

    Parameters
    ----------
    part : "test", "validation", "train" or "all" of the model's own split; None is test, or validation without a test
    root : judge all labelled videos of this extracted folder instead
    labels : label file of `root`; by default the first folder below it is the tag

    Raises
    ------
    ModelError
        If the model or its labels are missing, or the cached features are not what it takes.
    LabelError
        If there is no labelled video to judge.
    """
    model, store = load_model(folder), FeatureStore(cache)
    stores = _stores(model, store)
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
    said = predictions(model, stores, instances)
    judgement = evaluate(said, [str(one.label) for one in instances])
    if applies_to(model.head):
        judgement = replace(judgement, redundancy=_redundancy(model, stores, instances, said))
    return judgement, judged, found.missing


def _redundancy(
    model: Model, stores: Sequence[SpecStore], instances: Sequence[Instance], said: Sequence[Prediction]
) -> Redundancy:
    return measure(
        model.head,
        (_inside(stores, one.start_s, one.end_s).read(one.key).maps for one in instances),
        np.stack([one.glimpse_scores for one in said]),
        numbers([str(one.label) for one in instances], model.class_names),
        group_names([one.group for one in instances], [one.video for one in instances]),
    )


def _inside(stores: Sequence[SpecStore], start_s: float | None, end_s: float | None) -> JoinedStores:
    """Stores that give the cached frames of an interval, or of the whole video without one."""
    bounds = start_s, end_s
    return JoinedStores(stores if bounds == (None, None) else [_Interval(store, *bounds) for store in stores])


def predictions(model: Model, stores: Sequence[SpecStore], instances: Sequence[Instance]) -> list[Prediction]:
    """One prediction per instance, in order; of one with bounds, by the cached frames inside them."""
    found: list[Prediction] = []
    for bounds, group in groupby(instances, key=lambda one: (one.start_s, one.end_s)):
        entries = (_entry(JoinedStores(stores), one) for one in group)
        found += (
            result
            for result in predict_cached(model, _inside(stores, *bounds).stores, entries)
            if isinstance(result, Prediction)
        )
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
