"""``rratag predict``: batch-tag a folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rratag import config
from rratag.cli import options
from rratag.cli.console import Report, say, set_verbosity, track
from rratag.errors import UsageError
from rratag.records import Receipt

if TYPE_CHECKING:
    from rratag.features.spec import Spec
    from rratag.tag.fuse import Fused, Fusion, Stream
    from rratag.tag.predict import Prediction
    from rratag.tag.run import Override


def predict(
    paths: options.Inputs,
    out: Annotated[
        str,
        typer.Option(
            "--out",
            help="tags.csv, .json, .jsonl or .activitynet.json (ActivityNet's form) by suffix, or - for CSV on stdout.",
        ),
    ] = "tags.csv",
    model: options.Models = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Rows per video.")] = config.TOP,
    score: Annotated[str, typer.Option("--score", help="ensemble (Eq. 6) or concat (Eq. 4).")] = "ensemble",
    cache: options.Cache = config.CACHE_DIR,
    weights: options.Weights = None,
    crops: Annotated[
        str | None,
        typer.Option(
            "--crops",
            help="Other views than the model's: 1, 3, 5, 10, full or squash. Their features are not cached, and a run"
            " that is stopped begins anew.",
        ),
    ] = None,
    crop_fusion: options.CropFusion = "mean",
    frames: Annotated[
        int | None,
        typer.Option("--frames", help="Other frames per video than the model's."),
    ] = None,
    fps: options.Fps = None,
    test_frames: options.TestFrames = None,
    max_frames: options.MaxFrames = None,
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
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Tag every video of a folder; features that are not cached yet are extracted first.

    The file holds one row per video and rank with the score of every glimpse, and when and where the model looked; a
    video that failed has one row with its status. Several --model are fused: the weighted mean of their scores.
    """
    from rratag.features.extract import RunOptions
    from rratag.features.store import FeatureStore
    from rratag.tag.fuse import Fusion, load_streams
    from rratag.tag.predict import check_crop_fusion, check_views
    from rratag.tag.run import Override, model_request
    from rratag.tag.submission import check_ids, is_submission
    from rratag.tag.writers import write_tags, writer_for
    from rratag.video.discover import discover

    set_verbosity(quiet=quiet, verbose=verbose)
    if score not in ("ensemble", "concat"):
        raise UsageError(f"unknown --score {score!r}; choose from ensemble, concat")
    own = frames is None and fps is None and max_frames is None
    override = Override(None if own else options.sampling(frames, fps, max_frames), crops, test_frames)
    writer_for(out)  # refuse an impossible --out before hours of work
    discovery = discover(paths)
    if is_submission(out):
        check_ids(video.id for video in discovery.videos)
    streams = load_streams(options.models(model))
    check_crop_fusion(crop_fusion, [stream.model for stream in streams])
    requests = [
        model_request(
            stream.model, weights=weights, decoder=decoder, device=device, precision=precision, runtime=runtime
        )
        for stream in streams
    ]
    run_options = RunOptions(workers, batch_size, options.compression(compress), overwrite, retry_failed, download)
    store = FeatureStore(options.absolute(cache))
    fusion = Fusion(streams, requests, discovery, store, run_options, override, crop_fusion)
    check_views(crop_fusion, (tagging.extraction.stores[0].spec.meaning for tagging in fusion.taggings))
    _extract(fusion, len(discovery.videos) + len(discovery.failures))
    for number, stream in enumerate(streams):
        used = fusion.tagging(number).extraction.stores[0].spec
        _tell_features(stream, used, override, alone=len(streams) == 1)
    if is_submission(out) and top < len(streams[0].model.class_names):
        say(f"the {top} highest tags of each video are written; official scores count all: --top 1000")
    report = Report(strict=strict)
    about = options.about_fusion(fusion, top, score, crop_fusion)
    write_tags(_counted(fusion.predictions(), report), out, about)
    report.tell()
    if out != "-":
        say(f"wrote {Path(out)}")
    raise typer.Exit(report.exit_code)


def _extract(fusion: Fusion, total: int) -> None:
    """Decode what is not cached, once for each kind of features."""
    count = len(fusion.taggings)
    for number, tagging in enumerate(fusion.taggings, start=1):
        if tagging.streams and tagging.extraction.plan.pending:
            crops = tagging.extraction.request.crops
            say(f"features of crops={crops} are used once and not cached: a run that is stopped begins anew")
        label = "predict" if count == 1 else f"predict, features {number} of {count}"
        for _ in track(tagging.extract(), total, label):
            pass


def _tell_features(stream: Stream, used: Spec, override: Override, *, alone: bool) -> None:
    """Say in what the features are not those the model was trained on."""
    info, which = stream.model.info, "" if alone else f"{stream.name}: "
    if override.sampling is not None or override.crops is not None:
        said = f"looking at crops={used.meaning['crops']}, sampling={used.meaning['sampling']}"
        say(f"{which}{said} instead of the model's own")
    if override.test_frames is not None:
        say(f"{which}using {override.test_frames} of the cached frames of each video, all where there are no more")
    if used.compute != info.get("compute", used.compute):
        say(f"{which}features are {_words(used.compute)}; the model was trained on {_words(info['compute'])}")
    if info.get("random_backbone"):
        say(f"{which}the model's backbone has random weights: these tags mean nothing")


def _counted(results: Iterable[Prediction | Fused | Receipt], report: Report) -> Iterator[Prediction | Fused | Receipt]:
    """Pass results on, counting what became of each video in the end."""
    for result in results:
        report.add(result if isinstance(result, Receipt) else result.receipt)
        yield result


def _words(compute: dict[str, object]) -> str:
    return f"{compute.get('runtime')} {compute.get('precision')}"
