"""Folders, files, globs and lists become candidates: one :class:`Video` each, in a stable order.

Light on purpose: a run with nothing to do imports this and little else.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import heapq
import itertools
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rratag.errors import UsageError
from rratag.records import Receipt, Video

_VIDEO = """3g2 3gp asf avi divx dv f4v flv gif h264 h265 hevc ivf m1v m2t m2ts m2v m4v mjpeg mjpg mkv mov mp4 mpe mpeg
mpg mts mxf nut ogm ogv qt rm rmvb ts vob webm wmv y4m"""
VIDEO_SUFFIXES = frozenset("." + name for name in _VIDEO.split())
"""Suffixes (lower case) that make a file in a folder a candidate."""

_OTHER = """7z aac avif bmp css csv doc docx flac gz h5 hdf5 heic htm html ini jpeg jpg js json jsonl log m4a md mp3 npy
npz odt ogg opus pdf pickle pkl png ppt pptx pt pth py rar rst safetensors sh srt svg tar tgz tif tiff toml tsv txt vtt
wav webp xls xlsx xml yaml yml zip zst"""
OTHER_SUFFIXES = frozenset("." + name for name in _OTHER.split())
"""Suffixes that no video carries: a file named explicitly is tried unless it ends in one of these."""

LIST_SUFFIXES = (".txt", ".lst")

LONGEST_SHOWN = 300
"""Characters of a path in an error line: a list that is none may be one line of many megabytes."""


@dataclass(frozen=True)
class Discovery:
    """What a set of inputs holds.

    ``videos`` is sorted by the bytes of the id; ``failures`` has one receipt for every candidate that is no readable
    file; ``num_other`` counts the remaining files, which get no row. ``is_whole`` says that the one input was the root
    folder itself, so that what is not among the candidates is not there any more.
    """

    root: Path
    videos: list[Video]
    failures: list[Receipt]
    num_other: int
    is_whole: bool = False


def discover(inputs: Sequence[str]) -> Discovery:
    """Find the candidates among `inputs`: folders, files, globs, list files (``.txt``, ``.lst``) or ``-`` (stdin).

    One run has one root: the folder itself for a single folder, the nearest common parent folder otherwise. Folders
    are walked recursively and links followed; hidden entries are skipped. Nothing is opened, only looked at. Below each
    input a folder is visited once, however many links lead to it: under its own path where that is below the input,
    else under the first link in the order of names. Links to files are candidates of their own. ``**`` in a glob
    stands for the same folders, so that it ends where links lead in circles.

    Raises
    ------
    UsageError
        If a named path does not exist, or there is no candidate at all.
    """
    if not inputs:
        raise UsageError("no input given; name folders, video files, a list file or '-'")
    named = [absolute for text in inputs for absolute in _expand(text)]
    if not named:
        raise UsageError(f"the list {inputs[0]!r} names no file; write one path per line")
    root = _common_root(named)
    collector = _Collector(root, is_whole=str(root) in named)
    for path in named:
        if os.path.isdir(path):
            collector.walk(path)
        else:
            collector.add_named(path)
    found = collector.result()
    if not found.videos and not found.failures:
        raise UsageError(
            f"no video found in {_shown(str(found.root))} ({found.num_other} other files); "
            f"accepted suffixes: {' '.join(sorted(VIDEO_SUFFIXES))}"
        )
    return found


def _expand(text: str) -> list[str]:
    """Absolute paths that one argument stands for; an existing path is never read as a pattern."""
    if text == "-":
        lines = sys.stdin.buffer.read().split(b"\n")
        return _listed(lines, os.getcwd(), "standard input")
    if not text:
        raise UsageError("an input is the empty string; name a folder or a file")
    if os.path.lexists(text):
        if text.lower().endswith(LIST_SUFFIXES) and os.path.isfile(text):
            return _read_list(text)
        return [os.path.abspath(text)]
    if glob.has_magic(text):
        matches = {os.path.abspath(match) for match in _matches(text)}
        if matches:
            return sorted(matches, key=os.fsencode)
        raise UsageError(f"the pattern {_shown(text)} matches nothing")
    raise UsageError(f"{_shown(text)} does not exist; inputs are folders, files, globs, a list file or '-'")


def _matches(pattern: str) -> Iterator[str]:
    """Paths that match `pattern`; ``**`` between separators is any number of folders, each visited once."""
    parts = pattern.replace(os.altsep or os.sep, os.sep).split(os.sep)
    if "**" not in parts:
        yield from glob.iglob(pattern)
        return
    place = parts.index("**")
    rest = list(itertools.dropwhile("**".__eq__, parts[place:]))
    above = os.path.join(os.sep.join(parts[:place]) or os.sep, "") if place else os.curdir
    for top in glob.iglob(above):
        if not rest:
            yield top  # all that is below, as if the folder had been named
            continue
        for folder, _, _ in _Walk(top):
            yield from _matches(os.path.join(glob.escape(folder), *rest))


def _read_list(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except OSError as error:
        raise UsageError(f"the list {_shown(path)} cannot be read: {error.strerror}") from error
    return _listed(lines, os.path.dirname(os.path.abspath(path)), _shown(path))


def _listed(lines: Sequence[bytes], folder: str, name: str) -> list[str]:
    """Paths of a list, relative to `folder`; blank lines and lines starting with ``#`` are skipped."""
    paths = []
    for number, raw in enumerate(lines, start=1):
        line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
        line = line.removesuffix(b"\r")
        if not line.strip() or line.startswith(b"#"):
            continue
        if b"\0" in line:
            raise UsageError(f"{name}:{number}: not a path (it holds a NUL byte); a list has one path per line")
        path = os.path.abspath(os.path.join(folder, os.fsdecode(line)))
        if not os.path.lexists(path):
            raise UsageError(f"{name}:{number}: {_shown(path)} does not exist")
        paths.append(path)
    return paths


def _common_root(named: Sequence[str]) -> Path:
    return Path(os.path.commonpath([path if os.path.isdir(path) else os.path.dirname(path) for path in named]))


Entries = list["os.DirEntry[str]"]


class _Walk:
    """Every folder from `top` down, links followed: each real one once, first under its own path.

    An iterator of the folder's path, its entries in the order of their bytes (hidden ones left out), and the error if
    it cannot be listed.
    """

    def __init__(self, top: str) -> None:
        self.pending = [top]
        self.links: list[tuple[str, tuple[int, int]]] = []
        self.visited: set[tuple[int, int]] = set()
        self.too_deep: list[str] = []

    def __iter__(self) -> Iterator[tuple[str, Entries, OSError | None]]:
        while self.pending or self.links:
            current, identity = (self.pending.pop(), None) if self.pending else heapq.heappop(self.links)
            try:
                identity = identity or _identity(os.stat(current))
                if identity in self.visited:
                    continue
                self.visited.add(identity)
                with os.scandir(current) as found:
                    entries = [entry for entry in found if not entry.name.startswith(".")]
            except OSError as error:
                yield current, [], error
                continue
            entries.sort(key=lambda entry: os.fsencode(entry.name))
            self.pending += [entry.path for entry in reversed(entries) if self._is_own_folder(entry)]
            yield current, entries, None
        known: dict[str, tuple[int, int] | None] = {}
        for path in self.too_deep:
            target = _folder_behind(path, known)
            if target is not None and target not in self.visited:
                yield path, [], OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def _is_own_folder(self, entry: os.DirEntry[str]) -> bool:
        """Whether `entry` is a folder; a link to one waits until all that are no links have been visited."""
        try:
            if not entry.is_symlink():
                return entry.is_dir()
            if entry.is_dir() and (identity := _identity(entry.stat())) not in self.visited:
                heapq.heappush(self.links, (entry.path, identity))
        except OSError as error:
            if error.errno == errno.ELOOP:
                self.too_deep.append(entry.path)
        return False


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _folder_behind(path: str, known: dict[str, tuple[int, int] | None]) -> tuple[int, int] | None:
    """The folder that a path of more links than the system follows leads to, None if to none.

    `known` is what was found before, so that a chain of links is gone along once and not once for each of them.
    """
    followed: list[str] = []
    found = None
    with contextlib.suppress(OSError):
        while True:
            path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
            if path in known:
                found = known[path]
                break
            known[path] = None  # where a circle leads
            followed.append(path)
            path = os.path.join(os.path.dirname(path), os.readlink(path))
            try:
                status = os.stat(path)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
            else:
                found = _identity(status) if stat.S_ISDIR(status.st_mode) else None
                break
    known.update(dict.fromkeys(followed, found))
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


@dataclass
class _Collector:
    """Gathers candidates below one root; each path once."""

    root: Path
    is_whole: bool
    videos: dict[str, Video] = field(default_factory=dict)
    failures: dict[str, Receipt] = field(default_factory=dict)
    num_other: int = 0
    listed: set[str] = field(default_factory=set)
    duplicates: list[Receipt] = field(default_factory=list)
    named: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._start = os.path.join(self.root, "")

    def result(self) -> Discovery:
        videos = sorted(self.videos.values(), key=lambda video: os.fsencode(video.id))
        failures = [*self.failures.values(), *self.duplicates]
        failures.sort(key=lambda receipt: os.fsencode(receipt.video))
        return Discovery(self.root, videos, failures, self.num_other, self.is_whole)

    def add_named(self, path: str) -> None:
        """Take a file that the caller named: a candidate whatever it is called."""
        if path in self.named:
            return  # the same argument twice says nothing new
        self.named.add(path)
        name = self._id(path)
        if name in self.videos:
            self.duplicates.append(
                Receipt(name, "skipped", "duplicate_path", "reached twice by overlapping inputs; read once")
            )
        elif name not in self.failures:
            self._classify(path)

    def walk(self, folder: str) -> None:
        """Take every candidate below `folder`."""
        for current, entries, error in _Walk(folder):
            if error is not None:
                self._refuse_folder(current, error)
            elif current not in self.listed:  # overlapping inputs count no other file twice
                self.listed.add(current)
                for entry in entries:
                    if not _is_folder(entry):
                        self._take(entry)

    def _take(self, entry: os.DirEntry[str]) -> None:
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix not in VIDEO_SUFFIXES:
            self.num_other += 1
        elif entry.is_file(follow_symlinks=False):
            self._classify_mode(entry.path, suffix, stat.S_IFREG)  # the listing told so: no need to ask again
        else:
            self._classify(entry.path)

    def _classify(self, path: str) -> None:
        try:
            mode = os.stat(path).st_mode
        except PermissionError as error:
            self._refuse(path, "permission_denied", "", str(error.strerror))
        except OSError as error:
            if os.path.islink(path):
                self._refuse(path, "unreadable", "broken_link", f"the link leads nowhere: {error.strerror}")
            else:
                self._refuse(path, "vanished", "", str(error.strerror))
        else:
            self._classify_mode(path, os.path.splitext(path)[1].lower(), mode)

    def _classify_mode(self, path: str, suffix: str, mode: int) -> None:
        if not stat.S_ISREG(mode):
            self._refuse(path, "skipped", "not_a_regular_file", f"it is a {_kind(mode)}")
        elif suffix in OTHER_SUFFIXES:
            self._refuse(path, "skipped", "extension", f"{suffix} is no video suffix")
        else:
            name = self._id(path)
            self.videos.setdefault(name, Video(self.root, name, Path(path)))

    def _refuse_folder(self, path: str, error: OSError) -> None:
        message = f"folder cannot be listed: {error.strerror}"
        if error.errno == errno.ELOOP:
            self._refuse(path, "unreadable", "broken_link", message)
        else:
            self._refuse(path, "permission_denied", "", message)

    def _refuse(self, path: str, status: str, reason: str, message: str) -> None:
        name = self._id(path)
        if name == ".":  # the input itself: what is known of it must not be replaced by nothing
            raise UsageError(f"{_shown(path)}: {message}; mend its rights, or name another folder")
        self.failures.setdefault(name, Receipt(name, status, reason, message))

    def _id(self, path: str) -> str:
        # what is listed below the root begins with it, and relpath is slow
        below = path[len(self._start) :] if path.startswith(self._start) else os.path.relpath(path, self.root)
        return below.replace(os.sep, "/")


def _kind(mode: int) -> str:
    names = {
        stat.S_IFIFO: "pipe",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "device",
        stat.S_IFBLK: "device",
        stat.S_IFDIR: "folder",
    }
    return names.get(stat.S_IFMT(mode), "special file")


def _shown(text: str) -> str:
    """`text` on one line, in quotes, with bytes that are not UTF-8 written as ``\\xNN``."""
    printable = os.fsencode(text).decode("utf-8", "backslashreplace")
    return repr(printable if len(printable) <= LONGEST_SHOWN else printable[:LONGEST_SHOWN] + "...")
