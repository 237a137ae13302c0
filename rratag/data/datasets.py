"""Batches of cached features. In: a store and labelled videos. Out: tensors for the head.

Random draws depend on what the caller seeds them with alone, never on the order of batches: see :func:`draw_generator`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rratag.features.store import Features, Header
from rratag.records import Instance
from rratag.video.plan import frames_inside, random_frames


class Source(Protocol):
    """What a dataset needs of a store: :class:`rratag.features.store.SpecStore` is one."""

    def header(self, key: str) -> Header:
        """What the features of `key` say of themselves."""

    def read(self, key: str, frames: Sequence[int] | None = None) -> Features:
        """Features of the cached frames at these positions."""


@dataclass(frozen=True)
class Batch:
    """Videos side by side.

    Attributes
    ----------
    features : (B, N, h, w, C), float16 as cached, float32 from video frames; zero where a video is shorter or its map
        smaller than the largest
    mask : bool (B, N, h, w), False at these places; None if there are none
    labels : int64 (B,)
    """

    features: Tensor
    mask: Tensor | None
    labels: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        mask = None if self.mask is None else self.mask.to(device, non_blocking=True)
        return Batch(self.features.to(device, non_blocking=True), mask, self.labels.to(device, non_blocking=True))


def physical_memory() -> int:
    """Bytes that the machine has; 4 GiB where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 2**32


def memory_budget() -> int:
    """Bytes that the maps of one data set may take in memory: 2 GiB, but at most an eighth of what the machine has."""
    return min(2**31, physical_memory() // 8)


def draw_generator(seed: int, epoch: int, video: str) -> np.random.Generator:
    """Generator of the draws for one video in one epoch: equal arguments, equal draws, whatever came before.

    Parameters
    ----------
    seed, epoch : at least 0
    video : the video's id
    """
    name = hashlib.sha256(video.encode("utf-8", "surrogateescape")).digest()[:8]
    return np.random.default_rng([seed, epoch, int.from_bytes(name, "little")])


class CachedDataset:
    """Labelled videos whose features are in a store.

    Parameters
    ----------
    store : where the features are
    instances : labelled videos; an instance with bounds uses the cached frames inside them, or the nearest one
    class_names : all classes, in the order of the labels
    views : stores of training views of the same videos, by name, which `train_batch` alone draws from

    Attributes
    ----------
    labels : int64 (len,), positions in `class_names`

    Raises
    ------
    ValueError
        If an instance has no label, or one that is not in `class_names`.
    """

    def __init__(
        self,
        store: Source,
        instances: Sequence[Instance],
        class_names: Sequence[str],
        views: Mapping[str, Source] | None = None,
    ) -> None:
        self.store = store
        self.views = dict(views or {})
        self._sources = [store, *self.views.values()]
        self.instances = list(instances)
        self.class_names = list(class_names)
        position = {name: number for number, name in enumerate(self.class_names)}
        strangers = [one.video for one in self.instances if one.label not in position]
        if strangers:
            raise ValueError(f"no class for the label of {strangers[0]!r} ({len(strangers)} such videos)")
        self.labels = np.array([position[one.label] for one in self.instances if one.label is not None], np.int64)
        self._frames: dict[tuple[int, int], NDArray[np.int64]] = {}
        self._shapes: dict[int, tuple[int, int, int]] = {}
        self._kept: dict[tuple[int, str], NDArray[np.float16]] = {}

    def __len__(self) -> int:
        return len(self.instances)

    @property
    def num_views(self) -> int:
        """Views cached of each frame, of which a batch holds one; 1 if the dataset is empty."""
        return self.store.header(self.instances[0].key).num_views if self.instances else 1

    def map_shape(self, index: int) -> tuple[int, int, int]:
        """Frames, height and width of a video's maps."""
        if index not in self._shapes:
            header = self.store.header(self.instances[index].key)
            self._shapes[index] = (len(self.frames(index)), header.height, header.width)
        return self._shapes[index]

    def frames(self, index: int, source: int = 0) -> NDArray[np.int64]:
        """Positions, among the cached frames, of those that belong to the instance; at least one, rising.

        Of the base, or of training view number `source`, counted from 1.
        """
        if (index, source) not in self._frames:
            instance = self.instances[index]
            self._frames[index, source] = frames_inside(
                self._sources[source].header(instance.key).time_s, instance.start_s, instance.end_s
            )
        return self._frames[index, source]

    def train_batch(
        self,
        indices: Sequence[int],
        num_frames: int,
        rng_for: Callable[[int], np.random.Generator],
        *,
        base_only: bool = False,
    ) -> Batch:
        """Random frames of some videos: one in each of `num_frames` equal slices of its cached frames.

        All frames of a video come from one draw of its training views and the base, and of several views of a frame
        one is drawn for the whole video.

        Parameters
        ----------
        indices : which videos
        num_frames : N
        rng_for : index of a video to the generator of its draws
        base_only : leave the training views out
        """
        maps = []
        for index in indices:
            rng = rng_for(int(index))
            # without training views nothing is drawn here, so that such runs stay what they were
            source = int(rng.integers(len(self._sources))) if self.views and not base_only else 0
            available = self.frames(int(index), source)
            chosen = available[random_frames(len(available), num_frames, rng)]
            unique, places = np.unique(chosen, return_inverse=True)
            read = self._read(int(index), unique, source)
            maps.append(read[places, rng.integers(read.shape[1])])
        return self._batch(indices, maps)

    def eval_batch(self, indices: Sequence[int], view: int | None = None) -> Batch:
        """All frames of some videos, in one view.

        Parameters
        ----------
        indices : which videos
        view : which of the cached views; None is the first
        """
        maps = []
        for index in indices:
            maps.append(self._read(int(index), self.frames(int(index)))[:, view or 0])
        return self._batch(indices, maps)

    def _read(self, index: int, frames: NDArray[np.int64], source: int = 0) -> NDArray[np.float16]:
        """Maps (len(frames), V, h, w, C) of some frames; from memory if the whole set fits there, so read once."""
        key = self.instances[index].key
        if not self.fits_memory:
            return self._sources[source].read(key, frames.tolist()).maps
        if (source, key) not in self._kept:
            self._kept[source, key] = self._sources[source].read(key).maps
        return self._kept[source, key][frames]

    @cached_property
    def fits_memory(self) -> bool:
        """Whether all maps stay in memory after the first reading: those of at most :func:`memory_budget`."""
        return self.num_bytes <= memory_budget()

    @cached_property
    def num_bytes(self) -> int:
        """Size of all maps, uncompressed."""
        total = 0
        for source, key in product(self._sources, {one.key for one in self.instances}):
            header = source.header(key)
            total += 2 * header.num_frames * header.num_views * header.height * header.width * header.channels
        return total

    def _batch(self, indices: Sequence[int], maps: list[NDArray[np.float16]]) -> Batch:
        features, mask = collate(maps)
        return Batch(features, mask, torch.from_numpy(self.labels[np.asarray(indices, np.int64)]))


def collate(maps: Sequence[NDArray[np.float16]]) -> tuple[Tensor, Tensor | None]:
    """Maps of (N, h, w, C) each side by side, padded with zeros at the end of each axis.

    Returns
    -------
    features : float16 (B, N, h, w, C)
    mask : bool (B, N, h, w), or None where nothing is padded

    Raises
    ------
    ValueError
        If the numbers of channels differ.
    """
    shapes = [one.shape for one in maps]
    if len({shape[3] for shape in shapes}) != 1:
        raise ValueError(f"maps of different channels in one batch: {sorted({shape[3] for shape in shapes})}")
    largest = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
    padded = len(set(shapes)) > 1
    features = (torch.zeros if padded else torch.empty)(len(maps), *largest, dtype=torch.float16)
    mask = torch.zeros(len(maps), *largest[:3], dtype=torch.bool) if padded else None
    for row, (N, h, w, _) in enumerate(shapes):
        features[row, :N, :h, :w] = torch.from_numpy(maps[row])
        if mask is not None:
            mask[row, :N, :h, :w] = True
    return features, mask
