"""A report from its parts: tagged videos, their labels, their frames; one HTML file, or above a limit a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch.nn import functional

import rratag
from rratag.errors import RratagError, StoppedError
from rratag.evaluate.cached import trained_on
from rratag.evaluate.matrix import readable
from rratag.explain import page, report, summary
from rratag.explain.strips import decoded_view, influences
from rratag.explain.thumbnails import strips_of
from rratag.records import Receipt
from rratag.tag.predict import view_rule

if TYPE_CHECKING:
    from rratag.explain.report import Card, Truth
    from rratag.tag.predict import Prediction
    from rratag.tag.run import Tagging

T = TypeVar("T")
Progress = Callable[[Iterable[T], int, str], Iterable[T]]

LARGEST_FILE = 300
"""Videos of a report that is one file; of more it is a folder."""
PAGE_SUFFIXES = (".html", ".htm")
GRID = 24
"""Cells along the shorter side of a gradient heat map: the filter leaves nothing finer."""


@dataclass(frozen=True)
class Wanted:
    """What a report shall be like.

    Attributes
    ----------
    out : where it goes, absolute; a name that ends in ``.html`` is a file where the videos are few enough
    model : folder of the model
    gradient : so many videos, the least sure ones, get heat maps of Eq. 7
    workers : decode processes
    """

    out: Path
    model: Path
    gradient: int = 0
    workers: int = 1

    def report(self, num_videos: int) -> page.ReportFile | page.ReportFolder:
        """The file or folder for so many videos.

        Raises
        ------
        UsageError
            If something else is there, or it cannot be made.
        """
        is_page = self.out.suffix.lower() in PAGE_SUFFIXES
        if is_page and num_videos <= LARGEST_FILE:
            return page.ReportFile(self.out)
        return page.ReportFolder(self.out.with_suffix("") if is_page else self.out)


def build(tagging: Tagging, wanted: Wanted, truth: Truth, progress: Progress[Any]) -> tuple[Path, list[Receipt]]:
    """Write the report of a run whose features are there.

    Parameters
    ----------
    truth : what is known of its videos; which of them trained the model is found here
    progress : what the work passes through, with its amount and its name

    Returns
    -------
    The page, and what became of each candidate.

    Raises
    ------
    UsageError
        If something else is at `wanted.out`.
    RratagError
        If the disk is full.
    """
    entries = tagging.entries()
    keys = trained_on(wanted.model, tagging.model, tagging.extraction.store)
    truth = replace(truth, trained=frozenset(one.id for one in entries if one.key in keys))
    try:
        with wanted.report(len(entries)) as made:
            cards, found, receipts = _cards(tagging, truth, progress, len(entries))
            _gradients(tagging, wanted.gradient, cards, progress)
            _pictures(tagging, cards, found, wanted.workers, made.picture, progress)
            for card in cards:
                if card["href"]:
                    card["href"] = page.link(Path(card["href"]), made.folder)
            head = _head(tagging, wanted, found, truth, cards)
            head["facts"] = _facts(tagging, wanted.model, made.folder)
            pairs = [one["tags"] for one in head["scores"]["pairs"]]
            made.finish(page.render(head, _data(tagging, cards, pairs)))
    except OSError as error:
        raise RratagError(f"{wanted.out}: cannot be written ({error.strerror}); choose another place") from error
    return made.page, receipts


def _pictures(
    tagging: Tagging,
    cards: Sequence[Card],
    found: Sequence[Prediction],
    workers: int,
    keep: Callable[[int, bytes], str],
    progress: Progress[Any],
) -> None:
    """The frames of each tagged card: into it, as the address that `keep` gives them, their size and which they are."""
    videos = {video.id: video for video in tagging.extraction.discovery.videos}
    time_s = {one.video: one.time_s for one in found}
    tagged = [card for card in cards if card["rows"]]
    wanted = {card["id"]: {place: float(time_s[card["id"]][place]) for place in card["shown"]} for card in tagged}
    strips = strips_of([videos[card["id"]] for card in tagged], wanted, tagging.extraction.request, workers)
    for number, (card, strip) in enumerate(zip(tagged, progress(strips, len(tagged), "pictures"), strict=True)):
        card["message"] = card["message"] or strip.message
        if strip.positions:
            card["picture"] = [keep(number, strip.jpeg), strip.width, strip.height, list(strip.positions)]


def _cards(
    tagging: Tagging, truth: Truth, progress: Progress[Any], total: int
) -> tuple[list[Card], list[Prediction], list[Receipt]]:
    """Cards of all candidates without pictures, what is predicted, and what became of each."""
    rule = view_rule(tagging.extraction.stores[0].spec.meaning)
    weights = tagging.model.head.glimpse_weights().tolist()
    paths = {video.id: str(video.path) for video in tagging.extraction.discovery.videos}
    cards: list[Card] = []
    predictions, receipts = [], []
    for found in progress(tagging.predictions(keep_cells=True), total, "tags"):
        known = truth.labels.get(found.video, ())
        if isinstance(found, Receipt):
            receipts.append(found)
            cards.append({**report.failed_card(found, known), "href": paths.get(found.video, "")})
            continue
        receipts.append(found.receipt)
        rectangles = rule.rectangles(found.receipt.width, found.receipt.height)
        own = {"href": paths[found.video], "trained": found.video in truth.trained}
        cards.append({**report.card(found, weights, rectangles, known), **own})
        predictions.append(report.without_cells(found))
    return cards, predictions, receipts


def _gradients(tagging: Tagging, count: int, cards: Sequence[Card], progress: Progress[Any]) -> None:
    """Eq. 7 for the least sure videos: into their cards."""
    videos = {video.id: video for video in tagging.extraction.discovery.videos}
    tagged = [card for card in cards if card["rows"]]
    least = sorted(tagged, key=lambda card: float(card["rows"][0][1]))[:count]
    for card in progress(least, len(least), "gradients"):
        try:
            view = decoded_view(tagging.extraction, videos[card["id"]], card["view"])
        except StoppedError:  # its pictures are missing as well, and its card says so
            continue
        if len(view.time_s) != len(card["times"]):
            continue
        heat = influences(tagging.model.head, tagging.extraction.network.backbone, view, card["enlarged"])
        scale = GRID / min(heat.shape[2:])
        size = [max(1, round(side * scale)) for side in heat.shape[2:]]
        card["influence"] = report.layer(functional.interpolate(heat, size, mode="area").cpu().numpy())


def _data(tagging: Tagging, cards: Sequence[Card], pairs: Sequence[Any]) -> dict[str, Any]:
    """What the script shows; `pairs` are the confusions that the template lists, true and first tag."""
    model = tagging.model
    ids = "\n".join([str(tagging.extraction.discovery.root), *(card["id"] for card in cards)])
    return {
        "run": hashlib.sha256(ids.encode("utf-8", "surrogatepass")).hexdigest()[:16],
        "unsure": report.UNSURE,
        "tags": [{"name": name, "shown": readable(name)} for name in model.class_names],
        "glimpses": len(model.head.glimpse_weights()),
        "pairs": pairs,
        "videos": cards,
    }


def _head(
    tagging: Tagging, wanted: Wanted, found: Sequence[Prediction], truth: Truth, cards: Sequence[Card]
) -> dict[str, Any]:
    """What the template shows by itself."""
    model = tagging.model
    evaluation, num_unknown = report.judged(found, truth)
    root = tagging.extraction.discovery.root
    failures = [card for card in cards if not card["rows"]]
    return {
        "title": readable(root.name or str(root)),
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "version": rratag.__version__,
        "num_videos": len(cards),
        "num_tagged": len(found),
        "num_labelled": sum(one.video in truth.labels for one in found),
        "num_trained": len(truth.trained),
        "num_unknown": num_unknown,
        "num_missing": len(truth.missing),
        "failures": failures,
        "random_backbone": bool(model.info.get("random_backbone")),
        "charts": summary.charts(wanted.model, len(model.head.glimpse_weights())),
        "unsure": report.UNSURE,
        "with_gradients": sum("influence" in card for card in cards),
        "scores": summary.figures(evaluation),
    }


def _facts(tagging: Tagging, model: Path, folder: Path) -> list[tuple[str, str]]:
    """What was tagged, and by what; paths as seen from where the report lies."""
    extraction = tagging.extraction
    meaning = extraction.stores[0].spec.meaning
    sampling = meaning.get("sampling", {})
    frames = sampling.get("frames") or f"{sampling.get('fps')} per second"
    size = f"{meaning.get('input_size')} pixels, crops {meaning.get('crops')}"
    return [
        ("videos", page.seen_from(extraction.discovery.root, folder)),
        ("model", page.seen_from(model, folder)),
        ("tags", f"{len(tagging.model.class_names)}, by {len(tagging.model.head.glimpse_weights())} glimpses"),
        ("features", readable(f"{meaning.get('backbone')}, frames {frames}, {size}")),
        ("cache", page.seen_from(extraction.store.cache, folder)),
    ]
