"""What a label file says, in counts: before anything is decoded."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rratag.data.labels import LabelSet
from rratag.data.short import Short, is_bounded, short_instances, sufficient_fps
from rratag.data.splits import PARTS
from rratag.features.catalog import Catalog
from rratag.video.discover import discover

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

OPEN = "open"
"""The part of labelled videos whose split the file leaves open."""


@dataclass(frozen=True)
class Intervals:
    """Labelled intervals: how many, the shortest in seconds, and the frame rates that put `num_frames` into them.

    ``fps_all`` and ``fps_most`` as in :class:`rratag.data.short.Short`.
    """

    num: int
    shortest_s: float | None
    num_frames: int
    fps_all: float
    fps_most: float


@dataclass(frozen=True)
class Summary:
    """A label file in counts.

    Attributes
    ----------
    kind, files : what was read
    tags : of each label the labelled instances by part; parts are "train", "validation", "test" and "open"
    videos, instances : counts by part; a video in two parts counts in both
    num_several : videos, or intervals of one, with more than one label
    duplicates, missing, ambiguous, left_out, conflicts : see :class:`rratag.data.labels.LabelSet`
    unlabelled : videos that the file names without a label
    unnamed : videos below the root that it does not name, or not clearly; empty without a root
    untrained : labels without a video in train, where the file has a train part
    intervals : None if all labels are of whole videos
    short : of the cached frames; None if nothing is cached, or every interval has enough
    """

    kind: str
    files: list[str]
    tags: dict[str, dict[str, int]]
    videos: dict[str, int]
    instances: dict[str, int]
    num_several: int
    duplicates: int
    missing: list[str]
    ambiguous: list[str]
    left_out: list[str]
    conflicts: list[str]
    unlabelled: list[str]
    unnamed: list[str]
    untrained: list[str]
    intervals: Intervals | None
    short: Short | None

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers."""
        return asdict(self)


def summarise(found: LabelSet, num_frames: int, short: Short | None = None) -> Summary:
    """Count what a label file says.

    Parameters
    ----------
    num_frames : N of training
    short : intervals with too few cached frames, if that is known
    """
    labelled = [one for one in found.instances if one.label is not None]
    tags: dict[str, Counter[str]] = defaultdict(Counter)
    videos: dict[str, set[str]] = defaultdict(set)
    labels: Counter[tuple[str, float | None, float | None]] = Counter()
    for one in labelled:
        tags[str(one.label)][one.split or OPEN] += 1
        videos[one.split or OPEN].add(one.video)
        labels[one.video, one.start_s, one.end_s] += 1
    named = {one.video for one in labelled} | set(found.unnamed)
    instances = sum(tags.values(), Counter[str]())
    return Summary(
        found.kind,
        [str(path) for path in found.files],
        {label: dict(tags[label]) for label in sorted(tags)},
        {part: len(videos[part]) for part in (*PARTS, OPEN) if videos[part]},
        {part: instances[part] for part in (*PARTS, OPEN) if instances[part]},
        sum(count > 1 for count in labels.values()),
        found.duplicates,
        found.missing,
        found.ambiguous,
        found.left_out,
        found.conflicts,
        [one.video for one in found.instances if one.video not in named],
        found.unnamed,
        sorted(label for label in tags if instances["train"] and not (tags[label]["train"] or tags[label][OPEN])),
        _intervals(found, num_frames),
        short,
    )


def _intervals(found: LabelSet, num_frames: int) -> Intervals | None:
    bounded = [one for one in found.instances if one.label is not None and is_bounded(one)]
    # how long the others are only the videos know
    lengths = [one.end_s - (one.start_s or 0.0) for one in bounded if one.end_s is not None]
    if not bounded:
        return None
    return Intervals(len(bounded), min(lengths, default=None), num_frames, *sufficient_fps(lengths, num_frames))


def files_below(root: Path) -> list[str]:
    """Ids of the videos below a folder, by their names alone.

    Raises
    ------
    UsageError
        If there is none.
    """
    found = discover([str(root)])
    for receipt in found.failures:
        logger.warning("%s: %s", receipt.video, receipt.message)
    return [video.id for video in found.videos]


def short_in_cache(found: LabelSet, root: Path, cache: Path, num_frames: int) -> Short | None:
    """Labelled intervals with too few cached frames, if `root` was extracted; videos that are not cached do not count.

    By what the listing says of a video, without opening its file: its frames are taken to be spread evenly. `train`
    counts by their real times.

    Raises
    ------
    CacheError
        If a newer version of this program wrote the listing.
    """
    listing = Catalog(cache).find(root, "extract")
    if listing is None:
        return None
    spans = {
        entry.id: (entry.receipt.frames_distinct, entry.receipt.duration_s)
        for entry in listing.entries
        if entry.key and entry.receipt.duration_s is not None and entry.receipt.frames_distinct
    }

    def times_of(video: str) -> tuple[NDArray[np.float64], float]:
        count, duration_s = spans[video]
        return (np.arange(count, dtype=np.float64) + 0.5) * (duration_s / count), duration_s

    cached = (replace(one, key=one.video) for one in found.instances if one.video in spans)
    return short_instances(cached, times_of, num_frames)
