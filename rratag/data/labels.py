"""Which video carries which label: from one folder per tag, or from a label file.

Enters: ids and keys of the cached videos. Leaves: one `Instance` per labelled (or unlabelled) video or interval.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rratag.data.readers import own_csv, table
from rratag.data.readers.annotation import Annotation
from rratag.data.readers.own_csv import COLUMNS
from rratag.data.resolve import Names, name_bytes
from rratag.errors import LabelError, UsageError
from rratag.records import Instance
from rratag.untrusted import shown


@dataclass
class LabelSet:
    """What a label file says about the cached videos.

    Attributes
    ----------
    instances : sorted by id, start and label
    missing : names in the file that are no cached video, in the file's order
    ambiguous : names that may mean several videos, or a video that several names may mean: none is labelled by them
    left_out : statements of the file that cannot be used, and why
    conflicts : statements that contradict earlier ones, where they were asked for
    duplicates : number of statements that repeat an earlier one
    unnamed : videos that no statement of the file is about, but for ambiguous ones and those left out; sorted
    kind, files : what was read; empty for folders
    """

    instances: list[Instance]
    missing: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    duplicates: int = 0
    unnamed: list[str] = field(default_factory=list)
    kind: str = ""
    files: list[Path] = field(default_factory=list)

    @property
    def class_names(self) -> list[str]:
        """Labels in use, sorted."""
        return class_names(self.instances)

    @property
    def doubts(self) -> list[str]:
        """One line each about what was ambiguous and what was left out."""
        lines = []
        if self.ambiguous:
            lines.append(
                f"{len(self.ambiguous)} names of the label file are ambiguous and not used, e.g. {self.ambiguous[0]}"
            )
        if self.left_out:
            lines.append(f"{len(self.left_out)} labels of the label file are left out, e.g. {self.left_out[0]}")
        return lines


def class_names(instances: Iterable[Instance]) -> list[str]:
    """Labels in use, sorted by code point; a label's position is its number."""
    return sorted({instance.label for instance in instances if instance.label is not None})


def from_folders(ids_to_keys: Mapping[str, str]) -> list[Instance]:
    """Label every video with the first folder below the root; a video directly in the root is unlabelled.

    Spaces around a folder's name do not belong to the label, as in a label file.

    Parameters
    ----------
    ids_to_keys : ids of the cached videos with their keys

    Returns
    -------
    One instance per video, sorted by id.
    """
    return [
        Instance(video, key, (video.split("/", 1)[0].strip() or None) if "/" in video else None)
        for video, key in sorted(ids_to_keys.items(), key=lambda item: name_bytes(item[0]))
    ]


def parse_columns(text: str) -> dict[str, str]:
    """Parse ``video=file,group=source_group``: our column name to theirs.

    Raises
    ------
    UsageError
        If a name of ours is unknown or given twice, or an item is not ``ours=theirs``.
    """
    columns: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        ours, equals, theirs = (part.strip() for part in item.partition("="))
        if ours not in COLUMNS:
            raise UsageError(f"--columns: unknown column {ours!r}; choose from {', '.join(COLUMNS)}")
        if not equals or not theirs:
            raise UsageError(f"--columns: {item!r} names no column of the file; write {ours}=THEIR_NAME")
        if ours in columns:
            raise UsageError(f"--columns: {ours!r} is given twice")
        columns[ours] = theirs
    return columns


def with_groups(instances: Iterable[Instance], pattern: str) -> list[Instance]:
    """Set every instance's group by ``--group-by``: the first capture group (or whole match) of `pattern` on its id.

    An id that does not match is a group of its own.

    Raises
    ------
    UsageError
        If `pattern` is no regular expression.
    """
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--group-by {pattern!r}: not a regular expression ({error})") from error
    return [replace(instance, group=_group(regex, instance.video)) for instance in instances]


def _group(regex: re.Pattern[str], video: str) -> str:
    found = regex.search(video)
    if found is None:
        return video
    return found.group(min(1, regex.groups)) or video


def from_csv(path: str | Path, ids_to_keys: Mapping[str, str], columns: Mapping[str, str] | None = None) -> LabelSet:
    """Read our own CSV, in which names are ids: that of a model folder.

    Parameters
    ----------
    path : see :func:`rratag.data.readers.own_csv.read`
    ids_to_keys : ids of the cached videos with their keys; ``./`` before names and backslashes between folders are
        accepted
    columns : our column names to the file's, where they differ

    Returns
    -------
    Instances sorted by id and start; cached videos without a row, or with an empty label, are unlabelled.

    Raises
    ------
    LabelError
        With file and line, and the column (in characters, from 1) where it is one cell that is wrong: a column of the
        table is missing, a row does not fit the header, a value cannot be read, a name leads out of the root, two rows
        contradict each other, or the file cannot be read.

    Notes
    -----
    Rows are read one by one; what stays in memory are the instances of cached videos and the missing names.
    """
    path = Path(path)
    joined = _Joined(ids_to_keys)
    for one in own_csv.read(path, columns):
        joined.add(one, exact=True)
    return joined.result(table.CSV, [path])


def from_file(
    path: str | Path,
    ids_to_keys: Mapping[str, str] | None,
    columns: Mapping[str, str] | None = None,
    *,
    alone: bool = False,
    tell_conflicts: bool = False,
    keep_missing: bool = False,
    untimed: bool = False,
) -> LabelSet:
    """Read a label file of any kind: see :mod:`rratag.data.readers.table`.

    Parameters
    ----------
    ids_to_keys : ids of the videos that there are, with their keys; a name that is no id is looked for by
        :meth:`rratag.data.resolve.Names.nearest`. None where no videos are known: every name then is a video's
    columns : our column names to those of a CSV
    alone : leave out the files of the other splits that lie beside it
    tell_conflicts : keep contradictions as lines instead of raising the first; the earlier statement then counts
    keep_missing : label videos that are not there too, under their names in the file: a test counts them as well
    untimed : use the labels of segments that hold no time too, for the whole video: tests of whole videos read no times

    Returns
    -------
    Instances sorted by id and start; videos that the file does not label are unlabelled.

    Raises
    ------
    LabelError
        With file and line, if the file is of no known kind, something in it is wrong, or two statements contradict each
        other: the same video (and interval) with two labels, splits or groups. Several labels of one video are no
        contradiction in files that allow them (ActivityNet, the column ``several`` of a CSV).
    """
    found = table.read(Path(path), columns, alone=alone)
    joined = _Joined(ids_to_keys, tell_conflicts=tell_conflicts, keep_missing=keep_missing)
    for one in found.annotations:
        joined.add(replace(one, start_s=None, end_s=None, left_out="") if untimed and one.left_out else one)
    return joined.result(found.kind, found.files)


class _Joined:
    """Annotations, as they come, with the videos that they mean."""

    def __init__(
        self, ids_to_keys: Mapping[str, str] | None, *, tell_conflicts: bool = False, keep_missing: bool = False
    ) -> None:
        self.keys: Mapping[str, str] = ids_to_keys or {}
        self.names = Names(self.keys)
        self.are_known, self.keep_missing = ids_to_keys is not None, keep_missing or ids_to_keys is None
        self.tell_conflicts = tell_conflicts
        self.found: dict[tuple[str, float | None, float | None], list[tuple[Instance, str, bool]]] = {}
        self.missing: dict[str, None] = {}
        self.waiting: list[tuple[Annotation, str]] = []
        self.left_out: list[str] = []
        self.conflicts: list[str] = []
        self.duplicates = 0

    def add(self, one: Annotation, *, exact: bool = False) -> None:
        """Take one annotation; `exact` keeps to names that are ids."""
        if one.left_out:
            self.left_out.append(f"{one.where}: {one.left_out}")
            return
        for name, spellings, is_clip in _ways(one):
            if (video := self.names.exact(spellings)) is not None:
                self._label(one, video, is_clip)
                return
            if not exact and not one.outside and self.names.nearest(name):
                # not before all names are known that are ids for certain
                self.waiting.append((one, name))
                return
        if one.outside:
            raise one.error(
                "video", f"{shown(one.name)} is not below the root; videos are named relative to the extracted folder"
            )
        self._miss(one)

    def _miss(self, one: Annotation) -> None:
        if self.are_known:
            self.missing[one.clip or one.name] = None
        if self.keep_missing:
            _, spellings, is_clip = next(iter(_ways(one)))
            self._label(one, spellings[0], is_clip)

    def result(self, kind: str, files: list[Path]) -> LabelSet:
        """All instances, with the videos that no annotation is about."""
        ambiguous = self._settle()
        instances = [instance for several in self.found.values() for instance, _, _ in several]
        named = {instance.video for instance in instances}
        unnamed = sorted(self.keys.keys() - named, key=name_bytes)
        instances += [Instance(video, self.keys[video], None) for video in unnamed]
        instances.sort(key=_order)
        return LabelSet(
            instances,
            list(self.missing),
            ambiguous,
            self.left_out,
            self.conflicts,
            self.duplicates,
            unnamed,
            kind,
            files,
        )

    def _settle(self) -> list[str]:
        """Label by the names that are no ids, and say which of them are ambiguous."""
        taken = {video for video, _, _ in self.found}
        meant = {name: self.names.nearest(name, taken) for name in dict.fromkeys(name for _, name in self.waiting)}
        wanted: dict[str, list[str]] = defaultdict(list)
        for name, videos in meant.items():
            if len(videos) == 1:
                wanted[videos[0]].append(name)
        for one, name in self.waiting:
            videos = meant[name]
            if not videos:
                self._miss(one)
            elif len(videos) == 1 and len(wanted[videos[0]]) == 1:
                self._label(one, videos[0], name == one.clip)
        several = [f"{name}: {' or '.join(videos[:3])}" for name, videos in meant.items() if len(videos) > 1]
        return several + [f"{video}: {' or '.join(names[:3])}" for video, names in wanted.items() if len(names) > 1]

    def _label(self, one: Annotation, video: str, is_clip: bool) -> None:
        times = (None, None) if is_clip else (one.start_s, one.end_s)
        instance = Instance(video, self.keys.get(video, ""), one.label, one.group, one.split, *times)
        there = self.found.setdefault((video, *times), [])
        for earlier, where, several in there:
            if earlier == instance:
                self.duplicates += 1
                return
            are_several = (
                several and one.several and earlier.label is not None and one.label not in (None, earlier.label)
            )
            if not are_several or (earlier.split, earlier.group) != (instance.split, instance.group):
                error = _contradiction(one, instance, earlier, where, ("label",) * (not are_several))
                if not self.tell_conflicts:
                    raise error
                self.conflicts.append(str(error))
                return
        there.append((instance, one.where, one.several))


def _ways(one: Annotation) -> Iterable[tuple[str, tuple[str, ...], bool]]:
    """Names under which the video of an annotation is looked for, their spellings, and whether it is a clip's."""
    if one.clip:
        yield one.clip, (one.clip,), True
    yield (one.spellings or (one.name,))[-1], one.spellings or (one.name,), False


def _order(instance: Instance) -> tuple[bytes, float, float, str]:
    start = -1.0 if instance.start_s is None else instance.start_s
    end = math.inf if instance.end_s is None else instance.end_s
    return name_bytes(instance.video), start, end, instance.label or ""


def _contradiction(one: Annotation, here: Instance, there: Instance, where: str, fields: tuple[str, ...]) -> LabelError:
    """What differs in `fields`, or else in split or group."""
    name = next(name for name in (*fields, "split", "group") if getattr(here, name) != getattr(there, name))
    ours, theirs = (shown(getattr(one, name) or "") for one in (here, there))
    return one.error(
        name,
        f"video {shown(here.video)} has {name} {ours} here and {theirs} on {where}; keep one of the two",
    )


def whole_videos(instances: Iterable[Instance]) -> list[Instance]:
    """Instances without bounds: each label of a video once, in the order of their first.

    What a label file says about parts of a video is then said of all of it, as official tests of untrimmed videos do.
    """
    found: dict[tuple[str, str | None], Instance] = {}
    for one in instances:
        found.setdefault((one.video, one.label), replace(one, start_s=None, end_s=None))
    return list(found.values())
