"""The feature store: exact round trip, checksums, commit, foreign files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from rratag import files
from rratag.errors import CacheError, DamagedError, StoppedError
from rratag.features import store as store_module
from rratag.features.spec import Spec
from rratag.features.store import COMPRESSIONS, Features, FeatureStore, SpecStore, file_image, read_features
from rratag.records import Receipt

SPEC = Spec({"backbone": "toy", "channels": 5}, {"precision": "fp32"})
SHA256 = hashlib.sha256(b"a video").hexdigest()
KEY = SHA256[:32]
SOURCE = {"name": "ä\udcff.mp4", "size": 123, "mtime_ns": 1_700_000_000_123_456_789, "sha256": SHA256}
RECEIPT = Receipt(
    "cats/ä.mp4",
    "partial",
    "frames",
    "6 of 8 frames",
    decoder="pyav",
    fallback_from="decord",
    frames_wanted=8,
    frames_decoded=7,
    frames_distinct=6,
    frames_damaged=1,
    duration_s=2.5,
    width=1080,
    height=1920,
    rotation=90,
    seconds=1.5,
)


def make_features(num_frames: int = 6, num_views: int = 2, seed: int = 0) -> Features:
    """Every float16 bit pattern that is finite may occur, negative zero and subnormals among them."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 1 << 16, (num_frames, num_views, 3, 4, 5), np.uint16)
    maps = bits.view(np.float16)
    maps = np.where(np.isfinite(maps), maps, np.float16(0.5)).astype(np.float16)
    maps[0, 0, 0, 0, :2] = np.array([0x8000, 0x0001], np.uint16).view(np.float16)
    return Features(maps, np.sort(rng.random(num_frames)) * 60, np.cumsum(rng.integers(1, 9, num_frames)))


def make_store(folder: Path) -> SpecStore:
    return FeatureStore(folder / "cache").create_spec(SPEC)


def written(folder: Path, compression: str = "zstd", features: Features | None = None) -> tuple[SpecStore, Features]:
    store, features = make_store(folder), features or make_features()
    store.write(KEY, features, RECEIPT, SOURCE, compression=compression)
    return store, features


def again(store: SpecStore) -> SpecStore:
    """The same store as another process opens it."""
    return FeatureStore(store.folder.parent).open_spec(store.folder.name)


def assert_same(found: Features, wanted: Features) -> None:
    assert found.maps.dtype == np.float16
    assert np.array_equal(found.maps.view(np.uint16), wanted.maps.view(np.uint16))
    assert np.array_equal(found.time_s, wanted.time_s)
    assert found.time_s.dtype == np.float64
    assert np.array_equal(found.frame_index, wanted.frame_index)
    assert found.frame_index.dtype == np.int64


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_round_trip_is_exact_to_the_bit(tmp_path: Path, compression: str) -> None:
    store, features = written(tmp_path, compression)
    assert_same(again(store).read(KEY), features)
    assert store.path(KEY) == tmp_path / "cache" / SPEC.short / KEY[:2] / f"{KEY}.h5"
    assert store.has(KEY)
    assert store.keys() == [KEY]
    assert not store.has("0" * 32)


def test_frames_are_read_in_the_order_asked_for(tmp_path: Path) -> None:
    store, features = written(tmp_path)
    order = [4, 0, 4, 2]
    assert_same(
        store.read(KEY, order),
        Features(features.maps[order], features.time_s[order], features.frame_index[order]),
    )
    assert store.read(KEY, np.array([5])).maps.shape == (1, 2, 3, 4, 5)  # type: ignore[arg-type]
    assert store.read(KEY, []).maps.shape == (0, 2, 3, 4, 5)


@pytest.mark.parametrize("frames", [[6], [-1], [0, 1, 7]])
def test_a_frame_that_is_not_cached_is_a_programming_error(tmp_path: Path, frames: list[int]) -> None:
    store, _ = written(tmp_path)
    with pytest.raises(IndexError, match="6 cached frames"):
        store.read(KEY, frames)


def test_maps_of_another_memory_order_or_type_are_stored_by_position(tmp_path: Path) -> None:
    maps = np.random.default_rng(1).normal(size=(5, 4, 3, 2, 6)).astype(np.float32)
    turned = maps.transpose(4, 3, 2, 1, 0)
    store, _ = written(tmp_path, features=Features(turned, np.arange(6.0), np.arange(6)))
    assert np.array_equal(store.read(KEY).maps, turned.astype(np.float16))


@pytest.mark.parametrize(
    ("times", "frames", "shape"), [(5, 6, (6, 1, 2, 2, 3)), (6, 5, (6, 1, 2, 2, 3)), (6, 6, (6, 2, 2, 3))]
)
def test_what_does_not_belong_together_is_not_written(times: int, frames: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="maps"):
        file_image(Features(np.zeros(shape, np.float16), np.zeros(times), np.zeros(frames, np.int64)), {}, "none")


def test_header_says_what_was_written(tmp_path: Path) -> None:
    store, features = written(tmp_path)
    header = again(store).header(KEY)
    assert (header.num_frames, header.num_views, header.height, header.width, header.channels) == (6, 2, 3, 4, 5)
    assert header.sha256 == SHA256
    assert header.source_name == r"ä\xff.mp4"
    assert header.source_size == 123
    assert np.array_equal(header.time_s, features.time_s)
    # the id and the seconds spent belong to a run, not to the content
    for name in Receipt.__slots__:
        if name not in ("video", "seconds"):
            assert getattr(header.receipt, name) == getattr(RECEIPT, name), name


def test_a_length_that_is_not_known_stays_unknown(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.write(KEY, make_features(), Receipt("a.mp4", "ok"), SOURCE)
    assert store.header(KEY).receipt.duration_s is None


def test_the_file_is_plain_hdf5_as_documented(tmp_path: Path) -> None:
    store, _ = written(tmp_path)
    with h5py.File(store.path(KEY), "r") as file:
        assert file["maps"].chunks == (1, 1, 3, 4, 5)
        assert file["maps"].fletcher32
        assert file["crc32"].shape == (6, 2)
        attributes = {n: v.decode() if isinstance(v, bytes) else v for n, v in file.attrs.items()}
    assert (attributes["format"], attributes["version"], attributes["complete"]) == ("rratag-feature-cache", 1, 1)
    assert attributes["spec_digest"] == SPEC.digest
    assert json.loads(attributes["spec"]) == SPEC.to_json()
    assert attributes["source_mtime_ns"] == SOURCE["mtime_ns"]
    mask = os.umask(0)
    os.umask(mask)
    assert store.path(KEY).stat().st_mode & 0o777 == 0o666 & ~mask


# --- damage ---


def chunk_bytes(path: Path, name: str, number: int) -> tuple[int, int]:
    """Where chunk `number` of a dataset lies in the file: offset and size."""
    with h5py.File(path, "r") as file:
        info = file[name].id.get_chunk_info(number)
    return info.byte_offset, info.size


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x10
    path.write_bytes(content)


READS: dict[str, Callable[[SpecStore], Any]] = {
    "all frames": lambda store: store.read(KEY),
    "the frame": lambda store: store.read(KEY, [3]),
    "among others": lambda store: store.read(KEY, [0, 3, 1]),
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("place", ["first", "middle", "checksum"])
def test_one_wrong_bit_in_a_chunk_is_found_by_every_way_of_reading(
    tmp_path: Path, compression: str, read: Callable[[SpecStore], Any], place: str
) -> None:
    store, features = written(tmp_path, compression)
    offset, size = chunk_bytes(store.path(KEY), "maps", 3 * 2 + 1)  # frame 3, view 1
    flip(store.path(KEY), offset + {"first": 0, "middle": size // 2, "checksum": size - 1}[place])
    with pytest.raises(CacheError, match=r"damaged.*extract again") as caught:
        read(again(store))
    assert str(store.path(KEY)) in str(caught.value)
    assert "\n" not in str(caught.value)
    # what is whole can still be read
    assert np.array_equal(again(store).read(KEY, [2, 4]).maps, features.maps[[2, 4]], equal_nan=True)


@pytest.mark.parametrize("name", ["time_s", "frame_index", "crc32"])
def test_one_wrong_bit_beside_the_maps_is_found(tmp_path: Path, name: str) -> None:
    store, _ = written(tmp_path)
    flip(store.path(KEY), chunk_bytes(store.path(KEY), name, 0)[0])
    with pytest.raises(CacheError, match="damaged"):
        again(store).read(KEY)


def test_crc32_is_checked_even_where_fletcher32_fits(tmp_path: Path) -> None:
    store, _ = written(tmp_path, "none")
    with h5py.File(store.path(KEY), "r+") as file:
        maps = file["maps"][3, 1]
        maps[0, 0, 0] = 1 if maps[0, 0, 0] != 1 else 2
        file["maps"][3, 1] = maps  # with a new fletcher32
    with pytest.raises(CacheError, match="frame 3, view 1"):
        again(store).read(KEY)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_one_clear_error(tmp_path: Path, share: float) -> None:
    store, _ = written(tmp_path)
    content = store.path(KEY).read_bytes()
    store.path(KEY).write_bytes(content[: int(share * len(content))])
    for read in (again(store).read, again(store).header):
        with pytest.raises(CacheError, match="damaged"):
            read(KEY)


def test_a_missing_file_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="missing; run: rratag extract"):
        make_store(tmp_path).read(KEY)


@pytest.mark.parametrize("content", [b"", b"not hdf5 at all\n" * 100], ids=["empty", "text"])
def test_a_foreign_file_in_the_place_of_features_is_refused(tmp_path: Path, content: bytes) -> None:
    store, _ = written(tmp_path)
    store.path(KEY).write_bytes(content)
    with pytest.raises(CacheError, match="damaged"):
        again(store).read(KEY)


def test_hdf5_of_something_else_is_refused(tmp_path: Path) -> None:
    store, _ = written(tmp_path)
    with h5py.File(store.path(KEY), "w") as file:
        file["maps"] = np.zeros((2, 1, 2, 2, 5), np.float16)
    with pytest.raises(CacheError, match="not a complete feature file"):
        again(store).read(KEY)


def test_a_file_without_its_last_mark_is_refused(tmp_path: Path) -> None:
    store, _ = written(tmp_path)
    with h5py.File(store.path(KEY), "r+") as file:
        file.attrs["complete"] = 0
    with pytest.raises(CacheError, match="not a complete feature file"):
        again(store).read(KEY)


def test_features_of_another_spec_in_the_folder_are_refused(tmp_path: Path) -> None:
    store, _ = written(tmp_path)
    other = FeatureStore(tmp_path / "cache").create_spec(Spec(SPEC.meaning, {"precision": "bf16"}))
    other.path(KEY).parent.mkdir()
    shutil.copy(store.path(KEY), other.path(KEY))
    with pytest.raises(CacheError, match="another spec"):
        other.read(KEY)


# --- the cache folder ---


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"format": "rratag-feature-cache", "version": 2}', "version 2, this program reads 1; upgrade"),
        ('{"format": "something"}', "not a feature cache"),
        ("[1]", "not a feature cache"),
        ("{", "cannot be read"),
        ("\udcff", "cannot be read"),
    ],
)
def test_a_cache_of_another_version_or_kind_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "rratag-cache.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CacheError, match=words):
        FeatureStore(tmp_path)


def test_a_file_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(CacheError, match="not a folder"):
        FeatureStore(tmp_path / "cache")


def test_reading_makes_no_folder(tmp_path: Path) -> None:
    assert FeatureStore(tmp_path / "none").specs() == []
    assert not (tmp_path / "none").exists()


def test_specs_are_found_by_name_and_by_meaning(tmp_path: Path) -> None:
    cache = FeatureStore(tmp_path)
    other_compute = Spec(SPEC.meaning, {"precision": "bf16"})
    other_meaning = Spec({**SPEC.meaning, "channels": 6}, SPEC.compute)
    for spec in (SPEC, other_compute, other_meaning):
        cache.create_spec(spec)
    assert {store.spec.digest for store in cache.with_meaning(SPEC.meaning_digest)} == {
        SPEC.digest,
        other_compute.digest,
    }
    assert len(cache.specs()) == 3
    assert cache.open_spec(other_meaning.short).spec == other_meaning
    with pytest.raises(CacheError, match="no features of spec"):
        cache.open_spec("0" * 16)


def test_a_spec_that_does_not_fit_its_folder_is_refused(tmp_path: Path) -> None:
    cache = FeatureStore(tmp_path)
    path = cache.create_spec(SPEC).folder / "spec.json"
    path.write_text(path.read_text().replace('"toy"', '"boy"'))
    with pytest.raises(CacheError, match="does not fit its folder's name"):
        cache.open_spec(SPEC.short)
    path.write_text("{")
    with pytest.raises(CacheError, match=r"spec\.json"):
        cache.open_spec(SPEC.short)
    path.write_text(json.dumps({**SPEC.to_json(), "version": 9}))
    with pytest.raises(CacheError, match="version 9"):
        cache.open_spec(SPEC.short)


# --- commit ---


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_full_disk_is_seen_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path)
    before = everything(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda path: usage._replace(free=60 * 2**20))
    with pytest.raises(StoppedError, match="60 MiB free"):
        store.write(KEY, make_features(), RECEIPT, SOURCE)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("step", ["mkstemp", "fdopen", "fsync", "chmod", "replace"])
def test_a_failure_at_any_step_of_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store = make_store(tmp_path)
    before = everything(tmp_path)

    def fail(*arguments: object, **options: object) -> None:
        if step == "fdopen":
            os.close(arguments[0])  # type: ignore[arg-type]
        raise OSError(errno.ENOSPC, "No space left on device")

    module = files.tempfile if step == "mkstemp" else files.os
    with monkeypatch.context() as patch:
        patch.setattr(module, step, fail)
        with pytest.raises(StoppedError, match="No space left on device"):
            store.write(KEY, make_features(), RECEIPT, SOURCE)
    assert everything(tmp_path) == before
    assert not store.has(KEY)
    store.write(KEY, make_features(), RECEIPT, SOURCE)
    assert store.has(KEY)


def test_a_failed_replacement_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    files.write_atomically(path, b"old")

    def fail(*arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", fail)
        with pytest.raises(OSError, match="Input/output"):
            files.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert everything(tmp_path) == {"file"}
    files.write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_an_interrupt_while_writing_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomically(tmp_path / "file", b"content")
    assert everything(tmp_path) == set()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.folder.chmod(0o500)
    try:
        with pytest.raises(StoppedError, match="Permission denied"):
            store.write(KEY, make_features(), RECEIPT, SOURCE)
    finally:
        store.folder.chmod(0o700)


def test_writing_again_replaces_and_equal_content_gives_equal_maps(tmp_path: Path) -> None:
    store, _ = written(tmp_path)
    other = make_features(seed=1)
    store.write(KEY, other, RECEIPT, SOURCE)
    assert_same(again(store).read(KEY), other)
    assert len(everything(store.folder)) == 2  # spec.json and the features


def test_many_open_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "OPEN_FILES", 2)
    store = make_store(tmp_path)
    wanted = {}
    for number in range(5):
        key = f"{number:032x}"
        wanted[key] = make_features(2, seed=number)
        store.write(key, wanted[key], RECEIPT, {**SOURCE, "sha256": 2 * key})
    for _ in range(2):
        for key, features in wanted.items():
            assert_same(store.read(key), features)
            assert len(store._open) <= 2
    store.close()
    assert not store._open


def test_read_features_finds_a_video_by_its_content(tmp_path: Path) -> None:
    video = tmp_path / "renamed.mp4"
    video.write_bytes(b"a video")
    cache = tmp_path / "cache"
    with pytest.raises(CacheError, match="no features"):
        read_features(video, cache)
    _, features = written(tmp_path)
    assert_same(read_features(video, cache), features)
    newer, other = FeatureStore(cache).create_spec(Spec({"backbone": "b"}, {})), make_features(seed=3)
    newer.write(KEY, other, RECEIPT, SOURCE)
    os.utime(make_store(tmp_path).path(KEY), ns=(0, 0))
    assert_same(read_features(str(video), str(cache)), other)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO, errno.ENOMEM, errno.ESTALE])
def test_trouble_of_the_system_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    store, features = written(tmp_path)

    def refuse(*arguments: Any, **named: Any) -> None:
        raise OSError(code, f"Unable to open file ({os.strerror(code)})")

    with monkeypatch.context() as patch:
        patch.setattr(h5py, "File", refuse)
        with pytest.raises(CacheError, match="cannot be read") as caught:
            again(store).is_whole(KEY)
        assert not isinstance(caught.value, DamagedError)
    assert_same(again(store).read(KEY), features)
