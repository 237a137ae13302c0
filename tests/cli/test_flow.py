"""Optical flow from extract to predict, as a user runs it: which features, which listing, one clear line."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from rratag.features.catalog import Catalog
from rratag.features.store import FeatureStore
from rratag.train.grid import TABLES
from tests.conftest import TINY, CommandLine, ToyCache, encode

OPTIONS = ("--backbone", TINY, "--weights", "random", "--input-size", "64", "--frames", "2", "--workers", "1")
FLOW = ("--modality", "flow")
STEPS = {"left": (-4, 0), "down": (0, 4)}
TRAIN = ("--epochs", 10, "--glimpses", 1, "--learning-rate", 0.01, "--batch-size", 4, "--validation-split", 0)


def moving(step: tuple[int, int], seed: int) -> Sequence[np.ndarray]:
    """Seven pictures of 80x64 whose blobs move by `step` pixels a frame: only motion tells the classes apart."""
    coarse = np.random.default_rng(seed).uniform(20, 235, (24, 30))
    ground = np.kron(coarse, np.ones((6, 6)))[..., None].repeat(3, axis=2).astype(np.uint8)
    starts = ((30 - number * step[0], 40 - number * step[1]) for number in range(7))
    return [ground[y : y + 64, x : x + 80].copy() for x, y in starts]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of three clips, extracted as flow, then as pictures. Read only."""
    folder = tmp_path_factory.mktemp("flow")
    for place, (name, step) in enumerate(STEPS.items()):
        (folder / "videos" / name).mkdir(parents=True)
        for number in range(3):
            encode(folder / "videos" / name / f"{number}.mp4", moving(step, 10 * place + number))
    cli, cache = CommandLine(), ("--cache", folder / "cache")
    for modality in (FLOW, ()):
        ran = cli("extract", folder / "videos", *cache, *OPTIONS, *modality)
        assert (ran.code, "6 videos: 6 ok" in ran.err) == (0, True), ran.err
    return folder


def best(path: Path) -> dict[str, str]:
    with path.open(newline="") as file:
        return {row["video"]: row["label"] for row in csv.DictReader(file) if row["rank"] == "1"}


def test_both_modalities_lie_in_the_cache_and_train_chooses(folder: Path, cli: CommandLine) -> None:
    cache = ("--cache", folder / "cache")
    rows = cli("cache", "ls", *cache, "--json").json["specs"]
    assert sorted((row["modality"], row["videos"]) for row in rows) == [("flow", 6), ("rgb", 6)]
    for arguments, modality in (((), "rgb"), (FLOW, "flow"), (("--modality", "rgb"), "rgb")):
        for roots in ((), (folder / "videos",)):
            ran = cli("train", *roots, *cache, *arguments, "--epochs", 1, "--validation-split", 0, "--out", "m")
            assert ran.code == 0
            assert ("modality=flow" in ran.err) == (modality == "flow")
    cli("train", *cache, "--modality", "depth").says_one_line(2, "depth", "rgb, flow")


def test_compare_says_which_features_it_takes(folder: Path, cli: CommandLine, tmp_path: Path) -> None:
    cache = shutil.copytree(folder / "cache", tmp_path / "own")
    compare = ("compare", "--workers", 1, "--cache", cache, "--table", "losses", "--seeds", 1, "--epochs", 1)
    for modality in (FLOW, ()):
        assert cli("extract", folder / "videos", "--cache", cache, *OPTIONS, *modality).code == 0
        ran = cli(*compare)
        assert ran.code == 0, ran.err
        assert "features of" in ran.err
        assert ("modality=flow" in ran.err) == bool(modality)
        assert ("modality=flow" in cli(*compare, "--modality", "rgb").err) is False
        assert ("modality=flow" in cli(*compare, *FLOW).err) is True
    assert len(list(Path(".rratag/compare/runs").iterdir())) == 2 * len(TABLES["losses"])
    cli(*compare, "--modality", "depth").says_one_line(2, "depth", "rgb, flow")


def test_extract_again_does_nothing_for_either(folder: Path, cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)  # what is cached needs no OpenCV
    monkeypatch.setattr("rratag.features.extract.load_network", None)
    for modality in ((), FLOW):
        ran = cli("extract", folder / "videos", "--cache", folder / "cache", *OPTIONS, *modality)
        assert (ran.code, ran.err.splitlines()[0]) == (0, "6 videos: 6 ok")


def test_a_model_of_flow_extracts_flow_and_tells_motions_apart(folder: Path, cli: CommandLine) -> None:
    assert cli("train", folder / "videos", "--cache", folder / "cache", *FLOW, *TRAIN, "--out", "m").code == 0
    for place, (name, step) in enumerate(STEPS.items()):
        Path("new", name).mkdir(parents=True)
        encode(Path("new", name, "a.mp4"), moving(step, 100 + place))
    ran = cli("predict", "new", "--model", "m", "--cache", "cache", "--out", "tags.csv", "--workers", 1)
    assert ran.code == 0, ran.err
    assert best(Path("tags.csv")) == {"down/a.mp4": "down", "left/a.mp4": "left"}
    (store,) = FeatureStore(Path("cache")).specs()
    assert store.spec.meaning["modality"] == "flow"
    assert [one.modality for one in Catalog(Path("cache")).all()] == ["flow"]
    # the same videos as pictures leave that listing alone, and what flow knew
    assert cli("extract", "new", "--cache", "cache", *OPTIONS).code == 0
    assert sorted((one.command, one.modality) for one in Catalog(Path("cache")).all()) == [
        ("extract", "rgb"),
        ("predict", "flow"),
    ]
    ran = cli("predict", "new", "--model", "m", "--cache", "cache", "--out", "again.csv")
    assert Path("again.csv").read_text() == Path("tags.csv").read_text()
    assert sorted((one.command, one.modality) for one in Catalog(Path("cache")).all()) == [
        ("extract", "rgb"),
        ("predict", "flow"),
    ]


def test_dry_run_tries_two_stacks_of_a_few_videos(
    folder: Path, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def cost(decoded: Sequence[object], size: float, *_: object) -> tuple[float, float]:
        tried.extend(one.receipt.frames_distinct for one in decoded)  # type: ignore[attr-defined]
        return size, 7200.0

    monkeypatch.setattr("rratag.features.extract.flow_cost.whole_cost", cost)
    many = [*OPTIONS, "--frames", 5]
    ran = cli("extract", folder / "videos", "--cache", "cache", *many, *FLOW, "--dry-run")
    assert ran.code == 0, ran.err
    assert tried == [2, 2, 2]
    assert "to extract  6\n" in ran.out
    assert "about 7200 s = 2.0 h (from 3 videos tried here)" in ran.out
    assert not Path("cache").exists()


@pytest.mark.parametrize("cache", ["cache", "none"])
def test_dry_run_counts_the_fields_of_views_once_with_their_base_or_without(
    folder: Path, cli: CommandLine, monkeypatch: pytest.MonkeyPatch, cache: str
) -> None:
    """Beside cached flow, mirrored flow takes the same fields again."""
    tried: list[str] = []

    def cost(decoded: Sequence[object], size: float, *_: object) -> tuple[float, float]:
        tried.extend(one.video.id for one in decoded)  # type: ignore[attr-defined]
        return size, 7200.0

    monkeypatch.setattr("rratag.features.extract.flow_cost.whole_cost", cost)
    ran = cli("extract", folder / "videos", "--cache", folder / cache, *OPTIONS, *FLOW, "--views", "flip", "--dry-run")
    assert ran.code == 0, ran.err
    assert len(tried) == len(set(tried)) == 3


def test_flow_without_opencv_is_one_line_before_any_work(
    folder: Path, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setattr("rratag.features.backbones.load", None)
    monkeypatch.setattr("rratag.features.pipeline.DecodePool", None)
    for more in ((), ("--dry-run",)):
        ran = cli("extract", folder / "videos", "--cache", "cache", *OPTIONS, *FLOW, *more)
        ran.says_one_line(2, "OpenCV", "pip install 'rratag[flow]'")
    cli("extract", folder / "videos", *OPTIONS, "--modality", "depth").says_one_line(2, "depth", "rgb, flow")


def test_train_on_flow_that_was_never_extracted(cli: CommandLine, toy_cache: ToyCache) -> None:
    toy_cache.fill_classes(2)
    options = ("--cache", toy_cache.cache, *FLOW)
    cli("train", *options).says_one_line(1, "rratag extract FOLDER --modality flow")
    cli("train", toy_cache.root, *options).says_one_line(1, "not extracted", "videos --modality flow")
