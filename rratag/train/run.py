"""From a cache and labels to a saved model: which videos, which split, which head."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rratag.data.datasets import CachedDataset
from rratag.data.frames import FrameDataset
from rratag.data.label_file import labels_csv
from rratag.data.labels import LabelSet, class_names, from_file, from_folders, with_groups
from rratag.data.short import Short, short_instances, times_in
from rratag.data.splits import PARTS, split
from rratag.errors import CacheError, LabelError, UsageError
from rratag.features.catalog import Catalog, Listing
from rratag.features.parts import view_parts
from rratag.features.plan import open_stores
from rratag.features.request import DEVICES, Request, extract_command, recipe_in
from rratag.features.spec import Spec, digest
from rratag.features.store import FeatureStore, JoinedStores
from rratag.head.rra import HeadConfig
from rratag.model import Model, save_model
from rratag.model_backbone import BACKBONE_FILE, backbone_bytes
from rratag.presets import preset
from rratag.records import RGB, Instance
from rratag.train.finetune import FinetuneConfig, Unfrozen, trainable
from rratag.train.fit import FitResult, TrainConfig, fit
from rratag.train.history import EpochRecord
from rratag.video.augment import TrainingView, asked, check_views, parse_views


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """Where labels come from and how they are divided. Shares are of all labelled videos, in [0, 1)."""

    labels: Path | None = None
    columns: dict[str, str] | None = None
    group_by: str | None = None
    validation_split: float = 0.2
    test_split: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class TrainingData:
    """Labelled, divided videos and where their features are.

    `missing` names videos of the label file that the cache does not hold; `warnings` are lines for the user; `views`
    are the training views to draw from, by name; `sources` says where each video lay when it was extracted;
    `label_files` are the label file and the other parts of its set.
    """

    store: JoinedStores
    spec: Spec
    recipe: dict[str, Any]
    roots: list[Path]
    instances: list[Instance]
    class_names: list[str]
    missing: list[str]
    warnings: list[str]
    views: dict[str, JoinedStores] = field(default_factory=dict)
    sources: dict[str, Path] = field(default_factory=dict)
    label_files: list[Path] = field(default_factory=list)

    def part(self, name: str) -> CachedDataset:
        """The videos of one part ("train", "validation", "test"); training views belong to the first alone."""
        chosen = [one for one in self.instances if one.split == name]
        return CachedDataset(self.store, chosen, self.class_names, self.views if name == "train" else None)

    def short(self, num_frames: int) -> Short | None:
        """Labelled intervals of the train part that have fewer than `num_frames` cached frames; None without any."""
        trained = (one for one in self.instances if one.split == "train")
        return short_instances(trained, times_in(self.store), num_frames)


def load_training_data(
    store: FeatureStore,
    roots: Sequence[Path],
    options: LabelOptions,
    modality: str | None = None,
    *,
    views: Sequence[TrainingView] = (),
) -> TrainingData:
    """Labelled videos of the cache, divided into train, validation and test.

    Parameters
    ----------
    roots : folders that ``extract`` scanned; the latest one if empty
    modality : "rgb" or "flow"; None for what was extracted last of each root
    views : training views, which every training video must have

    Raises
    ------
    CacheError
        If nothing was extracted, the roots were extracted with different settings, or a view is not in the cache.
    UsageError
        If features of this kind have no such view.
    LabelError
        If the labels cannot be used.
    """
    listings = find_listings(store, roots, modality)
    stores = JoinedStores(open_stores(store, listings[0].spec) or [store.open_spec(listings[0].spec)])
    spec, recipe = stores.stores[0].spec, _recipe(listings[0])
    _check_meaning(spec)
    ids_to_keys, lost = _present(_merged(listings), stores)
    labelled = label(ids_to_keys, options)
    # only classes that training sees can be learnt: a class of unlabelled or other parts has no number
    shares = {"train": 1 - options.validation_split - options.test_split, "validation": options.validation_split}
    if options.test_split:
        shares["test"] = options.test_split
    divided = split(labelled.instances, {part: share for part, share in shares.items() if share > 0}, options.seed)
    return TrainingData(
        stores,
        spec,
        recipe,
        [listing.root for listing in listings],
        divided.instances,
        class_names(divided.instances),
        labelled.missing,
        [*lost, *labelled.doubts, *divided.warnings],
        _views(store, spec, views, divided.instances, extract_command(listings[0].root, recipe, views)),
        {video: listing.root / video for listing in listings for video in listing.ids_to_keys()},
        labelled.files,
    )


def _views(
    store: FeatureStore, base: Spec, views: Sequence[TrainingView], instances: Sequence[Instance], way_out: str
) -> dict[str, JoinedStores]:
    """Stores of the training views, by name; `way_out` is the command that makes them.

    Raises
    ------
    CacheError
        If a training video has not all of them.
    UsageError
        If the base cannot have them.
    """
    check_views(views, base.meaning["crops"], base.meaning.get("modality", RGB))
    parts = view_parts(store, base, views)
    keys = [one.key for one in instances if one.split == "train" and one.label is not None]
    lacking = sum(not all(part.has(key) for part in parts) for key in keys)
    if lacking:
        raise CacheError(
            f"{lacking} of {len(keys)} training videos have not all views of --views {asked(views)}; run: {way_out}"
        )
    return {view.name: JoinedStores(part.stores) for view, part in zip(views, parts, strict=True)}


def _check_meaning(spec: Spec) -> None:
    """Refuse features that do not say what they are.

    Raises
    ------
    CacheError
        Naming what is missing.
    """
    for name in ("backbone", "weights", "channels", "crops", "input_size", "sampling"):
        if name not in spec.meaning:
            raise CacheError(f"the features of spec {spec.short} do not say their {name}; extract again")


def _present(ids_to_keys: dict[str, str], store: JoinedStores) -> tuple[dict[str, str], list[str]]:
    """Videos whose features are still there, and a line about the others.

    Raises
    ------
    CacheError
        If none is.
    """
    present = {video: key for video, key in ids_to_keys.items() if store.has(key)}
    lost = len(ids_to_keys) - len(present)
    if not present:
        raise CacheError(f"the features of all {lost} videos have gone; run: rratag extract FOLDER")
    if not lost:
        return present, []
    return present, [f"{lost} of {len(ids_to_keys)} videos are left out: their features have gone; extract them again"]


def _recipe(listing: Listing) -> dict[str, Any]:
    """How the features of a listing are extracted again.

    Raises
    ------
    CacheError
        If the listing does not say.
    """
    try:
        return recipe_in(listing.request)
    except KeyError as error:
        said = f"its listing does not say how it was extracted ({error})"
        raise CacheError(f"{listing.root}: {said}; run: rratag extract {listing.root}") from error


def find_listings(store: FeatureStore, roots: Sequence[Path], modality: str | None = None) -> list[Listing]:
    """Listings that ``extract`` wrote of these roots, or the latest one; of `modality`, or the newest of either.

    Raises
    ------
    CacheError
        If a root was never extracted, or two of them with different settings.
    """
    catalog = Catalog(store.cache)
    if not roots:
        return [catalog.latest("extract", modality)]
    listings = []
    for root in roots:
        listing = catalog.find(root, "extract", modality=modality)
        if listing is None:
            fits = [one for one in catalog.all() if one.command == "extract" and modality in (None, one.modality)]
            known = ", ".join(str(one.root) for one in fits) or "none"
            option = "" if modality is None else f" --modality {modality}"
            raise CacheError(
                f"{root}: not extracted into {store.cache} (extracted are: {known}); run: rratag extract {root}{option}"
            )
        listings.append(listing)
    other = next((one for one in listings if one.spec != listings[0].spec), None)
    if other is not None and other.modality != listings[0].modality:
        raise CacheError(
            f"{listings[0].root} was extracted last as {listings[0].modality}, {other.root} as {other.modality};"
            " give train --modality, or extract one of them again as the other"
        )
    if other is not None:
        raise CacheError(
            f"{listings[0].root} and {other.root} were extracted with different settings ({listings[0].spec},"
            f" {other.spec}); extract both with the same ones"
        )
    return listings


def _merged(listings: Sequence[Listing]) -> dict[str, str]:
    merged: dict[str, str] = {}
    for listing in listings:
        for video, key in listing.ids_to_keys().items():
            if video in merged:
                raise LabelError(f"{video!r} is under more than one of the roots; rename one of the two files")
            merged[video] = key
    if not merged:
        raise LabelError(f"{listings[0].root}: no video has features; see rratag extract --report FILE.csv")
    return merged


def label(ids_to_keys: dict[str, str], options: LabelOptions) -> LabelSet:
    """Labels of cached videos, from folders or the label file, with groups."""
    if options.labels is None:
        labelled = LabelSet(from_folders(ids_to_keys))
    else:
        labelled = from_file(options.labels, ids_to_keys, options.columns)
    if options.group_by is not None:
        labelled = replace(labelled, instances=with_groups(labelled.instances, options.group_by))
    return labelled


def train_model(
    data: TrainingData,
    head: dict[str, Any],
    config: TrainConfig,
    *,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochRecord], None] = lambda record: None,
    device: str = "cpu",
    finetune: FinetuneConfig | None = None,
    workers: int = 1,
) -> tuple[Model, FitResult]:
    """Train a head on the train part; the validation part chooses the epoch.

    Parameters
    ----------
    head : fields of HeadConfig other than channels and num_classes
    finetune : how the backbone is trained too; None leaves it frozen
    workers : processes that decode the videos for that

    Raises
    ------
    CacheError
        If the videos to fine-tune on are not where they were, or the backbone is another.
    """
    head_config = HeadConfig(channels=data.spec.meaning["channels"], num_classes=len(data.class_names), **head)
    unfrozen = None if finetune is None else unfrozen_phase(data, finetune, workers, device)
    result = fit(
        head_config,
        data.part("train"),
        data.part("validation"),
        config,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
        device=device,
        unfrozen=unfrozen,
    )
    return _model(data, head_config, result, unfrozen), result


def _model(data: TrainingData, head_config: HeadConfig, result: FitResult, unfrozen: Unfrozen | None) -> Model:
    """What was trained, with all it takes to use it."""
    info: dict[str, Any] = {
        "compute": data.spec.compute,
        "random_backbone": str(data.spec.meaning["weights"]).startswith("random"),
        "roots": [str(root) for root in data.roots],
    }
    model = Model(result.head, head_config, data.class_names, data.spec.meaning, data.recipe, info)
    if unfrozen is not None:
        info["finetuning"] = {**asdict(unfrozen.config), "from_weights": data.spec.meaning["weights"]}
        if result.backbone is not None:
            model.backbone = backbone_bytes(result.backbone, unfrozen.backbone.weights_path)
            model.meaning = {**data.spec.meaning, "weights": hashlib.sha256(model.backbone).hexdigest()}
            model.spec_request = {**data.recipe, "weights": BACKBONE_FILE}
    return model


def unfrozen_phase(data: TrainingData, config: FinetuneConfig, workers: int, device: str) -> Unfrozen:
    """What follows the frozen epochs, on the same videos.

    Raises
    ------
    CacheError
        If one of the videos is not where it was extracted, or the backbone is another.
    """
    _check_sources(data)
    backbone, request = trainable(data.spec, data.recipe)
    rule = request.view_rule(backbone)
    views = parse_views(config.views)
    check_views(views, rule.crops)
    train = FrameDataset(data.part("train"), data.sources, rule, workers, views)
    validation = FrameDataset(data.part("validation"), data.sources, rule, workers)
    return Unfrozen(config, backbone, train, validation, request.sampling, device)


def _check_sources(data: TrainingData) -> None:
    wanted = [one for one in data.instances if one.split in ("train", "validation")]
    sizes = {one.video: data.store.header(one.key).source_size for one in wanted}
    other = [video for video, size in sizes.items() if not _is_there(data.sources[video], size)]
    if other:
        raise CacheError(
            f"{data.sources[other[0]]}: has gone or changed since it was extracted, one of {len(other)} such videos;"
            " fine-tuning reads the videos: put them back, or extract their folder again"
        )


def _is_there(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def check_preset(name: str, data: TrainingData) -> None:
    """Refuse features that are not what a preset is about.

    Raises
    ------
    CacheError
        If they differ.
    """
    have = {**data.recipe, **data.recipe["sampling"]}
    wanted = preset(name).features
    if any(have[option] != value for option, value in wanted.items()):
        usual = Request().recipe()
        reset = {option if option in usual else "sampling" for option in wanted}
        command = extract_command(data.roots[0], {**data.recipe, **{option: usual[option] for option in reset}})
        shown = {option: have[option] for option in (*wanted, "frames", "fps") if have[option] is not None}
        said, found = (" ".join(f"{option}={value}" for option, value in one.items()) for one in (wanted, shown))
        raise CacheError(f"--preset {name} is for features of {said}, not {found}; run {command} --preset {name}")


def find_device(name: str) -> str:
    """The torch device for ``--device``.

    Raises
    ------
    UsageError
        If the name is unknown, or CUDA is asked for and not there.
    """
    import torch

    if name not in DEVICES:
        raise UsageError(f"unknown --device {name!r}; choose from {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: no usable GPU here; use --device auto or cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def metrics_of(data: TrainingData, model: Model, result: FitResult, config: TrainConfig) -> dict[str, Any]:
    """Content of ``metrics.json``: what was trained on what, which split chose the epoch, and how well it did there."""
    counts = {part: sum(one.split == part for one in data.instances) for part in PARTS}
    metrics: dict[str, Any] = {
        "videos": counts,
        "chosen_by": result.chosen_by,
        "epoch": result.best_epoch,
        "epochs": len(result.history),
        "stopped_early": result.stopped_early,
        "training": asdict(config) | {"views": list(data.views)},
        "head": model.head_config.to_json(),
        "validation": None if result.validation is None else asdict(result.validation),
        "warnings": data.warnings,
    }
    if "finetuning" in model.info:
        metrics["finetuning"] = {**model.info["finetuning"], "kept": result.backbone is not None}
    return metrics


def save_run(folder: Path, data: TrainingData, model: Model, result: FitResult, metrics: dict[str, Any]) -> None:
    """Write the model folder, with labels and split as ``--labels`` takes them."""
    save_model(folder, model, metrics, [record.to_json() for record in result.history], labels_csv(data.instances))


def checkpoint_path(
    folder: Path,
    data: TrainingData,
    head: dict[str, Any],
    config: TrainConfig,
    finetune: FinetuneConfig | None = None,
) -> Path:
    """Where the unfinished training of the model `folder` is kept.

    The name holds a digest of everything that decides the run: other features, videos, labels or settings begin anew
    beside it instead of going on with what does not fit.
    """
    videos = [[one.video, one.key, one.label, one.split, one.start_s, one.end_s] for one in data.instances]
    settings = {name: value for name, value in asdict(config).items() if name != "patience"}
    decides = {"head": head, "training": settings, "features": data.spec.meaning_digest, "videos": videos}
    if data.views:
        decides["views"] = list(data.views)
    if finetune is not None:
        decides["finetuning"] = asdict(finetune)
    return folder.parent / f".{folder.name}.{digest(decides)[:12]}.checkpoint"


def unfinished_beside(folder: Path, checkpoint: Path) -> list[Path]:
    """Checkpoints other than `checkpoint` of trainings of the model `folder` that were never finished, sorted."""
    found = folder.parent.glob(f".{glob.escape(folder.name)}.*.checkpoint")
    return sorted(path for path in found if path.name != checkpoint.name)
