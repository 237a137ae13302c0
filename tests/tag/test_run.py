"""Tagging a folder: the model's own features are asked for, others are refused, and Python gets what the CLI writes."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rratag import files
from rratag.errors import ModelError, StoppedError, UsageError
from rratag.features import extract as extract_module
from rratag.features.extract import Extraction, Network, RunOptions, load_network
from rratag.features.request import Request
from rratag.features.store import FeatureStore
from rratag.model import Model, load_model, save_model
from rratag.records import Receipt
from rratag.tag.predict import Prediction
from rratag.tag.run import Override, Tagging, model_request, tag_videos
from rratag.train.fit import TrainConfig
from rratag.train.run import LabelOptions, load_training_data, train_model
from rratag.video.discover import discover
from rratag.video.plan import Sampling
from tests.conftest import TINY

REQUEST = Request(TINY, "random", 64, "full", Sampling(frames=3))


@pytest.fixture(scope="module")
def network() -> Network:
    return load_network(REQUEST)


@pytest.fixture(autouse=True)
def _one_network(monkeypatch: pytest.MonkeyPatch, network: Network) -> None:
    monkeypatch.setattr(extract_module, "load_network", lambda request, download=False: network)


@pytest.fixture(scope="module")
def trained(encoded_clips: Path, tmp_path_factory: pytest.TempPathFactory, network: Network) -> Path:
    """A folder with the cache of the clips and a model, made once. Read only."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extract_module, "load_network", lambda request, download=False: network)
        store = FeatureStore(folder / "cache")
        list(Extraction(discover([str(encoded_clips)]), REQUEST, store, RunOptions(1)).run())
    data = load_training_data(store, [], LabelOptions())
    model, _ = train_model(data, {"num_glimpses": 2}, TrainConfig(epochs=12, learning_rate=0.01, batch_size=4))
    save_model(folder / "model", model)
    return folder


@pytest.fixture
def model(trained: Path) -> Model:
    return load_model(trained / "model")


@pytest.fixture
def cache(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "cache", tmp_path / "cache"))


def tagging(model: Model, folder: Path, cache: Path, override: Override | None = None, **changes: Any) -> Tagging:
    request = replace(model_request(model), **changes)
    return Tagging(model, discover([str(folder)]), request, FeatureStore(cache), RunOptions(1), override)


def results(run: Tagging) -> Iterator[Prediction | Receipt]:
    list(run.extract())
    return run.predictions()


def test_tag_gives_one_result_per_video_in_order(
    trained: Path, clip_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (clip_folder / "blue/9.mp4").write_bytes(b"")
    told: list[Receipt] = []
    found = list(tag_videos(clip_folder, trained / "model", cache=cache, workers=1, on_receipt=told.append))
    assert [one.video for one in found] == sorted(one.video for one in found)
    assert sorted(receipt.video for receipt in told) == [one.video for one in found]
    assert len(found) == 11
    for one in found:
        if one.video == "blue/9.mp4":
            assert isinstance(one, Receipt)
            assert one.reason == "empty"
        else:
            assert isinstance(one, Prediction)
            assert one.class_names[one.ranking()[0]] == one.video.split("/")[0]
            assert one.time_s == pytest.approx([0.1, 0.4, 0.6], abs=1e-6)
            assert one.scores.sum() == pytest.approx(1)
            evidence = one.evidence(one.ranking()[0])
            assert evidence.time_s in one.time_s.tolist()


def test_tag_takes_a_model_a_list_of_paths_and_strings(model: Model, clip_folder: Path, cache: Path) -> None:
    paths = [str(clip_folder / "red/1.mp4"), clip_folder / "blue/2.mp4"]
    found = [one for one in tag_videos(paths, model, cache=str(cache), workers=1) if isinstance(one, Prediction)]
    assert [(one.video, one.class_names[one.ranking()[0]]) for one in found] == [
        ("blue/2.mp4", "blue"),
        ("red/1.mp4", "red"),
    ]


def test_tag_without_a_model_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip_folder: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="rratag train"):
        list(tag_videos(clip_folder))


def test_scores_are_the_heads_on_the_cached_maps(model: Model, clip_folder: Path, cache: Path) -> None:
    run = tagging(model, clip_folder / "red", cache)
    (store,) = FeatureStore(cache).specs()
    for entry, one in zip(run.entries(), results(run), strict=False):
        assert isinstance(one, Prediction)
        maps = torch.from_numpy(store.read(entry.key).maps[:, 0]).float()[None]
        with torch.inference_mode():
            logits = model.head(maps).logits[0].double()
        np.testing.assert_allclose(one.scores, logits.softmax(1).mean(0).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": "f" * 64}, "weights: model 'ffff"),
        ({"input_size": 96}, "input_size: model '96', features '64'"),
        ({"colour": "other"}, "colour: model 'other'"),
        ({"channels": 255}, "channels: model '255', features '256'"),
    ],
    ids=str,
)
def test_features_of_another_meaning_are_refused(
    model: Model, clip_folder: Path, cache: Path, change: dict[str, Any], words: str
) -> None:
    model.meaning = {**model.meaning, **change}
    for override in (None, Override(crops="3"), Override(Sampling(frames=2))):
        with pytest.raises(ModelError, match=words) as caught:
            tagging(model, clip_folder, cache, override)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["crops", "sampling"])
def test_another_view_or_sampling_is_refused_unless_asked_for(
    model: Model, clip_folder: Path, tmp_path: Path, cache: Path, field: str
) -> None:
    other: dict[str, Any] = {"crops": "1", "sampling": Sampling(frames=2)}
    fresh = tmp_path / "fresh"
    with pytest.raises(ModelError, match=f"{field}: model"):
        tagging(model, clip_folder, fresh, **{field: other[field]})
    override = Override(**{field: other[field]})
    run = tagging(model, clip_folder / "red", fresh, override)
    found = list(results(run))
    assert len(found) == 5
    assert all(isinstance(one, Prediction) for one in found)
    used = run.extraction.stores[0].spec.meaning
    assert used[field] != model.meaning[field]
    kept = {"crops", "resize", "sampling"}
    assert {name: used[name] for name in used.keys() - kept} == {
        name: model.meaning[name] for name in model.meaning.keys() - kept
    }


def test_an_override_that_changes_nothing_uses_the_models_features(
    model: Model, clip_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(self: Network, images: object) -> None:
        raise AssertionError("nothing is to be computed")

    monkeypatch.setattr(Network, "maps", forbidden)
    run = tagging(model, clip_folder, cache, Override(Sampling(frames=3), "full"))
    assert len(list(results(run))) == 10
    assert len(FeatureStore(cache).specs()) == 1


def test_the_models_recipe_is_asked_for(model: Model, tmp_path: Path) -> None:
    assert model_request(model) == REQUEST
    assert model_request(model, decoder="pyav", device="cpu", precision="bf16") == replace(
        REQUEST, decoder="pyav", device="cpu", precision="bf16"
    )
    path = tmp_path / "w.pth"
    path.write_bytes(b"")
    assert model_request(model, weights=str(path)).weights == str(path)
    with pytest.raises(ModelError, match=r"none\.pth: the backbone weights .* have gone; give --weights FILE"):
        model_request(model, weights=str(tmp_path / "none.pth"))
    with pytest.raises(UsageError, match="auto, pyav, decord"):
        model_request(model, decoder="vlc")


@pytest.mark.parametrize("recipe", [{}, {"backbone": TINY}, {**REQUEST.recipe(), "sampling": {"frame": 3}}])
def test_a_model_that_does_not_say_how_is_refused(model: Model, recipe: dict[str, Any]) -> None:
    model.spec_request = recipe
    with pytest.raises(ModelError, match="does not say how"):
        model_request(model)


# --- a damaged cache ---


def cached_file(run: Tagging, video: str) -> Path:
    (entry,) = (entry for entry in run.entries() if entry.id == video)
    return run.extraction.stores[0].path(entry.key)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def numbers(found: list[Prediction | Receipt]) -> list[Any]:
    return [one.logits.tolist() if isinstance(one, Prediction) else one for one in found]


@pytest.mark.parametrize("trouble", [flip, Path.unlink])
def test_features_that_are_damaged_or_gone_are_made_again_and_tags_are_the_same(
    model: Model, clip_folder: Path, cache: Path, trouble: Any, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = numbers(list(results(tagging(model, clip_folder, cache))))
    run = tagging(model, clip_folder, cache)
    list(run.extract())
    trouble(cached_file(run, "red/1.mp4"))
    found = list(run.predictions())
    assert numbers(found) == wanted
    assert "red/1.mp4: its cached features are set aside and made again" in caplog.text
    caplog.clear()
    assert numbers(list(results(tagging(model, clip_folder, cache)))) == wanted
    assert caplog.text == ""


def test_a_video_that_cannot_be_extracted_again_has_a_row_that_says_so(
    model: Model, clip_folder: Path, cache: Path
) -> None:
    run = tagging(model, clip_folder, cache)
    list(run.extract())
    flip(cached_file(run, "red/1.mp4"))
    (clip_folder / "red/1.mp4").write_bytes(b"")
    found = {one.video: one for one in run.predictions()}
    assert len(found) == 10
    receipt = found["red/1.mp4"]
    assert isinstance(receipt, Receipt)
    assert (receipt.status, receipt.reason) == ("unreadable", "empty")
    again = {receipt.video: receipt.status for receipt in tagging(model, clip_folder, cache).extract()}
    assert again["red/1.mp4"] == "unreadable"


def test_two_videos_of_one_damaged_content_are_both_tagged(model: Model, clip_folder: Path, cache: Path) -> None:
    shutil.copy(clip_folder / "red/1.mp4", clip_folder / "red/twin.mp4")
    wanted = numbers(list(results(tagging(model, clip_folder, cache))))
    run = tagging(model, clip_folder, cache)
    list(run.extract())
    flip(cached_file(run, "red/twin.mp4"))
    assert numbers(list(run.predictions())) == wanted


def test_a_cache_that_may_only_be_read_serves_what_is_in_it(
    model: Model,
    clip_folder: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    wanted = numbers(list(results(tagging(model, clip_folder, cache))))

    def refuse(path: Path, content: bytes) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files, "write_atomically", refuse)
    assert numbers(list(results(tagging(model, clip_folder, cache)))) == wanted
    assert "the listing cannot be written (Read-only file system)" in caplog.text
    (clip_folder / "red/new.mp4").write_bytes((clip_folder / "red/1.mp4").read_bytes() + b"\0")
    with pytest.raises(StoppedError, match="Read-only file system"):
        list(results(tagging(model, clip_folder, cache)))


def test_features_of_another_precision_are_made_again_in_this_one(
    model: Model, clip_folder: Path, cache: Path, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Extracted on a GPU, used on a laptop: what is damaged is made again as this machine computes it."""
    wanted = numbers(list(results(tagging(model, clip_folder, cache))))
    other = replace(network, precision="bf16")  # the same numbers under another name
    monkeypatch.setattr(extract_module, "load_network", lambda request, download=False: other)
    run = tagging(model, clip_folder, cache)
    list(run.extract())
    flip(cached_file(run, "red/1.mp4"))
    flip(cached_file(run, "blue/2.mp4"))
    assert numbers(list(run.predictions())) == wanted
    assert [store.spec.compute["precision"] for store in run.extraction.stores] == ["bf16", "fp32"]


def test_damage_in_a_cache_that_may_only_be_read_costs_one_row(
    model: Model, clip_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tagging(model, clip_folder, cache)
    list(run.extract())
    flip(cached_file(run, "red/1.mp4"))

    def refuse(*arguments: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "replace", refuse)
    found = {one.video: one for one in run.predictions()}
    assert len(found) == 10
    failed = [one for one in found.values() if isinstance(one, Receipt)]
    assert [(one.video, one.status, one.reason) for one in failed] == [("red/1.mp4", "unreadable", "corrupt")]
    assert "its cached features, not the video" in failed[0].message
