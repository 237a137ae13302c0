"""``rratag report``: a page that shows every video with its tags and the evidence for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rratag import config
from rratag.cli import options
from rratag.cli.console import Report, say, set_verbosity, steps, track, warn
from rratag.errors import UsageError
from rratag.records import FLOW


def report(
    context: typer.Context,
    paths: options.Inputs,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="HTML file that holds all; of more than 300 videos, or without .html, a folder with index.html.",
        ),
    ] = Path("report.html"),
    model: Annotated[Path, typer.Option("--model", help="Model folder.", show_default=True)] = config.MODELS_DIR
    / config.MODEL_NAME,
    labels: options.Labels = None,
    columns: options.Columns = None,
    gradient: Annotated[
        int,
        typer.Option(
            "--gradient",
            metavar="N",
            min=0,
            help="Heat maps of Eq. 7 for this many videos, the least sure ones: about 5 s of one core each.",
        ),
    ] = 0,
    cache: options.Cache = config.CACHE_DIR,
    workers: options.Workers = options.default_workers(),
    quiet: options.Quiet = False,
) -> None:
    """Write a page of all videos: frames, attention over time and space, scores of every glimpse; correct tags there.

    Where the videos lie in one folder per tag, or --labels is given, it also says what is right. It needs no network.
    """
    set_verbosity(quiet=quiet)
    from rratag.data.labels import parse_columns
    from rratag.explain.build import Wanted, build
    from rratag.explain.report import known_labels
    from rratag.features.extract import RunOptions
    from rratag.features.store import FeatureStore
    from rratag.model import load_model
    from rratag.tag.run import Tagging, model_request
    from rratag.video.discover import discover

    if labels is None:
        options.refuse_unused(context, ("columns",), options.COLUMNS_ALONE)
    names = parse_columns(columns) if columns else {}
    loaded = load_model(model)
    # gradients in half precision vanish
    request = model_request(loaded, precision="fp32" if gradient else "auto")
    discovery = discover(paths)
    num_videos = len(discovery.videos) + len(discovery.failures)
    wanted = Wanted(options.absolute(out), options.absolute(model), gradient, workers)
    wanted.report(num_videos)  # refuse what is impossible before hours of work
    if gradient and request.modality == FLOW:
        raise UsageError("--gradient: this model looks at optical flow, of which there is nothing to show yet")
    ids = [one.id for one in discovery.videos] + [one.video for one in discovery.failures]
    truth = known_labels(ids, loaded.class_names, labels, names)
    for line in truth.doubts:
        warn(line)
    tagging = Tagging(loaded, discovery, request, FeatureStore(options.absolute(cache)), RunOptions(workers))
    for _ in track(tagging.extract(), num_videos, "extract"):
        pass
    page, receipts = build(tagging, wanted, truth, steps)
    counted = Report(strict=False)
    for receipt in receipts:
        counted.add(receipt)
    counted.tell()
    say(f"wrote {page}")
    raise typer.Exit(counted.exit_code)
