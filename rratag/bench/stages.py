"""The stages of a run, each beside naive ways to do it, on inputs of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rratag.bench import naive
from rratag.bench.measure import OURS, Line, interleaved
from rratag.data.rendered.encode import write_video
from rratag.features import compiled
from rratag.features.extract import Extraction, Network, RunOptions, load_network
from rratag.features.h5 import Features
from rratag.features.request import Request
from rratag.features.spec import Spec
from rratag.features.store import FeatureStore, SpecStore
from rratag.head.losses import parse_loss
from rratag.head.rra import HeadConfig, RRAHead
from rratag.records import Receipt
from rratag.train.fit import MAPS_TYPE
from rratag.video.decode import Notes, decode_pyav
from rratag.video.discover import discover
from rratag.video.plan import Sampling, wanted_indices
from rratag.video.probe import probe
from rratag.video.views import ViewRule

FRAMES = 25
MAX_PIXELS = 2**26
POSITIONS = (8, 10)
"""h and w of the maps of a 5:4 picture at 224 pixels."""


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Attributes
    ----------
    backbone, weights : the CNN of `forward`; None is its own weights
    channels : C of the maps that are read and that the head sees
    rounds : turns of each way
    seconds : lengths of the videos that are decoded
    """

    backbone: str = "efficientnet_lite0"
    weights: str | None = None
    channels: int = 1280
    rounds: int = 5
    seconds: tuple[int, ...] = (10, 60)


def decode(settings: Settings, folder: Path) -> Iterator[Line]:
    """25 frames of H.264 videos with B-frames, 640x360 at 25 frames a second."""
    for seconds in settings.seconds:
        path = folder / f"{seconds}.mp4"
        write_video(path, _moving(25 * seconds), fps=25, size=(640, 360))
        found = probe(path, MAX_PIXELS)
        wanted = wanted_indices(Sampling(frames=FRAMES), found.times_s, found.end_s)

        def ours(path: Path = path) -> list[NDArray[np.uint8]]:
            table = probe(path, MAX_PIXELS)
            chosen = wanted_indices(Sampling(frames=FRAMES), table.times_s, table.end_s)
            return [frame.image for frame in decode_pyav(table, chosen, Notes("pyav"), MAX_PIXELS)]

        ways: dict[str, Callable[[], list[NDArray[np.uint8]]]] = {
            OURS: ours,
            "a seek per frame": partial(naive.seek_per_frame, path, found.times_s[wanted].tolist()),
            "every frame": partial(naive.every_frame, path, wanted.tolist()),
        }
        skipped = {}
        try:
            import decord  # noqa: F401

            ways["decord"] = partial(naive.by_decord, path, wanted.tolist())
        except ImportError:
            skipped["decord"] = "not installed"
        mine = np.stack(ours())
        error = {
            name: float(np.abs(mine.astype(np.int16) - np.stack(way()).astype(np.int16)).mean())
            for name, way in ways.items()
            if name != OURS
        }
        cost = interleaved(ways, FRAMES, settings.rounds)
        yield Line(f"decode, {seconds} s", "frame", cost, error, "mean grey levels", skipped)


def _moving(num_frames: int, seed: int = 0) -> Iterator[NDArray[np.uint8]]:
    """Smooth noise that moves over smooth noise: the encoder finds motion, as in a real scene."""
    rng = np.random.default_rng(seed)
    back, front = (np.kron(rng.integers(0, 256, (60, 100, 3)), np.ones((12, 12, 1))).astype(np.uint8) for _ in "ab")
    for number in range(num_frames):
        picture = back[number % 200 : number % 200 + 360, :640].copy()
        at = 3 * number % 440
        picture[100:260, at : at + 200] = front[100:260, 300:500]
        yield picture


def preprocess(settings: Settings, folder: Path) -> Iterator[Line]:
    """640x360 pictures to the network's size."""
    rule = ViewRule("full", 224, 256, "bicubic")
    pictures = list(_moving(FRAMES))
    height, width = rule.resized(360, 640)
    ways: dict[str, Callable[[], NDArray[np.uint8]]] = {
        OURS: lambda: np.concatenate([rule.prepare(one) for one in pictures]),
        "PIL": lambda: naive.resized_by_pil(pictures, height, width, rule.interpolation),
    }
    difference = np.abs(ways[OURS]().astype(np.int16) - ways["PIL"]().astype(np.int16)).mean()
    cost = interleaved(ways, FRAMES, settings.rounds)
    yield Line("preprocess", "frame", cost, {"PIL": float(difference)}, "mean grey levels")


def forward(settings: Settings, folder: Path) -> Iterator[Line]:
    """The frozen CNN on 16 images of 256x320."""
    from rratag.features.backbones import load

    def network(*, folded: bool) -> Network:
        found = load(settings.backbone, weights=settings.weights, input_size=224, folded=folded)
        return Network(found, torch.device("cpu"), "fp32")

    images = np.stack([picture[:256, :320] for picture in _moving(16)])
    plain, ours = network(folded=False), network(folded=True)
    plain.backbone.network.to(memory_format=torch.contiguous_format)
    ways = {OURS: ours.maps, "torch as it comes": plain.maps}
    skipped = {}
    for precision in compiled.HINTS:
        name = f"OpenVINO {precision}"
        if compiled.is_installed():
            ways[name] = Network(
                ours.backbone, ours.device, precision, compiled.Compiled(ours.backbone, precision)
            ).maps
        else:
            skipped[name] = "not installed: pip install 'rratag[openvino]'"
    wanted = plain.maps(images).astype(np.float32)
    error = {name: _distance(way(images), wanted) for name, way in ways.items() if way != plain.maps}
    cost = interleaved({name: partial(way, images) for name, way in ways.items()}, len(images), settings.rounds)
    yield Line(f"forward, {settings.backbone}", "image", cost, error, "relative to torch as it comes", skipped)


def extract(settings: Settings, folder: Path) -> Iterator[Line]:
    """`rratag extract` on 8 videos of 4 seconds, 12 frames each, beside its two parts done alone."""
    videos, num_videos = folder / "videos", 8
    videos.mkdir()
    for number in range(num_videos):
        write_video(videos / f"{number}.mp4", _moving(100, number), fps=25, size=(640, 360))
    request = Request(settings.backbone, settings.weights, 224, device="cpu", precision="fp32")
    network = load_network(request)
    rule = request.view_rule(network.backbone)
    cache = FeatureStore(folder / "extracted")
    workers = os.cpu_count() or 1

    def whole() -> None:
        options = RunOptions(workers, overwrite=True)
        extraction = Extraction(discover([str(videos)]), request, cache, options)
        extraction._network = network  # loading it is no part of this
        if any(not receipt.usable for receipt in extraction.run()):
            raise AssertionError("a rendered video could not be extracted")

    def pictures() -> list[NDArray[np.uint8]]:
        found = []
        for path in sorted(videos.iterdir()):
            table = probe(path, MAX_PIXELS)
            wanted = wanted_indices(request.sampling, table.times_s, table.end_s)
            found += [rule.prepare(one.image)[0] for one in decode_pyav(table, wanted, Notes("pyav"), MAX_PIXELS)]
        return found

    images = np.stack(pictures())

    def forward_alone() -> None:
        for first in range(0, len(images), 16):
            network.maps(images[first : first + 16])

    ways = {OURS: whole, "decoding and resizing alone": pictures, "the CNN alone": forward_alone}
    cost = interleaved(ways, num_videos, settings.rounds)
    cost["both alone"] = cost["decoding and resizing alone"] + cost["the CNN alone"]
    yield Line(f"extract, {network.runtime}", "video", cost)


def start(settings: Settings, folder: Path) -> Iterator[Line]:
    """`rratag --help`, beside a Python that does nothing."""

    def ran(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    ways = {OURS: partial(ran, "-m", "rratag", "--help"), "python alone": partial(ran, "-c", "pass")}
    yield Line("start, rratag --help", "start", interleaved(ways, 1, settings.rounds))


def read(settings: Settings, folder: Path) -> Iterator[Line]:
    """4 random cached frames of a video with 25, zstd; maps of which a tenth is not zero."""
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.normal(-1.3, 1, (FRAMES, 1, *POSITIONS, settings.channels)), 0).astype(np.float16)
    features = Features(maps, np.arange(FRAMES) / 2.0, np.arange(FRAMES))
    spec, sha256 = Spec({"backbone": "bench"}, {}), "0" * 64
    store = SpecStore(folder / "cache", spec)
    store.folder.mkdir()
    source = {"name": "bench.mp4", "size": 1, "mtime_ns": 1, "sha256": sha256}
    store.write(sha256[:32], features, Receipt("bench.mp4", "ok", duration_s=12.5), source)
    frames = sorted(rng.choice(FRAMES, 4, replace=False).tolist())
    path = store.path(sha256[:32])
    ways: dict[str, Callable[[], NDArray[np.float16]]] = {
        OURS: lambda: store.read(sha256[:32], frames).maps,
        "h5py, a list of indices": lambda: naive.fancy_indexing(path, frames),
    }
    if not all((way() == maps[frames]).all() for way in ways.values()):
        raise AssertionError("the ways to read do not agree")
    yield Line("cache read, 4 of 25 frames", "video", interleaved(ways, 1, 3 * settings.rounds))


def train(settings: Settings, folder: Path) -> Iterator[Line]:
    """A training step of RRA with 4 glimpses: 32 videos of 4 frames."""
    head = RRAHead(HeadConfig(settings.channels, 10)).train()
    plain = naive.NaiveRRA(head).train()
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.normal(-1.3, 1, (32, 4, *POSITIONS, settings.channels)), 0).astype(np.float16)
    features, labels = torch.from_numpy(maps), torch.from_numpy(rng.integers(0, 10, 32))
    loss = parse_loss("Li+Le")
    optimisers = [torch.optim.Adam(model.parameters(), 2e-4) for model in (head, plain)]

    def step(optimiser: torch.optim.Optimizer, logits: torch.Tensor) -> None:
        optimiser.zero_grad()
        loss.total(loss.parts(logits, labels)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    ways = {
        OURS: lambda: step(optimisers[0], head(features.to(MAPS_TYPE)).logits),
        "[B, C, T] in float32": lambda: step(optimisers[1], plain(_channels_first(features))),
    }
    yield Line("training step", "video", interleaved(ways, len(features), settings.rounds))


def evaluate(settings: Settings, folder: Path) -> Iterator[Line]:
    """The head on 16 videos of 25 frames."""
    head = RRAHead(HeadConfig(settings.channels, 10)).eval()
    plain = naive.NaiveRRA(head).eval()
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.normal(-1.3, 1, (16, FRAMES, *POSITIONS, settings.channels)), 0).astype(np.float16)
    features = torch.from_numpy(maps)

    def ours() -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = head(features.float()).logits
        return logits

    def naively() -> torch.Tensor:
        logits: torch.Tensor = plain(_channels_first(features))  # with its graph, as is forgotten so often
        return logits.detach()

    error = {"[B, C, T] in float32": _distance(ours().numpy(), naively().numpy())}
    cost = interleaved({OURS: ours, "[B, C, T] in float32": naively}, len(features), settings.rounds)
    yield Line("evaluation, 25 frames", "video", cost, error, "relative, of the logits")


def _channels_first(maps: torch.Tensor) -> torch.Tensor:
    """(B, N, h, w, C) in half precision to (B, C, P) in float32."""
    return maps.float().flatten(1, 3).transpose(1, 2).contiguous()


def _distance(found: NDArray[np.floating], wanted: NDArray[np.floating]) -> float:
    difference = np.linalg.norm(found.astype(np.float64) - wanted.astype(np.float64))
    return float(difference / np.linalg.norm(wanted.astype(np.float64)))


STAGES: dict[str, Callable[[Settings, Path], Iterator[Line]]] = {
    "start": start,
    "decode": decode,
    "preprocess": preprocess,
    "forward": forward,
    "extract": extract,
    "read": read,
    "train": train,
    "evaluate": evaluate,
}


def measure(settings: Settings, stages: list[str]) -> Iterator[Line]:
    """Lines of some stages, in a scratch folder that goes afterwards."""
    with tempfile.TemporaryDirectory(prefix="rratag-bench-") as folder:
        for name in stages:
            yield from STAGES[name](settings, Path(folder))
