"""``rratag demo``: render a labelled set, extract, train, evaluate on unseen videos, predict, all in one folder."""

from __future__ import annotations

import json as json_module
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import rratag
from rratag import config, files
from rratag.cli import options
from rratag.cli.console import lines, out, say, set_verbosity, steps, track
from rratag.errors import UsageError

if TYPE_CHECKING:
    from rratag.evaluate.report import Evaluation
    from rratag.tag.run import Tagging
    from rratag.train.run import TrainingData

LABELLED_PER_CLASS = 20
UNSEEN_PER_CLASS = 8
FRAMES = 12
INPUT_SIZE = 224
EPOCHS = 20
"""Smaller pictures and fewer epochs than the defaults: a demo of minutes, on two cores."""
UNSEEN_SEED = 1_000_000
"""Added to the seed for the unseen videos: none of them shares its draws with a labelled one."""
GRADIENTS = 4
"""Videos of the report with heat maps of Eq. 7."""
MARKER = "rratag-demo.json"


@dataclass(frozen=True, slots=True)
class Places:
    """Where the demo keeps things: in their ordinary places below one folder, so that the next commands just work."""

    folder: Path

    @property
    def labelled(self) -> Path:
        """Videos to learn from, one folder per tag."""
        return self.folder / "videos"

    @property
    def unseen(self) -> Path:
        """Videos to tag; their folders are read only to judge the tags."""
        return self.folder / "clips"

    @property
    def cache(self) -> Path:
        """Cached features."""
        return (self.folder / config.CACHE_DIR).absolute()

    @property
    def model(self) -> Path:
        """The trained model."""
        return self.folder / config.MODELS_DIR / config.MODEL_NAME

    @property
    def tags(self) -> Path:
        """The tags of the unseen videos."""
        return self.folder / "tags.csv"

    @property
    def report(self) -> Path:
        """The page that shows them."""
        return self.folder / "report.html"

    @property
    def results(self) -> Path:
        """The table, for machines."""
        return self.folder / "results.json"


def demo(
    folder: Annotated[
        Path, typer.Option("--out", help="Folder to make; an earlier demo in it is gone on with.")
    ] = Path("rratag-demo"),
    seed: options.Seed = config.SEED,
    workers: options.Workers = options.default_workers(),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Render birds that differ in one small marking, learn the tags, and tag unseen videos.

    Compares Redundancy Reduction Attention with mean pooling on the same cached features.
    """
    set_verbosity(quiet=quiet)
    started = time.monotonic()
    places = Places(folder)
    _prepare(places, seed)
    _render(places, seed, workers)
    _extract(places, workers)
    rows, tagging = _learn(places, seed, workers)
    _write(places, tagging, workers)
    seconds = time.monotonic() - started
    result = {"seed": seed, "unseen_videos": rows[0]["videos"], "heads": rows, "seconds": round(seconds, 1)}
    files.write_atomically(places.results, (json_module.dumps(result, indent=1) + "\n").encode())
    if json:
        typer.echo(json_module.dumps(result))
    else:
        _tell(places, rows, seconds)


def _prepare(places: Places, seed: int) -> None:
    """Make the folder, or go on with one of the same seed and version."""
    marker = places.folder / MARKER
    wanted = {"rratag": rratag.__version__, "seed": seed, "videos": [LABELLED_PER_CLASS, UNSEEN_PER_CLASS]}
    if places.folder.exists() and (not places.folder.is_dir() or any(places.folder.iterdir())):
        found = json_module.loads(marker.read_text()) if marker.is_file() else None
        if found != wanted:
            raise UsageError(f"{places.folder}: is there and is not this demo's; choose another --out")
        return
    try:
        places.folder.mkdir(parents=True, exist_ok=True)
        files.write_atomically(marker, json_module.dumps(wanted).encode())
    except OSError as error:
        raise UsageError(f"{places.folder}: cannot be written ({error.strerror}); choose another --out") from error


def _render(places: Places, seed: int, workers: int) -> None:
    from rratag.data.rendered import CLASSES, TRUTH_FILE, render_set

    for target, count, start in (
        (places.labelled, LABELLED_PER_CLASS, seed),
        (places.unseen, UNSEEN_PER_CLASS, (seed + UNSEEN_SEED) % 2**63),
    ):
        if (target / TRUTH_FILE).exists():
            continue
        say(f"rendering {len(CLASSES) * count} videos of {len(CLASSES)} kinds of birds into {target}")
        for _ in render_set(target, videos_per_class=count, seed=start, workers=workers):
            pass


def _extract(places: Places, workers: int) -> None:
    from rratag.features.extract import Extraction, RunOptions
    from rratag.features.request import Request
    from rratag.features.store import FeatureStore
    from rratag.video.discover import discover
    from rratag.video.plan import Sampling

    request = Request(input_size=INPUT_SIZE, sampling=Sampling(FRAMES))
    for folder, command in ((places.labelled, "extract"), (places.unseen, "predict")):
        discovery = discover([str(folder)])
        options_ = RunOptions(workers, config.BATCH_SIZE)
        run = Extraction(discovery, request, FeatureStore(places.cache), options_, command=command)
        for _ in track(run.run(), len(discovery.videos), f"extract {folder.name}"):
            pass


def _learn(places: Places, seed: int, workers: int) -> tuple[list[dict[str, Any]], Tagging]:
    """Train the heads, tag the unseen videos with each, and judge the tags: one row per head."""
    from rratag.features.store import FeatureStore
    from rratag.train.fit import TrainConfig
    from rratag.train.run import LabelOptions, load_training_data, metrics_of, save_run, train_model

    store = FeatureStore(places.cache)
    data = load_training_data(store, [places.labelled], LabelOptions(seed=seed))
    rows = []
    heads: list[tuple[str, dict[str, Any]]] = [
        ("mean pooling + linear", {"kind": "mean", "num_glimpses": 1}),
        (f"RRA, {config.GLIMPSES} glimpses", {}),
    ]
    tagging = None
    for name, head in heads:
        say(f"training {name} on {sum(one.split == 'train' for one in data.instances)} videos")
        began = time.monotonic()
        settings = TrainConfig(seed=seed, epochs=EPOCHS)
        model, result = train_model(data, head, settings)
        if name.startswith("RRA"):
            save_run(places.model, data, model, result, metrics_of(data, model, result, settings))
        tagging = _tagging(places, model, workers)
        found = _judge(tagging)
        rows.append(_row(name, found, time.monotonic() - began))
    assert tagging is not None
    rows.insert(1, _linear_row(data, tagging))
    return rows, tagging


def _tagging(places: Places, model: Any, workers: int) -> Tagging:
    """A prediction run over the unseen videos with their features in the cache."""
    from rratag.features.extract import RunOptions
    from rratag.features.store import FeatureStore
    from rratag.tag.run import Tagging, model_request
    from rratag.video.discover import discover

    tagging = Tagging(
        model,
        discover([str(places.unseen)]),
        model_request(model),
        FeatureStore(places.cache),
        RunOptions(workers, config.BATCH_SIZE),
    )
    for _ in tagging.extract():
        pass
    return tagging


def _judge(tagging: Tagging) -> Evaluation:
    from rratag.evaluate.report import evaluate
    from rratag.tag.predict import Prediction

    found = [result for result in tagging.predictions() if isinstance(result, Prediction)]
    return evaluate(found, [result.video.split("/")[0] for result in found])


def _row(name: str, found: Evaluation, seconds: float) -> dict[str, Any]:
    return {
        "head": name,
        "videos": found.num_videos,
        "accuracy": found.ensemble.top1,
        "mean_average_precision": found.ensemble.mean_average_precision,
        "glimpses": found.glimpse_accuracy,
        "seconds": round(seconds, 1),
    }


def _linear_row(data: TrainingData, tagging: Tagging) -> dict[str, Any]:
    from rratag.data.datasets import CachedDataset
    from rratag.data.labels import from_folders
    from rratag.train.linear import fit_linear

    began = time.monotonic()
    unseen = from_folders({entry.id: entry.key for entry in tagging.entries() if entry.key})
    judged = CachedDataset(tagging.extraction.stores[0], unseen, data.class_names)
    found = fit_linear(data.part("train"), data.part("validation"), judged)
    return {
        "head": "mean pooling + logistic regression",
        "videos": len(judged),
        "accuracy": found.test_accuracy,
        "seconds": round(time.monotonic() - began, 1),
    }


def _write(places: Places, tagging: Tagging, workers: int) -> None:
    from rratag.explain.build import Wanted, build
    from rratag.explain.report import known_labels
    from rratag.tag.writers import write_tags

    about = options.about(tagging.model, tagging.extraction.stores[0].spec, config.TOP, "ensemble")
    write_tags(tagging.predictions(), places.tags, about)
    wanted = Wanted(places.report.absolute(), places.model.absolute(), gradient=GRADIENTS, workers=workers)
    truth = known_labels([one.id for one in tagging.entries()], tagging.model.class_names, None)
    build(tagging, wanted, truth, steps)


def _tell(places: Places, rows: list[dict[str, Any]], seconds: float) -> None:
    table = [["on unseen videos", "accuracy", "each glimpse", "seconds"]]
    for row in rows:
        glimpses = " ".join(f"{share:.2f}" for share in row.get("glimpses", ()))
        table.append([row["head"], f"{row['accuracy']:.3f}", glimpses, f"{row['seconds']:.0f}"])
    lines(table)
    out.print()
    out.print(
        f"{rows[0]['videos']} unseen videos, weights of the CNN from ImageNet, {seconds:.0f} s in all", markup=False
    )
    for path, what in (
        (places.labelled, "rendered videos, one folder per tag"),
        (places.unseen, "unseen videos, with truth.csv: where each bird is"),
        (places.tags, "their tags: score of every glimpse, when and where it looked"),
        (places.report, "a page that shows them with the evidence: open it in a browser"),
        (places.model, "the model"),
        (places.results, "this table"),
    ):
        out.print(f"  {path}{os.sep if path.is_dir() else ''}  {what}", markup=False)
    out.print("next:", markup=False)
    out.print(f"  cd {places.folder}", markup=False)
    command = "rratag" if shutil.which("rratag") else f"{sys.executable} -m rratag"
    out.print(f"  {command} evaluate", markup=False)
    out.print(f"  {command} predict YOUR_CLIPS --out yours.csv", markup=False)
