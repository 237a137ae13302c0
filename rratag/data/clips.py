"""Labelled videos as clips of consecutive frames, read from their files. In: where they lie. Out: uint8 clips.

Decoding runs ahead in worker processes. What comes out depends on neither their number nor their pace.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rratag.data.datasets import CachedDataset, draw_generator, memory_budget
from rratag.errors import StoppedError
from rratag.features.store import KEY_DIGITS
from rratag.records import Video
from rratag.video.plan import Window
from rratag.video.pool import Decoded, DecodePool, PoolOptions
from rratag.video.views import ViewRule, scaled

Clip = NDArray[np.uint8]
"""Frames of one size, (T, side, side, 3)."""

MIDDLE = 0.5


class ClipDataset:
    """The videos of a data set of cached features, read from their files instead.

    Parameters
    ----------
    cached : which videos, with which labels
    sources : file of each video id
    num_frames : T; of a shorter video the last frame is repeated, as TSN does
    rule : its `resize` is the shorter side of a picture, its `input_size` that of the square cut from it
    workers : decode processes, at least 1
    """

    def __init__(
        self, cached: CachedDataset, sources: Mapping[str, Path], num_frames: int, rule: ViewRule, workers: int
    ) -> None:
        self.instances, self.labels, self.class_names = cached.instances, cached.labels, cached.class_names
        self.sources, self.num_frames, self.rule, self.workers = sources, num_frames, rule, workers
        self._kept: dict[int, Clip] = {}

    def __len__(self) -> int:
        return len(self.instances)

    def drawn(self, order: Sequence[int], seed: int, epoch: int, ahead: int) -> Generator[Clip, None, None]:
        """A clip of each video from a random time, cut at a random place that all of its frames share.

        Parameters
        ----------
        order : which videos
        seed, epoch : decide the draws, together with each video's id
        ahead : videos that are decoded before they are taken

        Raises
        ------
        StoppedError
            If a video has gone, is not the one that was extracted, or cannot be decoded.
        """
        draws = [draw_generator(seed, epoch, self.instances[index].video).random(3) for index in order]
        with closing(self._decoded(order, [float(place) for place, _, _ in draws], ahead)) as clips:
            for (_, down, across), clip in zip(draws, clips, strict=True):
                yield self._cut(clip, down, across)

    def middle(self) -> Generator[Clip, None, None]:
        """The middle of every video's middle frames, in the order of the instances. Raises as :meth:`drawn` does.

        Kept in memory as far as it goes.
        """
        order = [index for index in range(len(self)) if index not in self._kept]
        side = self.rule.input_size
        room = memory_budget() // (self.num_frames * side * side * 3)
        with closing(self._decoded(order, [MIDDLE] * len(order), 0)) as clips:
            for index in range(len(self)):
                clip = self._kept.get(index)
                if clip is None:
                    clip = self._cut(next(clips), MIDDLE, MIDDLE)
                    if len(self._kept) < room:
                        self._kept[index] = clip
                yield clip

    def _decoded(self, order: Sequence[int], places: Sequence[float], ahead: int) -> Generator[Clip, None, None]:
        """Whole pictures (T, h, w, 3) of the videos in `order`."""
        if not order:
            return
        options = PoolOptions(self.workers, window=max(3, math.ceil(ahead / self.workers)))

        def window(number: int) -> Window:
            one = self.instances[order[number]]
            return Window(self.num_frames, places[number], one.start_s, one.end_s)

        with DecodePool(options, window, self._scaled, lambda _: False) as pool:
            for index, decoded in zip(order, pool.run(self._video(index) for index in order), strict=True):
                self._check(index, decoded)
                yield self._stacked(decoded.frames)

    def _scaled(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = self.rule.resized(*picture.shape[:2])
        found: NDArray[np.uint8] = scaled(picture[None], height, width, self.rule.interpolation)[0]
        return found.copy()

    def _stacked(self, frames: Sequence[NDArray[np.uint8]]) -> Clip:
        """All frames in the size of the first one, the last one repeated to the end of the clip."""
        height, width = frames[0].shape[:2]
        same = [scaled(frame[None], height, width, self.rule.interpolation)[0] for frame in frames]
        return np.stack([*same, *[same[-1]] * (self.num_frames - len(same))])

    def _cut(self, clip: Clip, down: float, across: float) -> Clip:
        """A square (T, side, side, 3); `down` and `across` in [0, 1) of the room there is."""
        side = self.rule.input_size
        top = int(down * (clip.shape[1] - side + 1))
        left = int(across * (clip.shape[2] - side + 1))
        return np.ascontiguousarray(clip[:, top : top + side, left : left + side])

    def _video(self, index: int) -> Video:
        one = self.instances[index]
        path = self.sources[one.video]
        return Video(path.parent, one.video, path)

    def _check(self, index: int, decoded: Decoded[NDArray[np.uint8]]) -> None:
        receipt, path = decoded.receipt, decoded.video.path
        if decoded.sha256 and decoded.sha256[:KEY_DIGITS] != self.instances[index].key:
            raise StoppedError(f"{path}: is not the video that was extracted; extract its folder again")
        if not decoded.frames:
            said = ": ".join(filter(None, [receipt.status, receipt.reason, receipt.message]))
            raise StoppedError(f"{path}: {said}; clips are read from the videos: put it back, or extract without it")


def sources_of(videos: Sequence[str], roots: Sequence[Path]) -> dict[str, Path]:
    """File of each video id below the roots that were extracted; under the first root where nothing is there."""
    return {
        video: next((root / video for root in roots if (root / video).exists()), roots[0] / video) for video in videos
    }
