"""Several models judged together, and one by cached views: the same videos, labels and parts, and files of tags."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from rratag.errors import LabelError, ModelError, UsageError
from rratag.evaluate.cached import evaluate_model
from rratag.features.catalog import Catalog
from rratag.features.spec import Spec
from rratag.features.store import Features
from rratag.model import load_model, save_model
from rratag.tag.fuse import Fused, fuse
from rratag.tag.predict import Prediction, predict_cached
from rratag.tag.writers import About, write_tags
from rratag.train.fit import TrainConfig
from rratag.train.run import LabelOptions, load_training_data, metrics_of, save_run, train_model
from tests.conftest import ToyCache
from tests.evaluate.test_saved import evaluate_tags

CONFIG = TrainConfig(epochs=4, learning_rate=0.02, batch_size=8)
OTHER = {"modality": "flow"}


def fill_other(toy: ToyCache, change: dict[str, object], without: str = "", views: int = 1) -> Spec:
    """Features of another kind for all videos but one: weaker classes in channels turned round."""
    spec = Spec({**toy.spec.meaning, **change}, toy.spec.compute)
    store = toy.store.create_spec(spec)
    for name in toy.class_names:
        for number in range(10):
            video = f"{name}/{number}.mp4"
            own = toy.features(video, strength=1.5)
            maps = np.concatenate([np.roll(own.maps, view, axis=3) for view in range(views)], axis=1)
            header = toy.store.create_spec(toy.spec).header(toy.key(video))
            source = {"name": video, "size": 1000, "mtime_ns": 5, "sha256": toy.sha256(video)}
            if video != without:
                store.write(toy.key(video), Features(maps, own.time_s, own.frame_index), header.receipt, source)
    return spec


def trained(toy: ToyCache, folder: Path, labels: LabelOptions, config: TrainConfig = CONFIG) -> Path:
    data = load_training_data(toy.store, [], labels)
    model, result = train_model(data, {"num_glimpses": 2}, config)
    save_run(folder, data, model, result, metrics_of(data, model, result, config))
    return folder


@pytest.fixture
def rgb(toy_cache: ToyCache, tmp_path: Path) -> Path:
    toy_cache.fill_classes(10)
    return trained(toy_cache, tmp_path / "rgb", LabelOptions(test_split=0.4))


def retold(model: Path, folder: Path, spec: Spec, seed: int = 5) -> Path:
    """A model of other features: that of `model` with its weights disturbed, its labels the same."""
    loaded = load_model(model)
    rng = np.random.default_rng(seed)
    for parameter in loaded.head.parameters():
        parameter.data += parameter.data.new_tensor(rng.normal(0, 0.3, parameter.shape))
    loaded.meaning = spec.meaning
    save_model(folder, loaded, labels=(model / "labels.csv").read_text())
    return folder


def test_figures_are_those_of_the_weighted_mean(toy_cache: ToyCache, rgb: Path, tmp_path: Path) -> None:
    spec = fill_other(toy_cache, OTHER)
    flow = retold(rgb, tmp_path / "flow", spec)
    found, judged, missing = evaluate_model([(rgb, 1.0), (flow, 1.5)], toy_cache.cache)
    assert judged == f"test part of {rgb} and {flow}"
    assert missing == []
    assert found.num_videos == 12
    assert len(found.glimpse_accuracy) == 4
    assert [(one.name, one.weight) for one in found.models] == [(str(rgb), 1.0), (str(flow), 1.5)]
    alone = [evaluate_model(folder, toy_cache.cache)[0] for folder in (rgb, flow)]
    assert [one.ensemble for one in found.models] == [one.ensemble for one in alone]
    assert found.glimpse_accuracy == alone[0].glimpse_accuracy + alone[1].glimpse_accuracy
    assert found.to_json()["models"][1]["ensemble"]["top1"] == alone[1].ensemble.top1
    assert "models" not in alone[0].to_json()
    assert found.ensemble != alone[0].ensemble
    # nearly all weight on one is that one
    heavy, *_ = evaluate_model([(rgb, 1e-9), (flow, 1.0)], toy_cache.cache)
    assert asdict(heavy.ensemble) == pytest.approx(asdict(alone[1].ensemble), abs=1e-6)
    assert asdict(heavy.concatenation) == pytest.approx(asdict(alone[1].concatenation), abs=1e-6)


def test_a_video_that_one_cache_lacks_is_left_out_of_all(toy_cache: ToyCache, rgb: Path, tmp_path: Path) -> None:
    _, _, missing = evaluate_model(rgb, toy_cache.cache, part="all")
    assert missing == []
    flow = retold(rgb, tmp_path / "flow", fill_other(toy_cache, OTHER, without="green/3.mp4"))
    found, _, missing = evaluate_model([(rgb, 1.0), (flow, 1.0)], toy_cache.cache, part="all")
    assert (found.num_videos, missing) == (29, ["green/3.mp4"])
    found, _, missing = evaluate_model([(rgb, 1.0), (flow, 1.0)], toy_cache.cache, root=toy_cache.root)
    assert (found.num_videos, missing) == (29, ["green/3.mp4"])


@pytest.mark.parametrize("modality", ["rgb", "flow"])
def test_a_model_is_judged_by_the_listing_of_its_modality(
    toy_cache: ToyCache, rgb: Path, tmp_path: Path, modality: str
) -> None:
    """One video failed in the other modality, which was extracted last."""
    flow = retold(rgb, tmp_path / "flow", fill_other(toy_cache, OTHER))
    catalog = Catalog(toy_cache.cache)
    pictures = catalog.latest()
    whole = {"rgb": pictures, "flow": replace(pictures, request={**pictures.request, **OTHER})}
    other = "flow" if modality == "rgb" else "rgb"
    failed = [one for one in whole[other].entries if one.id != "green/3.mp4"]
    catalog.write(whole[modality])
    catalog.write(replace(whole[other], entries=failed))
    found, _, missing = evaluate_model({"rgb": rgb, "flow": flow}[modality], toy_cache.cache, part="all")
    assert (found.num_videos, missing) == (30, [])


def test_videos_that_one_model_was_trained_on_test_neither(
    toy_cache: ToyCache, rgb: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = fill_other(toy_cache, OTHER)
    flow = retold(rgb, tmp_path / "flow", spec)
    path = flow / "labels.csv"
    lines = path.read_text().splitlines()
    tested = [place for place, line in enumerate(lines) if "test" in line.split(",")]
    for place in tested[:5]:
        lines[place] = lines[place].replace("test", "train")
    path.write_text("\n".join(lines) + "\n")
    found, *_ = evaluate_model([(rgb, 1.0), (flow, 1.0)], toy_cache.cache)
    assert found.num_videos == 7
    assert "5 labelled videos are in one alone and not judged" in caplog.text
    path.write_text(path.read_text().replace("test", "train"))
    with pytest.raises(
        LabelError, match=r"test parts of .* have no video in common; train both with the same --labels"
    ):
        evaluate_model([(rgb, 1.0), (flow, 1.0)], toy_cache.cache)


def test_labels_that_contradict_each_other_are_named(toy_cache: ToyCache, rgb: Path, tmp_path: Path) -> None:
    flow = retold(rgb, tmp_path / "flow", fill_other(toy_cache, OTHER))
    text = (flow / "labels.csv").read_text()
    (line,) = (one for one in text.splitlines() if one.startswith("blue/4.mp4"))
    (flow / "labels.csv").write_text(text.replace(line, line.replace(",blue", ",red")))
    with pytest.raises(LabelError, match=r"blue/4\.mp4 is 'blue' in one and 'red' in the other") as caught:
        evaluate_model([(rgb, 1.0), (flow, 1.0)], toy_cache.cache, part="all")
    assert "\n" not in str(caught.value)


def test_a_video_that_came_after_one_model_was_trained_has_no_other_label(
    toy_cache: ToyCache, rgb: Path, tmp_path: Path
) -> None:
    flow = retold(rgb, tmp_path / "flow", fill_other(toy_cache, OTHER))
    lines = (flow / "labels.csv").read_text().splitlines(keepends=True)
    (flow / "labels.csv").write_text("".join(line for line in lines if not line.startswith("blue/4.mp4")))
    for order in ((rgb, flow), (flow, rgb)):
        found, _, missing = evaluate_model([(folder, 1.0) for folder in order], toy_cache.cache, part="all")
        assert (found.num_videos, missing) == (29, [])


# --- views in the cache ---


def test_cached_features_of_other_views_are_judged_both_ways(toy_cache: ToyCache, rgb: Path) -> None:
    spec = fill_other(toy_cache, {"crops": "3"}, views=3)
    own, *_ = evaluate_model(rgb, toy_cache.cache, part="all")
    assert evaluate_model(rgb, toy_cache.cache, part="all", crops="1")[0] == own
    store = toy_cache.store.open_spec(spec.short)
    model = load_model(rgb)
    listing_order = [f"{name}/{number}.mp4" for name in toy_cache.class_names for number in range(10)]
    for crop_fusion in ("mean", "joint"):
        found, *_ = evaluate_model(rgb, toy_cache.cache, part="all", crops="3", crop_fusion=crop_fusion)
        right = 0
        for video in listing_order:
            maps = store.read(toy_cache.key(video)).maps.astype(np.float32)  # [T,3,h,w,C]
            rows = [maps[:, view] for view in range(3)] if crop_fusion == "mean" else [maps.reshape(15, 2, 3, 8)]
            logits = [model.head(next(model.head.parameters()).new_tensor(row)[None]).logits[0] for row in rows]
            scores = sum(one.softmax(1).mean(0) for one in logits).detach().numpy()  # type: ignore[union-attr]
            right += model.class_names[int(np.argmax(scores))] == video.split("/")[0]
        assert found.ensemble.top1 == pytest.approx(right / 30)


def test_views_that_are_not_there_or_change_nothing_are_one_line(toy_cache: ToyCache, rgb: Path) -> None:
    with pytest.raises(ModelError, match=r"no features of the kind .*; extract with its settings and --crops 10"):
        evaluate_model(rgb, toy_cache.cache, crops="10")
    with pytest.raises(UsageError, match="unknown --crops '7'"):
        evaluate_model(rgb, toy_cache.cache, crops="7")
    with pytest.raises(UsageError, match="--crop-fusion joint changes nothing here"):
        evaluate_model(rgb, toy_cache.cache, crop_fusion="joint")
    with pytest.raises(UsageError, match="unknown --crop-fusion 'sum'"):
        evaluate_model(rgb, toy_cache.cache, crop_fusion="sum")


# --- files of tags ---


def fused_predictions(toy: ToyCache, folders: list[tuple[Path, float]]) -> list[Fused]:
    each = []
    for folder, _ in folders:
        model = load_model(folder)
        listing = toy.store.with_meaning(Spec(model.meaning, {}).meaning_digest)
        found = Catalog(toy.cache).find(toy.root, "extract")
        assert found is not None
        results = list(predict_cached(model, listing, found.entries))
        each.append([one for one in results if isinstance(one, Prediction)])
    return [fuse(parts, [weight for _, weight in folders]) for parts in zip(*each, strict=True)]


@pytest.mark.parametrize("score", ["ensemble", "concat"])
def test_a_file_of_fused_tags_is_judged_by_its_scores(
    toy_cache: ToyCache, rgb: Path, tmp_path: Path, score: str
) -> None:
    flow = retold(rgb, tmp_path / "flow", fill_other(toy_cache, OTHER), seed=8)
    folders = [(rgb, 1.0), (flow, 4.0)]
    wanted, *_ = evaluate_model(folders, toy_cache.cache, root=toy_cache.root)
    about = About({}, {}, {}, 4, 3, score, models=({"name": "rgb"}, {"name": "flow"}))
    predictions = fused_predictions(toy_cache, folders)
    write_tags(predictions, tmp_path / "tags.csv", about)
    found = evaluate_tags(tmp_path / "tags.csv")
    assert found.glimpse_accuracy == wanted.glimpse_accuracy
    if score == "ensemble":
        plain = np.array([one.glimpse_scores.mean(axis=0) for one in predictions])
        assert np.abs(plain - [one.scores for one in predictions]).max() > 0.01
        assert found.concatenation is None
        assert replace(found, models=[]).ensemble.top1 == wanted.ensemble.top1
        assert found.ensemble.mean_average_precision == pytest.approx(wanted.ensemble.mean_average_precision, abs=1e-3)
    else:
        assert wanted.concatenation is not None
        assert found.concatenation is not None
        assert found.concatenation.top1 == wanted.concatenation.top1
