"""Several views a frame: both ways to fuse them against loops, and views that stream instead of being cached."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rratag.errors import UsageError
from rratag.features import extract as extract_module
from rratag.features.catalog import Entry
from rratag.features.extract import Extraction, Network, RunOptions, load_network
from rratag.features.request import Request
from rratag.features.store import Features, FeatureStore
from rratag.features.stream import Streaming
from rratag.head.rra import HeadConfig
from rratag.head.variants import build_head
from rratag.model import Model
from rratag.records import Receipt
from rratag.tag.predict import Prediction, check_crop_fusion, check_views, predict_cached
from rratag.tag.run import Override, Tagging
from rratag.video.discover import discover
from rratag.video.plan import Sampling
from tests.conftest import TINY
from tests.tag.test_predict import CHANNELS, NAMES, FakeStore, one, softmax

OWN = Request(TINY, "random", 64, "full", Sampling(frames=3))
THREE = Request(TINY, "random", 64, "3", Sampling(frames=3))


def parallel_model(num_glimpses: int = 2) -> Model:
    """K glimpses at the maps as they are: a head that a loop can follow."""
    config = HeadConfig(CHANNELS, len(NAMES), kind="parallel", num_glimpses=num_glimpses, input_bn=False)
    torch.manual_seed(3)
    head = build_head(config)
    for parameter in head.parameters():
        parameter.data.normal_(0, 1)
    return Model(head.eval(), config, NAMES, {}, {})


def looped(model: Model, pictures: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Logits [K,classes] and mass on each picture [K,pictures] of one softmax over all `pictures` [h,w,C]."""
    state = {name: value.double().numpy() for name, value in model.head.state_dict().items()}
    (queries,) = (value for name, value in state.items() if name.endswith("queries"))  # W_a of every glimpse
    logits, masses = [], []
    for k, query in enumerate(queries):
        odds = [[np.exp(position @ query) for position in picture.reshape(-1, CHANNELS)] for picture in pictures]
        total = sum(sum(row) for row in odds)
        summary = np.zeros(CHANNELS)
        for picture, row in zip(pictures, odds, strict=True):
            for position, weight in zip(picture.reshape(-1, CHANNELS), row, strict=True):
                summary += weight / total * position
        logits.append(state[f"classifiers.{k}.weight"] @ summary + state[f"classifiers.{k}.bias"])
        masses.append([sum(row) / total for row in odds])
    return np.array(logits), np.array(masses)


def entry_of(store: FakeStore, views: int, frames: int = 4) -> tuple[Entry, np.ndarray]:
    entry = store.add("a", (frames, views, 2, 3), 8)
    return entry, store.kept[entry.key].maps.astype(np.float64)


def with_fusion(model: Model, store: Any, entry: Entry, crop_fusion: str) -> Prediction:
    (found,) = predict_cached(model, store, [entry], crop_fusion=crop_fusion)
    assert isinstance(found, Prediction)
    return found


def test_joint_is_one_softmax_over_all_views_of_all_frames() -> None:
    store, model = FakeStore("3"), parallel_model()
    entry, maps = entry_of(store, 3)
    found = with_fusion(model, store, entry, "joint")
    logits, mass = looped(model, [maps[t, v] for t in range(4) for v in range(3)])
    np.testing.assert_allclose(found.logits, logits[None], atol=1e-4)
    np.testing.assert_allclose(found.scores, softmax(logits).mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found.concatenation_scores, softmax(logits.sum(axis=0)), atol=1e-5)
    by_frame = [[sum(row[3 * t : 3 * t + 3]) for t in range(4)] for row in mass]
    np.testing.assert_allclose(found.attention, by_frame, atol=1e-5)
    for k in range(2):
        place = int(np.argmax(mass[k]))
        assert (found.peak_frames[0, k], found.peak_views[0, k]) == divmod(place, 3)  # type: ignore[index]


def test_mean_is_one_softmax_a_view_and_the_mean_of_the_probabilities() -> None:
    store, model = FakeStore("3"), parallel_model()
    entry, maps = entry_of(store, 3)
    found = with_fusion(model, store, entry, "mean")
    each = [looped(model, [maps[t, v] for t in range(4)]) for v in range(3)]
    np.testing.assert_allclose(found.logits, [logits for logits, _ in each], atol=1e-4)
    np.testing.assert_allclose(
        found.glimpse_scores, np.mean([softmax(logits) for logits, _ in each], axis=0), atol=1e-5
    )
    wanted = np.mean([softmax(logits).mean(axis=0) for logits, _ in each], axis=0)
    np.testing.assert_allclose(found.scores, wanted, atol=1e-5)
    np.testing.assert_allclose(found.attention, np.mean([mass for _, mass in each], axis=0), atol=1e-5)
    assert np.abs(found.scores - with_fusion(model, store, entry, "joint").scores).max() > 1e-3
    assert found.peak_views is None


def test_box_of_a_joint_glimpse_lies_in_the_view_it_looked_at() -> None:
    store, model = FakeStore("3"), parallel_model(1)
    entry, _ = entry_of(store, 3)
    features = store.kept[entry.key]
    features.maps[:] = 0
    query = next(value for name, value in model.head.state_dict().items() if name.endswith("queries"))[0].numpy()
    features.maps[2, 1, 1, 2] = (20 * query / (query @ query)).astype(np.float16)  # all attention: lower right cell
    evidence = with_fusion(model, store, entry, "joint").evidence(0)
    assert (evidence.glimpse, evidence.frame, evidence.view, evidence.time_s) == (0, 2, 1, 2.5)
    # 1920 x 1080 to 455 x 256; view 1 of 224 starts at 116 across, 16 down; cells of 3 x 2
    left, top = 116 + 2 * 224 / 3, 16 + 112
    assert evidence.box == pytest.approx((left / 455, top / 256, (116 + 224) / 455, 240 / 256))


def test_one_view_is_the_same_both_ways() -> None:
    store, model = FakeStore("1"), parallel_model()
    entry, _ = entry_of(store, 1)
    both = [with_fusion(model, store, entry, name) for name in ("mean", "joint")]
    np.testing.assert_array_equal(both[0].scores, both[1].scores)
    np.testing.assert_array_equal(both[0].peak_boxes, both[1].peak_boxes)
    assert one(model, store, entry).evidence(1) == both[1].evidence(1)


def test_what_cannot_be_fused_is_refused() -> None:
    model = parallel_model()
    with pytest.raises(UsageError, match="unknown --crop-fusion 'max'; choose from mean, joint"):
        check_crop_fusion("max", [model])
    single = HeadConfig(CHANNELS, 3, kind="single-frame")
    check_crop_fusion("mean", [Model(build_head(single), single, NAMES, {}, {})])
    with pytest.raises(UsageError, match="single-frame head"):
        check_crop_fusion("joint", [model, Model(build_head(single), single, NAMES, {}, {})])
    one_view, three = FakeStore("full").spec.meaning, FakeStore("3").spec.meaning
    check_views("joint", [one_view, three])
    check_views("mean", [one_view])
    with pytest.raises(UsageError, match="--crop-fusion joint changes nothing here"):
        check_views("joint", [one_view, one_view])


# --- streaming ---


@pytest.fixture(scope="module")
def network() -> Network:
    return load_network(OWN)


@pytest.fixture(autouse=True)
def _one_network(monkeypatch: pytest.MonkeyPatch, network: Network) -> None:
    monkeypatch.setattr(extract_module, "load_network", lambda request, download=False: network)


@pytest.fixture
def model(network: Network) -> Model:
    meaning = OWN.spec(network.backbone, "fp32").meaning
    config = HeadConfig(network.backbone.channels, 2, num_glimpses=2)
    torch.manual_seed(1)
    head = build_head(config)
    for parameter in head.parameters():
        parameter.data.normal_(0, 0.2)
    return Model(head.eval(), config, ["blue", "red"], meaning, OWN.recipe())


def tagging(model: Model | list[Model], folder: Path, cache: Path, crops: str | None = "3") -> Tagging:
    return Tagging(model, discover([str(folder)]), OWN, FeatureStore(cache), RunOptions(1), Override(crops=crops))


def results(run: Tagging, number: int = 0) -> list[Prediction | Receipt]:
    told = sorted(receipt.video for receipt in run.extract())
    found = list(run.predictions(number))
    assert told == [result.video for result in found]
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def same(ours: list[Prediction | Receipt], theirs: list[Prediction | Receipt]) -> None:
    assert [one.video for one in ours] == [one.video for one in theirs]
    for left, right in zip(ours, theirs, strict=True):
        assert isinstance(left, Prediction) == isinstance(right, Prediction)
        if isinstance(left, Prediction) and isinstance(right, Prediction):
            np.testing.assert_allclose(left.logits, right.logits, atol=1e-4)
            np.testing.assert_array_equal(left.time_s, right.time_s)
            assert left.evidence(0) == right.evidence(0)
        else:
            assert isinstance(left, Receipt)
            assert isinstance(right, Receipt)
            assert (left.status, left.reason, left.message) == (right.status, right.reason, right.message)


def test_other_crops_stream_and_tag_as_cached_ones_do(model: Model, clip_folder: Path, tmp_path: Path) -> None:
    (clip_folder / "blue/0.mp4").write_bytes(b"")
    (clip_folder / "red/0.mp4").write_bytes(b"no video at all, only words\n" * 20)
    run = tagging(model, clip_folder, tmp_path / "fresh")
    streamed = results(run)
    assert run.streams
    assert not (tmp_path / "fresh").exists()
    assert [one.video for one in streamed if isinstance(one, Receipt)] == ["blue/0.mp4", "red/0.mp4"]
    filled = FeatureStore(tmp_path / "filled")
    list(Extraction(discover([str(clip_folder)]), THREE, filled, RunOptions(1)).run())
    before = contents(tmp_path / "filled")
    cached = results(tagging(model, clip_folder, tmp_path / "filled"))
    same(streamed, cached)
    assert {one.logits.shape for one in streamed if isinstance(one, Prediction)} == {(3, 2, 2)}
    assert contents(tmp_path / "filled") == before


def test_own_crops_are_cached_as_ever(model: Model, clip_folder: Path, tmp_path: Path) -> None:
    run = tagging(model, clip_folder / "red", tmp_path / "cache", "full")
    results(run)
    assert not run.streams
    (store,) = FeatureStore(tmp_path / "cache").specs()
    assert len(store.keys()) == 5


def test_what_is_cached_of_other_crops_serves_and_the_rest_streams(
    model: Model, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (clip_folder / "blue/words.mp4").write_bytes(b"no video at all, only words\n" * 20)
    wanted = results(tagging(model, clip_folder, tmp_path / "fresh"))
    store = FeatureStore(tmp_path / "cache")
    list(Extraction(discover([str(clip_folder / "red")]), THREE, store, RunOptions(1)).run())
    before = contents(tmp_path / "cache")
    streamed = []

    class Noting(Streaming):
        def stream(self) -> Any:
            for entry, features in super().stream():
                streamed.append((entry.id, features is not None))
                yield entry, features

    monkeypatch.setattr("rratag.tag.run.Streaming", Noting)
    same(results(tagging(model, clip_folder, tmp_path / "cache")), wanted)
    names = [f"{colour}/{name}.mp4" for colour in ("blue", "red") for name in range(5)]
    expected = [(name, name.startswith("blue")) for name in names]
    assert sorted(streamed) == sorted([*expected, ("blue/words.mp4", False)])
    assert contents(tmp_path / "cache") == before


def test_a_damaged_cached_one_is_made_again_where_it_was(model: Model, clip_folder: Path, tmp_path: Path) -> None:
    list(Extraction(discover([str(clip_folder)]), THREE, FeatureStore(tmp_path / "c"), RunOptions(1)).run())
    wanted = results(tagging(model, clip_folder, tmp_path / "c"))
    run = tagging(model, clip_folder, tmp_path / "c")
    list(run.extract())
    store = run.extraction.stores[0]
    path = store.path(next(entry.key for entry in run.entries() if entry.id == "red/1.mp4"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    same(list(run.predictions()), wanted)
    assert store.is_whole(path.stem)
    assert [one.command for one in run.extraction.catalog.all()] == ["extract"]


def test_a_video_reached_twice_and_one_of_equal_content_have_their_rows(
    model: Model, clip_folder: Path, tmp_path: Path
) -> None:
    (clip_folder / "red/twin.mp4").write_bytes((clip_folder / "red/1.mp4").read_bytes())
    discovery = discover([str(clip_folder / "red"), str(clip_folder / "red/1.mp4")])
    run = Tagging(model, discovery, OWN, FeatureStore(tmp_path / "c"), RunOptions(1), Override(crops="3"))
    list(run.extract())
    found = list(run.predictions())
    twins = [one for one in found if isinstance(one, Prediction) and one.video in ("1.mp4", "twin.mp4")]
    assert len(twins) == 2
    np.testing.assert_array_equal(twins[0].logits, twins[1].logits)
    assert [one.reason for one in found if isinstance(one, Receipt)] == ["duplicate_path"]


def test_few_features_are_held_at_a_time(model: Model, clip_folder: Path, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "c")
    held: list[weakref.ref[Features]] = []
    most = count = 0
    for _, features in Streaming(discover([str(clip_folder)]), THREE, store, RunOptions(1)).stream():
        if features is not None:
            held.append(weakref.ref(features))
            count += 1
        most = max(most, sum(one() is not None for one in held))
    assert count == 10
    assert most <= 2


def test_two_models_of_equal_features_share_one_stream(
    model: Model, clip_folder: Path, tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(9)
    other = Model(build_head(model.head_config).eval(), model.head_config, model.class_names, model.meaning, {})
    run = tagging([model, other], clip_folder / "red", tmp_path / "c")
    images = 0
    own = Network.maps

    def counted(self: Network, pictures: np.ndarray) -> np.ndarray:
        nonlocal images
        images += len(pictures)
        return own(self, pictures)

    monkeypatch.setattr(Network, "maps", counted)
    first = results(run)
    assert images == 48  # 5 videos x 3 frames x 3 views, in batches of 16
    second = list(run.predictions(1))
    same(first, results(tagging(model, clip_folder / "red", tmp_path / "c")))
    same(second, results(tagging(other, clip_folder / "red", tmp_path / "c")))
