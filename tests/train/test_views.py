"""Training on cached views: who sees them, what is drawn, and what is said where they are not there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rratag.data.datasets import CachedDataset, draw_generator
from rratag.errors import CacheError, ModelError, UsageError
from rratag.features.parts import view_parts
from rratag.features.spec import Spec
from rratag.head.rra import HeadConfig
from rratag.model import load_model
from rratag.records import Instance, Receipt
from rratag.train.fit import TrainConfig, _Run, fit
from rratag.train.grid import BASE, Contender, Grid
from rratag.train.run import LabelOptions, TrainingData, checkpoint_path, load_training_data, metrics_of, train_model
from rratag.video.augment import parse_views
from rratag.video.plan import random_frames
from tests.conftest import TINY_OPTIONS, ToyCache

FRAMES = 8
CONFIG = TrainConfig(epochs=2, frames=4, batch_size=4)


class Numbered:
    """A store in which each value says which source and frame it is of: 100 * source + frame."""

    def __init__(self, source: int, num_frames: int = FRAMES) -> None:
        self.source, self.num_frames, self.reads = source, num_frames, 0

    def header(self, key: str) -> Any:
        return SimpleNamespace(
            num_frames=self.num_frames, num_views=1, height=2, width=2, channels=3, time_s=np.arange(self.num_frames)
        )

    def read(self, key: str, frames: Sequence[int] | None = None) -> Any:
        self.reads += 1
        numbers = np.arange(self.num_frames) if frames is None else np.array(frames)
        maps = np.broadcast_to((100 * self.source + numbers)[:, None, None, None, None], (len(numbers), 1, 2, 2, 3))
        return SimpleNamespace(maps=maps.astype(np.float16))


def numbered(num_views: int, num_videos: int = 6, num_frames: int = FRAMES) -> CachedDataset:
    instances = [Instance(f"{number}.mp4", f"k{number}", "xy"[number % 2]) for number in range(num_videos)]
    views = {f"tsn:{number}": Numbered(number, num_frames) for number in range(1, num_views + 1)}
    return CachedDataset(Numbered(0), instances, ["x", "y"], views)


def drawn(dataset: CachedDataset, epoch: int, index: int, **named: Any) -> tuple[int, list[int]]:
    """Which source a video's batch comes from, and which frames."""

    def generator(number: int) -> np.random.Generator:
        return draw_generator(7, epoch, dataset.instances[number].video)

    values = dataset.train_batch([index], 4, generator, **named).features[0, :, 0, 0, 0].numpy().astype(int)
    sources = set((values // 100).tolist())
    assert len(sources) == 1  # all frames of a video share the draw
    return sources.pop(), (values % 100).tolist()


# --- draws ---


@pytest.mark.parametrize("in_memory", [True, False])
def test_each_epoch_each_video_shows_the_base_or_a_view_as_likely(
    in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rratag.data.datasets.memory_budget", lambda: 2**30 if in_memory else 0)
    dataset = numbered(3)
    found = {(epoch, index): drawn(dataset, epoch, index) for epoch in range(150) for index in range(4)}
    counts = Counter(source for source, _ in found.values())
    assert counts.keys() == {0, 1, 2, 3}
    assert max(abs(count - 150) for count in counts.values()) < 5 * np.sqrt(150)
    for index in range(4):  # of its own for each video, and anew in each epoch
        assert len({found[epoch, index][0] for epoch in range(150)}) == 4
    assert len({tuple(found[epoch, index][0] for index in range(4)) for epoch in range(150)}) > 50
    for source, frames in found.values():
        assert [frame // 2 for frame in frames] == [0, 1, 2, 3], source
    assert {key: drawn(numbered(3), *key) for key in list(found)[:40]} == dict(list(found.items())[:40])


def test_runs_without_views_draw_what_they_drew_before_there_were_any() -> None:
    plain, viewed = numbered(0), numbered(3)
    for epoch in range(20):
        expected = random_frames(FRAMES, 4, draw_generator(7, epoch, "1.mp4")).tolist()
        assert drawn(plain, epoch, 1) == (0, expected)
        assert drawn(viewed, epoch, 1, base_only=True) == (0, expected)


def test_a_view_with_fewer_frames_gives_its_own() -> None:
    dataset = numbered(1, num_frames=3)
    found = [drawn(dataset, epoch, 0) for epoch in range(30)]
    assert {source for source, _ in found} == {0, 1}
    assert {frame for source, frames in found if source == 1 for frame in frames} == {0, 1, 2}


def test_views_count_in_what_may_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six videos of 8 frames of 2x2x3 in float16, and three views of each."""
    size = 6 * FRAMES * 2 * 2 * 3 * 2
    for num_views, budget, fits in ((0, size, True), (3, size, False), (3, 4 * size, True), (3, 4 * size - 1, False)):
        monkeypatch.setattr("rratag.data.datasets.memory_budget", lambda budget=budget: budget)
        assert numbered(num_views).fits_memory is fits


# --- who sees them ---


def test_only_training_steps_read_views() -> None:
    train, validation = numbered(2), numbered(0)
    head = HeadConfig(3, 2, num_glimpses=1)
    run = _Run(head, train, validation, CONFIG, None, torch.device("cpu"), None)
    run._recompute_statistics(None)
    assert [source.reads for source in train.views.values()] == [0, 0]  # type: ignore[attr-defined]
    train.eval_batch([0, 1])
    assert [source.reads for source in train.views.values()] == [0, 0]  # type: ignore[attr-defined]
    for _ in range(4):
        run.epoch()
    assert all(source.reads for source in train.views.values())  # type: ignore[attr-defined]


def test_statistics_at_the_end_are_those_of_the_base() -> None:
    """The base is 0 to 7, the views are hundreds: a view among them would show."""
    found = fit(HeadConfig(3, 2, num_glimpses=2), numbered(2), numbered(0), CONFIG).head
    means = [value for name, value in found.state_dict().items() if name.endswith("running_mean")]
    assert means
    assert float(means[0].abs().max()) < FRAMES


def test_a_broken_off_run_with_views_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    head = HeadConfig(3, 2, num_glimpses=2)
    whole = fit(head, numbered(2), numbered(0), CONFIG)
    path = tmp_path / "checkpoint"

    class Stop(Exception):  # noqa: N818 - as a kill
        pass

    def stop(record: Any) -> None:
        raise Stop

    with pytest.raises(Stop):
        fit(head, numbered(2), numbered(0), CONFIG, checkpoint=path, on_epoch=stop)
    for other in (numbered(0), numbered(1)):
        with pytest.raises(ModelError, match="belongs to another run"):
            fit(head, other, numbered(0), CONFIG, checkpoint=path)
    again = fit(head, numbered(2), numbered(0), CONFIG, checkpoint=path)
    for name, value in whole.head.state_dict().items():
        assert torch.equal(again.head.state_dict()[name], value), name


# --- from a cache ---


def add_views(toy: ToyCache, text: str, videos: Sequence[str] | None = None) -> None:
    """Views of all cached videos, or of some, whose features are those of the base, one higher."""
    videos = videos or [f"{name}/{number}.mp4" for name in toy.class_names for number in range(8)]
    for part in view_parts(toy.store, toy.spec, parse_views(text)):
        store = toy.store.create_spec(part.stores[0].spec)
        for video in videos:
            base = toy.features(video)
            source = {"name": Path(video).name, "size": 1000, "mtime_ns": 5, "sha256": toy.sha256(video)}
            store.write(toy.key(video), replace(base, maps=base.maps + 1), Receipt(video, "ok"), source)


def load(toy: ToyCache, views: str | None, **options: Any) -> TrainingData:
    return load_training_data(toy.store, [], LabelOptions(**options), views=parse_views(views))


def test_training_data_has_views_for_training_alone(toy_cache: ToyCache) -> None:
    toy_cache.fill_classes()
    add_views(toy_cache, "tsn:3")
    data = load(toy_cache, "tsn:2", test_split=0.2)
    assert list(data.part("train").views) == ["tsn:1", "tsn:2"]
    assert data.part("validation").views == data.part("test").views == {}
    assert data.spec == toy_cache.spec
    assert load(toy_cache, None).part("train").views == {}
    view = data.part("train").views["tsn:2"]
    key = toy_cache.key("red/1.mp4")
    assert np.array_equal(view.read(key).maps, data.store.read(key).maps + np.float16(1))


def test_the_model_names_its_base_and_the_figures_name_the_views(toy_cache: ToyCache, tmp_path: Path) -> None:
    toy_cache.fill_classes()
    add_views(toy_cache, "tsn:2")
    config = TrainConfig(epochs=1)
    data, plain = load(toy_cache, "tsn:2"), load(toy_cache, None)
    model, result = train_model(data, {"num_glimpses": 1}, config)
    assert model.meaning == toy_cache.spec.meaning
    assert model.spec_request == toy_cache.request.recipe()
    assert metrics_of(data, model, result, config)["training"]["views"] == ["tsn:1", "tsn:2"]
    assert metrics_of(plain, model, result, config)["training"]["views"] == []
    paths = {checkpoint_path(tmp_path / "m", one, {}, config) for one in (data, plain, load(toy_cache, "tsn:1"))}
    assert len(paths) == 3


def test_views_that_are_not_in_the_cache_are_one_line_with_the_way_out(toy_cache: ToyCache) -> None:
    toy_cache.fill_classes()
    with pytest.raises(CacheError) as caught:
        load(toy_cache, "tsn:4")
    assert str(caught.value) == (
        "18 of 18 training videos have not all views of --views tsn:4; run: rratag extract"
        f" {toy_cache.root} --backbone toy --input-size 64 --crops 1 --views tsn:4"
    )
    trained = [one.video for one in load(toy_cache, None).instances if one.split == "train"]
    add_views(toy_cache, "tsn:2", trained[:15])
    add_views(toy_cache, "tsn:1", trained)
    with pytest.raises(CacheError, match="3 of 18 training videos have not all views of --views tsn:2; run:"):
        load(toy_cache, "tsn:2")
    load(toy_cache, "tsn:1")  # validation videos need none


@pytest.mark.parametrize(
    ("change", "views", "words"),
    [
        ({"modality": "flow"}, "tsn:2", "--views tsn:V is for pictures; beside --modality flow give --views flip"),
        ({"crops": "10"}, "flip", "--views flip adds nothing to --crops 10"),
    ],
)
def test_views_that_extract_refuses_have_no_command_that_makes_them(
    toy_cache: ToyCache, change: dict[str, str], views: str, words: str
) -> None:
    toy_cache.spec = Spec({**toy_cache.spec.meaning, **change}, toy_cache.spec.compute)
    toy_cache.fill_classes()
    with pytest.raises(UsageError, match=words):
        load(toy_cache, views)


def test_results_with_views_are_other_results(toy_cache: ToyCache, tmp_path: Path) -> None:
    toy_cache.fill_classes()
    add_views(toy_cache, "tsn:2")
    few = (Contender("mean pooling", {"kind": "mean"}), Contender("logistic", {"kind": "logistic"}), BASE)

    def results(views: str | None) -> set[str]:
        labels = LabelOptions(group_by=r"(\w+/\d)")
        grid = Grid(toy_cache.store, [], labels, tmp_path / "runs", TrainConfig(epochs=1), parse_views(views))
        list(grid.run(few, [0]))
        return {path.name for path in (tmp_path / "runs").iterdir()}

    plain = results(None)
    one = results("tsn:1")
    assert (len(plain), len(one), len(results("tsn:2"))) == (3, 6, 9)
    assert results("tsn:1") >= plain


# --- the commands ---


def test_from_extract_to_evaluate_with_views(cli: Any, clip_folder: Path, tmp_path: Path) -> None:
    clips = clip_folder
    for folder in clips.iterdir():
        for path in sorted(folder.iterdir())[3:]:
            path.unlink()
    training = ("--epochs", 2, "--glimpses", 1, "--views", "flip")
    assert cli("extract", clips, *TINY_OPTIONS).code == 0
    ran = cli("train", *training)
    ran.says_one_line(1, "4 of 4 training videos have not all views of --views flip", "rratag extract", "--frames 3")
    way_out = ran.err.strip().partition("run: rratag ")[2].split()
    ran = cli(*way_out, "--dry-run", "--workers", 1)
    assert "views       flip" in ran.out
    assert cli(*way_out, "--workers", 1).code == 0
    ran = cli("train", *training)
    assert ran.code == 0, ran.err
    assert "each epoch, each video shows one of: the base view, flip" in ran.err
    metrics = json.loads(Path(".rratag/models/latest/metrics.json").read_text())
    assert metrics["training"]["views"] == ["flip"]
    assert "view" not in load_model(Path(".rratag/models/latest")).meaning
    assert cli("evaluate").code == 0
    assert cli("predict", clips, "--workers", 1, "--out", "tags.csv").code == 0
    ran = cli(
        "compare", "--workers", 1, "--views", "flip", "--epochs", 1, "--seeds", 1, "--table", "baselines", "--json"
    )
    assert ran.code == 0, ran.err
    assert len(cli("cache", "ls", "--json").json["specs"]) == 2


@pytest.mark.parametrize("command", [("extract", "."), ("train",), ("compare",)])
def test_an_unknown_view_is_one_line(cli: Any, toy_cache: ToyCache, tmp_path: Path, command: tuple[str, ...]) -> None:
    toy_cache.fill_classes()
    (tmp_path / "a.mp4").write_bytes(b"no video")
    ran = cli(*command, "--cache", toy_cache.cache, "--views", "tsn:99")
    ran.says_one_line(2, "unknown --views 'tsn:99'", "flip, or tsn:V with V from 1 to 16")
    if command == ("extract", "."):
        ran = cli(*command, "--views", "flip", "--crops", "10")
        ran.says_one_line(2, "--views flip adds nothing to --crops 10")
