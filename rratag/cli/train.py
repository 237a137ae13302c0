"""``rratag train``: a head from the cached features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rratag import config
from rratag.cli import options
from rratag.cli.console import say, set_verbosity, show, warn
from rratag.errors import UsageError
from rratag.records import FLOW

if TYPE_CHECKING:
    from rratag.presets import Preset
    from rratag.train.finetune import FinetuneConfig
    from rratag.train.fit import FitResult
    from rratag.train.history import EpochRecord
    from rratag.train.run import TrainingData


def train(
    context: typer.Context,
    roots: options.Roots = None,
    labels: options.Labels = None,
    columns: options.Columns = None,
    group_by: options.GroupBy = None,
    glimpses: Annotated[
        int, typer.Option("--glimpses", min=1, max=64, help="K, attend-and-reduce steps.")
    ] = config.GLIMPSES,
    loss: Annotated[str, typer.Option("--loss", help="Sum of Lc, Li, Le with weights, e.g. Li+0.5Le.")] = config.LOSS,
    glimpse_weights: Annotated[
        str,
        typer.Option(
            "--glimpse-weights",
            help="Of each glimpse in Le and in the scores: equal, learned, or K numbers, e.g. 1,1,2,2.",
        ),
    ] = "equal",
    head: Annotated[
        str, typer.Option("--head", help="rra, parallel, mean, tsn, single-frame or clusters (attention clusters).")
    ] = "rra",
    variant: Annotated[
        str,
        typer.Option(
            "--variant",
            help="Of rra: average, spatial, no-norm, no-relu, linear, neg-relu (Table 4), zero (control), original.",
        ),
    ] = "rra",
    preset: options.Preset = "default",
    input_bn: Annotated[
        bool | None,
        typer.Option(
            "--input-bn/--no-input-bn", help="A BatchNorm-ReLU before the first glimpse.  [default: on; off in paper]"
        ),
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option("--dropout", help="Before each classifier.  [default: 0.5; paper: 0.7]"),
    ] = None,
    epochs: options.Epochs = None,
    finetune: options.Finetune = False,
    finetune_after: options.FinetuneAfter = None,
    backbone_bn: options.BackboneBn = "frozen",
    backbone_lr_scale: options.BackboneLrScale = None,
    clip: options.Clip = None,
    learning_rate: Annotated[
        float | None,
        typer.Option("--learning-rate", help="Of Adam.  [default: 0.001; paper: 0.0002]"),
    ] = None,
    decay_every: Annotated[
        int | None,
        typer.Option(
            "--decay-every",
            min=1,
            metavar="STEPS",
            help="With --preset paper: the rate times 0.1 every so many steps, as on Kinetics.  [default: 30 epochs]",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=2, help="Videos a step; by default chosen by their number.  [paper: 256]"),
    ] = None,
    train_frames: options.TrainFrames = config.TRAIN_FRAMES,
    views: options.Views = None,
    class_balance: Annotated[
        str, typer.Option("--class-balance", help="none, or balanced: rare classes weigh more.")
    ] = "none",
    patience: Annotated[
        int | None,
        typer.Option("--patience", min=1, help="Stop after so many epochs without a better validation accuracy."),
    ] = None,
    validation_split: Annotated[
        float, typer.Option("--validation-split", min=0, max=0.9, help="Share of the videos that choose the epoch.")
    ] = 0.2,
    test_split: Annotated[
        float, typer.Option("--test-split", min=0, max=0.9, help="Share of the videos kept aside for `evaluate`.")
    ] = 0.0,
    modality: options.CachedModality = None,
    seed: options.Seed = config.SEED,
    out_folder: Annotated[
        Path | None,
        typer.Option("--out", help="Model folder to write.  [default: .rratag/models/latest]"),
    ] = None,
    cache: options.Cache = config.CACHE_DIR,
    device: options.Device = "auto",
    workers: options.Workers = options.default_workers(),
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train a Redundancy Reduction Attention head from the cache, and the CNN too if asked.

    The tag of a video is the first folder below the root, or what --labels says. A run that was killed goes on where
    it was when the same command is given again.
    """
    set_verbosity(quiet=quiet, verbose=verbose)
    from rratag.data.labels import parse_columns
    from rratag.features.store import FeatureStore
    from rratag.head.rra import HeadConfig
    from rratag.head.variants import build_head, variant_fields
    from rratag.model import METRICS_FILE, check_place
    from rratag.presets import preset as preset_of
    from rratag.train.fit import TrainConfig, check_together
    from rratag.train.run import (
        LabelOptions,
        check_preset,
        checkpoint_path,
        find_device,
        load_training_data,
        metrics_of,
        save_run,
        train_model,
        unfinished_beside,
    )
    from rratag.video.augment import parse_views

    options.check_modality(modality)
    chosen = preset_of(preset)
    follows_paper = chosen.train.get("schedule") == "step"
    if not follows_paper:
        options.refuse_unused(context, ("decay_every",), "only --preset paper decays by steps")
    settings = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size, "patience": patience}
    settings["decay_every"] = decay_every
    tuning = _finetuning(context, finetune, finetune_after, backbone_bn, backbone_lr_scale, clip, views, chosen)
    fixed = chosen.train if tuning is None else {**chosen.train, **chosen.finetuned}
    config_fields = {**fixed, **{name: value for name, value in settings.items() if value is not None}}
    train_config = TrainConfig(loss=loss, frames=train_frames, seed=seed, class_balance=class_balance, **config_fields)
    head_fields: dict[str, Any] = {**variant_fields(head, variant), "num_glimpses": glimpses, **chosen.head}
    head_fields["glimpse_weights"] = glimpse_weights
    head_fields |= {name: value for name, value in (("input_bn", input_bn), ("dropout", dropout)) if value is not None}
    # refused now, not after the cache was read
    built = build_head(HeadConfig(channels=1, num_classes=2, **head_fields))
    check_together(built.config, train_config)
    chosen_device = find_device(device)
    names = parse_columns(columns) if columns else None
    if labels is None:
        options.refuse_unused(context, ("columns",), options.COLUMNS_ALONE)
    label_options = LabelOptions(labels, names, group_by, validation_split, test_split, seed)
    training_views = parse_views(views)
    # without an epoch from the cache none need be there
    cached_views = () if tuning is not None and tuning.after == 0 else training_views
    store = FeatureStore(options.absolute(cache))
    data = load_training_data(store, roots or [], label_options, modality, views=cached_views)
    check_preset(preset, data)
    folder = out_folder or config.MODELS_DIR / config.MODEL_NAME
    check_place(folder)
    checkpoint = checkpoint_path(folder, data, head_fields, train_config, tuning)
    _tell_data(data, [view.name for view in training_views])
    if (short := data.short(train_frames)) is not None:
        warn(str(short))
    if follows_paper and tuning is None:
        say(f"preset {preset}: the frozen phase of section 5.1 only; the whole recipe trains the CNN too")
    model, result = train_model(
        data,
        head_fields,
        train_config,
        checkpoint=checkpoint,
        on_epoch=_Table(quiet),
        device=chosen_device,
        finetune=tuning,
        workers=workers,
    )
    metrics = metrics_of(data, model, result, train_config)
    save_run(folder, data, model, result, metrics)
    _tell_result(result, folder)
    _tidy(checkpoint, unfinished_beside(folder, checkpoint))
    if model.info["random_backbone"]:
        warn("the backbone's weights are random: this model means nothing")
    if json:
        import json as json_module

        # as the file has it: without the NaN that JSON does not know
        typer.echo(json_module.dumps(json_module.loads((folder / METRICS_FILE).read_bytes())))


def _finetuning(
    context: typer.Context,
    finetune: bool,
    after: int | None,
    backbone_bn: str,
    lr_scale: float | None,
    clip: float | None,
    views: str | None,
    preset: Preset,
) -> FinetuneConfig | None:
    """How the CNN is trained too; None if it stays frozen.

    Raises
    ------
    UsageError
        If options contradict each other or change nothing.
    """
    from rratag.train.finetune import FinetuneConfig

    if finetune and after is not None:
        raise UsageError("--finetune and --finetune-after exclude each other; --finetune begins with the first epoch")
    if not finetune and after is None:
        names = ("backbone_bn", "backbone_lr_scale", "clip", "workers")
        options.refuse_unused(context, names, "the CNN stays frozen without --finetune or --finetune-after")
        return None
    rate_scale = preset.lr_scale if lr_scale is None else lr_scale
    return FinetuneConfig(after or 0, backbone_bn, rate_scale, clip, views)


def tell_features(data: TrainingData) -> None:
    """Say which features these are: a cache may hold several kinds."""
    meaning = data.spec.meaning
    sampling = " ".join(f"{name}={value}" for name, value in meaning["sampling"].items() if name != "rule")
    say(
        f"{', '.join(map(str, data.roots))}: features of {meaning['backbone']}, {sampling} crops={meaning['crops']}"
        f" input_size={meaning['input_size']}{' modality=flow' if meaning.get('modality') == FLOW else ''}"
    )


def _tell_data(data: TrainingData, views: list[str]) -> None:
    tell_features(data)
    if len(data.label_files) > 1:
        say(f"labels of {', '.join(map(str, data.label_files))}")
    counts = {part: sum(one.split == part for one in data.instances) for part in ("train", "validation", "test")}
    unlabelled = sum(one.label is None for one in data.instances)
    parts = ", ".join(f"{count} {part}" for part, count in counts.items() if count)
    say(f"{len(data.class_names)} tags; {parts}" + (f"; {unlabelled} unlabelled" if unlabelled else ""))
    if views:
        say(f"each epoch, each video shows one of: the base view, {', '.join(views)}")
    if data.missing:
        warn(f"{len(data.missing)} videos of the label file are not in the cache, e.g. {data.missing[0]}")
    for line in data.warnings:
        warn(line)


def _tell_result(result: FitResult, folder: Path) -> None:
    if result.validation is None:
        say(f"no validation videos: the last of {result.best_epoch} epochs was kept, nothing judged it")
    else:
        found = result.validation
        each = " ".join(f"{share:.3f}" for share in found.glimpse_accuracy)
        say(f"epoch {result.best_epoch} kept: validation accuracy {found.accuracy:.3f} (glimpses {each})")
    say(f"wrote {folder}")


def _tidy(checkpoint: Path, others: list[Path]) -> None:
    """Remove what this training no longer needs, and name what earlier ones left: it may be hours of work."""
    try:
        checkpoint.unlink(missing_ok=True)
    except OSError as error:
        warn(f"{checkpoint}: cannot be removed ({error.strerror}); the model is finished, delete it")
    if others:
        names = ", ".join(map(str, others))
        say(f"unfinished trainings with other settings: {names}; delete what you do not go on with")


class _Table:
    """The live table: one line an epoch with every loss term and the accuracy of every glimpse."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.told_header = False

    def __call__(self, record: EpochRecord) -> None:
        if self.quiet:
            return
        if record.gap is not None:
            say(
                f"epoch {record.epoch} trains the CNN too, from frames; the same weights before it: accuracy"
                f" {record.gap[0]:+.3f}, loss {record.gap[1]:+.4f} through frames against the cache"
            )
        cells = {"epoch": f"{record.epoch}"}
        cells |= {name: f"{value:.3f}" for name, value in record.train_losses.items()}
        if record.validation is not None:
            cells |= {"val loss": f"{record.validation.loss:.3f}", "val acc": f"{record.validation.accuracy:.3f}"}
            cells |= {f"g{k}": f"{share:.3f}" for k, share in enumerate(record.validation.glimpse_accuracy, 1)}
        cells |= {"rate": f"{record.learning_rate:.1e}", "s": f"{record.seconds:.1f}"}
        if not self.told_header:
            show("  ".join(f"{name:>8}" for name in cells))
            self.told_header = True
        show("  ".join(f"{value:>8}" for value in cells.values()))
