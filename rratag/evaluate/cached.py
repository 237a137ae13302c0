"""Judge a model by cached features of labelled videos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rratag.data.labels import from_csv, from_folders
from rratag.errors import LabelError, ModelError
from rratag.evaluate.report import Evaluation, evaluate
from rratag.features.catalog import Catalog, Entry
from rratag.features.spec import differences, digest
from rratag.features.store import FeatureStore, SpecStore
from rratag.model import Model, load_model
from rratag.records import Instance
from rratag.tag.predict import Prediction, predict_cached
from rratag.train.run import LABELS_FILE, find_listings


def evaluate_model(
    folder: Path,
    cache: Path,
    *,
    part: str | None = None,
    root: Path | None = None,
    labels: Path | None = None,
    columns: dict[str, str] | None = None,
) -> tuple[Evaluation, str]:
    """Figures of a model folder, and which videos they are of.

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
        instances, judged = _own_part(folder, model, store, part)
    else:
        ids_to_keys = find_listings(store, [root])[0].ids_to_keys()
        found = from_folders(ids_to_keys) if labels is None else from_csv(labels, ids_to_keys, columns).instances
        instances, judged = [one for one in found if one.label is not None], str(root)
    if not instances:
        raise LabelError(f"{judged}: no labelled video to judge")
    return evaluate(predictions(model, stores, instances), [str(one.label) for one in instances]), judged


def predictions(model: Model, stores: list[SpecStore], instances: list[Instance]) -> list[Prediction]:
    """One prediction per instance, in order; whole videos."""
    entries = []
    for one in instances:
        holder = next((store for store in stores if store.has(one.key)), stores[0])
        header = holder.header(one.key)
        entries.append(Entry(header.source_size, 0, header.sha256, replace(header.receipt, video=one.video)))
    return [result for result in predict_cached(model, stores, entries) if isinstance(result, Prediction)]


def _stores(model: Model, store: FeatureStore) -> list[SpecStore]:
    """Specs of the model's meaning."""
    found = store.with_meaning(digest(model.meaning))
    if not found:
        others = store.specs()
        nearest = min((differences(model.meaning, other.spec.meaning) for other in others), key=len, default=[])
        said = f" (nearest: {'; '.join(nearest)})" if nearest else ""
        raise ModelError(f"{store.cache}: no features of the kind this model takes{said}; extract with its settings")
    return found


def _own_part(folder: Path, model: Model, store: FeatureStore, part: str | None) -> tuple[list[Instance], str]:
    """Videos of one part of the split that the model was trained with."""
    path = folder / LABELS_FILE
    if not path.is_file():
        raise ModelError(f"{path}: missing; name an extracted folder with --root")
    ids_to_keys: dict[str, str] = {}
    catalog = Catalog(store.cache)
    for root in model.info.get("roots", []):
        listing = catalog.find(Path(root), "extract")
        if listing is not None:
            ids_to_keys |= listing.ids_to_keys()
    instances = [one for one in from_csv(path, ids_to_keys).instances if one.label is not None]
    if part is None:
        part = "test" if any(one.split == "test" for one in instances) else "validation"
    return [one for one in instances if part in ("all", one.split)], f"{part} part of {folder}"
