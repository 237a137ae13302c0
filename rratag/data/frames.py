"""Labelled videos read from their files. In: where they lie. Out: pictures as the backbone takes them.

Decoding runs ahead in worker processes. What comes out depends on neither their number nor their pace.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rratag.data.datasets import CachedDataset, draw_generator
from rratag.errors import StoppedError
from rratag.features.plan import RETRIED
from rratag.features.store import KEY_DIGITS
from rratag.records import Video
from rratag.video.augment import TSN, TrainingView
from rratag.video.plan import Choice, RandomDraw, Sampling, frames_inside
from rratag.video.pool import Decoded, DecodePool, PoolOptions
from rratag.video.views import ViewRule, scaled

logger = logging.getLogger(__name__)

Pictures = NDArray[np.uint8]


class FrameDataset:
    """The videos of a data set of cached features, read from their files instead.

    Parameters
    ----------
    cached : which videos, with which labels
    sources : file of each video id
    rule : how a frame becomes the backbone's images
    workers : decode processes, at least 1
    views : training views, which `drawn` alone draws from
    """

    def __init__(
        self,
        cached: CachedDataset,
        sources: Mapping[str, Path],
        rule: ViewRule,
        workers: int,
        views: Sequence[TrainingView] = (),
    ) -> None:
        self.instances, self.labels = cached.instances, cached.labels
        self.sources, self.rule, self.workers = sources, rule, workers
        self.views = views
        self._left_out: set[str] = set()

    def __len__(self) -> int:
        return len(self.instances)

    def drawn(
        self, order: Sequence[int], num_frames: int, seed: int, epoch: int, ahead: int, *, base_only: bool = False
    ) -> Generator[Pictures | None, None, None]:
        """Random frames of each video: one in each of `num_frames` equal slices of all its frames (section 5.1).

        Of several views of a frame one is drawn for the whole video. Of the base and the training views one is drawn
        likewise; a multi-scale crop is another in each epoch.

        Parameters
        ----------
        order : which videos
        seed, epoch : decide the draws, together with each video's id
        ahead : videos that are decoded before they are taken
        base_only : leave the training views out

        Returns
        -------
        For each video (N, h, w, 3), or None if it cannot be decoded: it is then left out, with a warning the first
        time. A video of fewer than N frames repeats some.

        Raises
        ------
        StoppedError
            If a video has gone or is not the one that was extracted.
        """
        generators = [draw_generator(seed, epoch, self.instances[index].video) for index in order]
        draws = []
        for index, rng in zip(order, generators, strict=True):
            one = self.instances[index]
            draws.append(RandomDraw(num_frames, int(rng.integers(2**63)), one.start_s, one.end_s))
        with closing(self._decoded(order, draws.__getitem__, ahead)) as found:
            for rng, decoded in zip(generators, found, strict=True):
                view = int(rng.integers(self.rule.num_views))
                training_view = None if base_only else self._training_view(rng)
                if decoded is None:
                    yield None
                    continue
                # frames come once each; where slices share one it is repeated, as `random_frames` draws it
                places = np.arange(num_frames) * len(decoded.frames) // num_frames
                pictures = self._stacked(decoded, training_view)
                yield pictures[places, view % pictures.shape[1]]

    def regular(self, sampling: Sampling) -> Generator[Pictures | None, None, None]:
        """The frames of every video that are cached by `sampling`, in its interval: (T, V, h, w, 3), or None.

        See :meth:`drawn` for None and for what is raised.
        """
        with closing(self._decoded(range(len(self)), lambda _: sampling, 0)) as found:
            for one, decoded in zip(self.instances, found, strict=True):
                if decoded is None:
                    yield None
                else:
                    yield self._stacked(decoded)[frames_inside(decoded.time_s, one.start_s, one.end_s)]

    def _training_view(self, rng: np.random.Generator) -> TrainingView | None:
        """One of the views, or None for the base; without views nothing is drawn, so such runs stay what they were."""
        number = int(rng.integers(len(self.views) + 1)) if self.views else 0
        if number == 0:
            return None
        view = self.views[number - 1]
        return replace(view, number=int(rng.integers(2**63))) if view.kind == TSN else view

    def _stacked(self, decoded: Decoded[Pictures], training_view: TrainingView | None = None) -> Pictures:
        """Views of all frames (T, V, h, w, 3), in the size of the first frame's, as for cached maps."""

        def views_of(picture: Pictures) -> Pictures:
            if training_view is None:
                return self.rule.cut(picture)
            return training_view.images(picture, self.rule, decoded.sha256)

        found = [views_of(picture) for picture in decoded.frames]
        height, width = found[0].shape[1:3]
        return np.stack([scaled(views, height, width, self.rule.interpolation) for views in found])

    def _decoded(
        self, order: Sequence[int], choice: Callable[[int], Choice], ahead: int
    ) -> Generator[Decoded[Pictures] | None, None, None]:
        """Videos in `order`, decoded; None for one that cannot be."""
        options = PoolOptions(self.workers, window=max(3, math.ceil(ahead / self.workers)))
        with DecodePool(options, choice, self.rule.shrunk, lambda _: False) as pool:
            for index, decoded in zip(order, pool.run(self._video(index) for index in order), strict=True):
                yield decoded if self._is_usable(index, decoded) else None

    def _video(self, index: int) -> Video:
        one = self.instances[index]
        path = self.sources[one.video]
        return Video(path.parent, one.video, path)

    def _is_usable(self, index: int, decoded: Decoded[Pictures]) -> bool:
        receipt, path = decoded.receipt, decoded.video.path
        if receipt.status in RETRIED:
            raise StoppedError(f"{path}: {receipt.status}; fine-tuning reads the videos: put it back and run again")
        if decoded.sha256 and decoded.sha256[:KEY_DIGITS] != self.instances[index].key:
            raise StoppedError(f"{path}: is not the video that was extracted; extract its folder again, then train")
        if not decoded.frames and receipt.video not in self._left_out:
            self._left_out.add(receipt.video)
            logger.warning("%s: left out, it cannot be decoded (%s %s)", path, receipt.status, receipt.message)
        return bool(decoded.frames)
