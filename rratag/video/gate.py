"""The gate before any decoder: what can be told from a file's kind, size and first bytes alone.

A pipe would hang a decoder for ever and a play list would make it open other files, so neither ever reaches one.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

HEAD_BYTES = 4096
"""How much of a file is sniffed."""

_PLAYLISTS = (b"#extm3u", b"ffconcat", b"v=0", b"[playlist]", b"[reference]")
_XML_PLAYLISTS = (b"<mpd", b"<smil", b"<asx", b"<smoothstreamingmedia", b"xspf.org")
_MARKUP = (b"<?xml", b"<!doctype", b"<html", b"<head", b"<body", b"<mpd", b"<smil", b"<asx", b"<!--")


@dataclass(frozen=True)
class Fault:
    """Why a file gives no pictures: a status of ``records.STATUSES``, its reason and one line for the user."""

    status: str
    reason: str = ""
    message: str = ""


class Refused(Exception):  # noqa: N818 - it is an outcome, not a mistake
    """Carries a :class:`Fault` out of nested calls."""

    def __init__(self, status: str, reason: str = "", message: str = "") -> None:
        super().__init__(message or status)
        self.fault = Fault(status, reason, message)


def gate(path: Path) -> Fault | None:
    """Refuse what no decoder should see; None if `path` may be opened by one.

    Looks at links, kind and size without opening anything, then reads the first ``HEAD_BYTES`` bytes.
    """
    try:
        return _kind_fault(path) or _head_fault(read_head(path))
    except FileNotFoundError:
        return Fault("vanished", message="the file was there when the folder was listed and is gone")
    except PermissionError as error:
        return Fault("permission_denied", message=str(error.strerror))
    except OSError as error:
        return Fault("unreadable", "corrupt", f"cannot be read: {error.strerror}")


def read_head(path: Path) -> bytes:
    """First bytes of a regular file; never waits, even if it became a pipe meanwhile."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        return os.read(descriptor, HEAD_BYTES)
    finally:
        os.close(descriptor)


def _kind_fault(path: Path) -> Fault | None:
    is_link = stat.S_ISLNK(os.lstat(path).st_mode)
    try:
        status = os.stat(path)
    except PermissionError:
        raise
    except OSError as error:
        if not is_link:
            raise
        return Fault("unreadable", "broken_link", f"the link leads nowhere: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):
        return Fault("skipped", "not_a_regular_file", "a folder, pipe, socket or device stands where a file was")
    if status.st_size == 0:
        return Fault("unreadable", "empty", "the file has no bytes")
    return None


def _head_fault(head: bytes) -> Fault | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_PLAYLISTS):
        return Fault("unreadable", "playlist", "a play list, not a video; name the videos it lists")
    if text.startswith(_MARKUP):
        if any(word in text for word in _XML_PLAYLISTS):
            return Fault("unreadable", "playlist", "a play list (XML), not a video; name the videos it lists")
        return Fault("unreadable", "not_media", "an HTML or XML page, perhaps a download that failed")
    if not head.strip(b"\0"):
        return Fault("unreadable", "not_media", "begins with nothing but zero bytes, perhaps an interrupted copy")
    return _picture_fault(head)


def _picture_fault(head: bytes) -> Fault | None:
    """Single pictures under a video's name; an animated PNG or GIF is a video."""
    is_still = head.startswith((b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*"))
    is_still_png = head.startswith(b"\x89PNG\r\n\x1a\n") and b"acTL" not in head
    if is_still or is_still_png:
        return Fault("no_video_stream", "cover_art_only", "a single picture, not a video")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return Fault("unreadable", "unsupported_codec", "WebP is not read; convert it to mp4 or webm")
    return None
