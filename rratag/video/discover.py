"""Folders, files, globs and lists become candidates: one :class:`Video` each, in a stable order.

Light on purpose: a run with nothing to do imports this and little else.
"""

from __future__ import annotations

import glob
import heapq
import os
import stat
import sys
from collections.abc import Sequence
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
    else under the first link in the order of names. Links to files are candidates of their own.

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
        matches = sorted(glob.glob(text, recursive=True), key=os.fsencode)
        if matches:
            return [os.path.abspath(match) for match in matches]
        raise UsageError(f"the pattern {_shown(text)} matches nothing")
    raise UsageError(f"{_shown(text)} does not exist; inputs are folders, files, globs, a list file or '-'")


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


@dataclass
class _Collector:
    """Gathers candidates below one root; each path once."""

    root: Path
    is_whole: bool
    videos: dict[str, Video] = field(default_factory=dict)
    failures: dict[str, Receipt] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    duplicates: list[Receipt] = field(default_factory=list)
    named: set[str] = field(default_factory=set)

    def result(self) -> Discovery:
        videos = sorted(self.videos.values(), key=lambda video: os.fsencode(video.id))
        failures = [*self.failures.values(), *self.duplicates]
        failures.sort(key=lambda receipt: os.fsencode(receipt.video))
        return Discovery(self.root, videos, failures, len(self.others), self.is_whole)

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
            self._classify(path, explicit=True)

    def walk(self, folder: str) -> None:
        """Take every candidate below `folder`, following links; each real folder once, first where it really lies."""
        pending: list[str] = [folder]
        links: list[str] = []
        visited: set[tuple[int, int]] = set()
        while pending or links:
            current = pending.pop() if pending else heapq.heappop(links)
            try:
                status = os.stat(current)
                identity = (status.st_dev, status.st_ino)
                if identity in visited:
                    continue
                visited.add(identity)
                entries = sorted(os.scandir(current), key=lambda entry: os.fsencode(entry.name))
            except OSError as error:
                self._refuse(current, "permission_denied", "", f"folder cannot be listed: {error.strerror}")
                continue
            folders = []
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if not os.path.isdir(entry.path):
                    self._classify(entry.path, explicit=False)
                elif entry.is_symlink():
                    heapq.heappush(links, entry.path)
                else:
                    folders.append(entry.path)
            pending += reversed(folders)

    def _classify(self, path: str, *, explicit: bool) -> None:
        suffix = os.path.splitext(path)[1].lower()
        if suffix not in VIDEO_SUFFIXES and not explicit:
            self.others.add(path)
            return
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
            self._classify_mode(path, suffix, mode)

    def _classify_mode(self, path: str, suffix: str, mode: int) -> None:
        if not stat.S_ISREG(mode):
            self._refuse(path, "skipped", "not_a_regular_file", f"it is a {_kind(mode)}")
        elif suffix in OTHER_SUFFIXES:
            self._refuse(path, "skipped", "extension", f"{suffix} is no video suffix")
        else:
            name = self._id(path)
            self.videos.setdefault(name, Video(self.root, name, Path(path)))

    def _refuse(self, path: str, status: str, reason: str, message: str) -> None:
        name = self._id(path)
        self.failures.setdefault(name, Receipt(name, status, reason, message))

    def _id(self, path: str) -> str:
        return os.path.relpath(path, self.root).replace(os.sep, "/")


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
    return repr(printable)
