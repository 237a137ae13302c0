"""From cache and labels to a saved model: the right videos, the right split, the right facts in the model."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from rratag.data.labels import from_csv
from rratag.errors import CacheError, LabelError, UsageError
from rratag.features.catalog import Catalog
from rratag.features.spec import Spec
from rratag.features.store import FeatureStore
from rratag.model import LABELS_FILE, load_model
from rratag.train.fit import TrainConfig
from rratag.train.run import (
    LabelOptions,
    TrainingData,
    checkpoint_path,
    find_device,
    load_training_data,
    metrics_of,
    save_run,
    train_model,
)
from tests.conftest import ToyCache


def data_of(toy: ToyCache, *roots: Path, **options: object) -> TrainingData:
    return load_training_data(toy.store, list(roots), LabelOptions(**options))  # type: ignore[arg-type]


def parts(data: TrainingData) -> Counter[tuple[str, str]]:
    return Counter((str(one.label), one.split) for one in data.instances)


def test_the_first_folder_is_the_tag_and_every_class_is_divided(toy_cache: ToyCache) -> None:
    store = toy_cache.fill_classes(10)
    data = data_of(toy_cache, test_split=0.2)
    assert data.class_names == ["blue", "green", "red"]
    assert parts(data) == {
        (name, part): count
        for name in data.class_names
        for part, count in (("train", 6), ("validation", 2), ("test", 2))
    }
    for one in data.instances:
        assert one.label == one.video.split("/")[0]
        assert one.key == toy_cache.key(one.video)
    assert data.spec == store.spec
    assert data.roots == [toy_cache.root]
    assert data.recipe == toy_cache.request.recipe()
    assert len(data.part("train")) == 18
    assert data.part("train").labels.tolist() == [
        data.class_names.index(str(one.label)) for one in data.instances if one.split == "train"
    ]


def test_the_split_is_decided_by_the_seed(toy_cache: ToyCache) -> None:
    toy_cache.fill_classes(10)
    one, same, other = (data_of(toy_cache, seed=seed).instances for seed in (1, 1, 2))
    assert one == same != other


def test_the_root_extracted_last_is_the_default_and_predicted_ones_never_train(toy_cache: ToyCache) -> None:
    first, last, predicted = (toy_cache.root.with_name(name) for name in ("first", "last", "predicted"))
    toy_cache.fill(["blue/a.mp4", "red/a.mp4", "blue/c.mp4", "red/c.mp4"], root=first)
    toy_cache.fill(["blue/b.mp4", "red/b.mp4", "green/b.mp4", "green/c.mp4"], root=last)
    toy_cache.fill(["blue/x.mp4", "red/x.mp4"], root=predicted, command="predict")
    assert {one.video for one in data_of(toy_cache).instances} == {
        "blue/b.mp4",
        "red/b.mp4",
        "green/b.mp4",
        "green/c.mp4",
    }
    assert {one.video for one in data_of(toy_cache, first).instances} == {
        "blue/a.mp4",
        "red/a.mp4",
        "blue/c.mp4",
        "red/c.mp4",
    }
    both = data_of(toy_cache, first, last)
    assert len(both.instances) == 8
    assert both.roots == [first, last]
    with pytest.raises(CacheError, match=r"predicted: not extracted.*first|predicted: not extracted.*last"):
        data_of(toy_cache, predicted)


def test_roots_that_do_not_go_together_are_refused(toy_cache: ToyCache) -> None:
    toy_cache.fill_classes(2)
    others = toy_cache.root.with_name("others")
    toy_cache.fill(["red/0.mp4"], root=others)
    with pytest.raises(LabelError, match=r"'red/0.mp4' is under more than one of the roots"):
        data_of(toy_cache, toy_cache.root, others)
    toy_cache.fill(["red/9.mp4"], root=others, spec=Spec({**toy_cache.spec.meaning, "crops": "3"}, {}))
    with pytest.raises(CacheError, match="different settings"):
        data_of(toy_cache, toy_cache.root, others)


def test_roots_that_were_extracted_last_as_different_modalities_are_told_apart(toy_cache: ToyCache) -> None:
    toy_cache.fill_classes(2)
    others = toy_cache.root.with_name("others")
    toy_cache.request = replace(toy_cache.request, modality="flow")
    toy_cache.fill(["red/9.mp4"], root=others, spec=Spec({**toy_cache.spec.meaning, "modality": "flow"}, {}))
    with pytest.raises(CacheError, match=r"videos was extracted last as rgb, .*others as flow; give train --modality"):
        data_of(toy_cache, toy_cache.root, others)


def test_groups_never_stand_on_both_sides(toy_cache: ToyCache) -> None:
    toy_cache.fill(
        [f"{name}/g{group}-{number}.mp4" for name in ("blue", "red") for group in range(5) for number in range(3)]
    )
    data = data_of(toy_cache, group_by=r"(\w+/g\d)-")
    sides: dict[str, set[str]] = {}
    for one in data.instances:
        assert one.group == one.video.split("-")[0]
        sides.setdefault(one.group, set()).add(one.split)
    assert len(sides) == 10
    assert {len(found) for found in sides.values()} == {1}
    assert {"train", "validation"} == set().union(*sides.values())


def test_a_label_file_rules_over_folders_and_keeps_what_is_missing(toy_cache: ToyCache, tmp_path: Path) -> None:
    toy_cache.fill_classes(4)
    rows = ["video,label,split"]
    rows += [
        f"{name}/{number}.mp4,{'low' if number < 2 else 'high'},{'test' if number == 3 else ''}"
        for name in ("blue", "red")
        for number in range(4)
    ]
    (tmp_path / "labels.csv").write_text("\n".join([*rows, "red/99.mp4,low,"]) + "\n")
    data = data_of(toy_cache, labels=tmp_path / "labels.csv")
    assert data.class_names == ["high", "low"]
    assert data.missing == ["red/99.mp4"]
    assert {one.video for one in data.instances if one.split == "test"} == {"blue/3.mp4", "red/3.mp4"}
    assert sum(one.label is None for one in data.instances) == 4  # green is in the cache and has no row


def test_nothing_to_train_on(toy_cache: ToyCache) -> None:
    with pytest.raises(CacheError, match="no extracted videos"):
        data_of(toy_cache)
    toy_cache.fill([])
    with pytest.raises(CacheError, match="no extracted videos"):
        data_of(toy_cache)
    with pytest.raises(LabelError, match="no video has features"):
        load_training_data(FeatureStore(toy_cache.cache), [toy_cache.root], LabelOptions())


def test_videos_whose_features_have_gone_are_left_out_and_counted(toy_cache: ToyCache) -> None:
    store = toy_cache.fill_classes()
    store.path(toy_cache.key("red/0.mp4")).unlink()
    data = load_training_data(toy_cache.store, [], LabelOptions())
    assert "red/0.mp4" not in {one.video for one in data.instances}
    assert data.warnings[0].startswith("1 of 24 videos are left out: their features have gone")
    for path in store.folder.glob("??/*.h5"):
        path.unlink()
    with pytest.raises(CacheError, match="the features of all 24 videos have gone; run: rratag extract"):
        load_training_data(toy_cache.store, [], LabelOptions())


def test_a_listing_that_does_not_say_how_it_was_extracted_is_one_line(toy_cache: ToyCache) -> None:
    toy_cache.fill_classes()
    catalog = Catalog(toy_cache.cache)
    (listing,) = catalog.all()
    catalog.write(replace(listing, request={"backbone": "toy"}))
    with pytest.raises(CacheError, match="does not say how it was extracted"):
        load_training_data(toy_cache.store, [], LabelOptions())


def test_a_saved_run_says_what_was_done(toy_cache: ToyCache, tmp_path: Path) -> None:
    toy_cache.fill_classes(10)
    data = data_of(toy_cache)
    config = TrainConfig(epochs=15, learning_rate=0.02, batch_size=8)
    records = []
    folder = tmp_path / "models/mine"
    folder.parent.mkdir()
    model, result = train_model(data, {"num_glimpses": 2}, config, on_epoch=records.append)
    metrics = metrics_of(data, model, result, config)
    save_run(folder, data, model, result, metrics)
    assert [record.epoch for record in records] == list(range(1, 16))
    assert metrics["videos"] == {"train": 24, "validation": 6, "test": 0}
    assert metrics["validation"]["accuracy"] > 0.8
    assert metrics["head"]["num_glimpses"] == 2
    found = load_model(folder)
    assert found.class_names == ["blue", "green", "red"]
    assert found.meaning == toy_cache.spec.meaning
    assert found.spec_request == toy_cache.request.recipe()
    assert found.info["compute"] == toy_cache.spec.compute
    assert found.info["roots"] == [str(toy_cache.root)]
    assert found.info["random_backbone"] is False
    assert json.loads((folder / "metrics.json").read_text())["epoch"] == result.best_epoch
    # the labels and split that were used are kept in the form that --labels takes
    again = from_csv(folder / LABELS_FILE, {one.video: one.key for one in data.instances})
    assert {(one.video, one.label, one.split) for one in again.instances} == {
        (one.video, one.label, one.split) for one in data.instances
    }


def test_a_model_of_random_weights_says_so(toy_cache: ToyCache) -> None:
    spec = Spec({**toy_cache.spec.meaning, "weights": "random-0123"}, {})
    toy_cache.fill([f"{name}/{number}.mp4" for name in ("blue", "red") for number in range(4)], spec=spec)
    model, _ = train_model(data_of(toy_cache), {}, TrainConfig(epochs=1))
    assert model.info["random_backbone"] is True


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert [find_device(name) for name in ("auto", "cpu")] == ["cpu", "cpu"]
    with pytest.raises(UsageError, match="no usable GPU"):
        find_device("cuda")
    with pytest.raises(UsageError, match="auto, cpu, cuda"):
        find_device("tpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert [find_device(name) for name in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]


def test_whatever_decides_a_run_has_a_checkpoint_of_its_own(toy_cache: ToyCache, tmp_path: Path) -> None:
    toy_cache.fill_classes(6)
    data, head, config = data_of(toy_cache), {"num_glimpses": 2}, TrainConfig(epochs=3)
    other_features = replace(data, spec=Spec({**data.spec.meaning, "crops": "3"}, data.spec.compute))
    other_labels = replace(data, instances=[replace(one, label="red") for one in data.instances])
    runs = [
        (data, head, config),
        (other_features, head, config),
        (other_labels, head, config),
        (data, {"num_glimpses": 3}, config),
        (data, head, replace(config, learning_rate=0.5)),
    ]
    paths = {checkpoint_path(tmp_path / "latest", *run) for run in runs}
    assert len(paths) == len(runs)
    assert checkpoint_path(tmp_path / "latest", data, head, replace(config, patience=4)) in paths
    other_compute = replace(data, spec=Spec(data.spec.meaning, {"runtime": "torch", "precision": "bf16"}))
    assert checkpoint_path(tmp_path / "latest", other_compute, head, config) in paths
