"""The pipeline on real clips: right maps in the right place, exact resume, nothing done twice."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from rratag import sealed
from rratag.errors import StoppedError, UsageError
from rratag.features import extract as extract_module
from rratag.features import failures
from rratag.features import pipeline as pipeline_module
from rratag.features.catalog import Catalog, Listing
from rratag.features.extract import Extraction, Network, RunOptions, estimate, load_network
from rratag.features.request import Request
from rratag.features.spec import Spec
from rratag.features.store import FeatureStore, SpecStore
from rratag.records import Receipt
from rratag.video.discover import discover
from rratag.video.plan import Sampling
from tests.conftest import TINY, TINY_OPTIONS, coloured, encode

FRAMES = 3
REQUEST = Request(TINY, "random", 64, "1", Sampling(frames=FRAMES), device="cpu")
NUM_CLIPS = 10


@pytest.fixture(scope="module")
def network() -> Network:
    return load_network(REQUEST)


@pytest.fixture(autouse=True)
def _one_network(monkeypatch: pytest.MonkeyPatch, network: Network) -> None:
    """The network is loaded once for all tests of this file, not once a run."""
    monkeypatch.setattr(extract_module, "load_network", lambda request, download=False: network)


@pytest.fixture
def forwarded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that went through the network: empty if nothing was decoded."""
    sizes: list[int] = []
    maps = Network.maps

    def counted(self: Network, images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        return maps(self, images)

    monkeypatch.setattr(Network, "maps", counted)
    return sizes


def extraction(
    folder: Path | str, cache: Path, request: Request = REQUEST, command: str = "extract", **options: Any
) -> Extraction:
    return Extraction(
        discover([str(folder)]), request, FeatureStore(cache), RunOptions(**{"workers": 1, **options}), command=command
    )


def extract(folder: Path | str, cache: Path, request: Request = REQUEST, **options: Any) -> dict[str, Receipt]:
    """Run, and check that every candidate has exactly one receipt."""
    run = extraction(folder, cache, request, **options)
    receipts = list(run.run())
    found = {receipt.video: receipt for receipt in receipts}
    assert len(found) == len(receipts) == len(run.discovery.videos) + len(run.discovery.failures)
    return found


def only_spec(cache: Path) -> SpecStore:
    (store,) = FeatureStore(cache).specs()
    return store


def kept(cache: Path, root: Path) -> Listing:
    listing = Catalog(cache).find(root, "extract")
    assert listing is not None
    return listing


def statuses(receipts: dict[str, Receipt]) -> set[str]:
    return {receipt.status for receipt in receipts.values()}


def all_maps(cache: Path) -> dict[str, tuple[bytes, bytes, bytes]]:
    store = only_spec(cache)
    found = {key: store.read(key) for key in store.keys()}  # noqa: SIM118 - a store is no dict
    return {key: (one.maps.tobytes(), one.time_s.tobytes(), one.frame_index.tobytes()) for key, one in found.items()}


def pictures_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


@pytest.mark.parametrize(("crops", "num_views"), [("1", 1), ("3", 3), ("10", 10), ("full", 1)])
def test_every_map_is_what_the_network_says_of_that_frame_and_view(
    clip_folder: Path, tmp_path: Path, network: Network, crops: str, num_views: int
) -> None:
    request = replace(REQUEST, crops=crops)
    # batches of 4 cross frames, views and videos
    receipts = extract(clip_folder / "red", tmp_path / "cache", request, batch_size=4)
    assert statuses(receipts) == {"ok"}
    store = only_spec(tmp_path / "cache")
    rule = request.view_rule(network.backbone)
    for video, key in kept(tmp_path / "cache", clip_folder / "red").ids_to_keys().items():
        features = store.read(key)
        pictures = pictures_of(clip_folder / "red" / video)
        wanted = [(2 * i + 1) * len(pictures) // (2 * FRAMES) for i in range(FRAMES)]
        assert features.frame_index.tolist() == wanted
        assert features.time_s == pytest.approx([index / 10 for index in wanted], abs=1e-6)
        assert features.maps.shape[:2] == (FRAMES, num_views)
        for t, index in enumerate(wanted):
            views = rule.prepare(pictures[index])
            for v, view in enumerate(views):
                alone = network.maps(view[None])[0].astype(np.float32)
                np.testing.assert_allclose(features.maps[t, v].astype(np.float32), alone, rtol=2e-3, atol=2e-5)
    # the test can tell frames and views apart
    assert np.abs(features.maps[0].astype(float) - features.maps[2]).max() > 0.02
    if num_views > 1:
        assert np.abs(features.maps[:, 0].astype(float) - features.maps[:, 2]).max() > 0.02


def test_workers_and_neighbours_do_not_change_one_bit(clip_folder: Path, tmp_path: Path) -> None:
    """Which videos share a batch, and in which place, depends on both."""
    extract(clip_folder, tmp_path / "one", workers=1)
    extract(clip_folder, tmp_path / "two", workers=2)
    extract(clip_folder / "red", tmp_path / "few", workers=2)
    found = all_maps(tmp_path / "one")
    assert len(found) == NUM_CLIPS
    assert all_maps(tmp_path / "two") == found
    few = all_maps(tmp_path / "few")
    assert len(few) == NUM_CLIPS // 2
    assert few.items() <= found.items()


@pytest.mark.parametrize("batch_size", [1, 7])
def test_batch_size_changes_maps_by_no_more_than_rounding(clip_folder: Path, tmp_path: Path, batch_size: int) -> None:
    folder = clip_folder / "red"
    for cache, size in (("one", 16), ("other", batch_size)):
        extract(folder, tmp_path / cache, batch_size=size)
    one, other = only_spec(tmp_path / "one"), only_spec(tmp_path / "other")
    assert one.folder.name == other.folder.name
    for key in one.keys():  # noqa: SIM118 - a store is no dict
        wanted, found = one.read(key).maps, other.read(key).maps
        step = np.spacing(np.maximum(np.abs(wanted), np.float16(2e-4)))  # sums near zero round by the terms' size
        assert (np.abs(wanted.astype(np.float32) - found) <= 2 * step.astype(np.float32)).all()


def test_receipts_and_header_say_what_was_decoded(clip_folder: Path, tmp_path: Path) -> None:
    receipt = extract(clip_folder, tmp_path / "cache")["blue/3.mp4"]
    assert (receipt.status, receipt.width, receipt.height, receipt.rotation) == ("ok", 80, 48, 0)
    assert (receipt.frames_wanted, receipt.frames_decoded, receipt.frames_distinct) == (FRAMES, FRAMES, FRAMES)
    assert receipt.duration_s == pytest.approx(0.8, abs=0.02)
    listing = kept(tmp_path / "cache", clip_folder)
    header = only_spec(tmp_path / "cache").header(listing.ids_to_keys()["blue/3.mp4"])
    assert header.source_name == "3.mp4"
    assert header.source_size == (clip_folder / "blue/3.mp4").stat().st_size
    assert header.receipt == replace(receipt, video="3.mp4", seconds=0)
    assert [entry.id for entry in listing.entries] == sorted(entry.id for entry in listing.entries)


# --- nothing twice ---


def test_a_second_run_touches_neither_videos_nor_network(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = extract(clip_folder, tmp_path / "cache")

    def forbidden(*arguments: object, **options: object) -> None:
        raise AssertionError("not needed")

    for module, name in ((extract_module, "load_network"), (pipeline_module, "DecodePool")):
        monkeypatch.setattr(module, name, forbidden)
    monkeypatch.setattr(SpecStore, "_file", forbidden)
    assert extract(clip_folder, tmp_path / "cache") == first
    assert kept(tmp_path / "cache", clip_folder).ids_to_keys().keys() == first.keys()


def test_the_second_command_imports_no_torch(clip_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv[0] = 'rratag'\n"
        "from rratag.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n"
        "    heavy = {'torch', 'timm', 'torchvision', 'sklearn', 'h5py', 'av'} & set(sys.modules)\n"
        "    print(stop.code, sorted(heavy))\n"
    )
    (clip_folder / "red/empty.mp4").write_bytes(b"")
    extract(clip_folder / "red", tmp_path / "c", replace(REQUEST, crops="full", device="auto"))
    command = [
        sys.executable,
        "-c",
        code,
        "extract",
        str(clip_folder / "red"),
        "--cache",
        str(tmp_path / "c"),
        *TINY_OPTIONS,
    ]
    second = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert "6 videos: 5 ok, 1 unreadable" in second.stderr
    assert second.stdout == "3 ['av']\n"


def test_a_renamed_root_moved_and_copied_videos_are_known_by_content(
    clip_folder: Path, tmp_path: Path, forwarded: list[int]
) -> None:
    first = extract(clip_folder, tmp_path / "cache")
    stored = all_maps(tmp_path / "cache")
    moved = clip_folder.rename(tmp_path / "elsewhere")
    (moved / "red/0.mp4").rename(moved / "blue/from-red.mp4")
    shutil.copy(moved / "red/1.mp4", moved / "copy.mp4")
    forwarded.clear()
    second = extract(moved, tmp_path / "cache")
    assert forwarded == []
    assert statuses(second) == {"ok"}
    assert len(second) == NUM_CLIPS + 1
    ids = kept(tmp_path / "cache", moved).ids_to_keys()
    before = kept(tmp_path / "cache", tmp_path / "videos").ids_to_keys()
    assert ids["blue/from-red.mp4"] == before["red/0.mp4"]
    assert ids["copy.mp4"] == ids["red/1.mp4"] == before["red/1.mp4"]
    assert replace(second["copy.mp4"], video="", seconds=0) == replace(first["red/1.mp4"], video="", seconds=0)
    assert all_maps(tmp_path / "cache") == stored


def test_a_changed_video_is_extracted_again_and_the_old_features_stay(
    clip_folder: Path, tmp_path: Path, forwarded: list[int]
) -> None:
    extract(clip_folder, tmp_path / "cache")
    before = kept(tmp_path / "cache", clip_folder).ids_to_keys()
    path = clip_folder / "red/2.mp4"
    found = path.stat()
    encode(path, coloured("blue", 77))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 10**9))
    forwarded.clear()
    extract(clip_folder, tmp_path / "cache")
    after = kept(tmp_path / "cache", clip_folder).ids_to_keys()
    assert forwarded == [16]
    assert {video for video in after if after[video] != before[video]} == {"red/2.mp4"}
    assert set(only_spec(tmp_path / "cache").keys()) == {*before.values(), *after.values()}


def test_a_touched_video_is_read_but_not_decoded(clip_folder: Path, tmp_path: Path, forwarded: list[int]) -> None:
    extract(clip_folder, tmp_path / "cache")
    os.utime(clip_folder / "red/2.mp4", ns=(0, 12345))
    forwarded.clear()
    run = extraction(clip_folder, tmp_path / "cache")
    assert [video.id for video in run.plan.pending] == ["red/2.mp4"]
    assert {receipt.status for receipt in run.run()} == {"ok"}
    assert forwarded == []
    entry = next(entry for entry in kept(tmp_path / "cache", clip_folder).entries if entry.id == "red/2.mp4")
    assert entry.mtime_ns == 12345
    assert extraction(clip_folder, tmp_path / "cache").plan.pending == []


def test_a_video_that_is_gone_leaves_the_listing_and_features_that_are_gone_are_made_again(
    clip_folder: Path, tmp_path: Path, forwarded: list[int]
) -> None:
    extract(clip_folder, tmp_path / "cache")
    stored = all_maps(tmp_path / "cache")
    store, ids = only_spec(tmp_path / "cache"), kept(tmp_path / "cache", clip_folder).ids_to_keys()
    store.path(ids["blue/1.mp4"]).unlink()
    (clip_folder / "red/4.mp4").unlink()
    forwarded.clear()
    receipts = extract(clip_folder, tmp_path / "cache")
    assert forwarded == [16]
    assert "red/4.mp4" not in receipts
    assert "red/4.mp4" not in kept(tmp_path / "cache", clip_folder).ids_to_keys()
    assert all_maps(tmp_path / "cache") == stored


def test_overwrite_computes_everything_again(clip_folder: Path, tmp_path: Path, forwarded: list[int]) -> None:
    extract(clip_folder / "red", tmp_path / "cache")
    stored = all_maps(tmp_path / "cache")
    forwarded.clear()
    extract(clip_folder / "red", tmp_path / "cache", overwrite=True)
    assert forwarded == [16]
    assert all_maps(tmp_path / "cache") == stored


def test_equal_names_below_two_roots_never_disturb_each_other(tmp_path: Path, forwarded: list[int]) -> None:
    for root, colour in (("videos", "red"), ("clips", "blue")):
        (tmp_path / root / "x").mkdir(parents=True)
        for number in range(2):
            encode(tmp_path / root / f"x/{number}.mp4", coloured(colour, 10 * number + len(root)))
    cache = tmp_path / "cache"
    extract(tmp_path / "videos", cache)
    videos = kept(cache, tmp_path / "videos")
    alone = all_maps(cache)
    extract(tmp_path / "clips", cache)
    clips = kept(cache, tmp_path / "clips").ids_to_keys()
    assert videos.ids_to_keys().keys() == clips.keys() == {"x/0.mp4", "x/1.mp4"}
    assert not set(clips.values()) & set(videos.ids_to_keys().values())
    assert kept(cache, tmp_path / "videos") == videos
    assert {key: all_maps(cache)[key] for key in alone} == alone
    forwarded.clear()
    extract(tmp_path / "videos", cache)
    extract(tmp_path / "clips", cache)
    assert forwarded == []


def test_predict_listings_are_kept_apart_but_serve(clip_folder: Path, tmp_path: Path, forwarded: list[int]) -> None:
    cache = tmp_path / "cache"
    list(extraction(clip_folder, cache, command="predict").run())
    assert Catalog(cache).find(clip_folder, "extract") is None
    forwarded.clear()
    assert extraction(clip_folder, cache).plan.pending == []
    extract(clip_folder, cache)
    assert forwarded == []


@pytest.mark.parametrize(
    "change",
    [{"crops": "squash"}, {"sampling": Sampling(frames=2)}, {"sampling": Sampling(frames=None, fps=4.0)}],
    ids=["crops", "frames", "fps"],
)
def test_other_settings_are_another_spec(clip_folder: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    extract(clip_folder / "red", tmp_path / "cache")
    extract(clip_folder / "red", tmp_path / "cache", replace(REQUEST, **change))
    stores = FeatureStore(tmp_path / "cache").specs()
    assert len({store.spec.meaning_digest for store in stores}) == len(stores) == 2
    assert [len(store.keys()) for store in stores] == [5, 5]
    assert kept(tmp_path / "cache", clip_folder / "red").request["crops"] == change.get("crops", "1")


# --- trouble ---


@pytest.fixture
def with_bad(clip_folder: Path) -> Path:
    folder = clip_folder / "red"
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "cut.mp4").write_bytes((folder / "0.mp4").read_bytes()[:700])
    (folder / "gone.mp4").symlink_to("nowhere.mp4")
    return folder


def test_failures_are_remembered_until_asked_for(
    with_bad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    first = extract(with_bad, cache)
    bad = {video for video, receipt in first.items() if receipt.status == "unreadable"}
    assert bad == {"empty.mp4", "noise.mp4", "cut.mp4", "gone.mp4"}
    assert first["gone.mp4"].reason == "broken_link"
    assert sum(receipt.status == "ok" for receipt in first.values()) == 5
    assert extraction(with_bad, cache).plan.pending == []
    again = extract(with_bad, cache)
    for video in bad:
        assert (again[video].status, again[video].reason, again[video].message) == (
            first[video].status,
            first[video].reason,
            first[video].message,
        )
    assert [video.id for video in extraction(with_bad, cache, retry_failed=True).plan.pending] == sorted(
        bad - {"gone.mp4"}
    )


def test_a_failure_is_known_by_content_under_another_name(with_bad: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = extract(with_bad, cache)
    moved = with_bad.rename(tmp_path / "moved")
    again = extract(moved, cache)
    assert (again["noise.mp4"].status, again["noise.mp4"].message) == (
        first["noise.mp4"].status,
        first["noise.mp4"].message,
    )
    (path,) = (path for path in only_spec(cache).failures.iterdir() if _attempted(path, first["noise.mp4"]))
    assert json.loads(path.read_text())["attempts"] == 1
    extract(moved, cache, retry_failed=True)
    assert json.loads(path.read_text())["attempts"] == 2


def _attempted(path: Path, receipt: Receipt) -> bool:
    import hashlib

    video = path.parents[3] / "moved" / receipt.video
    return path.stem == hashlib.sha256(video.read_bytes()).hexdigest()[:32]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"status": "eaten", "reason": "", "message": ""}'])
def test_a_damaged_note_of_a_failure_is_as_if_there_were_none(with_bad: Path, tmp_path: Path, content: str) -> None:
    cache = tmp_path / "cache"
    first = extract(with_bad, cache)
    for path in only_spec(cache).failures.iterdir():
        path.write_bytes(sealed.to_bytes(json.loads(content)) if content.startswith('{"') else content.encode())
    moved = with_bad.rename(tmp_path / "moved")
    again = extract(moved, cache)
    assert {video: receipt.status for video, receipt in again.items()} == {
        video: receipt.status for video, receipt in first.items()
    }


def test_a_note_with_a_changed_digit_is_as_if_there_were_none(with_bad: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    extract(with_bad, cache)
    store = only_spec(cache)
    path = min(store.failures.iterdir())
    assert failures.read_failure(store, path.stem, "a.mp4") is not None
    path.write_text(path.read_text().replace('"attempts": 1', '"attempts": 2'))
    assert failures.read_failure(store, path.stem, "a.mp4") is None


def test_a_video_that_changed_while_it_was_read_is_tried_again_without_being_asked(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, pool = clip_folder / "blue", pipeline_module.DecodePool

    class Changing(pool):  # type: ignore[valid-type,misc]
        def run(self, videos: Any) -> Iterator[Any]:
            for decoded in super().run(videos):
                if decoded.video.id == "1.mp4":
                    receipt = Receipt("1.mp4", "changed_while_read", message="its size changed")
                    decoded = replace(
                        decoded, receipt=receipt, frames=[], time_s=np.zeros(0), frame_index=np.zeros(0, int)
                    )
                yield decoded

    monkeypatch.setattr(pipeline_module, "DecodePool", Changing)
    assert extract(folder, tmp_path / "cache")["1.mp4"].status == "changed_while_read"
    monkeypatch.setattr(pipeline_module, "DecodePool", pool)
    assert extract(folder, tmp_path / "cache")["1.mp4"].status == "ok"


def test_the_picture_size_may_change_in_the_middle_of_a_video(tmp_path: Path) -> None:
    """Two MPEG-TS recordings put end to end, as set-top boxes do: never a crash, and the run goes on."""
    folder = tmp_path / "videos"
    folder.mkdir()
    small = encode(tmp_path / "a.ts", coloured("red", 1))
    large = encode(tmp_path / "b.ts", [np.kron(one, np.ones((2, 1, 1), np.uint8)) for one in coloured("blue", 2)])
    (folder / "a.ts").write_bytes(small.read_bytes() + large.read_bytes())
    encode(folder / "b.mp4", coloured("blue", 3))
    receipts = extract(folder, tmp_path / "cache", replace(REQUEST, crops="full", sampling=Sampling(frames=8)))
    assert receipts["b.mp4"].status == "ok"
    store = only_spec(tmp_path / "cache")
    for key in kept(tmp_path / "cache", folder).ids_to_keys().values():
        assert len(store.read(key).time_s) == len(store.read(key).maps)


def test_a_full_disk_keeps_what_is_done_and_the_next_run_goes_on(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forwarded: list[int]
) -> None:
    undisturbed = tmp_path / "undisturbed"
    extract(clip_folder, undisturbed)
    write, cache = SpecStore.write, tmp_path / "cache"
    calls = []

    def fails_fourth(self: SpecStore, key: str, *arguments: Any, **options: Any) -> int:
        calls.append(key)
        if len(calls) > 3:
            raise StoppedError("no space")
        return write(self, key, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(SpecStore, "write", fails_fourth)
        with pytest.raises(StoppedError, match="no space"):
            extract(clip_folder, cache)
    assert len(only_spec(cache).keys()) == 3
    forwarded.clear()
    assert statuses(extract(clip_folder, cache)) == {"ok"}
    assert len(forwarded) == -(-7 * FRAMES // 16)
    assert all_maps(cache) == all_maps(undisturbed)


def test_values_that_float16_cannot_hold_stop_the_run(
    clip_folder: Path, tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = network.backbone._features
    monkeypatch.setattr(network.backbone, "_features", lambda net, x: features(net, x) * 1e9)
    with pytest.raises(StoppedError, match=r"in fp32 gives values that float16 cannot hold; use other weights$"):
        extract(clip_folder / "red", tmp_path / "cache")
    assert only_spec(tmp_path / "cache").keys() == []


def test_cuda_where_there_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no usable GPU"):
        load_network(replace(REQUEST, device="cuda"))


def test_precision_is_the_compute_of_the_spec_and_close(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(clip_folder / "red", tmp_path / "cache")
    exact = only_spec(tmp_path / "cache")
    half = replace(REQUEST, precision="bf16")
    network = load_network(half)
    monkeypatch.setattr(extract_module, "load_network", lambda request, download=False: network)
    shutil.rmtree(exact.folder.parent / "roots")
    extract(clip_folder / "red", tmp_path / "bf16", half)
    other = only_spec(tmp_path / "bf16")
    assert other.spec.meaning == exact.spec.meaning
    assert (exact.spec.compute["precision"], other.spec.compute["precision"]) == ("fp32", "bf16")
    key = exact.keys()[0]
    wanted, found = (store.read(key).maps.astype(np.float32) for store in (exact, other))
    error = np.abs(found - wanted).mean() / np.abs(wanted).mean()
    assert 0 < error < 0.1


# --- dry run ---


def files_below(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def test_an_estimate_changes_nothing_and_is_near_the_truth(with_bad: Path, tmp_path: Path) -> None:
    before = files_below(tmp_path)
    run = extraction(with_bad, tmp_path / "cache")
    size, seconds = estimate(run, samples=8)
    assert files_below(tmp_path) == before
    assert seconds > 0
    extract(with_bad, tmp_path / "cache")
    store = only_spec(tmp_path / "cache")
    truth = sum(store.path(key).stat().st_size for key in store.keys())  # noqa: SIM118 - a store is no dict
    assert 0.5 * truth < size <= truth
    run = extraction(with_bad, tmp_path / "cache")
    assert estimate(run) == (0.0, 0.0)


# --- kill ---


def run_command(folder: Path, cache: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "rratag", "extract", str(folder), "--cache", str(cache), *TINY_OPTIONS]
    env = {**os.environ, "RRATAG_RUNTIME": "torch"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_a_killed_run_goes_on_where_it_was_to_the_same_bytes(
    clip_folder: Path, tmp_path: Path, forwarded: list[int]
) -> None:
    for number in range(30):  # enough that the kill comes in the middle
        encode(clip_folder / f"red/more{number}.mp4", coloured("red", 1000 + number, 3))
    cache, undisturbed = tmp_path / "cache", tmp_path / "undisturbed"
    with run_command(clip_folder, cache) as process:
        wait_until(lambda: len(list(cache.glob("*/??/*.h5"))) >= 2, 120)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    store = only_spec(cache)
    done = {key: store.path(key).stat().st_mtime_ns for key in store.keys()}  # noqa: SIM118 - a store is no dict
    assert 2 <= len(done) < NUM_CLIPS + 30
    for key in done:
        store.read(key)  # what has its name is whole
    assert kept_or_none(cache, clip_folder) is None
    request = replace(REQUEST, crops="full")
    receipts = extract(clip_folder, cache, request)
    assert statuses(receipts) == {"ok"}
    assert len(forwarded) == -(-FRAMES * (NUM_CLIPS + 30 - len(done)) // 16)
    extract(clip_folder, undisturbed, request)
    assert all_maps(cache) == all_maps(undisturbed)
    assert {key: store.path(key).stat().st_mtime_ns for key in done} == done


def kept_or_none(cache: Path, root: Path) -> Listing | None:
    return Catalog(cache).find(root, "extract")


@pytest.mark.parametrize("part_seconds", [0.0, 1e9])
def test_digests_of_an_unfinished_run_are_not_computed_again(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_seconds: float
) -> None:
    """Those kept now and then, which a kill leaves, and those kept at an interrupt."""
    monkeypatch.setattr(extract_module, "PART_SECONDS", part_seconds)
    run = extraction(clip_folder, tmp_path / "cache").run()
    for _ in range(4):
        next(run)
    run.close()  # type: ignore[attr-defined]
    assert kept_or_none(tmp_path / "cache", clip_folder) is None
    assert len(extraction(clip_folder, tmp_path / "cache").plan.done) in (3, 4)
    assert statuses(extract(clip_folder, tmp_path / "cache")) == {"ok"}
    assert Catalog(tmp_path / "cache").find(clip_folder, "extract", part=True) is None


# --- damage ---


def flip_header(store: SpecStore, key: str) -> None:
    path = store.path(key)
    content = bytearray(path.read_bytes())
    content[content.index(b"source_sha256")] ^= 1
    path.write_bytes(content)


def test_damaged_features_of_a_known_content_are_made_again(
    clip_folder: Path, tmp_path: Path, forwarded: list[int]
) -> None:
    """A moved folder is known by content alone: then the cached file is looked into."""
    cache, folder = tmp_path / "cache", clip_folder / "red"
    first = extract(folder, cache)
    store = only_spec(cache)
    (key, whole) = sorted(all_maps(cache).items())[2]
    flip_header(store, key)
    forwarded.clear()
    assert extract(folder.rename(tmp_path / "moved"), cache).keys() == first.keys()
    assert len(forwarded) == 1  # the batch of one video
    assert all_maps(cache)[key] == whole
    assert [path.stem for path in store.damaged.iterdir()] == [key]


def test_a_video_replaced_by_one_of_equal_size_and_time_is_another(clip_folder: Path, tmp_path: Path) -> None:
    """As archives and synchronisation leave it: the system's own time of change tells."""
    cache, folder = tmp_path / "cache", clip_folder / "red"
    extract(folder, cache)
    video = folder / "1.mp4"
    before = video.stat()
    content = bytearray(video.read_bytes())
    content[-1] ^= 1
    video.write_bytes(content)
    os.utime(video, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (video.stat().st_size, video.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert [one.id for one in extraction(folder, cache).plan.pending] == ["1.mp4"]
    extract(folder, cache)
    assert extraction(folder, cache).plan.pending == []


def test_a_failure_known_by_content_has_all_that_was_known_of_it(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path).create_spec(Spec({"backbone": "toy"}, {}))
    receipt = Receipt("a.mp4", "unreadable", "corrupt", "why", "pyav", "decord", 25, 3, 2, 1, 2.5, 64, 48, 90, 1.5)
    failures.keep_failure(store, "0" * 32, receipt)
    again = failures.read_failure(store, "0" * 32, "b.mp4")
    assert again == replace(receipt, video="b.mp4", seconds=0.0)


# --- what a listing must keep ---


def test_a_video_reached_twice_does_not_spoil_the_listing(clip_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    run = Extraction(
        discover([str(clip_folder), str(clip_folder / "red/1.mp4")]), REQUEST, FeatureStore(cache), RunOptions(1)
    )
    rows = [(receipt.video, receipt.status) for receipt in run.run()]
    assert rows.count(("red/1.mp4", "ok")) == rows.count(("red/1.mp4", "skipped")) == 1
    assert len(kept(cache, clip_folder).ids_to_keys()) == NUM_CLIPS
    assert extraction(clip_folder, cache).plan.pending == []


def test_a_file_of_the_far_future_is_known_again_and_its_features_are_read(clip_folder: Path, tmp_path: Path) -> None:
    cache, folder = tmp_path / "cache", clip_folder / "red"
    try:
        os.utime(folder / "1.mp4", ns=(0, 2**63 + 5_000_000_000))
    except OverflowError:
        pytest.skip("this file system knows no such time")
    assert statuses(extract(folder, cache)) == {"ok"}
    assert extraction(folder, cache).plan.pending == []
    assert all(only_spec(cache).is_whole(key) for key in kept(cache, folder).ids_to_keys().values())


def test_a_part_with_other_settings_does_not_replace_what_is_known_of_the_whole(
    clip_folder: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    extract(clip_folder, cache)
    (clip_folder / "top.mp4").write_bytes((clip_folder / "red/1.mp4").read_bytes() + b"\0")
    other = replace(REQUEST, crops="1" if REQUEST.crops != "1" else "full")
    run = Extraction(discover([str(clip_folder / "top.mp4")]), other, FeatureStore(cache), RunOptions(1))
    assert [receipt.video for receipt in run.run()] == ["top.mp4"]
    assert len(kept(cache, clip_folder).ids_to_keys()) == NUM_CLIPS
    listings = Catalog(cache).all()
    assert [len(listing.entries) for listing in listings] == [1, NUM_CLIPS]
    assert Catalog(cache).damaged() == []


def test_other_weights_where_they_were_found_are_noticed_at_once(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Network
) -> None:
    """No option names the file of a torchvision or timm backbone."""
    cache, folder, path = tmp_path / "cache", clip_folder / "red", tmp_path / "found.pth"
    path.write_bytes(b"one")
    request = replace(REQUEST, weights=None)

    def load(request: Request, download: bool = False) -> Network:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return replace(network, backbone=replace(network.backbone, weights_digest=digest, weights_path=path))

    monkeypatch.setattr(extract_module, "load_network", load)
    extract(folder, cache, request)
    assert extraction(folder, cache, request).plan.pending == []
    path.write_bytes(b"two")
    run = extraction(folder, cache, request)
    assert len(run.plan.pending) == 5
    assert statuses({receipt.video: receipt for receipt in run.run()}) == {"ok"}
    assert [len(store.keys()) for store in FeatureStore(cache).specs()] == [5, 5]


def test_other_weights_found_late_leave_nothing_that_is_done(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Network
) -> None:
    cache, folder = tmp_path / "cache", clip_folder / "red"
    extract(folder, cache)
    other = replace(network, backbone=replace(network.backbone, weights_digest="f" * 64))
    monkeypatch.setattr(extract_module, "load_network", lambda request, download=False: other)
    (folder / "new.mp4").write_bytes((folder / "1.mp4").read_bytes() + b"\0")
    receipts = extract(folder, cache)
    listing = kept(cache, folder)
    assert len(receipts) == len(listing.ids_to_keys()) == 6
    store = FeatureStore(cache).open_spec(listing.spec)
    assert all(store.has(key) for key in listing.ids_to_keys().values())


def test_what_cannot_be_read_just_now_is_not_gone(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rights taken away, or a disk that is away: the features of these videos are still needed."""
    cache = tmp_path / "cache"
    extract(clip_folder, cache)
    whole = kept(cache, clip_folder)
    scandir, stat = os.scandir, os.stat

    def closed(path: Any) -> Any:
        if str(path).endswith("blue"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    (clip_folder / "red/1.mp4").rename(clip_folder / "red/aside")
    (clip_folder / "red/1.mp4").symlink_to(clip_folder / "closed/1.mp4")
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", closed)

        def refuse(path: Any, **named: Any) -> Any:
            if str(path).endswith("red/1.mp4") and named.get("follow_symlinks", True):
                raise PermissionError(13, "Permission denied")
            return stat(path, **named)

        patch.setattr(os, "stat", refuse)
        receipts = extract(clip_folder, cache)
    assert receipts["blue"].status == receipts["red/1.mp4"].status == "permission_denied"
    listing = kept(cache, clip_folder)
    assert {entry.sha256 for entry in listing.entries} >= {entry.sha256 for entry in whole.entries}
    assert len(listing.ids_to_keys()) == NUM_CLIPS - 1
    (clip_folder / "red/1.mp4").unlink()
    (clip_folder / "red/aside").rename(clip_folder / "red/1.mp4")
    extract(clip_folder, cache)
    assert kept(cache, clip_folder).ids_to_keys() == whole.ids_to_keys()
