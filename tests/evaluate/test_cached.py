"""A model judged by cached features: the right videos, the right part, features that fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rratag.errors import CacheError, LabelError, ModelError, UsageError
from rratag.evaluate.cached import evaluate_model, predictions
from rratag.features.spec import Spec
from rratag.model import load_model, save_model
from rratag.records import Instance
from rratag.train.fit import TrainConfig
from rratag.train.run import LabelOptions, load_training_data, metrics_of, save_run, train_model
from tests.conftest import ToyCache

CONFIG = TrainConfig(epochs=15, learning_rate=0.02, batch_size=8)


def trained(toy: ToyCache, folder: Path, test_split: float = 0.2) -> Path:
    data = load_training_data(toy.store, [], LabelOptions(test_split=test_split))
    model, result = train_model(data, {"num_glimpses": 2}, CONFIG)
    save_run(folder, data, model, result, metrics_of(data, model, result, CONFIG))
    return folder


@pytest.fixture
def model_folder(toy_cache: ToyCache, tmp_path: Path) -> Path:
    toy_cache.fill_classes(10)
    return trained(toy_cache, tmp_path / "model")


@pytest.mark.parametrize(("part", "count"), [(None, 6), ("test", 6), ("validation", 6), ("train", 18), ("all", 30)])
def test_the_part_asked_for_is_judged(toy_cache: ToyCache, model_folder: Path, part: str | None, count: int) -> None:
    found, judged, _ = evaluate_model(model_folder, toy_cache.cache, part=part)
    assert found.num_videos == count
    assert judged == f"{part or 'test'} part of {model_folder}"
    assert found.num_classes == found.num_classes_seen == 3
    assert found.ensemble.top1 > 0.8
    assert found.ensemble.top3 == 1
    assert len(found.glimpse_accuracy) == 2


def test_without_a_test_part_the_validation_part_is_judged(toy_cache: ToyCache, tmp_path: Path) -> None:
    toy_cache.fill_classes(10)
    folder = trained(toy_cache, tmp_path / "model", test_split=0.0)
    found, judged, _ = evaluate_model(folder, toy_cache.cache)
    assert (found.num_videos, judged.split()[0]) == (6, "validation")
    with pytest.raises(LabelError, match="no labelled video"):
        evaluate_model(folder, toy_cache.cache, part="test")


def test_wrong_labels_count_against_the_model(toy_cache: ToyCache, model_folder: Path) -> None:
    """The folder says red where the features are a blue video's."""
    other = toy_cache.root.with_name("others")
    toy_cache.fill(["blue/20.mp4", "blue/21.mp4", "red/22.mp4"], root=other)
    (toy_cache.cache.parent / "labels.csv").write_text("file,kind\nblue/20.mp4,blue\nblue/21.mp4,red\nred/22.mp4,red\n")
    right, judged, _ = evaluate_model(model_folder, toy_cache.cache, root=other)
    assert (right.num_videos, right.ensemble.top1, judged) == (3, 1.0, str(other))
    wrong, *_ = evaluate_model(
        model_folder,
        toy_cache.cache,
        root=other,
        labels=toy_cache.cache.parent / "labels.csv",
        columns={"video": "file", "label": "kind"},
    )
    assert wrong.ensemble.top1 == pytest.approx(2 / 3)
    (pair,) = wrong.confused_pairs
    assert (pair.label, pair.predicted, pair.count) == ("red", "blue", 1)


def test_segments_that_hold_no_time_label_whole_videos(toy_cache: ToyCache, model_folder: Path) -> None:
    other = toy_cache.root.with_name("others")
    toy_cache.fill(["blue/20.mp4", "red/22.mp4"], root=other)
    entries = {
        name: {"subset": "training", "annotations": [{"label": label, "segment": [5, end]}]}
        for name, label, end in (("20", "blue", 3), ("22", "red", 9))
    }
    path = toy_cache.cache.parent / "net.json"
    path.write_text(json.dumps({"version": "VERSION 1.3", "taxonomy": [], "database": entries}))
    found, *_ = evaluate_model(model_folder, toy_cache.cache, root=other, labels=path)
    assert (found.num_videos, found.ensemble.top1) == (2, 1.0)


def test_intervals_are_judged_by_their_own_frames(
    toy_cache: ToyCache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each video is blue before second 2 and red from then on: seen whole, all look the same."""
    videos = [f"{number:02}.mp4" for number in range(30)]
    store = toy_cache.fill(videos)
    rows = []
    for number, video in enumerate(videos):
        features = toy_cache.features(video)
        features.maps[:2, :, 1, 2, 0] += 4
        features.maps[2:, :, 1, 2, 1] += 4
        source = {"name": video, "size": 1000, "mtime_ns": 5, "sha256": toy_cache.sha256(video)}
        store.write(toy_cache.key(video), features, store.header(toy_cache.key(video)).receipt, source)
        part = "validation" if number % 3 == 0 else "train"
        rows += [f"{video},blue,0,2,{part}", f"{video},red,2,,{part}"]
    (tmp_path / "labels.csv").write_text("\n".join(["video,label,start_s,end_s,split", *rows]) + "\n")
    data = load_training_data(toy_cache.store, [], LabelOptions(tmp_path / "labels.csv"))
    model, result = train_model(data, {"num_glimpses": 2}, CONFIG)
    metrics = metrics_of(data, model, result, CONFIG)
    save_run(tmp_path / "model", data, model, result, metrics)
    found, _, missing = evaluate_model(tmp_path / "model", toy_cache.cache, part="validation", test_on="instance")
    assert found.num_videos == 20
    assert missing == []
    assert found.ensemble.top1 > 0.9
    assert found.ensemble.top1 == pytest.approx(metrics["validation"]["accuracy"])
    assert found.glimpse_accuracy == pytest.approx(metrics["validation"]["glimpse_accuracy"])
    bounds = [(0.0, 2.0), (2.0, None), (None, None)]
    instances = [Instance("00.mp4", toy_cache.key("00.mp4"), None, start_s=start, end_s=end) for start, end in bounds]
    times = [one.time_s.tolist() for one in predictions(model, [store], instances)]
    assert times == [[0.25, 1.25], [2.25, 3.25, 4.25], [0.25, 1.25, 2.25, 3.25, 4.25]]
    times = [one.time_s.tolist() for one in predictions(model, [store], instances, test_frames=2)]
    assert times == [[0.25, 1.25], [2.25, 4.25], [1.25, 3.25]]
    middle, *_ = evaluate_model(tmp_path / "model", toy_cache.cache, part="validation", test_frames=1)
    assert [(one.label, one.num_predicted) for one in middle.per_class] == [("blue", 0), ("red", 10)]
    assert middle.redundancy is not None
    assert middle.redundancy.first_accuracy[-1] == middle.ensemble.top1  # of the same frames
    inside, *_ = evaluate_model(
        tmp_path / "model", toy_cache.cache, part="validation", test_on="instance", test_frames=1
    )
    assert inside.ensemble.top1 > 0.9
    caplog.clear()
    whole, *_ = evaluate_model(tmp_path / "model", toy_cache.cache, part="validation")
    # each of the 10 videos has both labels, of which one comes first
    assert (whole.num_videos, whole.num_several, whole.ensemble.top1) == (10, 10, 1)
    assert (whole.ensemble.mean_per_class_accuracy, whole.ensemble.mean_average_precision) == (0.5, 1)
    assert whole.confused_pairs == []
    assert whole.redundancy is not None
    assert whole.redundancy.first_accuracy[-1] == 1
    assert "20 labelled intervals are judged as whole videos; --test-on instance" in caplog.text
    with pytest.raises(UsageError, match="unknown --test-on 'clip'; choose from video, instance"):
        evaluate_model(tmp_path / "model", toy_cache.cache, test_on="clip")


def test_labelled_videos_that_are_gone_are_named(toy_cache: ToyCache, model_folder: Path) -> None:
    rows = (model_folder / "labels.csv").read_text().splitlines()
    kept = [row.split(",")[0] for row in rows[1:] if not row.startswith("red/")]
    toy_cache.fill(kept)
    found, _, missing = evaluate_model(model_folder, toy_cache.cache, part="all")
    assert (found.num_videos, len(missing), missing[0]) == (20, 10, "red/0.mp4")
    toy_cache.fill(["other.mp4"])
    with pytest.raises(LabelError, match="no labelled video to judge; the cache does not hold 30 labelled ones"):
        evaluate_model(model_folder, toy_cache.cache)


def test_predictions_stand_in_the_order_asked_for(toy_cache: ToyCache, model_folder: Path) -> None:
    model = load_model(model_folder)
    instances = [Instance(video, toy_cache.key(video), None) for video in ("red/3.mp4", "blue/1.mp4", "red/0.mp4")]
    store = toy_cache.store.create_spec(toy_cache.spec)
    found = predictions(model, [store], instances)
    assert [one.video for one in found] == ["red/3.mp4", "blue/1.mp4", "red/0.mp4"]
    assert [one.class_names[one.ranking()[0]] for one in found] == ["red", "blue", "red"]
    assert (found[0].receipt.width, found[0].receipt.height) == (160, 120)
    np.testing.assert_allclose(found[0].time_s, np.arange(5) + 0.25)


def test_features_of_another_precision_serve(toy_cache: ToyCache, model_folder: Path) -> None:
    other = toy_cache.root.with_name("others")
    spec = Spec(toy_cache.spec.meaning, {"runtime": "torch", "precision": "bf16"})
    toy_cache.fill(["blue/30.mp4", "red/31.mp4"], root=other, spec=spec)
    found, *_ = evaluate_model(model_folder, toy_cache.cache, root=other)
    assert (found.num_videos, found.ensemble.top1) == (2, 1.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"weights": "f" * 64}, "weights"), ({"crops": "3"}, "crops"), ({"sampling": {"frames": 3}}, "sampling")],
)
def test_features_of_another_meaning_are_refused_and_the_difference_named(
    toy_cache: ToyCache, model_folder: Path, change: dict[str, object], words: str
) -> None:
    model = load_model(model_folder)
    model.meaning = {**model.meaning, **change}
    save_model(model_folder, model)
    with pytest.raises(ModelError, match=f"no features of the kind.*nearest: {words}: model"):
        evaluate_model(model_folder, toy_cache.cache)


def test_what_is_missing_is_named(toy_cache: ToyCache, model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no features of the kind"):
        evaluate_model(model_folder, tmp_path / "none")
    with pytest.raises(CacheError, match="not extracted"):
        evaluate_model(model_folder, toy_cache.cache, root=tmp_path / "elsewhere")
    (model_folder / "labels.csv").unlink()
    with pytest.raises(ModelError, match=r"labels\.csv: missing.*--root"):
        evaluate_model(model_folder, toy_cache.cache)


def test_a_label_that_the_model_does_not_know_is_named(toy_cache: ToyCache, model_folder: Path) -> None:
    other = toy_cache.root.with_name("others")
    toy_cache.fill(["blue/20.mp4", "violet/21.mp4"], root=other)
    with pytest.raises(LabelError, match="'violet' is not a tag of the model"):
        evaluate_model(model_folder, toy_cache.cache, root=other)
