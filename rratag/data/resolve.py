"""Which video a name in a label file means: of ids, paths, stems and clips."""

from __future__ import annotations

import os
import posixpath
from collections import defaultdict
from collections.abc import Collection, Container, Iterable
from functools import cached_property

from rratag.video.discover import VIDEO_SUFFIXES

PREFIX = "v_"
"""Before the id in the file names of ActivityNet and UCF101."""


class Names:
    """The videos that there are, by all that their names may be called.

    Parameters
    ----------
    ids : of the videos: paths below the root
    """

    def __init__(self, ids: Collection[str]) -> None:
        self._ids = ids

    def exact(self, spellings: Iterable[str]) -> str | None:
        """The first of the spellings that is an id, or None."""
        return next((name for name in spellings if name in self._ids), None)

    def nearest(self, name: str, taken: Container[str] = ()) -> list[str]:
        """Ids that `name` may mean though it is none of them, of the nearest kind that has any.

        Parameters
        ----------
        name : a path as written, or an id of a data set
        taken : videos that are another name's for certain

        Returns
        -------
        The video that is meant if there is one; several if the name is ambiguous.

        Notes
        -----
        The kinds are: the same file name; the same without a video suffix; the same with ``v_`` before it, or without
        it. The folders of the one must be the last folders of the other: ``a/1.mp4`` never means ``b/1.mp4``, and a
        name without a folder is found wherever it lies.
        """
        parts = [part for part in posixpath.normpath(name.strip().replace("\\", "/")).split("/") if part]
        if not parts or not name.strip():
            return []
        *folders, base = parts
        stem = _stem(base)
        # ids of YouTube may begin with "v_" themselves: their files are called "v_v_..."
        stems = (stem, PREFIX + stem, *([stem[len(PREFIX) :]] if stem.startswith(PREFIX) else []))
        for each in stems:
            near = [one for one in self._by_stem.get(each, ()) if one not in taken and _agree(folders, one)]
            if near:
                return [one for one in near if posixpath.basename(one) == base] or near
        return []

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for one in sorted(self._ids, key=name_bytes):
            found[_stem(posixpath.basename(one))].append(one)
        return found


def name_bytes(video: str) -> bytes:
    """By which names are sorted: those of the file system, or, of a name that no file can have, some."""
    try:
        return os.fsencode(video)
    except UnicodeEncodeError:
        return video.encode("utf-8", "surrogatepass")


def _stem(base: str) -> str:
    stem, suffix = posixpath.splitext(base)
    return stem if suffix.lower() in VIDEO_SUFFIXES else base


def _agree(folders: list[str], video: str) -> bool:
    if not folders:
        return True
    theirs = video.split("/")[:-1]
    return all(ours == one for ours, one in zip(reversed(folders), reversed(theirs), strict=False))
