"""Training views in the cache: right maps in specs of their own, one decode, exact resume, and a base that stays."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

import rratag
from rratag.errors import StoppedError
from rratag.features import extract as extract_module
from rratag.features import pipeline as pipeline_module
from rratag.features import upkeep
from rratag.features.backbones import Preprocessing
from rratag.features.catalog import Catalog
from rratag.features.extract import Extraction, Network, RunOptions, estimate, load_network
from rratag.features.parts import view_parts
from rratag.features.request import Request, extract_command
from rratag.features.spec import Spec, base_of, with_view
from rratag.features.store import FeatureStore, SpecStore
from rratag.records import Receipt
from rratag.video.augment import TrainingView, parse_views
from rratag.video.discover import discover
from rratag.video.plan import Sampling
from tests.conftest import TINY, coloured, encode
from tests.features.test_upkeep import age, model

FRAMES = 2
REQUEST = Request(TINY, "random", 64, "full", Sampling(frames=FRAMES), device="cpu")
Maps = dict[tuple[str, str], bytes]


@pytest.fixture(scope="module")
def network() -> Network:
    return load_network(REQUEST)


@pytest.fixture(autouse=True)
def _one_network(monkeypatch: pytest.MonkeyPatch, network: Network) -> None:
    monkeypatch.setattr(extract_module, "load_network", lambda request, download=False: network)


@pytest.fixture(scope="module")
def three_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three")
    for number in range(3):
        encode(folder / f"{number}.mp4", coloured("red", number, 4))
    return folder


@pytest.fixture
def clips(three_clips: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(three_clips, tmp_path / "videos"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Videos that pictures came of, once for each time."""
    names: list[str] = []
    pool = pipeline_module.DecodePool

    class Counting(pool):  # type: ignore[misc, valid-type]
        def run(self, videos: Any) -> Iterator[Any]:
            for one in super().run(videos):
                names.extend([one.video.id] if one.frames else [])
                yield one

    monkeypatch.setattr(pipeline_module, "DecodePool", Counting)
    return names


def run(folder: Path, cache: Path, views: str | None = None, request: Request = REQUEST, **options: Any) -> Extraction:
    return Extraction(
        discover([str(folder)]),
        request,
        FeatureStore(cache),
        RunOptions(**{"workers": 1, **options}),
        views=parse_views(views),
    )


def extract(folder: Path, cache: Path, views: str | None = None, **named: Any) -> dict[str, Receipt]:
    receipts = list(run(folder, cache, views, **named).run())
    assert len({receipt.video for receipt in receipts}) == len(receipts)
    return {receipt.video: receipt for receipt in receipts}


def view_of(store: SpecStore) -> str:
    return str(store.spec.meaning.get("view", {"name": "base"})["name"])


def stores(cache: Path) -> dict[str, SpecStore]:
    return {view_of(store): store for store in FeatureStore(cache).specs()}


def all_maps(cache: Path) -> Maps:
    return {
        (name, key): store.read(key).maps.tobytes()
        for name, store in stores(cache).items()
        for key in store.keys()  # noqa: SIM118 - a store is no dict
    }


def times(cache: Path) -> dict[str, int]:
    return {path.name + path.parent.parent.name: path.stat().st_mtime_ns for path in cache.rglob("*.h5")}


# --- specs ---


@pytest.mark.parametrize(
    ("crops", "digest"),
    [
        ("full", "fb089acb7b44ab362784a0fc8bd427f64e3632d107aceaf8f24d04f27c105a8a"),
        ("1", "4a0d3eae51e937101c22f304bb0521530b27fbae37953b5fbfbf6c6a5327e1df"),
        ("squash", "5941bcccbebb09458002e8060581786e5e554ba3633a24696dfb0f3368b16504"),
    ],
)
def test_the_digest_of_a_base_spec_is_what_it_was_before_there_were_views(crops: str, digest: str) -> None:
    recipe = Preprocessing(224, 256, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    backbone: Any = SimpleNamespace(name="toy", weights_digest="0" * 64, channels=8, preprocessing=recipe)
    assert Request("toy", None, 224, crops, Sampling(frames=12)).spec(backbone, "fp32").digest == digest


def test_a_views_spec_says_which_base_it_belongs_to() -> None:
    base = Spec({"backbone": "toy", "crops": "1"}, {"precision": "fp32"})
    specs = [Spec(with_view(base.meaning, view.describe()), base.compute) for view in parse_views("tsn:3")]
    assert len({spec.digest for spec in [base, *specs]}) == 4
    for spec in specs:
        assert base_of(spec.meaning) == base.meaning == base_of(base.meaning)
        assert Spec.from_json(spec.to_json()) == spec
    with pytest.raises(ValueError, match="view is"):
        Spec.from_json(Spec({**base.meaning, "view": "tsn:1"}, {}).to_json())


# --- maps ---


@pytest.mark.parametrize(("views", "crops"), [("tsn:2", "full"), ("tsn:1", "3"), ("flip", "full"), ("flip", "3")])
def test_every_map_is_what_the_network_says_of_that_view_of_that_frame(
    clips: Path, tmp_path: Path, network: Network, decoded: list[str], views: str, crops: str
) -> None:
    request = replace(REQUEST, crops=crops)
    receipts = extract(clips, tmp_path / "cache", views, request=request, batch_size=4)
    assert {receipt.status for receipt in receipts.values()} == {"ok"}
    assert sorted(decoded) == ["0.mp4", "1.mp4", "2.mp4"]  # once, for the base and all views
    found = stores(tmp_path / "cache")
    assert found.keys() == {"base", *(view.name for view in parse_views(views))}
    listing = Catalog(tmp_path / "cache").find(clips, "extract")
    assert listing is not None
    assert listing.spec == found["base"].folder.name
    rule = request.view_rule(network.backbone)
    for entry in listing.entries:
        with av.open(str(clips / entry.id)) as file:
            pictures = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        for view in parse_views(views):
            features = found[view.name].read(entry.key)
            assert features.frame_index.tolist() == found["base"].read(entry.key).frame_index.tolist() == [1, 3]
            for t, index in enumerate((1, 3)):
                images = view.images(rule.shrunk(pictures[index]), rule, entry.sha256)
                assert features.maps.shape[1] == len(images)
                for v, image in enumerate(images):
                    alone = network.maps(image[None])[0].astype(np.float32)
                    np.testing.assert_allclose(features.maps[t, v].astype(np.float32), alone, rtol=2e-3, atol=2e-5)


def test_the_base_is_the_same_to_the_last_byte_with_views_and_without(clips: Path, tmp_path: Path) -> None:
    extract(clips, tmp_path / "with", "tsn:2")
    extract(clips, tmp_path / "without")
    base = {name: maps for name, maps in all_maps(tmp_path / "with").items() if name[0] == "base"}
    assert base == all_maps(tmp_path / "without")
    assert stores(tmp_path / "with")["base"].folder.name == stores(tmp_path / "without")["base"].folder.name
    wanted = Catalog(tmp_path / "with").find(clips, "extract")
    found = Catalog(tmp_path / "without").find(clips, "extract")
    assert wanted is not None
    assert found is not None
    assert wanted.request == found.request
    assert wanted.ids_to_keys() == found.ids_to_keys()


def test_features_of_a_video_are_those_of_its_base(clips: Path, tmp_path: Path) -> None:
    extract(clips, tmp_path / "cache")
    base = rratag.read_features(clips / "0.mp4", tmp_path / "cache").maps
    extract(clips, tmp_path / "cache", "flip")
    assert np.array_equal(rratag.read_features(clips / "0.mp4", tmp_path / "cache").maps, base)


# --- nothing twice ---


def test_views_asked_for_later_leave_the_base_and_earlier_views_alone(
    clips: Path, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    first = extract(clips, cache)
    extract(clips, cache, "tsn:1")
    before = times(cache)
    sizes: list[tuple[int, ...]] = []
    maps = Network.maps
    monkeypatch.setattr(Network, "maps", lambda self, images: sizes.append(images.shape) or maps(self, images))
    decoded.clear()
    again = extract(clips, cache, "tsn:3")
    assert sorted(decoded) == sorted(again)
    # 3 videos, 2 new views, 2 frames fill one batch; whole pictures would have another shape
    assert sizes == [(16, 64, 64, 3)]
    assert {name: at for name, at in times(cache).items() if name in before} == before
    assert {name: replace(one, seconds=0) for name, one in again.items()} == {
        name: replace(one, seconds=0) for name, one in first.items()
    }
    extract(clips, tmp_path / "other", "tsn:3")
    assert all_maps(cache) == all_maps(tmp_path / "other")


def test_a_run_with_nothing_to_do_touches_neither_videos_nor_network(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = extract(clips, tmp_path / "cache", "tsn:2")

    def forbidden(*arguments: object, **options: object) -> None:
        raise AssertionError("not needed")

    for module, name in ((extract_module, "load_network"), (pipeline_module, "DecodePool")):
        monkeypatch.setattr(module, name, forbidden)
    for views in ("tsn:2", "tsn:1", None):
        assert extract(clips, tmp_path / "cache", views) == first


def test_a_moved_and_renamed_video_keeps_its_views(clips: Path, tmp_path: Path, decoded: list[str]) -> None:
    extract(clips, tmp_path / "cache", "tsn:2")
    before = all_maps(tmp_path / "cache")
    moved = clips.rename(tmp_path / "elsewhere")
    (moved / "0.mp4").rename(moved / "x.mp4")
    decoded.clear()
    assert extract(moved, tmp_path / "cache", "tsn:2").keys() == {"1.mp4", "2.mp4", "x.mp4"}
    assert decoded == []
    assert all_maps(tmp_path / "cache") == before


def test_overwrite_makes_the_views_again_too(clips: Path, tmp_path: Path) -> None:
    extract(clips, tmp_path / "cache", "tsn:1")
    maps, before = all_maps(tmp_path / "cache"), times(tmp_path / "cache")
    extract(clips, tmp_path / "cache", "tsn:1", overwrite=True)
    assert all_maps(tmp_path / "cache") == maps
    assert all(times(tmp_path / "cache")[name] > at for name, at in before.items())


# --- trouble ---


@pytest.mark.parametrize("after", [1, 4, 8])
def test_a_run_broken_off_between_base_and_views_goes_on_exactly(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    cache = tmp_path / "cache"
    write, left = SpecStore.write, [after]

    def breaking(self: SpecStore, *arguments: Any, **named: Any) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise StoppedError("broken off")
        return write(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(SpecStore, "write", breaking)
        with pytest.raises(StoppedError, match="broken off"):
            extract(clips, cache, "tsn:2")
    done = times(cache)
    assert len(done) == after
    extract(clips, cache, "tsn:2")
    assert {name: at for name, at in times(cache).items() if name in done} == done
    extract(clips, tmp_path / "undisturbed", "tsn:2")
    assert len(times(cache)) == 9
    assert all_maps(cache) == all_maps(tmp_path / "undisturbed")


def test_a_video_that_cannot_be_decoded_again_keeps_what_it_has(
    clips: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    first = extract(clips, cache)
    receipts = extract(clips, cache, "flip", deadline_s=1e-9)
    assert {name: one.status for name, one in receipts.items()} == dict.fromkeys(first, "ok")
    assert "0.mp4: no training views could be made of it now: timed_out" in caplog.text
    listing = Catalog(cache).find(clips, "extract")
    assert listing is not None
    assert len(listing.ids_to_keys()) == 3
    extract(clips, cache, "flip")  # no note of a failure stands in the way
    assert len(stores(cache)["flip"].keys()) == 3


def test_views_made_with_other_weights_lie_beside_the_base_of_these(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Network
) -> None:
    """That the weights were replaced shows only when the network is loaded, after the specs were looked up."""
    cache = tmp_path / "cache"
    extract(clips, cache, "flip")
    old = stores(cache)["flip"]
    other = replace(network, backbone=replace(network.backbone, weights_digest="f" * 64))
    monkeypatch.setattr(extract_module, "load_network", lambda request, download=False: other)
    extract(clips, cache, "tsn:1")
    listing = Catalog(cache).find(clips, "extract")
    assert listing is not None
    base = FeatureStore(cache).open_spec(listing.spec)
    assert base.spec.meaning["weights"] == "f" * 64
    found = stores(cache)["tsn:1"]
    assert base_of(found.spec.meaning) == base.spec.meaning != base_of(old.spec.meaning)
    assert found.keys() == base.keys() == old.keys()


def test_a_video_without_frames_has_no_views_and_is_not_tried_again(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (clips / "bad.mp4").write_bytes(b"no video")
    receipts = extract(clips, tmp_path / "cache", "flip")
    assert receipts["bad.mp4"].status == "unreadable"
    monkeypatch.setattr(extract_module, "load_network", None)
    assert extract(clips, tmp_path / "cache", "flip")["bad.mp4"].status == "unreadable"


def test_a_damaged_view_is_set_aside_by_verify_and_made_again(clips: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    extract(clips, cache, "tsn:1")
    whole = all_maps(cache)
    store = stores(cache)["tsn:1"]
    path = store.path(store.keys()[1])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (bad,) = [one for one in upkeep.verify(FeatureStore(cache)) if one.problem]
    assert bad.path == path
    assert len(bad.videos) == 1
    extract(clips, cache, "tsn:1")
    assert all_maps(cache) == whole


def test_damage_is_found_in_every_view_of_a_video_that_is_looked_at(clips: Path, tmp_path: Path) -> None:
    """A moved folder is known by content alone: then its cached files are looked into."""
    cache = tmp_path / "cache"
    extract(clips, cache, "tsn:2")
    whole = all_maps(cache)
    for name in ("tsn:1", "tsn:2"):
        store = stores(cache)[name]
        path = store.path(store.keys()[0])
        content = bytearray(path.read_bytes())
        content[content.index(b"source_sha256")] ^= 1
        path.write_bytes(content)
    extract(clips.rename(tmp_path / "moved"), cache, "tsn:2")
    assert all_maps(cache) == whole


def test_an_estimate_counts_the_views(clips: Path, tmp_path: Path) -> None:
    base, both = (estimate(run(clips, tmp_path / "none", views))[0] for views in (None, "tsn:3"))
    extract(clips, tmp_path / "cache", "tsn:3")
    truth = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.h5"))
    assert 0.5 * truth < both <= truth
    assert 2.5 * base < both
    more = run(clips, tmp_path / "cache", "tsn:4")
    assert 0 < estimate(more)[0] < both / 2
    assert not (tmp_path / "none").exists()


# --- upkeep ---


def with_views(toy_cache: Any, videos: list[str]) -> tuple[SpecStore, SpecStore]:
    """A toy base and one view of it."""
    base = toy_cache.fill(videos)
    (part,) = view_parts(toy_cache.store, toy_cache.spec, [TrainingView("tsn", 1)])
    view = toy_cache.store.create_spec(part.stores[0].spec)
    for video in videos:
        source = {"name": video, "size": 1000, "mtime_ns": 5, "sha256": toy_cache.sha256(video)}
        view.write(toy_cache.key(video), toy_cache.features(video), Receipt(video, "ok"), source)
    return base, view


def test_views_are_needed_as_long_as_their_base_is(toy_cache: Any, tmp_path: Path) -> None:
    base, view = with_views(toy_cache, ["a.mp4"])
    age(toy_cache.cache)
    model(tmp_path / "models/latest", toy_cache.spec.meaning)
    assert upkeep.unused(toy_cache.store, tmp_path / "models") == []
    model(tmp_path / "others/latest", {**toy_cache.spec.meaning, "crops": "3"})
    removals = upkeep.unused(toy_cache.store, tmp_path / "others")
    assert {one.path for one in removals} == {store.path(toy_cache.key("a.mp4")) for store in (base, view)}


def test_views_of_content_that_no_folder_holds_may_go(toy_cache: Any) -> None:
    base, view = with_views(toy_cache, ["a.mp4", "b.mp4"])
    toy_cache.fill(["a.mp4"])
    age(toy_cache.cache)
    removals = upkeep.unknown(toy_cache.store)
    assert {one.path for one in removals} == {store.path(toy_cache.key("b.mp4")) for store in (base, view)}


def test_the_cache_lists_views_by_name(toy_cache: Any, cli: Any) -> None:
    with_views(toy_cache, ["a.mp4"])
    found = cli("cache", "ls", "--cache", toy_cache.cache, "--json").json
    assert sorted(row["view"] for row in found["specs"]) == ["-", "tsn:1"]
    assert "tsn:1" in cli("cache", "ls", "--cache", toy_cache.cache).out


# --- the way out ---


@pytest.mark.parametrize(
    ("request_", "options"),
    [
        (Request(), []),
        (Request(crops="1", sampling=Sampling(frames=25)), ["--crops", "1", "--frames", "25"]),
        (
            Request("tv:resnet50", "random", 160, sampling=Sampling(None, 2.0, 40)),
            [
                "--backbone",
                "tv:resnet50",
                "--weights",
                "random",
                "--input-size",
                "160",
                "--fps",
                "2.0",
                "--max-frames",
                "40",
            ],
        ),
    ],
)
def test_the_command_that_extracts_like_that_again(request_: Request, options: list[str]) -> None:
    expected = ["rratag", "extract", "'/my videos'", *options, "--views", "tsn:4"]
    found = extract_command(Path("/my videos"), request_.recipe(), parse_views("tsn:4"))
    assert found == " ".join(expected)
