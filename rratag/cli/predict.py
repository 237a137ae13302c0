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
    from rratag.tag.predict import Prediction


def predict(
    paths: options.Inputs,
    out: Annotated[
        str, typer.Option("--out", help="tags.csv, .json or .jsonl by suffix, or - for CSV on stdout.")
    ] = "tags.csv",
    model: options.ModelPath = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Rows per video.")] = config.TOP,
    score: Annotated[str, typer.Option("--score", help="ensemble (Eq. 6) or concat (Eq. 4).")] = "ensemble",
    cache: options.Cache = config.CACHE_DIR,
    weights: options.Weights = None,
    crops: Annotated[
        str | None,
        typer.Option("--crops", help="Other views than the model's: 1, 3, 5, 10, full or squash."),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option("--frames", help="Other frames per video than the model's."),
    ] = None,
    fps: options.Fps = None,
    max_frames: options.MaxFrames = None,
    decoder: options.Decoder = config.DECODER,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
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
    video that failed has one row with its status.
    """
    from rratag.features.extract import RunOptions
    from rratag.features.store import FeatureStore
    from rratag.tag.run import Override, Tagging, model_request
    from rratag.tag.writers import write_tags, writer_for
    from rratag.video.discover import discover

    set_verbosity(quiet=quiet, verbose=verbose)
    if score not in ("ensemble", "concat"):
        raise UsageError(f"unknown --score {score!r}; choose from ensemble, concat")
    own = frames is None and fps is None and max_frames is None
    override = Override(None if own else options.sampling(frames, fps, max_frames), crops)
    writer_for(out)  # refuse an impossible --out before hours of work
    from rratag.model import load_model

    discovery = discover(paths)
    loaded = load_model(model or config.MODELS_DIR / config.MODEL_NAME)
    request = model_request(loaded, weights=weights, decoder=decoder, device=device, precision=precision)
    run_options = RunOptions(workers, batch_size, options.compression(compress), overwrite, retry_failed, download)
    tagging = Tagging(loaded, discovery, request, FeatureStore(options.absolute(cache)), run_options, override)
    for _ in track(tagging.extract(), len(discovery.videos) + len(discovery.failures), "predict"):
        pass
    used = tagging.extraction.stores[0].spec
    if override != Override():
        say(f"looking at crops={used.meaning['crops']}, sampling={used.meaning['sampling']} instead of the model's own")
    if used.compute != loaded.info.get("compute", used.compute):
        say(f"features are {_words(used.compute)}; the model was trained on {_words(loaded.info['compute'])}")
    if loaded.info.get("random_backbone"):
        say("the model's backbone has random weights: these tags mean nothing")
    report = Report(strict=strict)
    write_tags(_counted(tagging.predictions(), report), out, options.about(loaded, used, top, score))
    report.tell()
    if out != "-":
        say(f"wrote {Path(out)}")
    raise typer.Exit(report.exit_code)


def _counted(results: Iterable[Prediction | Receipt], report: Report) -> Iterator[Prediction | Receipt]:
    """Pass results on, counting what became of each video in the end."""
    for result in results:
        report.add(result if isinstance(result, Receipt) else result.receipt)
        yield result


def _words(compute: dict[str, object]) -> str:
    return f"{compute.get('runtime')} {compute.get('precision')}"
