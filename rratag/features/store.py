"""Cached feature maps: one immutable HDF5 file per video content. The only file that opens HDF5; imports no torch.

Layout and commit protocol: docs/cache-format.md. A file appears under its name only when it is whole: its image is
built in memory, written to a temporary name in the same folder, synced and renamed.
"""

from __future__ import annotations

import json
import logging
import shutil
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rratag import config, files
from rratag.errors import CacheError, StoppedError
from rratag.features.spec import Spec
from rratag.records import Receipt

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

FORMAT = "rratag-feature-cache"
VERSION = 1
MARKER = "rratag-cache.json"
KEY_DIGITS = 32
COMPRESSIONS = ("zstd", "gzip", "none")
OPEN_FILES = 128
_SPARE_BYTES = 64 * 2**20  # left free on the disk, so that listings can still be written


@dataclass(frozen=True)
class Features:
    """Feature maps of one video: `maps` float16 (T, V, h, w, C), `time_s` float64 (T,), `frame_index` int64 (T,)."""

    maps: NDArray[np.float16]
    time_s: NDArray[np.float64]
    frame_index: NDArray[np.int64]


@dataclass(frozen=True)
class Header:
    """What a cached file says of itself. Sizes in cells (`height`, `width`) or pixels of the upright picture."""

    num_frames: int
    num_views: int
    height: int
    width: int
    channels: int
    sha256: str
    source_name: str
    source_size: int
    receipt: Receipt
    time_s: NDArray[np.float64]


class FeatureStore:
    """A cache folder: features by spec and key.

    Parameters
    ----------
    cache : the folder; it need not exist for reading nothing

    Raises
    ------
    CacheError
        If the folder holds something else, or a format version this program does not read.
    """

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        marker = cache / MARKER
        if not marker.exists():
            if cache.exists() and not cache.is_dir():
                raise CacheError(f"{cache}: not a folder; --cache takes a folder")
            return
        try:
            found = json.loads(marker.read_text())
        except (OSError, ValueError) as error:
            raise CacheError(f"{marker}: cannot be read ({error}); choose another --cache") from error
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise CacheError(f"{marker}: not a feature cache of rratag; choose another --cache")
        if found.get("version") != VERSION:
            raise CacheError(
                f"{cache}: cache format version {found.get('version')!r}, this program reads {VERSION};"
                " upgrade rratag or choose another --cache"
            )

    def create(self) -> None:
        """Make the folder and its marker, if they are not there.

        Raises
        ------
        CacheError
            If the folder cannot be written.
        """
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            if not (self.cache / MARKER).exists():
                content = json.dumps({"format": FORMAT, "version": VERSION}) + "\n"
                files.write_atomically(self.cache / MARKER, content.encode())
        except OSError as error:
            raise CacheError(f"{self.cache}: cannot be written ({error.strerror}); choose another --cache") from error

    def create_spec(self, spec: Spec) -> SpecStore:
        """Store of `spec`, making its folder."""
        self.create()
        folder = self.cache / spec.short
        path = folder / "spec.json"
        try:
            if not path.exists():
                folder.mkdir(exist_ok=True)
                files.write_atomically(path, (json.dumps(spec.to_json(), indent=1, sort_keys=True) + "\n").encode())
        except OSError as error:
            raise CacheError(f"{folder}: cannot be written ({error.strerror}); choose another --cache") from error
        return SpecStore(folder, spec)

    def open_spec(self, short: str) -> SpecStore:
        """Store of the spec whose folder is called `short`.

        Raises
        ------
        CacheError
            If the cache has no such spec, or its ``spec.json`` does not fit its name.
        """
        path = self.cache / short / "spec.json"
        try:
            spec = Spec.from_json(json.loads(path.read_text()))
        except FileNotFoundError as error:
            raise CacheError(f"{self.cache}: no features of spec {short}; run: rratag extract FOLDER") from error
        except (OSError, ValueError) as error:
            raise CacheError(f"{path}: {error}") from error
        if spec.short != short:
            raise CacheError(f"{path}: does not fit its folder's name; move the folder away and extract again")
        return SpecStore(self.cache / short, spec)

    def specs(self) -> list[SpecStore]:
        """All specs of the cache, by name; one that is damaged is left out with a warning."""
        found = []
        for path in sorted(self.cache.glob("*/spec.json")):
            try:
                found.append(self.open_spec(path.parent.name))
            except CacheError as error:
                logger.warning("%s", error)
        return found

    def with_meaning(self, meaning_digest: str) -> list[SpecStore]:
        """Specs whose features mean the same, however they were computed."""
        return [store for store in self.specs() if store.spec.meaning_digest == meaning_digest]


class SpecStore:
    """Features of one spec: immutable files ``<key[:2]>/<key>.h5``."""

    def __init__(self, folder: Path, spec: Spec) -> None:
        self.folder = folder
        self.spec = spec
        self._open: OrderedDict[str, h5py.File] = OrderedDict()

    def path(self, key: str) -> Path:
        """Where the features of `key` lie or would lie."""
        return self.folder / key[:2] / f"{key}.h5"

    def has(self, key: str) -> bool:
        """Whether the features of `key` are there. A stat; the file is not opened."""
        return self.path(key).exists()

    def keys(self) -> list[str]:
        """Keys of all features of this spec, sorted."""
        return sorted(path.stem for path in self.folder.glob("??/*.h5"))

    def write(
        self, key: str, features: Features, receipt: Receipt, source: dict[str, Any], *, compression: str = "zstd"
    ) -> int:
        """Commit one video's features.

        Parameters
        ----------
        key : first 32 hex digits of the sha256 of the video file's bytes
        source : ``name``, ``size`` (bytes), ``mtime_ns``, ``sha256`` of the video file

        Returns
        -------
        Size of the file in bytes.

        Raises
        ------
        StoppedError
            If the disk is full or the folder cannot be written.
        """
        image = file_image(features, self._attributes(features, receipt, source), compression)
        path = self.path(key)
        try:
            path.parent.mkdir(exist_ok=True)
            free = shutil.disk_usage(path.parent).free
            if free < len(image) + _SPARE_BYTES:
                raise StoppedError(
                    f"{self.folder}: {free // 2**20} MiB free on the disk; free some and run again, nothing is lost"
                )
            files.write_atomically(path, image)
        except OSError as error:
            raise StoppedError(
                f"{self.folder}: {error.strerror}; finished videos are kept, run again to go on"
            ) from error
        return len(image)

    def _attributes(self, features: Features, receipt: Receipt, source: dict[str, Any]) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "spec_digest": self.spec.digest,
            "spec": json.dumps(self.spec.to_json(), sort_keys=True),
            **{f"source_{name}": source[name] for name in ("size", "mtime_ns", "sha256")},
            # HDF5 strings are UTF-8; bytes of a name that are not survive as \xNN
            "source_name": str(source["name"]).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"),
            "status": receipt.status,
            "reason": receipt.reason,
            "message": receipt.message,
            "decoder": receipt.decoder,
            "fallback_from": receipt.fallback_from,
            "frames_wanted": receipt.frames_wanted,
            "frames_decoded": receipt.frames_decoded,
            "frames_distinct": receipt.frames_distinct,
            "frames_damaged": receipt.frames_damaged,
            "duration_s": np.nan if receipt.duration_s is None else receipt.duration_s,
            "picture_width": receipt.width,
            "picture_height": receipt.height,
            "rotation": receipt.rotation,
            "libraries": json.dumps({name: version(name) for name in ("h5py", "numpy", "torch", "av")}),
        }

    def header(self, key: str) -> Header:
        """What the file of `key` says of itself.

        Raises
        ------
        CacheError
            If the file is missing or damaged.
        """
        with self._reading(key):
            file = self._file(key)
            attributes = file.attrs
            num_frames, num_views, height, width, channels = file["maps"].shape
            duration = float(attributes["duration_s"])
            receipt = Receipt(
                video=str(attributes["source_name"]),
                status=str(attributes["status"]),
                reason=str(attributes["reason"]),
                message=str(attributes["message"]),
                decoder=str(attributes["decoder"]),
                fallback_from=str(attributes["fallback_from"]),
                frames_wanted=int(attributes["frames_wanted"]),
                frames_decoded=int(attributes["frames_decoded"]),
                frames_distinct=int(attributes["frames_distinct"]),
                frames_damaged=int(attributes["frames_damaged"]),
                duration_s=None if np.isnan(duration) else duration,
                width=int(attributes["picture_width"]),
                height=int(attributes["picture_height"]),
                rotation=int(attributes["rotation"]),
            )
            return Header(
                num_frames,
                num_views,
                height,
                width,
                channels,
                str(attributes["source_sha256"]),
                str(attributes["source_name"]),
                int(attributes["source_size"]),
                receipt,
                file["time_s"][()],
            )

    def read(self, key: str, frames: Sequence[int] | None = None) -> Features:
        """Features of the cached frames named by their position (all by default).

        Each chunk's fletcher32 and crc32 are checked.

        Raises
        ------
        CacheError
            If the file is missing or damaged.
        IndexError
            If a position is outside [0, T).
        """
        with self._reading(key):
            file = self._file(key)
            maps, crc32 = file["maps"], file["crc32"][()]
            chosen = range(maps.shape[0]) if frames is None else [int(frame) for frame in frames]
            if any(not 0 <= frame < maps.shape[0] for frame in chosen):
                raise IndexError(f"frames {list(chosen)} of a video with {maps.shape[0]} cached frames")
            out = np.empty((len(chosen), *maps.shape[1:]), np.float16)
            for row, frame in enumerate(chosen):
                # one chunk at a time by integer index: h5py's fancy indexing is some 75 times slower
                maps.read_direct(out, np.s_[frame], np.s_[row])
                for view in range(maps.shape[1]):
                    if zlib.crc32(out[row, view]) != crc32[frame, view]:
                        raise ValueError(f"checksum of frame {frame}, view {view} is wrong")
            positions = np.asarray(chosen, np.int64)
            return Features(out, file["time_s"][()][positions], file["frame_index"][()][positions])

    def close(self) -> None:
        """Close the kept handles."""
        while self._open:
            self._open.popitem()[1].close()

    def _reading(self, key: str) -> _Reading:
        return _Reading(self.path(key))

    def _file(self, key: str) -> h5py.File:
        import h5py
        import hdf5plugin  # noqa: F401 - registers the zstd filter

        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key]
        file = h5py.File(self.path(key), "r", locking=False)
        if file.attrs.get("complete") != 1 or file.attrs.get("format") != FORMAT:
            file.close()
            raise ValueError("not a complete feature file")
        if file.attrs["spec_digest"] != self.spec.digest:
            file.close()
            raise ValueError("holds features of another spec")
        self._open[key] = file
        if len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return file

    @cached_property
    def failures(self) -> Path:
        """Folder of the failures known by content."""
        return self.folder / "failed"


class JoinedStores:
    """Features of equal meaning, however computed: each is read where it lies.

    Parameters
    ----------
    stores : at least one, the preferred one first
    """

    def __init__(self, stores: Sequence[SpecStore]) -> None:
        self.stores = list(stores)

    def holder(self, key: str) -> SpecStore:
        """The first store that has `key`; the first of all if none has."""
        return next((store for store in self.stores if store.has(key)), self.stores[0])

    def header(self, key: str) -> Header:
        """See :meth:`SpecStore.header`."""
        return self.holder(key).header(key)

    def read(self, key: str, frames: Sequence[int] | None = None) -> Features:
        """See :meth:`SpecStore.read`."""
        return self.holder(key).read(key, frames)


class _Reading:
    """Turns whatever HDF5 raises on a missing or damaged file into one line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise CacheError(f"{self.path}: missing; run: rratag extract FOLDER") from error
        if isinstance(error, (OSError, KeyError, ValueError, RuntimeError)):
            raise CacheError(f"{self.path}: damaged ({error}); delete it and extract again") from error


def file_image(features: Features, attributes: dict[str, Any], compression: str) -> bytes:
    """Bytes of the HDF5 file, built in memory so that a half-written file never has its name."""
    import io

    import h5py
    import hdf5plugin

    maps = np.ascontiguousarray(features.maps, np.float16)
    if maps.ndim != 5 or not len(maps) == len(features.time_s) == len(features.frame_index):
        raise ValueError(f"maps {maps.shape}, times {features.time_s.shape}, frames {features.frame_index.shape}")
    # zstd level 1 without byte shuffle: maps after a ReLU are mostly zeros, whose runs shuffle breaks up
    filters: dict[str, Any] = {
        "zstd": dict(hdf5plugin.Zstd(clevel=1)),
        "gzip": {"compression": "gzip", "compression_opts": 1},
        "none": {},
    }[compression]
    crc32 = np.array([[zlib.crc32(view) for view in frame] for frame in maps], np.uint32)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("earliest", "v110")) as file:
        file.create_dataset("maps", data=maps, chunks=(1, 1, *maps.shape[2:]), fletcher32=True, **filters)
        file.create_dataset("time_s", data=np.asarray(features.time_s, np.float64), fletcher32=True, chunks=True)
        file.create_dataset(
            "frame_index", data=np.asarray(features.frame_index, np.int64), fletcher32=True, chunks=True
        )
        file.create_dataset("crc32", data=crc32, fletcher32=True, chunks=True)
        for name, value in attributes.items():
            file.attrs[name] = value
        file.attrs["complete"] = 1
    return buffer.getvalue()


def read_features(video: str | Path, cache: str | Path = config.CACHE_DIR) -> Features:
    """Cached features of one video file, of the spec extracted last that holds it.

    Parameters
    ----------
    video : path of the video file; its content names the features
    cache : the cache folder

    Raises
    ------
    CacheError
        If the cache holds no features of this file.
    """
    import hashlib

    with open(video, "rb") as handle:
        digest = hashlib.file_digest(handle, "sha256") if hasattr(hashlib, "file_digest") else None
        if digest is None:
            digest = hashlib.sha256(handle.read())
    key = digest.hexdigest()[:KEY_DIGITS]
    holders = [store for store in FeatureStore(Path(cache)).specs() if store.has(key)]
    if not holders:
        raise CacheError(f"{video}: no features in {cache}; run: rratag extract {video}")
    return max(holders, key=lambda store: store.path(key).stat().st_mtime_ns).read(key)
