"""What a listing may say: never a spec that its request does not lead to, never less than is known of a root."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rratag.errors import CacheError
from rratag.features.catalog import Catalog
from rratag.features.extract import Extraction, RunOptions
from rratag.features.request import Request
from rratag.features.store import FeatureStore
from rratag.train.run import LabelOptions, load_training_data
from rratag.video.discover import discover
from rratag.video.plan import Sampling
from tests.conftest import TINY

REQUEST = Request(backbone=TINY, weights="random", input_size=64, crops="1", sampling=Sampling(2))


def run(paths: list[Path], cache: Path, request: Request = REQUEST, **options: Any) -> Extraction:
    found = Extraction(discover([str(path) for path in paths]), request, FeatureStore(cache), RunOptions(1), **options)
    list(found.run())
    return found


def test_a_run_over_some_files_adds_to_the_listing_of_their_root(clip_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    whole = run([clip_folder], cache)
    some = [video.path for video in whole.discovery.videos[:2]]
    run([*some, whole.discovery.videos[-1].path], cache)
    listing = Catalog(cache).find(whole.discovery.root, "extract")
    assert listing is not None
    assert [entry.id for entry in listing.entries] == [video.id for video in whole.discovery.videos]
    assert len(listing.ids_to_keys()) == len(whole.discovery.videos)


def test_a_listing_without_features_is_never_the_latest(clip_folder: Path, tmp_path: Path) -> None:
    cache, empty = tmp_path / "cache", tmp_path / "bad"
    empty.mkdir()
    (empty / "x.mp4").write_bytes(b"")
    run([empty], cache)
    with pytest.raises(CacheError, match="no extracted videos"):
        Catalog(cache).latest("extract")
    whole = run([clip_folder], cache)
    run([empty], cache)
    assert Catalog(cache).latest("extract").root == whole.discovery.root.resolve()


def test_features_of_equal_meaning_train_however_they_were_computed(clip_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    red = next(path for path in sorted(clip_folder.iterdir()) if path.is_dir())
    run([red], cache, replace(REQUEST, precision="bf16"))
    whole = run([clip_folder], cache, replace(REQUEST, precision="fp32"))
    data = load_training_data(FeatureStore(cache), [], LabelOptions())
    assert data.spec.compute["precision"] == "fp32"
    assert len(data.instances) == len(whole.discovery.videos)
    for one in data.instances:
        assert data.store.header(one.key).num_frames == 2
    assert len(FeatureStore(cache).specs()) == 2


def test_a_prediction_from_the_cache_teaches_nothing_about_weights(clip_folder: Path, tmp_path: Path) -> None:
    """The file of the weights may have been replaced meanwhile: its features are not those that the cache holds."""
    import timm
    import torch

    cache, weights = tmp_path / "cache", tmp_path / "w.pth"

    def write(seed: int) -> None:
        torch.manual_seed(seed)
        torch.save(timm.create_model(TINY, pretrained=False).state_dict(), weights)

    write(1)
    request = Request(backbone=TINY, weights=str(weights), input_size=64, crops="1", sampling=Sampling(2))
    first = run([clip_folder], cache, request)
    meaning = first.stores[0].spec.meaning
    write(2)
    run([clip_folder], cache, request, command="predict", meaning=meaning)
    second = run([clip_folder], cache, request)
    assert second.stores[0].spec.meaning["weights"] != meaning["weights"]
    assert len(FeatureStore(cache).specs()) == 2
