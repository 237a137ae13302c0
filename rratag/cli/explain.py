"""``rratag explain``: what each glimpse did for the tag of a video, and pictures of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rratag import config
from rratag.cli import options
from rratag.cli.console import Report, lines, out, printable, say, set_verbosity, track
from rratag.errors import UsageError
from rratag.records import FLOW, Receipt

if TYPE_CHECKING:
    from rratag.explain.account import Account
    from rratag.features.extract import Extraction
    from rratag.head.rra import GlimpseHead
    from rratag.tag.predict import Prediction

BARS = " ▁▂▃▄▅▆▇█"


def explain(
    paths: options.Inputs,
    model: Annotated[Path, typer.Option("--model", help="Model folder.", show_default=True)] = config.MODELS_DIR
    / config.MODEL_NAME,
    tag: Annotated[str | None, typer.Option("--tag", help="Explain this tag instead of the video's first one.")] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            "--pictures",
            metavar="FOLDER",
            help="Write strips of frames: where each glimpse looked, which pixels moved it (Eq. 7), what was suppressed"
            " (Fig. 4).",
        ),
    ] = None,
    cache: options.Cache = config.CACHE_DIR,
    workers: options.Workers = options.default_workers(),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Say what each glimpse did for a tag: its score, when and where it looked, whether it changed the answer.

    Videos that are not in the cache are extracted first.
    """
    from rratag.explain.account import account
    from rratag.features.extract import RunOptions
    from rratag.features.store import FeatureStore
    from rratag.model import load_model
    from rratag.tag.run import Tagging, model_request
    from rratag.video.discover import discover

    set_verbosity(quiet=quiet)
    loaded = load_model(model)
    if tag is not None and tag not in loaded.class_names:
        raise UsageError(f"unknown --tag {tag!r}; the model knows {', '.join(loaded.class_names[:20])}")
    request = model_request(loaded, precision="fp32")  # gradients in half precision vanish
    if pictures is not None:
        if request.modality == FLOW:
            raise UsageError("--pictures: this model looks at optical flow, of which there is nothing to show yet")
        pictures = options.absolute(pictures)
        pictures.mkdir(parents=True, exist_ok=True)
    discovery = discover(paths)
    store = FeatureStore(options.absolute(cache))
    tagging = Tagging(loaded, discovery, request, store, RunOptions(workers))
    for _ in track(tagging.extract(), len(discovery.videos) + len(discovery.failures), "explain"):
        pass
    report, explained = Report(strict=False), []
    for found in tagging.predictions():
        report.add(found if isinstance(found, Receipt) else found.receipt)
        if isinstance(found, Receipt):
            continue
        number = found.ranking()[0] if tag is None else loaded.class_names.index(tag)
        told = account(found.glimpse_scores, loaded.head.glimpse_weights().tolist(), number)
        explained.append(_as_json(found, told, number))
        if not json:
            _tell(explained[-1])
        if pictures is not None:
            _draw(pictures, loaded.head, found, tagging.extraction, number)
    if json:
        import json as json_module

        typer.echo(json_module.dumps(explained, indent=1))
    report.tell()
    raise typer.Exit(report.exit_code)


def _as_json(found: Prediction, told: Account, number: int) -> dict[str, Any]:
    """One video's account in names, seconds and shares."""
    names = found.class_names
    glimpses = []
    for k, one in enumerate(told.glimpses):
        where = found.evidence_of(k, number)
        glimpses.append(
            {
                "score": one.score,
                "together": one.together,
                "gain": one.gain,
                "first": names[one.first],
                "first_together": names[one.first_together],
                "time_s": where.time_s,
                "box": list(where.box),
                "attention": found.attention[k].tolist(),
            }
        )
    return {
        "video": found.video,
        "tag": names[number],
        "score": float(found.scores[number]),
        "first": names[found.ranking()[0]],
        "agreeing": told.agreeing,
        "changed_by": None if told.changed_by is None else told.changed_by + 1,
        "time_s": found.time_s.tolist(),
        "glimpses": glimpses,
    }


def _tell(one: dict[str, Any]) -> None:
    """The same for people, on stdout."""
    count = len(one["glimpses"])
    out.print(printable(f"{one['video']}: {one['tag']} {one['score']:.3f}"), markup=False)
    changed = f"; glimpse {one['changed_by']} changed the first tag" if one["changed_by"] else ""
    out.print(f"{one['agreeing']} of {count} glimpses put {printable(one['first'])} first{changed}", markup=False)
    rows = [["glimpse", "score", "together", "gain", "its first tag", "time", "box", "attention over time"]]
    for k, glimpse in enumerate(one["glimpses"], start=1):
        scores = [f"{glimpse['score']:.3f}", f"{glimpse['together']:.3f}", f"{glimpse['gain']:+.3f}"]
        box = ",".join(f"{side:.2f}" for side in glimpse["box"])
        rows.append([f"{k}", *scores, glimpse["first"], f"{glimpse['time_s']:.2f} s", box, bars(glimpse["attention"])])
    lines(rows)


def bars(shares: Sequence[float]) -> str:
    """One letter a frame, as high as its share beside the greatest."""
    most = max(shares)
    return "".join(BARS[round(share / most * (len(BARS) - 1))] for share in shares)


def _draw(folder: Path, head: GlimpseHead, found: Prediction, extraction: Extraction, number: int) -> None:
    """Write the strips of one video, in the view in which the glimpse that speaks for the tag scores it highest."""
    from rratag.explain.strips import decoded_view, strips

    video = next(one for one in extraction.discovery.videos if one.id == found.video)
    view = decoded_view(extraction, video, found.evidence(number).view)
    title = printable(f"{found.video}, {found.class_names[number]} {found.scores[number]:.3f}")
    place = folder / found.video
    place.parent.mkdir(parents=True, exist_ok=True)
    for name, sheet in strips(head, extraction.network.backbone, view, title).items():
        path = place.with_name(f"{place.name}.{name}.png")
        sheet.save(path)
        say(f"wrote {path}")
