"""Cached feature maps: one immutable HDF5 file per video content. Imports no torch.

Layout and commit protocol: docs/cache-format.md. A file appears under its name only when it is whole: its image is
built in memory, written to a temporary name in the same folder, synced and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from rratag import config, files, untrusted
from rratag.errors import CacheError, DamagedError, StoppedError
from rratag.features.h5 import (
    COMPRESSIONS,
    FORMAT,
    VERSION,
    FeatureFile,
    Features,
    Header,
    NewerFormatError,
    file_image,
)
from rratag.features.spec import Spec
from rratag.records import Receipt
from rratag.untrusted import shown

__all__ = [
    "COMPRESSIONS",
    "FeatureStore",
    "Features",
    "Header",
    "JoinedStores",
    "SpecStore",
    "file_image",
    "read_features",
]

logger = logging.getLogger(__name__)

MARKER = "rratag-cache.json"
KEY_DIGITS = 32
OPEN_FILES = 128
MAX_JSON = 2**20
_SPARE_BYTES = 64 * 2**20  # left free on the disk, so that listings can still be written


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
            found = untrusted.read_json(marker, MAX_JSON)
        except (OSError, ValueError) as error:
            raise CacheError(f"{marker}: cannot be read ({error}); choose another --cache") from error
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise CacheError(f"{marker}: not a feature cache of rratag; choose another --cache")
        if found.get("version") != VERSION:
            raise CacheError(
                f"{cache}: cache format version {shown(found.get('version'))}, this program reads {VERSION};"
                " upgrade rratag or choose another --cache"
            )

    @property
    def exists(self) -> bool:
        """Whether the folder is a cache."""
        return (self.cache / MARKER).exists()

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
            spec = Spec.from_json(untrusted.read_json(path, MAX_JSON))
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
        self._open: OrderedDict[str, FeatureFile] = OrderedDict()

    def path(self, key: str) -> Path:
        """Where the features of `key` lie or would lie."""
        return self.folder / key[:2] / f"{key}.h5"

    def has(self, key: str) -> bool:
        """Whether the features of `key` are there. A stat; the file is not opened."""
        return self.path(key).exists()

    def is_whole(self, key: str) -> bool:
        """Whether the features of `key` are there and say what they are; a damaged file is set aside.

        Safe to call from several threads.
        """
        if not self.has(key):
            return False
        try:
            with _Reading(self.path(key)), contextlib.closing(self._opened(key)) as file:
                file.header()
        except DamagedError as error:
            logger.warning("%s", error)
            self._move_aside(key)
            return False
        return True

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
            "libraries": _libraries(),
        }

    def header(self, key: str) -> Header:
        """What the file of `key` says of itself.

        Raises
        ------
        CacheError
            If the file is missing or damaged (:class:`rratag.errors.DamagedError`).
        """
        with _Reading(self.path(key)):
            return self._file(key).header()

    def read(self, key: str, frames: Sequence[int] | None = None) -> Features:
        """Features of the cached frames named by their position (all by default).

        Each chunk's fletcher32 and crc32 are checked.

        Raises
        ------
        CacheError
            If the file is missing or damaged (:class:`rratag.errors.DamagedError`).
        IndexError
            If a position is outside [0, T).
        """
        with _Reading(self.path(key)):
            return self._file(key).read(frames)

    def check(self, key: str) -> None:
        """Read everything in the file of `key`, as it is on the disk now, frame by frame.

        Raises
        ------
        CacheError
            If the file is missing or damaged (:class:`rratag.errors.DamagedError`).
        """
        with _Reading(self.path(key)), contextlib.closing(self._opened(key)) as file:
            for frame in range(file.header().num_frames):
                if not np.isfinite(file.read([frame]).maps).all():
                    raise ValueError(f"values of frame {frame} are not finite")

    def set_aside(self, key: str) -> Path:
        """Move a damaged file out of the way, where it can be looked at; where it is now.

        Raises
        ------
        StoppedError
            If the folder cannot be written.
        """
        if (kept := self._open.pop(key, None)) is not None:
            kept.close()
        return self._move_aside(key)

    def _move_aside(self, key: str) -> Path:
        aside = self.damaged / f"{key}.h5"
        try:
            self.damaged.mkdir(exist_ok=True)
            os.replace(self.path(key), aside)
            files.sync_folder(self.path(key).parent)
        except FileNotFoundError:
            pass  # another run was faster
        except OSError as error:
            raise StoppedError(f"{self.path(key)}: damaged, and cannot be moved away ({error.strerror})") from error
        return aside

    def close(self) -> None:
        """Close the kept handles."""
        while self._open:
            self._open.popitem()[1].close()

    def _file(self, key: str) -> FeatureFile:
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key]
        file = self._open[key] = self._opened(key)
        if len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return file

    def _opened(self, key: str) -> FeatureFile:
        return FeatureFile(self.path(key), self.spec.digest, key)

    @property
    def damaged(self) -> Path:
        """Folder of the files that were set aside."""
        return self.folder / "damaged"

    @cached_property
    def failures(self) -> Path:
        """Folder of the failures known by content."""
        return self.folder / "failed"


class JoinedStores:
    """Features of equal meaning, however computed: each is read where it lies.

    Parameters
    ----------
    stores : at least one, the preferred one first; a list may change meanwhile
    """

    def __init__(self, stores: Sequence[SpecStore]) -> None:
        self.stores = stores

    def has(self, key: str) -> bool:
        """Whether any of the stores has the features of `key`."""
        return any(store.has(key) for store in self.stores)

    def holder(self, key: str) -> SpecStore:
        """The first store that has `key`; the first of all if none has."""
        return next((store for store in self.stores if store.has(key)), self.stores[0])

    def header(self, key: str) -> Header:
        """See :meth:`SpecStore.header`."""
        return self.holder(key).header(key)

    def read(self, key: str, frames: Sequence[int] | None = None) -> Features:
        """See :meth:`SpecStore.read`."""
        return self.holder(key).read(key, frames)


@lru_cache(maxsize=1)
def _libraries() -> str:
    return json.dumps({name: version(name) for name in ("h5py", "numpy", "torch", "av")})


class _Reading:
    """Turns whatever HDF5 raises on a missing or damaged file into one line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise DamagedError(f"{self.path}: missing; run: rratag extract FOLDER") from error
        if isinstance(error, BlockingIOError):
            raise CacheError(
                f"{self.path}: another program holds a lock on it; set HDF5_USE_FILE_LOCKING=FALSE"
            ) from error
        foreign = isinstance(error, OSError) and error.errno in (errno.EISDIR, errno.EINVAL)  # a folder, a pipe
        if isinstance(error, OSError) and error.errno is not None and not foreign:  # the system's, not HDF5's own
            raise CacheError(f"{self.path}: cannot be read ({os.strerror(error.errno)})") from error
        if isinstance(error, NewerFormatError):
            raise CacheError(f"{self.path}: {error}, this program reads {VERSION}; upgrade rratag") from error
        if isinstance(error, (OSError, KeyError, TypeError, ValueError, RuntimeError)):
            reason = " ".join(str(error).split())  # HDF5 explains itself on many lines
            raise DamagedError(
                f"{self.path}: damaged ({reason}); run rratag cache verify, then extract again"
            ) from error


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
    stores = FeatureStore(Path(cache)).specs()
    holders = [store for store in stores if "view" not in store.spec.meaning and store.has(key)]
    if not holders:
        raise CacheError(f"{video}: no features in {cache}; run: rratag extract {video}")
    return max(holders, key=lambda store: store.path(key).stat().st_mtime_ns).read(key)
