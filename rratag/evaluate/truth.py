"""Which labels a video truly has: the one place that reads a label file to judge saved predictions by."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from rratag.data.labels import from_file, from_folders
from rratag.data.readers.annotation import SPLITS
from rratag.errors import LabelError, UsageError
from rratag.evaluate.bootstrap import group_names
from rratag.records import Instance
from rratag.tag import submission
from rratag.untrusted import shown

logger = logging.getLogger(__name__)


def read_truth(
    videos: Iterable[str],
    labels: Path | None = None,
    columns: dict[str, str] | None = None,
    part: str | None = None,
    called: Callable[[str], str] = lambda name: name,
) -> list[Instance]:
    """Distinct (video, label) pairs, sorted; a video may have several labels, and need not be among `videos`.

    What the file leaves in doubt is logged.

    Parameters
    ----------
    videos : ids with predictions; a name in the label file means one of them where it can
    labels : label file; by default the first folder of each id is the tag
    part : a value of the file's split that pairs must have, as `SPLITS` spells them; None or "all" takes all
    called : the id that predictions have for a video of the label file

    Raises
    ------
    LabelError
        If no video is labelled, or none of `part`, or files in two folders have one id; or as `from_file`.
    UsageError
        If `part` is unknown, or there is no file to divide by.
    """
    ids = {video: f"{number:032x}" for number, video in enumerate(videos)}
    wanted = _split(part, labels)
    if labels is None:
        found = from_folders(ids)
    else:
        read = from_file(labels, ids, columns, alone=True, keep_missing=True, untimed=True)
        for line in read.doubts:
            logger.warning(line)
        found = read.instances
    labelled = [one for one in found if one.label is not None]
    if not labelled:
        if labels is not None:
            raise LabelError(f"{labels}: labels no video; give a file with a label in its rows")
        raise LabelError("no tagged video has a label; give --labels FILE, or tag one folder per tag")
    own = [one for one in labelled if wanted in ("all", one.split)]
    if not own:
        there = ", ".join(sorted({one.split or "(none)" for one in labelled}))
        raise LabelError(f"{labels}: no video of split {shown(wanted)}; there are {there}: name one with --on")
    pairs: dict[tuple[str, str], Instance] = {}
    names: dict[str, str] = {}
    for one in own:
        name = one.video if one.video in ids else called(one.video)
        other = names.setdefault(name, one.video)
        # clips of one video are parts of it, as segments are; files of one name in two folders are two videos
        if other != one.video and submission.stem(other) == submission.stem(one.video):
            raise LabelError(
                f"{labels}: {shown(other)} and {shown(one.video)} are both video {shown(name)} in ActivityNet's form;"
                " leave one out"
            )
        pairs.setdefault((name, str(one.label)), replace(one, video=name, start_s=None, end_s=None))
    return [pairs[pair] for pair in sorted(pairs)]


def _split(part: str | None, labels: Path | None) -> str:
    """The value of ``split`` that is looked for, or "all"."""
    if part in (None, "all"):
        return "all"
    known = {name: split for name, split in SPLITS.items() if name}
    if str(part).lower() not in known:
        raise UsageError(f"unknown --on {part!r}; choose from {', '.join(known)}, all")
    if labels is None:
        raise UsageError(f"--on {part}: folders divide no videos; give a label file with a split: --labels FILE")
    return known[str(part).lower()]


def labels_of(truth: Iterable[Instance]) -> dict[str, list[str]]:
    """Of each video its labels."""
    found: dict[str, list[str]] = {}
    for one in truth:
        found.setdefault(one.video, []).append(str(one.label))
    return found


def groups_of(truth: Iterable[Instance]) -> list[str]:
    """Of each video of `labels_of`, in its order, the group that the bootstrap draws it with."""
    groups = {one.video: one.group for one in truth}
    return group_names(list(groups.values()), list(groups))
