"""A store of made-up feature maps: noise everywhere, a class's own pattern at one position of some frames."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from rratag.data.datasets import CachedDataset
from rratag.records import Instance

CLASSES = ["bunting", "finch", "siskin"]
CHANNELS = 12


class SyntheticStore:
    """Videos ``<seed>/<number>``, classes in turn; 6 frames, 1 or 2 views, 3x3 maps."""

    def __init__(self, num_videos: int, seed: int, num_views: int = 1) -> None:
        rng = np.random.default_rng(seed)
        patterns = np.random.default_rng(99).normal(size=(len(CLASSES), CHANNELS))
        self.data = {}
        self.instances = []
        for number in range(num_videos):
            label = number % len(CLASSES)
            maps = np.maximum(rng.normal(size=(6, num_views, 3, 3, CHANNELS)), 0)
            for frame in np.flatnonzero(rng.random(6) < 0.6):
                maps[frame, :, rng.integers(3), rng.integers(3)] += 3 * np.maximum(patterns[label], 0)
            key = f"{seed}/{number}"
            self.data[key] = maps.astype(np.float16)
            self.instances.append(Instance(f"{key}.mp4", key, CLASSES[label]))

    def header(self, key: str) -> Any:
        T, V, h, w, C = self.data[key].shape
        return SimpleNamespace(num_frames=T, num_views=V, height=h, width=w, channels=C, time_s=np.arange(6) + 0.5)

    def read(self, key: str, frames: Sequence[int] | None = None) -> Any:
        return SimpleNamespace(maps=self.data[key][list(range(6) if frames is None else frames)])


def make_dataset(num_videos: int, seed: int, num_views: int = 1) -> CachedDataset:
    store = SyntheticStore(num_videos, seed, num_views)
    return CachedDataset(store, store.instances, CLASSES)
