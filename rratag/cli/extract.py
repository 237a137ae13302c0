"""``rratag extract``: decode sampled frames, run the frozen CNN, cache feature maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from rratag import config
from rratag.cli import options
from rratag.cli.console import Report, say, set_verbosity, track

if TYPE_CHECKING:
    from rratag.features.extract import Extraction


def extract(
    paths: options.Inputs,
    cache: options.Cache = config.CACHE_DIR,
    backbone: options.Backbone = config.BACKBONE,
    weights: options.Weights = None,
    preset: options.Preset = "default",
    input_size: options.InputSize = None,
    crops: options.Crops = config.CROPS,
    views: options.Views = None,
    frames: options.Frames = None,
    fps: options.Fps = None,
    max_frames: options.MaxFrames = None,
    modality: options.Modality = config.MODALITY,
    decoder: options.Decoder = config.DECODER,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    runtime: options.Runtime = "auto",
    workers: options.Workers = options.default_workers(),
    batch_size: options.BatchSize = config.BATCH_SIZE,
    compress: options.Compress = "zstd",
    download: options.Download = False,
    overwrite: options.Overwrite = False,
    retry_failed: options.RetryFailed = False,
    strict: options.Strict = False,
    dry_run: options.DryRun = False,
    report: options.ReportFile = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Decode every video once, run the frozen CNN and cache its feature maps.

    A video that was extracted before is found again by its content; a run with nothing to do ends at once. With
    --views, training views are cached beside the features, for `train --views`; what is there already is kept.
    """
    from rratag.features.extract import Extraction, RunOptions
    from rratag.features.request import Request
    from rratag.features.store import FeatureStore
    from rratag.presets import preset as preset_of
    from rratag.tag.writers import check_place, write_report
    from rratag.video.augment import check_views, parse_views
    from rratag.video.discover import discover

    set_verbosity(quiet=quiet, verbose=verbose)
    usual = preset_of(preset).features
    sampling = options.sampling(frames, fps, max_frames, usual)
    input_size = input_size or usual.get("input_size", config.INPUT_SIZE)
    request = Request(backbone, weights, input_size, crops, sampling, decoder, device, precision, modality, runtime)
    training_views = parse_views(views)
    check_views(training_views, crops, modality)
    run_options = RunOptions(workers, batch_size, options.compression(compress), overwrite, retry_failed, download)
    if report is not None:
        check_place(report, "--report")
    discovery = discover(paths)
    store = FeatureStore(options.absolute(cache))
    extraction = Extraction(discovery, request, store, run_options, views=training_views)
    if dry_run:
        _tell_estimate(extraction)
        return
    summary = Report(strict=strict)
    pending = len(extraction.plan.pending)
    if pending:
        say(f"{pending} videos to extract, {len(extraction.plan.done)} known")
    for receipt in track(extraction.run(), len(discovery.videos) + len(discovery.failures), "extract"):
        summary.add(receipt)
    summary.tell()
    if weights == "random":
        say("the backbone's weights are random: these features mean nothing")
    if report is not None:
        write_report(report, sorted(summary.receipts, key=lambda receipt: receipt.video))
    raise typer.Exit(summary.exit_code)


def _tell_estimate(extraction: Extraction) -> None:
    """What the run would do, on stdout."""
    from rratag.features.extract import estimate

    plan = extraction.plan
    size, seconds = estimate(extraction)
    typer.echo(f"videos      {len(plan.discovery.videos)}")
    typer.echo(f"known       {len(plan.done)}")
    typer.echo(f"to extract  {len(plan.pending)}")
    if extraction.views:
        typer.echo(f"views       {' '.join(view.name for view in extraction.views)}, in the figures below")
    typer.echo(f"disk        about {size / 2**20:.0f} MiB")
    hours = f" = {seconds / 3600:.1f} h" if seconds >= 3600 else ""
    typer.echo(f"time        about {seconds:.0f} s{hours} (from {min(3, len(plan.pending))} videos tried here)")
