"""Videos that are pictures in memory, and the cached maps of some of their frames: no files, no decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from rratag.data.datasets import CachedDataset, draw_generator
from rratag.features import backbones
from rratag.features.backbones import Backbone
from rratag.records import Instance
from rratag.video.plan import Sampling, random_frames
from tests.conftest import TINY

CLASSES = ["blue", "red"]
SIDE, NUM_FRAMES = 64, 6


def tiny(**options: Any) -> Backbone:
    return backbones.load(TINY, weights="random", input_size=SIDE, **options)


@cache
def _folded() -> Backbone:
    return tiny()


class MadeFrames:
    """What `FrameDataset` gives, of pictures in memory. The odd frames are not cached."""

    def __init__(self, num_videos: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        colours = np.array([(60, 70, 180), (180, 70, 60)])[np.arange(num_videos) % 2]
        noise = rng.normal(0, 50, (num_videos, NUM_FRAMES, SIDE, SIDE, 3))
        self.pictures = np.clip(colours[:, None, None, None] + noise, 0, 255).astype(np.uint8)
        self.instances = [
            Instance(f"{seed}/{number}.mp4", f"{seed}/{number}", CLASSES[number % 2]) for number in range(num_videos)
        ]
        self.labels = np.arange(num_videos) % 2
        self.base_only: list[bool] = []

    def __len__(self) -> int:
        return len(self.instances)

    def drawn(
        self, order: Sequence[int], num_frames: int, seed: int, epoch: int, ahead: int, *, base_only: bool = False
    ) -> Iterator[Any]:
        self.base_only.append(base_only)
        for index in order:
            rng = draw_generator(seed, epoch, self.instances[index].video)
            yield self.pictures[index][random_frames(NUM_FRAMES, num_frames, rng)]

    def regular(self, sampling: Sampling) -> Iterator[Any]:
        for pictures in self.pictures:
            yield pictures[::2, None]

    def cached(self) -> CachedDataset:
        """The same videos by the folded backbone's maps of their even frames."""
        with torch.inference_mode():
            maps = {
                one.key: _folded().features(torch.from_numpy(pictures[::2])).permute(0, 2, 3, 1).half().numpy()
                for one, pictures in zip(self.instances, self.pictures, strict=True)
            }
        return CachedDataset(_Store(maps), self.instances, CLASSES)


class _Store:
    def __init__(self, maps: dict[str, Any]) -> None:
        self.maps = maps

    def header(self, key: str) -> Any:
        T, h, w, C = self.maps[key].shape
        return SimpleNamespace(num_frames=T, num_views=1, height=h, width=w, channels=C, time_s=np.arange(T) + 0.5)

    def read(self, key: str, frames: Sequence[int] | None = None) -> Any:
        return SimpleNamespace(maps=self.maps[key][list(range(3) if frames is None else frames), None])
