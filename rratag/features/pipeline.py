"""Decoded videos in, maps out: views, batches across video borders, forward, and a writer that commits each video.

A video's maps are handed over as soon as they are whole, so a kill loses only the videos in flight.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from rratag import files
from rratag.features.catalog import Entry
from rratag.features.failures import keep_failure, read_failure
from rratag.features.parts import Part
from rratag.features.plan import RETRIED, Plan, receipt_of
from rratag.features.store import KEY_DIGITS
from rratag.records import FLOW, Video
from rratag.video.pool import Decoded, DecodePool, PoolOptions
from rratag.video.views import scaled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rratag.features.extract import Extraction

logger = logging.getLogger(__name__)


@dataclass
class _Taken:
    """A decoded video, what will be said of it, and how many parts of it are not on the disk yet."""

    decoded: Decoded[NDArray[np.uint8]]
    entry: Entry
    unwritten: int


@dataclass
class Job:
    """Maps of one part of a video that are being filled."""

    video: _Taken
    part: Part
    missing: int
    maps: NDArray[np.float16] | None = None


@dataclass
class _Batch:
    """Images of one shape, from several videos, waiting for the network."""

    images: list[NDArray[np.uint8]] = field(default_factory=list)
    places: list[tuple[Job, int, int]] = field(default_factory=list)


class Pipeline:
    """Decoded videos in, entries out, in order of completion.

    Parameters
    ----------
    extraction : whose network, options and stores are used
    commit : called in one thread with each part of a video when its maps are whole
    keep_failures : whether contents that fail are noted in the cache
    """

    def __init__(self, extraction: Extraction, commit: Callable[[Job], None], *, keep_failures: bool = True) -> None:
        self.network, self.options, self.commit = extraction.network, extraction.options, commit
        self.keep_failures = keep_failures
        self.noted: dict[str, tuple[int, int, int]] = {}
        self.held = extraction.plan.held
        self.stores, self.parts = extraction.stores, extraction.parts
        self.rule = extraction.request.view_rule(self.network.backbone)
        self.sampling, self.decoder = extraction.request.sampling, extraction.request.decoder
        self.flow = self.rule if extraction.request.modality == FLOW else None
        self.waiting: dict[tuple[int, ...], _Batch] = {}
        self.finished: list[Future[Entry | None]] = []

    def run(self, plan: Plan) -> Iterator[Entry]:
        """One entry for each pending video of `plan`, once `commit` has had all its parts, or it has failed."""
        workers = min(self.options.workers, max(1, len(plan.pending)))
        pool_options = PoolOptions(workers, self.decoder, self.options.deadline_s, flow=self.flow)
        with (
            ThreadPoolExecutor(1, "rratag-writer") as self.writer,
            DecodePool(pool_options, self.sampling, self._shrunk, self._is_known) as pool,
        ):
            for decoded in pool.run(self._noting(plan.pending)):
                noted = self.noted.pop(decoded.video.id)
                if decoded.frames:
                    self._add(decoded, noted[2])
                else:
                    yield self._without_frames(decoded, noted)
                yield from self._written(wait=len(self.finished) > 2 * workers)
            for shape in list(self.waiting):
                self._forward(shape)
            yield from self._written(wait=True)

    def _shrunk(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What the pool hands on of a decoded picture; optical flow is computed on resized ones."""
        return image.copy() if self.flow else self.rule.shrunk(image)

    def _is_known(self, sha256: str) -> bool:
        if self.options.overwrite:
            return False
        key = sha256[:KEY_DIGITS]
        if self.parts[0].is_whole(key):
            whole = [part.is_whole(key) for part in self.parts[1:]]  # looks at each, and sets damaged ones aside
            return all(whole)
        return not self.options.retry_failed and read_failure(self.stores[0], key, "x") is not None

    def _noting(self, videos: Iterable[Video]) -> Iterator[Video]:
        """Pass videos on, noting size and time of each: a file refused unread is known again by these."""
        for video in videos:
            try:
                self.noted[video.id] = files.stamp(video.path.stat())
            except OSError:
                self.noted[video.id] = 0, 0, 0
            yield video

    def _without_frames(self, decoded: Decoded[NDArray[np.uint8]], noted: tuple[int, int, int]) -> Entry:
        """Entry of a video that failed, or whose content is known."""
        receipt, key, held = decoded.receipt, decoded.sha256[:KEY_DIGITS], self.held.get(decoded.video.id)
        holder = self.parts[0].holder(key) if key and not self.options.overwrite else None
        if not decoded.known and (held or holder):  # what was extracted before is no less worth for it
            logger.warning("%s: no training views could be made of it now: %s", decoded.video.id, receipt.status)
        if held and not decoded.known:
            return held
        if holder is not None:
            receipt = receipt_of(holder, key, decoded.video.id)
        elif decoded.known:
            receipt = read_failure(self.stores[0], key, decoded.video.id) or receipt
        elif decoded.sha256 and self.keep_failures and receipt.status not in RETRIED:
            keep_failure(self.stores[0], key, receipt)
        size, mtime_ns = (decoded.size, decoded.mtime_ns) if decoded.sha256 else noted[:2]
        return Entry(size, mtime_ns, decoded.sha256, receipt, noted[2])

    def _add(self, decoded: Decoded[NDArray[np.uint8]], ctime_ns: int) -> None:
        key = decoded.sha256[:KEY_DIGITS]
        parts = self.parts if self.options.overwrite else [part for part in self.parts if not part.has(key)]
        parts = parts or self.parts[:1]  # another run was faster
        receipt, holder = decoded.receipt, self.parts[0].holder(key)
        if parts[0].view is not None and holder is not None:
            receipt = receipt_of(holder, key, decoded.video.id)
        entry = Entry(decoded.size, decoded.mtime_ns, decoded.sha256, receipt, ctime_ns)
        video = _Taken(decoded, entry, len(parts))
        for part in parts:
            self._add_part(video, part)
        decoded.frames.clear()

    def _add_part(self, video: _Taken, part: Part) -> None:
        decoded = video.decoded
        first = self._views(part, decoded.frames[0], decoded.sha256)
        job = Job(video, part, len(decoded.frames) * len(first))
        height, width = first.shape[1:3]
        for t, picture in enumerate(decoded.frames):
            views = first if t == 0 else self._views(part, picture, decoded.sha256)
            # the picture may change its size within a video, its maps may not
            for v, image in enumerate(scaled(views, height, width, self.rule.interpolation)):
                batch = self.waiting.setdefault(image.shape, _Batch())
                batch.images.append(image)
                batch.places.append((job, t, v))
                if len(batch.images) == self.options.batch_size:
                    self._forward(image.shape)

    def _views(self, part: Part, picture: NDArray[np.uint8], sha256: str) -> NDArray[np.uint8]:
        """What the network sees of a resized picture, (V, h, w, 3)."""
        return self.rule.cut(picture) if part.view is None else part.view.images(picture, self.rule, sha256)

    def _forward(self, shape: tuple[int, ...]) -> None:
        batch = self.waiting.pop(shape)
        # always the same batch shape: a video's features never depend on who shared its batch
        images = np.zeros((self.options.batch_size, *shape), np.uint8)
        images[: len(batch.images)] = batch.images
        maps = self.network.maps(images)
        for (job, t, v), one in zip(batch.places, maps, strict=False):
            if job.maps is None:
                num_frames = len(job.video.decoded.time_s)
                job.maps = np.empty((num_frames, job.missing // num_frames, *one.shape), np.float16)
            job.maps[t, v] = one
            job.missing -= 1
            if job.missing == 0:
                self.finished.append(self.writer.submit(self._write, job))

    def _write(self, job: Job) -> Entry | None:
        """Commit a part; the video's entry with the last one. There is one writer, so nobody else counts meanwhile."""
        self.commit(job)
        job.video.unwritten -= 1
        return None if job.video.unwritten else job.video.entry

    def _written(self, *, wait: bool) -> Iterator[Entry]:
        while self.finished and (wait or self.finished[0].done()):
            entry = self.finished.pop(0).result()
            if entry is not None:
                yield entry
