"""The records that pass between rooms. Plain data: no torch, no files.

A run produces exactly one :class:`Receipt` per candidate, whatever happens to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

STATUSES: dict[str, tuple[str, ...]] = {
    "ok": (),
    "partial": ("frames", "damaged", "cut_off"),
    "unreadable": (
        "empty",
        "not_media",
        "truncated",
        "corrupt",
        "unsupported_codec",
        "playlist",
        "too_large",
        "too_small",
        "broken_link",
    ),
    "no_video_stream": ("audio_only", "cover_art_only", "no_frames"),
    "timed_out": ("limit", "no_progress"),
    "out_of_memory": ("limit",),
    "decoder_crashed": ("signal",),
    "permission_denied": (),
    "vanished": (),
    "changed_while_read": (),
    "skipped": ("not_a_regular_file", "extension", "duplicate_path"),
}
"""Every status a candidate can end with, and the reasons that may stand beside it."""

RGB, FLOW = MODALITIES = ("rgb", "flow")
"""``--modality``: what the network sees of a moment, its picture or the motion that begins there."""

USABLE = ("ok", "partial")
"""Statuses of videos that have features and are tagged."""


@dataclass(frozen=True, slots=True)
class Video:
    """One candidate file.

    ``id`` is its POSIX path relative to ``root``; ``path`` is absolute, with links not resolved.
    """

    root: Path
    id: str
    path: Path


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one candidate: one row of ``extract --report``, in this order of columns.

    ``message`` is one line without control characters. ``duration_s`` and ``seconds`` (time spent) are in seconds;
    ``width``, ``height`` in pixels of the upright picture; ``rotation`` in degrees clockwise that was applied.
    """

    video: str
    status: str
    reason: str = ""
    message: str = ""
    decoder: str = ""
    fallback_from: str = ""
    frames_wanted: int = 0
    frames_decoded: int = 0
    frames_distinct: int = 0
    frames_damaged: int = 0
    duration_s: float | None = None
    width: int = 0
    height: int = 0
    rotation: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"unknown status {self.status!r}; accepted: {', '.join(STATUSES)}")
        if self.reason and self.reason not in STATUSES[self.status]:
            raise ValueError(f"status {self.status!r} has no reason {self.reason!r}")

    @property
    def usable(self) -> bool:
        """Whether the video has features."""
        return self.status in USABLE


@dataclass(frozen=True, slots=True)
class Instance:
    """A labelled video: the unit of training and evaluation.

    ``key`` names its features (first 32 hex digits of the file's sha256); ``label`` is a class name or None for an
    unlabelled video; videos that share a non-empty ``group`` never stand on both sides of a split; ``split`` is
    "train", "validation", "test" or "" where the label file leaves it open. ``start_s``/``end_s`` bound the labelled
    interval in seconds, None for the whole video.
    """

    video: str
    key: str
    label: str | None
    group: str = ""
    split: str = ""
    start_s: float | None = None
    end_s: float | None = None
