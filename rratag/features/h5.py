"""One features file: its bytes, and what is trusted of them. The only file that opens HDF5; imports no torch.

A file may have been damaged on its way or made by a stranger. So nothing is read before the layout has been found to be
exactly ours, and every chunk is checked as it is read.
"""

from __future__ import annotations

import io
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rratag import untrusted
from rratag.records import Receipt

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

FORMAT = "rratag-feature-cache"
VERSION = 1
COMPRESSIONS = ("zstd", "gzip", "none")

_DEFLATE, _FLETCHER32, _ZSTD = 1, 3, 32015
_FILTERS = frozenset({_DEFLATE, _FLETCHER32, _ZSTD})
"""HDF5 loads unknown filters from shared libraries that it finds on the machine: only these are let near the data."""

_LAYOUT = {"maps": ("<f2", 5), "time_s": ("<f8", 1), "frame_index": ("<i8", 1), "crc32": ("<u4", 2)}
MAX_CHUNK_BYTES = 2**30
"""Of one map (h, w, C): far more than any backbone gives, and little enough to try."""
MAX_ATTRIBUTE_BYTES = 2**20


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


class NewerFormatError(Exception):
    """The file was written by a later version of the format: not damaged, but not readable here."""


def file_image(features: Features, attributes: Mapping[str, Any], compression: str) -> bytes:
    """Bytes of the HDF5 file, built in memory so that a half-written file never has its name."""
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
    # the layout of HDF5 1.10 has checksums over its own structures too, the earlier ones have none
    with h5py.File(buffer, "w", libver=("v110", "v110")) as file:
        file.create_dataset("maps", data=maps, chunks=(1, 1, *maps.shape[2:]), fletcher32=True, **filters)
        file.create_dataset("time_s", data=np.asarray(features.time_s, np.float64), fletcher32=True, chunks=True)
        file.create_dataset(
            "frame_index", data=np.asarray(features.frame_index, np.int64), fletcher32=True, chunks=True
        )
        file.create_dataset("crc32", data=crc32, fletcher32=True, chunks=True)
        for name, value in attributes.items():
            if isinstance(value, str):
                _write_text(file.attrs, name, value)
            else:
                file.attrs[name] = value
        file.attrs["complete"] = 1
    return buffer.getvalue()


def _write_text(attributes: h5py.AttributeManager, name: str, text: str) -> None:
    """A string of fixed length: the others lie outside HDF5's checksums, and one wrong bit there can hang it."""
    import h5py

    encoded = text.encode()
    attributes.create(name, np.bytes_(encoded), dtype=h5py.string_dtype("utf-8", max(1, len(encoded))))


class FeatureFile:
    """An open features file.

    Parameters
    ----------
    path : the file
    spec_digest : of the spec that it must belong to
    key : first digits of the sha256 of the video file that it must be of

    Raises
    ------
    NewerFormatError
        If a later version of the format wrote it.
    OSError, KeyError, ValueError, RuntimeError
        If it is missing, damaged, or anything but a features file of this spec. The methods raise the same.
    """

    def __init__(self, path: Path, spec_digest: str, key: str) -> None:
        import h5py
        import hdf5plugin  # noqa: F401 - registers the zstd filter

        untrusted.check_regular(path)
        self._file = h5py.File(path, "r", locking=False)
        try:
            self._attributes = self._file.attrs  # once: h5py opens the root group for each
            _check_identity(self._attributes, spec_digest, key)
            self._datasets = {name: _own_dataset(self._file, name) for name in _LAYOUT}
            _check_layout(self._datasets)
        except BaseException:
            self._file.close()
            raise
        self._maps = self._datasets["maps"]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def header(self) -> Header:
        """What the file says of itself."""
        attributes = {name: _attribute(self._attributes, name) for name in self._attributes}
        num_frames, num_views, height, width, channels = self._maps.shape
        return Header(
            num_frames,
            num_views,
            height,
            width,
            channels,
            str(attributes["source_sha256"]),
            str(attributes["source_name"]),
            int(attributes["source_size"]),
            _receipt(attributes),
            self._times(),
        )

    def read(self, frames: Sequence[int] | None = None) -> Features:
        """Features of the cached frames named by their position (all by default), each chunk checked.

        Raises
        ------
        IndexError
            If a position is outside [0, T).
        """
        maps, crc32 = self._maps, self._datasets["crc32"][()]
        chosen = range(maps.shape[0]) if frames is None else [int(frame) for frame in frames]
        if any(not 0 <= frame < maps.shape[0] for frame in chosen):
            raise IndexError(f"frames {list(chosen)} of a video with {maps.shape[0]} cached frames")
        _check_room(len(chosen) * 2 * math.prod(maps.shape[1:]))
        out = np.empty((len(chosen), *maps.shape[1:]), np.float16)
        for row, frame in enumerate(chosen):
            # one chunk at a time by integer index: h5py's fancy indexing is some 75 times slower
            maps.read_direct(out, np.s_[frame], np.s_[row])
            for view in range(maps.shape[1]):
                if zlib.crc32(out[row, view]) != crc32[frame, view]:
                    raise ValueError(f"checksum of frame {frame}, view {view} is wrong")
        positions = np.asarray(chosen, np.int64)
        return Features(out, self._times()[positions], self._datasets["frame_index"][()][positions])

    def _times(self) -> NDArray[np.float64]:
        times: NDArray[np.float64] = self._datasets["time_s"][()]
        if not np.isfinite(times).all():
            raise ValueError("times are not finite")
        return times


def _check_identity(attributes: h5py.AttributeManager, spec_digest: str, key: str) -> None:
    if _attribute(attributes, "format") != FORMAT or _attribute(attributes, "complete") != 1:
        raise ValueError("not a complete feature file")
    version = _attribute(attributes, "version")
    if version != VERSION:
        raise NewerFormatError(f"format version {version!r}")
    if _attribute(attributes, "spec_digest") != spec_digest:
        raise ValueError("holds features of another spec")
    if not str(_attribute(attributes, "source_sha256")).startswith(key):
        raise ValueError("holds features of another video")


def _attribute(attributes: h5py.AttributeManager, name: str) -> Any:
    """A single number or string; None if there is none of this name."""
    try:
        kept = attributes.get_id(name)
    except KeyError:
        return None
    if kept.shape != () or kept.dtype.kind not in "Sif" or kept.dtype.itemsize > MAX_ATTRIBUTE_BYTES:
        raise ValueError(f"attribute {name} is not a number or a string of fixed length")
    held = np.empty((), kept.dtype)
    kept.read(held)
    value = held.item()
    return value.decode() if isinstance(value, bytes) else value


def _own_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """The dataset of this name, if its data lie in this very file, in chunks that only our filters touched."""
    import h5py

    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"/{name} is {'missing' if link is None else 'a link to something else'}")
    dataset = file[name]
    settings = dataset.id.get_create_plist() if isinstance(dataset, h5py.Dataset) else None
    # chunked storage is neither virtual nor in external files
    if settings is None or settings.get_layout() != h5py.h5d.CHUNKED:
        raise ValueError(f"/{name} does not hold its data in chunks of its own")
    filters = {settings.get_filter(number)[0] for number in range(settings.get_nfilters())}
    if not filters <= _FILTERS or _FLETCHER32 not in filters:
        raise ValueError(f"/{name} went through other filters than ours: {sorted(filters)}")
    return dataset


def _check_layout(datasets: Mapping[str, h5py.Dataset]) -> None:
    """Refuse other types and shapes than ours, and chunks that are not there: they would read as zeros."""
    for name, (kind, ndim) in _LAYOUT.items():
        dataset = datasets[name]
        shape = dataset.shape
        if len(shape) != ndim or 0 in shape or dataset.dtype != np.dtype(kind):
            raise ValueError(f"/{name} is {dataset.dtype} of shape {shape}")
        whole = math.prod(-(-side // step) for side, step in zip(shape, dataset.chunks, strict=True))
        if dataset.id.get_num_chunks() != whole:
            raise ValueError(f"/{name} has gaps")
    shape, chunks = datasets["maps"].shape, datasets["maps"].chunks
    if chunks != (1, 1, *shape[2:]) or 2 * math.prod(shape[2:]) > MAX_CHUNK_BYTES:
        raise ValueError(f"/maps of shape {shape} has chunks of {chunks}")
    if (
        not datasets["time_s"].shape == datasets["frame_index"].shape == shape[:1]
        or datasets["crc32"].shape != shape[:2]
    ):
        raise ValueError("the datasets do not fit each other")


def _check_room(num_bytes: int) -> None:
    """Linux gives out more memory than there is, and kills whoever uses it: refuse before."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return
    if num_bytes > physical:
        raise ValueError(f"its maps take {num_bytes >> 20} MiB, this machine has {physical >> 20} MiB of memory")


def _receipt(attributes: Mapping[str, Any]) -> Receipt:
    duration = float(attributes["duration_s"])
    return Receipt(
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
