"""One features file: any wrong bit is found, and nothing but our own layout is read."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from rratag.data.datasets import CachedDataset
from rratag.errors import CacheError, DamagedError
from rratag.features import h5
from rratag.features.catalog import Entry
from rratag.features.spec import Spec
from rratag.features.store import Features, FeatureStore, JoinedStores, SpecStore, read_features
from rratag.head.rra import HeadConfig
from rratag.head.variants import build_head
from rratag.model import Model
from rratag.records import Instance, Receipt
from rratag.tag.predict import predict_cached
from rratag.video.views import ViewRule

SPEC = Spec({"backbone": "toy", "channels": 5, **ViewRule("1", 64, 72, "bilinear").describe()}, {"precision": "fp32"})
SHA256 = hashlib.sha256(b"a video").hexdigest()
KEY = SHA256[:32]
SOURCE = {"name": "a.mp4", "size": 7, "mtime_ns": 5, "sha256": SHA256}
RECEIPT = Receipt("a.mp4", "partial", "frames", "6 of 8 frames", decoder="pyav", duration_s=2.5, width=64, height=48)


def some_features(num_frames: int = 6, num_views: int = 1) -> Features:
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.normal(size=(num_frames, num_views, 3, 4, 5)), 0).astype(np.float16)
    return Features(maps, np.arange(num_frames) + 0.5, np.arange(num_frames) * 3)


@pytest.fixture
def store(tmp_path: Path) -> SpecStore:
    store = FeatureStore(tmp_path / "cache").create_spec(SPEC)
    store.write(KEY, some_features(), RECEIPT, SOURCE)
    return store


def afresh(store: SpecStore) -> SpecStore:
    """As another process opens it."""
    return FeatureStore(store.folder.parent).open_spec(store.folder.name)


# --- every wrong bit ---


def everything(path: Path) -> tuple[Any, ...]:
    with closing(h5.FeatureFile(path, SPEC.digest, KEY)) as file:
        features, header = file.read(), file.header()
    arrays = (features.maps, features.time_s, features.frame_index, header.time_s)
    return *(one.tobytes() for one in arrays), header.receipt, header.sha256, header.source_name, header.source_size


def test_a_wrong_bit_anywhere_in_the_file_is_found_or_changes_nothing(store: SpecStore, tmp_path: Path) -> None:
    """Not only in the maps: in times, counts, names, and in what HDF5 finds its way by; and it never hangs."""
    whole = store.path(KEY).read_bytes()
    wanted = everything(store.path(KEY))
    damaged = tmp_path / "damaged.h5"
    found = 0
    for place in range(0, len(whole), 7):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        damaged.write_bytes(content)
        try:
            assert everything(damaged) == wanted, f"byte {place}"
        except (h5.NewerFormatError, OSError, KeyError, ValueError, RuntimeError):
            found += 1
    assert found > 0.9 * len(range(0, len(whole), 7))  # the rest are gaps and padding


def test_no_string_lies_where_hdf5_has_no_checksum(store: SpecStore) -> None:
    """One wrong bit in the heap of strings of variable length makes HDF5 go round for ever."""
    with h5py.File(store.path(KEY)) as file:
        kinds = {name: file.attrs.get_id(name).dtype.kind for name in file.attrs}
    assert set(kinds.values()) <= set("Sif"), kinds


# --- thirty of thirty, by every way to the maps ---


def instance() -> Instance:
    return Instance("a.mp4", KEY, "x", "", "train")


def dataset(store: SpecStore) -> CachedDataset:
    return CachedDataset(JoinedStores([store]), [instance()], ["x", "y"])


def drawn(store: SpecStore, frames: int) -> Any:
    """A training batch that sees every frame."""
    return dataset(store).train_batch([0], frames, lambda index: np.random.default_rng(index))


def on_demand(store: SpecStore) -> Any:
    """A set too large for the memory, read batch by batch."""
    large = dataset(store)
    large.__dict__["fits_memory"] = False
    return large.train_batch([0], 6, lambda index: np.random.default_rng(index))


def tagged(store: SpecStore) -> Any:
    config = HeadConfig(channels=5, num_classes=2, num_glimpses=2)
    model = Model(build_head(config).eval(), config, ["x", "y"], SPEC.meaning, {})
    return list(predict_cached(model, store, [Entry(7, 5, SHA256, RECEIPT)]))


def by_content(store: SpecStore) -> Any:
    video = store.folder.parent / "a.mp4"
    video.write_bytes(b"a video")
    return read_features(video, store.folder.parent)


READ_PATHS: dict[str, Callable[[SpecStore], Any]] = {
    "all frames": lambda store: store.read(KEY),
    "one frame": lambda store: [store.read(KEY, [frame]) for frame in range(6)],
    "joined": lambda store: JoinedStores([store]).read(KEY),
    "verify": lambda store: store.check(KEY),
    "training": lambda store: drawn(store, 6),
    "training on demand": on_demand,
    "evaluation": lambda store: dataset(store).eval_batch([0]),
    "tagging": tagged,
    "by content": by_content,
}


@pytest.mark.parametrize("read", READ_PATHS.values(), ids=READ_PATHS)
def test_thirty_wrong_bits_in_the_maps_are_found_thirty_times(
    store: SpecStore, read: Callable[[SpecStore], Any]
) -> None:
    whole = store.path(KEY).read_bytes()
    with h5py.File(store.path(KEY)) as file:
        chunks = [file["maps"].id.get_chunk_info(number) for number in range(6)]
    rng = np.random.default_rng(1)
    read(afresh(store))
    for trial in range(30):
        chunk = chunks[trial % 6]
        content = bytearray(whole)
        content[chunk.byte_offset + int(rng.integers(chunk.size))] ^= 1 << int(rng.integers(8))
        store.path(KEY).write_bytes(content)
        with pytest.raises(DamagedError, match="damaged"):
            read(afresh(store))


def test_without_the_checksum_wrong_values_would_pass(store: SpecStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the test above can fail: values that HDF5's own checksum was made to fit, and ours switched off."""
    with h5py.File(store.path(KEY), "r+") as file:
        file["maps"][2, 0] = file["maps"][2, 0] + 1
    with pytest.raises(DamagedError, match="checksum of frame 2, view 0"):
        afresh(store).read(KEY)
    monkeypatch.setattr(h5.zlib, "crc32", AnyNumber())
    assert not np.array_equal(afresh(store).read(KEY).maps, some_features().maps)


class AnyNumber:
    """A checksum that equals whatever it is compared with."""

    def __call__(self, content: Any) -> AnyNumber:
        return self

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


# --- files of strangers ---


def soft_link(file: h5py.File) -> None:
    file["elsewhere"] = file["maps"]
    del file["maps"]
    file["maps"] = h5py.SoftLink("/elsewhere")


def external_link(file: h5py.File) -> None:
    del file["maps"]
    file["maps"] = h5py.ExternalLink("other.h5", "/maps")


def replaced(name: str, **settings: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **settings)

    return change


def virtual(file: h5py.File) -> None:
    del file["maps"]
    layout = h5py.VirtualLayout((6, 1, 3, 4, 5), np.float16)
    layout[:] = h5py.VirtualSource("other.h5", "maps", (6, 1, 3, 4, 5))
    file.create_virtual_dataset("maps", layout)


def with_gaps(file: h5py.File) -> None:
    del file["maps"]
    file.create_dataset("maps", (6, 1, 3, 4, 5), np.float16, chunks=(1, 1, 3, 4, 5), fletcher32=True)
    file["maps"][0] = 1


def endless(file: h5py.File) -> None:
    """A petabyte that takes no room."""
    for name, shape, kind, chunks in (
        ("maps", (10**6, 1, 300, 400, 5000), np.float16, (1, 1, 300, 400, 1)),
        ("crc32", (10**6, 1), np.uint32, (10**6, 1)),
    ):
        del file[name]
        file.create_dataset(name, shape, kind, chunks=chunks, fletcher32=True)


def attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file.attrs[name] = value

    return change


CHUNK = (1, 1, 3, 4, 5)
MAPS = np.zeros((6, *CHUNK[1:]), np.float16)
HOSTILE: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "no maps": (lambda file: file.pop("maps"), "missing"),
    "a soft link": (soft_link, "link"),
    "an external link": (external_link, "link"),
    "a virtual dataset": (virtual, "chunks of its own"),
    "data in another file": (
        replaced("time_s", shape=6, dtype="<f8", external=[("other.bin", 0, 48)]),
        "chunks of its own",
    ),
    "not in chunks": (replaced("maps", data=MAPS), "chunks of its own"),
    "a group": (lambda file: (file.pop("maps"), file.create_group("maps")), "chunks of its own"),
    "no checksum": (replaced("maps", data=MAPS, chunks=CHUNK), "other filters"),
    "a foreign filter": (
        replaced("maps", data=MAPS, chunks=CHUNK, fletcher32=True, **hdf5plugin.LZ4()),
        "other filters",
    ),
    "objects": (
        replaced("time_s", data=["x"] * 6, dtype=h5py.string_dtype(), chunks=(6,), fletcher32=False),
        "other filters",
    ),
    "another type": (replaced("maps", data=MAPS.astype("f4"), chunks=CHUNK, fletcher32=True), "float32"),
    "another byte order": (replaced("maps", data=MAPS.astype(">f2"), chunks=CHUNK, fletcher32=True), ">f2"),
    "another number of axes": (replaced("maps", data=MAPS[:, 0], chunks=CHUNK[1:], fletcher32=True), "shape"),
    "large chunks": (replaced("maps", data=MAPS, chunks=(2, 1, 3, 4, 5), fletcher32=True), "chunks of"),
    "chunks that are not there": (with_gaps, "gaps"),
    "a petabyte": (endless, "gaps"),
    "fewer checksums": (
        replaced("crc32", data=np.zeros((5, 1), "<u4"), chunks=(5, 1), fletcher32=True),
        "do not fit each other",
    ),
    "fewer times": (replaced("time_s", data=np.zeros(5), chunks=(5,), fletcher32=True), "do not fit each other"),
    "times that are none": (
        replaced("time_s", data=np.full(6, np.nan), chunks=(6,), fletcher32=True),
        "not finite",
    ),
    "a string in the heap": (attribute("spec_digest", SPEC.digest), "fixed length"),
    "a long attribute": (attribute("format", np.zeros(1000)), "fixed length"),
}


@pytest.mark.parametrize(("change", "words"), HOSTILE.values(), ids=HOSTILE)
def test_only_our_own_layout_is_read(store: SpecStore, change: Callable[[h5py.File], None], words: str) -> None:
    with h5py.File(store.path(KEY), "r+") as file:
        change(file)
    for read in (afresh(store).read, afresh(store).check):
        with pytest.raises(DamagedError, match=words) as caught:
            read(KEY)
        assert "\n" not in str(caught.value)


def test_a_map_larger_than_any_is_refused(store: SpecStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h5, "MAX_CHUNK_BYTES", 3 * 4 * 5 * 2 - 1)
    with pytest.raises(DamagedError, match="shape"):
        store.read(KEY)


def test_more_maps_than_memory_are_refused_before_they_are_read(
    store: SpecStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(h5.os, "sysconf", lambda name: 25)  # 625 bytes; a frame takes 120
    assert len(store.read(KEY, [0, 1, 2, 3, 4]).maps) == 5
    with pytest.raises(DamagedError, match="memory"):
        store.read(KEY)


def test_a_later_version_is_named_and_left_alone(store: SpecStore) -> None:
    with h5py.File(store.path(KEY), "r+") as file:
        file.attrs["version"] = h5.VERSION + 1
    with pytest.raises(CacheError, match=r"version 2, this program reads 1; upgrade") as caught:
        afresh(store).read(KEY)
    assert not isinstance(caught.value, DamagedError)


@pytest.mark.parametrize("read", ["check", "read", "header"])
def test_features_of_another_video_under_this_name_are_damage(store: SpecStore, read: str) -> None:
    other = hashlib.sha256(b"another").hexdigest()[:32]
    store.path(other).parent.mkdir(exist_ok=True)
    store.path(KEY).rename(store.path(other))
    with pytest.raises(DamagedError, match="another video"):
        getattr(afresh(store), read)(other)
    assert not afresh(store).is_whole(other)


def test_a_pipe_or_folder_in_the_place_of_features_is_damage_and_hangs_nothing(store: SpecStore) -> None:
    for make in (os.mkfifo, os.mkdir):
        store.path(KEY).unlink(missing_ok=True)
        make(store.path(KEY))
        with pytest.raises(DamagedError, match="damaged"):
            afresh(store).read(KEY)
        assert afresh(store).set_aside(KEY).exists()
        assert not store.has(KEY)
        os.rename(store.damaged, store.damaged.with_name(f"was-{make.__name__}"))


def test_values_that_are_not_finite_are_found_by_check(store: SpecStore) -> None:
    features = some_features()
    features.maps[4, 0, 1, 1, 1] = np.inf
    store.write(KEY, features, RECEIPT, SOURCE)
    with pytest.raises(DamagedError, match="frame 4"):
        store.check(KEY)


def test_a_file_is_read_while_another_process_holds_a_lock(store: SpecStore) -> None:
    """Network disks lock badly; files that never change need no locks."""
    fcntl = pytest.importorskip("fcntl")
    with open(store.path(KEY), "rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        started = time.monotonic()
        assert len(afresh(store).read(KEY).maps) == 6
    assert time.monotonic() - started < 10


def test_equal_content_gives_equal_files(store: SpecStore) -> None:
    """No time of writing and no address in it: two writers of one key cannot differ."""
    first = store.path(KEY).read_bytes()
    store.write(KEY, some_features(), RECEIPT, SOURCE)
    assert store.path(KEY).read_bytes() == first
    assert isinstance(h5.file_image(some_features(), {}, "none"), bytes)
    assert h5py.File(io.BytesIO(first)).attrs["complete"] == 1
