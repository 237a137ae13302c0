"""From cache and video files to a model with its own backbone, and from that model to tags."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rratag.errors import CacheError, ModelError, UsageError, WeightsError
from rratag.evaluate.cached import evaluate_model, predictions
from rratag.features import backbones
from rratag.features.extract import Extraction, RunOptions
from rratag.features.request import Request
from rratag.features.spec import digest
from rratag.features.store import FeatureStore
from rratag.head.losses import parse_loss
from rratag.model import CONFIG_FILE, Model, load_model, save_model
from rratag.model_backbone import BACKBONE_FILE
from rratag.train.finetune import FinetuneConfig
from rratag.train.fit import FitResult, TrainConfig
from rratag.train.run import (
    LabelOptions,
    TrainingData,
    load_training_data,
    metrics_of,
    save_run,
    train_model,
    unfrozen_phase,
)
from rratag.train.validate import judge
from rratag.video.discover import discover
from rratag.video.plan import Sampling
from tests.conftest import TINY, TINY_OPTIONS, CommandLine

REQUEST = Request(TINY, "random", 64, "full", Sampling(frames=3))
CONFIG = TrainConfig(epochs=2, batch_size=4, learning_rate=2e-3)
TUNING = FinetuneConfig(1, rate_scale=1.0)


def extracted(folder: Path, cache: Path) -> TrainingData:
    store = FeatureStore(cache)
    list(Extraction(discover([str(folder)]), REQUEST, store, RunOptions(2)).run())
    return load_training_data(store, [], LabelOptions(validation_split=0.4))


def trained(data: TrainingData, workers: int = 1, tuning: FinetuneConfig = TUNING) -> tuple[Model, FitResult]:
    # the last epoch is kept, so that there is a backbone to save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rratag.train.fit._Run._is_best", lambda self, record: True)
        return train_model(data, {"num_glimpses": 2}, CONFIG, finetune=tuning, workers=workers)


@pytest.fixture(scope="module")
def data(encoded_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    """The clips and their cache. Read only, but for features of other specs."""
    return extracted(encoded_clips, tmp_path_factory.mktemp("tuned") / "cache")


@pytest.fixture(scope="module")
def tuned(data: TrainingData) -> tuple[Model, FitResult]:
    return trained(data)


@pytest.fixture
def folder(tuned: tuple[Model, FitResult], data: TrainingData, tmp_path: Path) -> Path:
    model, result = tuned
    save_run(tmp_path / "model", data, model, result, metrics_of(data, model, result, CONFIG))
    return tmp_path / "model"


def cache_of(data: TrainingData) -> Path:
    return data.store.stores[0].folder.parent


def test_the_unfolded_network_sees_what_is_cached(data: TrainingData) -> None:
    phase = unfrozen_phase(data, TUNING, 2, "cpu")
    cached = data.part("validation")
    with torch.no_grad():
        for index, pictures in enumerate(phase.validation_videos.regular(phase.sampling)):
            assert pictures is not None
            maps = phase._judged(pictures)
            assert maps.shape == (1, 3, *cached.map_shape(index)[1:], 256)
            wanted = cached.eval_batch([index]).features.float()
            torch.testing.assert_close(maps, wanted, rtol=2e-3, atol=2e-3 * wanted.max().item())


def test_the_number_of_workers_changes_nothing(data: TrainingData, tuned: tuple[Model, FitResult]) -> None:
    model, result = tuned
    other, again = trained(data, workers=2)
    assert model.backbone == other.backbone
    assert all(torch.equal(value, other.head.state_dict()[name]) for name, value in model.head.state_dict().items())
    assert result.validation == again.validation


def test_predictions_are_what_training_saw(
    tuned: tuple[Model, FitResult], data: TrainingData, folder: Path, tmp_path: Path
) -> None:
    result = tuned[1]
    cache = cache_of(data)
    judged, words, missing = evaluate_model(folder, cache, part="validation", workers=2)
    assert result.validation is not None
    assert (judged.num_videos, missing) == (len(data.part("validation")), [])
    assert words.startswith("validation part")
    assert judged.ensemble.top1 == result.validation.accuracy
    assert judged.glimpse_accuracy == list(result.validation.glimpse_accuracy)
    # to the digits of the loss, and by features of its own
    model, part = load_model(folder), data.part("validation")
    stores = FeatureStore(cache).with_meaning(digest(model.meaning))
    found = predictions(model, stores, part.instances)
    logits = torch.from_numpy(np.stack([one.logits for one in found]))
    by_tags = judge(logits, model.head.glimpse_weights(), torch.from_numpy(part.labels), parse_loss(CONFIG.loss))
    assert by_tags.loss == pytest.approx(result.validation.loss, rel=1e-3)
    assert result.history[-1].gap is not None
    base = predictions(model, data.store.stores, part.instances)  # the features of the frozen backbone are others
    assert max(np.abs(one.logits - other.logits).max() for one, other in zip(found, base, strict=True)) > 1e-2
    # again: everything is there, no video is read
    seen: list[Any] = []
    evaluate_model(folder, cache, part="validation", progress=lambda receipts, *_: seen.append(receipts) or receipts)
    assert seen == []


def test_videos_that_cannot_be_extracted_again_are_named(
    tuned: tuple[Model, FitResult], clip_folder: Path, tmp_path: Path
) -> None:
    model, result = tuned
    data = extracted(clip_folder, tmp_path / "cache")
    model = replace(model, info={**model.info, "roots": [str(clip_folder)]})
    save_run(tmp_path / "model", data, model, result, {})
    gone = data.part("validation").instances[0].video
    (clip_folder / gone).unlink()
    judged, _, missing = evaluate_model(tmp_path / "model", tmp_path / "cache")
    assert judged.num_videos == len(data.part("validation")) - 1
    assert missing == [gone]


def test_a_model_names_its_backbone_and_may_be_moved(folder: Path, data: TrainingData, tmp_path: Path) -> None:
    assert str(tmp_path).encode() not in (folder / CONFIG_FILE).read_bytes()
    moved = folder.rename(tmp_path / "elsewhere")
    model = load_model(moved)
    assert model.spec_request["weights"] == str(moved / BACKBONE_FILE)
    assert model.backbone == moved / BACKBONE_FILE
    loaded = backbones.load(TINY, weights=model.spec_request["weights"], input_size=64)
    assert loaded.weights_digest == model.meaning["weights"] != data.spec.meaning["weights"]
    assert model.info["finetuning"]["from_weights"] == data.spec.meaning["weights"]
    assert model.info["random_backbone"]
    save_model(tmp_path / "again", model)
    assert (tmp_path / "again" / BACKBONE_FILE).read_bytes() == (moved / BACKBONE_FILE).read_bytes()
    assert load_model(tmp_path / "again").meaning == model.meaning


@pytest.mark.parametrize("change", ["gone", "other", "a folder"])
def test_a_backbone_that_is_not_the_models_own_is_one_line(change: str, folder: Path) -> None:
    path = folder / BACKBONE_FILE
    content = path.read_bytes()
    path.unlink()
    if change == "other":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif change == "a folder":
        path.mkdir()
    with pytest.raises(ModelError, match=f"{path}: (cannot be read|damaged).*train again"):
        load_model(folder)


def test_a_kept_frozen_epoch_is_a_model_without_a_backbone(data: TrainingData, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rratag.train.fit._Run._is_best", lambda self, record: record.epoch == 1)
        model, result = train_model(data, {"num_glimpses": 2}, CONFIG, finetune=TUNING)
    assert model.backbone is None
    assert model.meaning == data.spec.meaning
    assert metrics_of(data, model, result, CONFIG)["finetuning"]["kept"] is False
    save_run(tmp_path / "model", data, model, result, {})
    assert not (tmp_path / "model" / BACKBONE_FILE).exists()


@pytest.mark.parametrize("change", ["gone", "changed"])
def test_videos_that_are_not_there_any_more_are_one_line_before_training(
    change: str, clip_folder: Path, tmp_path: Path
) -> None:
    data = extracted(clip_folder, tmp_path / "cache")
    path = clip_folder / "red" / "0.mp4"
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CacheError, match=f"{path}: has gone or changed.*one of 1 such.*put them back, or extract"):
        train_model(data, {}, CONFIG, finetune=TUNING)
    shutil.rmtree(clip_folder)
    train_model(data, {}, TrainConfig(epochs=1))  # the cache alone still trains


def test_a_backbone_other_than_the_caches_is_one_line(data: TrainingData, tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    state = backbones.load(TINY, weights="random", folded=False).network.state_dict()
    torch.save({name: value + 1 if "weight" in name else value for name, value in state.items()}, other)
    with pytest.raises(CacheError, match=r"not the one that the cache was extracted with.*weights"):
        unfrozen_phase(replace(data, recipe={**data.recipe, "weights": str(other)}), TUNING, 1, "cpu")
    other.unlink()
    with pytest.raises(WeightsError, match="no such file"):
        unfrozen_phase(replace(data, recipe={**data.recipe, "weights": str(other)}), TUNING, 1, "cpu")


def test_features_of_anything_but_pictures_are_refused(data: TrainingData) -> None:
    spec = replace(data.spec, meaning={**data.spec.meaning, "modality": "flow"})
    with pytest.raises(UsageError, match="trains on pictures; these are features of flow: give --modality rgb"):
        unfrozen_phase(replace(data, spec=spec), TUNING, 1, "cpu")


def test_the_command_line(clip_folder: Path, cli: CommandLine, tmp_path: Path) -> None:
    assert cli("extract", clip_folder, *TINY_OPTIONS).code == 0
    ran = cli(
        "train", "--finetune", "--epochs", 1, "--batch-size", 4, "--workers", 1, "--clip", 5, "--validation-split", 0.4
    )
    assert ran.code == 0, ran.err
    assert "epoch 1 trains the CNN too, from frames; the same weights before it: accuracy" in ran.err
    assert os.listdir(".rratag/models") == ["latest"]
    header, row = Path(".rratag/models/latest/history.csv").read_text().splitlines()
    gap = dict(zip(header.split(","), row.split(","), strict=True))
    assert float(gap["gap_accuracy"]) == 0
    assert abs(float(gap["gap_loss"])) < 1e-2
    assert cli("evaluate", "--json").json["num_videos"] == 4
    tags = cli("predict", clip_folder, "--out", "-", "--workers", 1, "--top", 1)
    assert tags.code == 0, tags.err
    assert tags.out.count("\n") == 11


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--finetune", "--finetune-after", 3), "--finetune and --finetune-after exclude each other"),
        (("--backbone-bn", "train"), "--backbone-bn changes nothing here: the CNN stays frozen without --finetune"),
        (("--backbone-lr-scale", 1), "--backbone-lr-scale changes nothing here"),
        (("--clip", 1), "--clip changes nothing here"),
        (("--finetune", "--clip", -1), "--clip -1.0: it must be a number above 0"),
        (("--finetune", "--views", "x"), "unknown --views 'x'"),
        (("--finetune", "--backbone-bn", "x"), "unknown --backbone-bn 'x'"),
    ],
)
def test_options_that_make_no_sense_together_are_one_line(
    arguments: tuple[object, ...], words: str, cli: CommandLine
) -> None:
    cli("train", *arguments).says_one_line(2, words)
