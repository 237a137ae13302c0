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

_PLAYLISTS = (b"#extm3u", b"ffconcat", b"v=0", b"[playlist]", b"[reference]", b"rtsptext")
_XML_PLAYLISTS = (b"<mpd", b"<smil", b"<asx", b"<smoothstreamingmedia", b"xspf.org")
_MARKUP = (b"<?xml", b"<!doctype", b"<html", b"<head", b"<body", b"<mpd", b"<smil", b"<asx", b"<!--")
_PICTURE_BRANDS = (b"avif", b"heic", b"heix", b"mif1")
_JPEG_STREAMS = (".mjpeg", ".mjpg")
_NO_FILE = ("skipped", "not_a_regular_file", "a folder, pipe, socket or device stands where a file was")


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
        return _kind_fault(path) or _head_fault(read_head(path), path.suffix.lower())
    except FileNotFoundError:
        return Fault("vanished", message="the file was there when the folder was listed and is gone")
    except PermissionError as error:
        return Fault("permission_denied", message=str(error.strerror))
    except OSError as error:
        return Fault("unreadable", "corrupt", f"cannot be read: {error.strerror}")


def read_head(path: Path) -> bytes:
    """First bytes of a regular file; never waits, even if it became a pipe meanwhile."""
    with open(path, "rb", buffering=0, opener=open_without_waiting) as file:
        return file.read(HEAD_BYTES) or b""


def open_without_waiting(path: str, flags: int) -> int:
    """Opener of a regular file for `open`; anything else that stands there meanwhile neither blocks nor is read.

    Raises
    ------
    Refused
        If it is no regular file.
    """
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise Refused(*_NO_FILE)


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
        return Fault(*_NO_FILE)
    if status.st_size == 0:
        return Fault("unreadable", "empty", "the file has no bytes")
    return None


def _head_fault(head: bytes, suffix: str) -> Fault | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_PLAYLISTS):
        return Fault("unreadable", "playlist", "a play list, not a video; name the videos it lists")
    if text.startswith(_MARKUP):
        if any(word in text for word in _XML_PLAYLISTS):
            return Fault("unreadable", "playlist", "a play list (XML), not a video; name the videos it lists")
        return Fault("unreadable", "not_media", "an HTML or XML page, perhaps a download that failed")
    if not head.strip(b"\0"):
        return Fault("unreadable", "not_media", "begins with nothing but zero bytes, perhaps an interrupted copy")
    return _picture_fault(head, suffix)


def _picture_fault(head: bytes, suffix: str) -> Fault | None:
    """Single pictures under a video's name; an animated PNG or GIF is a video, and so is JPEG after JPEG."""
    is_still = head.startswith((b"BM", b"II*\0", b"MM\0*"))
    is_still |= head.startswith(b"\xff\xd8\xff") and suffix not in _JPEG_STREAMS
    is_still |= head[4:8] == b"ftyp" and head[8:12] in _PICTURE_BRANDS
    is_still_png = head.startswith(b"\x89PNG\r\n\x1a\n") and b"acTL" not in head
    if is_still or is_still_png:
        return Fault("no_video_stream", "cover_art_only", "a single picture, not a video")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return Fault("unreadable", "unsupported_codec", "WebP is not read; convert it to mp4 or webm")
    return None
