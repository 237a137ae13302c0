"""What several rooms test with: small real H.264 clips in two classes, a toy cache of made-up maps, the CLI."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# the machine is shared, and the decode workers inherit it: one thread each
os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy as np
import pytest
from hypothesis import settings

from rratag.features.catalog import Catalog, Entry, Listing
from rratag.features.request import Request
from rratag.features.spec import Spec
from rratag.features.store import Features, FeatureStore, SpecStore
from rratag.records import Receipt

# The same examples in every run, so that a failure is of the change; HYPOTHESIS_PROFILE=default explores.
settings.register_profile("same", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

TINY = "test_efficientnet.r160_in1k"
"""A timm network of 0.4 million weights."""
TINY_OPTIONS = ("--backbone", TINY, "--weights", "random", "--input-size", "64", "--frames", "3", "--workers", "1")

COLOURS = {"blue": (30, 60, 210), "red": (210, 50, 30)}
NUM_EACH = 5


@pytest.fixture(autouse=True, scope="session")
def _without_openvino() -> Iterator[None]:
    """Compiling takes longer than what the tests compute; tests/features/test_compiled.py is about it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rratag.features.compiled.is_installed", lambda: False)
        yield


def encode(path: Path, pictures: Sequence[np.ndarray], rate: int = 10) -> Path:
    """Write uint8 pictures [H,W,3] as an H.264 file, by one thread."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "10"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for picture in pictures:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode(None))
    return path


def coloured(colour: str, seed: int, num_frames: int = 8) -> list[np.ndarray]:
    """Pictures of 80x48 in one colour of a class, with noise that `seed` draws and a square that moves right."""
    rng = np.random.default_rng(seed)
    ground = np.clip(np.array(COLOURS[colour]) + rng.normal(0, 12, (48, 80, 3)), 0, 255).astype(np.uint8)
    pictures = []
    for number in range(num_frames):
        picture = ground.copy()
        picture[16:32, 8 * number : 8 * number + 16] = 235
        pictures.append(picture)
    return pictures


@pytest.fixture(scope="session")
def encoded_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``blue`` and ``red``, five clips each, made once. Read only: tests take `clip_folder`."""
    folder = tmp_path_factory.mktemp("encoded")
    for place, colour in enumerate(sorted(COLOURS)):
        (folder / colour).mkdir()
        for number in range(NUM_EACH):
            encode(folder / colour / f"{number}.mp4", coloured(colour, 100 * place + number))
    return folder


@pytest.fixture
def clip_folder(encoded_clips: Path, tmp_path: Path) -> Path:
    """A copy of the encoded clips, ``videos`` below `tmp_path`."""
    return Path(shutil.copytree(encoded_clips, tmp_path / "videos"))


@dataclass
class Ran:
    """What a command returned and wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def says_one_line(self, code: int, *words: str) -> None:
        """It ended with `code`, nothing on stdout, and one line on stderr that holds all `words`."""
        __tracebackhide__ = True
        assert self.code == code, (self.code, self.err)
        assert self.out == ""
        assert "Traceback" not in self.err
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        for word in words:
            assert word in lines[0], (word, self.err)


class CommandLine:
    """Runs ``rratag`` in this process, as the console script does."""

    def __call__(self, *arguments: object, env: dict[str, str] | None = None, stdin: str | None = None) -> Ran:
        from typer.testing import CliRunner

        from rratag.cli.app import app

        result = CliRunner().invoke(app, [str(argument) for argument in arguments], env=env, input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[CommandLine]:
    """The command line, in an empty working folder and without settings from outside."""
    for name in [name for name in os.environ if name.startswith("RRATAG_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger("rratag")
    before = root.handlers[:], root.level, root.propagate
    yield CommandLine()
    root.handlers[:], root.level, root.propagate = before


class ToyCache:
    """A cache of made-up maps: class c is a raised channel c at one cell of every frame.

    ``root`` need not exist: what is cached is known without its videos.
    """

    class_names = ("blue", "green", "red")
    shape = (5, 1, 2, 3, 8)  # T, V, h, w, C

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self.root = folder / "videos"
        self.store = FeatureStore(self.cache)
        self.request = Request(backbone="toy", crops="1", input_size=64)
        self.spec = Spec(
            {
                "backbone": "toy",
                "weights": "0" * 64,
                "channels": self.shape[-1],
                "crops": "1",
                "input_size": 64,
                "resize": 72,
                "interpolation": "bilinear, antialiased uint8",
                "sampling": self.request.sampling.describe(),
            },
            {"runtime": "torch", "precision": "fp32"},
        )

    @staticmethod
    def sha256(video: str) -> str:
        return hashlib.sha256(video.encode()).hexdigest()

    def key(self, video: str) -> str:
        return self.sha256(video)[:32]

    def features(self, video: str, strength: float = 4.0) -> Features:
        rng = np.random.default_rng(int(self.sha256(video)[:8], 16))
        maps = np.maximum(rng.normal(0, 1, self.shape), 0)
        name = video.split("/")[0]
        if name in self.class_names:
            maps[:, :, 1, 2, self.class_names.index(name)] += strength
        return Features(maps.astype(np.float16), np.arange(5) + 0.25, np.arange(5) * 7)

    def fill(
        self, videos: Sequence[str], root: Path | None = None, command: str = "extract", spec: Spec | None = None
    ) -> SpecStore:
        """Cache `videos` and write the listing of their root."""
        spec = spec or self.spec
        store = self.store.create_spec(spec)
        entries = []
        for video in videos:
            receipt = Receipt(video, "ok", width=160, height=120, frames_wanted=5, frames_decoded=5, frames_distinct=5)
            source = {"name": Path(video).name, "size": 1000, "mtime_ns": 5, "sha256": self.sha256(video)}
            store.write(self.key(video), self.features(video), receipt, source)
            entries.append(Entry(1000, 5, self.sha256(video), receipt))
        listing = Listing((root or self.root).resolve(), command, spec.short, self.request.memo(), entries)
        Catalog(self.cache).write(listing)
        return store

    def fill_classes(self, num_each: int = 8) -> SpecStore:
        return self.fill([f"{name}/{number}.mp4" for name in self.class_names for number in range(num_each)])


@pytest.fixture
def toy_cache(tmp_path: Path) -> ToyCache:
    return ToyCache(tmp_path)
