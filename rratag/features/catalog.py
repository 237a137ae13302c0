"""Which paths hold which content: one listing per scanned root and command. Derived data; JSON; imports no torch.

A file's digest is computed once and remembered by path, size and modification time, so that a folder scanned before is
known again from ``stat`` alone.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from rratag import files, sealed, untrusted
from rratag.errors import CacheError
from rratag.features.store import KEY_DIGITS
from rratag.records import FLOW, MODALITIES, RGB, Receipt

FORMAT = "rratag-root"
VERSION = 1
COMMANDS = ("extract", "predict")
SPEC_DIGITS, SHA256_DIGITS = 16, 64
MAX_BYTES = 2**33
MAX_VALUES = 2**29
"""A listing of a million videos has 350 MB and 14 million values."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One candidate of a listing. `size` in bytes; `sha256` is empty where the content was never read.

    `mtime_ns` and `ctime_ns` are the file's times of change: of its content, as programs may set it, and of anything
    about it, as the system notes it.
    """

    size: int
    mtime_ns: int
    sha256: str
    receipt: Receipt
    ctime_ns: int = 0

    @property
    def id(self) -> str:
        """POSIX path relative to the root."""
        return self.receipt.video

    @property
    def key(self) -> str:
        """Name of its features, empty where it has none."""
        return self.sha256[:KEY_DIGITS] if self.receipt.usable else ""


@dataclass(frozen=True)
class Listing:
    """What one run found under a root. `request` is what was asked for; `spec` the 16 digits it led to.

    There is one for each root, command and modality.
    """

    root: Path
    command: str
    spec: str
    request: dict[str, Any]
    entries: list[Entry]
    when: str = field(default_factory=lambda: _now())

    @property
    def modality(self) -> str:
        """What the features show: "rgb" or "flow"."""
        return FLOW if self.request.get("modality") == FLOW else RGB

    def ids_to_keys(self) -> dict[str, str]:
        """Ids of the videos that have features, with their keys, sorted by id."""
        return {entry.id: entry.key for entry in sorted(self.entries, key=lambda entry: entry.id) if entry.key}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


class Catalog:
    """The listings of a cache folder."""

    def __init__(self, cache: Path) -> None:
        self.folder = cache / "roots"

    def write(self, listing: Listing, *, part: bool = False, aside: bool = False) -> None:
        """Replace the listing of this root, command and modality.

        A finished one is newer than all there are, even where the clock was set back: the newest is what `train` reads.

        Parameters
        ----------
        part : keep that of an unfinished run beside it instead
        aside : keep that of a part of the root, by other settings than those of the whole, beside it instead
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        spec = listing.spec if aside else ""
        path = self._path(listing.root, listing.command, part=part, spec=spec, modality=listing.modality)
        if not part:
            newest = max((_when(other) for other in self.folder.glob("*.json") if other != path), default="")
            if listing.when <= newest:
                listing = replace(listing, when=_later(newest))
        files.write_atomically(path, sealed.to_bytes(_to_json(listing)))
        if not part:
            done = self._path(listing.root, listing.command, part=True, spec=spec, modality=listing.modality)
            done.unlink(missing_ok=True)

    def find(self, root: Path, command: str, *, part: bool = False, modality: str | None = None) -> Listing | None:
        """Listing of `root` (its links resolved) by `command`, or None; without `modality` the newest of either.

        Raises
        ------
        CacheError
            If a newer version of this program wrote it.
        """
        wanted = MODALITIES if modality is None else (modality,)
        paths = (self._path(root.resolve(), command, part=part, modality=one) for one in wanted)
        found = [listing for listing in map(_load, paths) if listing is not None]
        return max(found, key=lambda listing: listing.when, default=None)

    def remembered(self, root: Path) -> Iterator[Listing]:
        """Every listing of `root`, by whichever command, finished or not, oldest knowledge last."""
        for command, part, modality in itertools.product(COMMANDS, (True, False), MODALITIES):
            listing = self.find(root, command, part=part, modality=modality)
            if listing is not None:
                yield listing

    def all(self) -> list[Listing]:
        """Every finished listing, newest first.

        Raises
        ------
        CacheError
            If one was written by a newer version of this program.
        """
        paths = [path for path in self.folder.glob("*.json") if not path.name.endswith(".part.json")]
        found = [listing for listing in map(_load, paths) if listing is not None]
        return sorted(found, key=lambda listing: listing.when, reverse=True)

    def unfinished(self) -> list[Listing]:
        """Listings that runs which have not finished keep, in no particular order."""
        return [listing for listing in map(_load, self.folder.glob("*.part.json")) if listing is not None]

    def damaged(self) -> list[Path]:
        """Files in the place of listings that are none."""
        return [path for path in sorted(self.folder.glob("*.json")) if _load(path) is None and path.exists()]

    def latest(self, command: str = "extract", modality: str | None = None) -> Listing:
        """Newest listing written by `command`, of `modality` or of either, that names a video with features.

        Raises
        ------
        CacheError
            If there is none.
        """
        for listing in self.all():
            fits = listing.command == command and modality in (None, listing.modality)
            if fits and any(entry.key for entry in listing.entries):
                return listing
        option = "" if modality is None else f" --modality {modality}"
        raise CacheError(f"{self.folder.parent}: no extracted videos; run first: rratag extract FOLDER{option}")

    def _path(self, root: Path, command: str, *, part: bool, spec: str = "", modality: str = RGB) -> Path:
        return self.folder / _name(root, command, part=part, spec=spec, modality=modality)


def _later(when: str) -> str:
    """The shortest while after `when`; now, if that is no time."""
    try:
        return (datetime.fromisoformat(when) + timedelta(microseconds=1)).isoformat(timespec="microseconds")
    except (ValueError, OverflowError):
        return _now()


def _when(path: Path) -> str:
    """When a listing was written, from its beginning alone; empty if it does not say."""
    try:
        with open(path, "rb") as file:
            found = _WHEN.search(file.read(_HEAD_BYTES))
    except OSError:
        return ""
    when = found[1].decode() if found else ""
    return when if _is_time(when) else ""


def _is_time(when: str) -> bool:
    try:
        return datetime.fromisoformat(when).utcoffset() == timedelta(0)
    except ValueError:
        return False


def _name(root: Path, command: str, *, part: bool = False, spec: str = "", modality: str = RGB) -> str:
    # surrogates are the bytes of a name that is not UTF-8
    words = [command, str(root), *filter(None, [spec, "" if modality == RGB else modality])]
    name = hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"{name}{'.part' if part else ''}.json"


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float),
}
_RECEIPT = tuple(one.name for one in fields(Receipt) if one.name != "video")
_ROW: dict[str, tuple[type, ...]] = {
    **{one.name: _TYPES[str(one.type)] for one in fields(Receipt) if one.name != "video"},
    "id": (str,),
    "size": (int,),
    "mtime_ns": (int,),
    "ctime_ns": (int,),
    "sha256": (str,),
}
_WHEN = re.compile(rb'(?<!\\)"when": "([0-9T:.+-]{10,40})"')
_HEAD_BYTES = 2**16
_SIGNED = ("mtime_ns", "ctime_ns")
_OWN = {"id", "size", "mtime_ns", "sha256"}
_CLIMBING = frozenset((b"", b".", b".."))
_LISTING = {"root": str, "command": str, "spec": str, "request": dict, "videos": list, "when": str}


def _to_json(listing: Listing) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "root": str(listing.root),
        "command": listing.command,
        "when": listing.when,
        "spec": listing.spec,
        "request": listing.request,
        "videos": [
            {
                "id": entry.id,
                "size": entry.size,
                "mtime_ns": entry.mtime_ns,
                "ctime_ns": entry.ctime_ns,
                "sha256": entry.sha256,
                **receipt_to_json(entry.receipt),
            }
            for entry in listing.entries
        ],
    }


def receipt_to_json(receipt: Receipt) -> dict[str, Any]:
    """The fields of a receipt that are not empty, without its video."""
    values = ((name, getattr(receipt, name)) for name in _RECEIPT)
    return {name: value for name, value in values if value}


def receipt_from_json(video: str, data: dict[str, Any]) -> Receipt | None:
    """What `receipt_to_json` wrote, for the video of this id; None if it did not."""
    entry = _row({**data, "id": video, "size": 0, "mtime_ns": 0, "sha256": "0" * SHA256_DIGITS})
    return None if entry is None else entry.receipt


def _load(path: Path) -> Listing | None:
    """Listing at `path`; None where there is none or it is damaged: listings can be rebuilt, features cannot.

    Raises
    ------
    CacheError
        If a newer version of this program wrote it: it is not ours to replace.
    """
    try:
        # a row becomes an entry as soon as it is read: a million of them as dicts would take gigabytes
        content = untrusted.read_bytes(path, MAX_BYTES)
        data = untrusted.parse_json(content, max_values=MAX_VALUES, make=lambda found: _row(found) or found)
    except (OSError, ValueError):
        return None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        return None
    version = data.get("version")
    if isinstance(version, int) and version > VERSION:
        raise CacheError(f"{path}: listing version {version}, this program reads {VERSION}; upgrade rratag")
    if version != VERSION or not data.keys() >= _LISTING.keys() or not sealed.is_whole(content):
        return None
    try:
        listing = _listing(data)
        return listing if listing is not None and path.name in _names(listing) else None
    except UnicodeEncodeError:  # a root with a surrogate that stands for no byte
        return None


def _listing(data: dict[str, Any]) -> Listing | None:
    """The listing that `data` says, if it says one."""
    if any(type(data[name]) is not kind for name, kind in _LISTING.items()):
        return None
    root, entries = data["root"], data["videos"]
    known = data["command"] in COMMANDS and untrusted.is_hex(data["spec"], SPEC_DIGITS)
    if not known or "\0" in root or not os.path.isabs(root) or not _is_time(data["when"]):
        return None
    if not all(isinstance(entry, Entry) for entry in entries):
        return None
    if len({entry.id for entry in entries}) != len(entries):
        return None
    return Listing(Path(root), data["command"], data["spec"], data["request"], entries, data["when"])


def _names(listing: Listing) -> list[str]:
    return [
        _name(listing.root, listing.command, part=part, spec=spec, modality=listing.modality)
        for part in (False, True)
        for spec in ("", listing.spec)
    ]


def _row(row: dict[str, Any]) -> Entry | None:
    """The entry of a row; None for any other object."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if type(value) not in _ROW.get(name, ()):
            return None
        if type(value) is str:
            found[name] = value if name in _OWN else sys.intern(value)  # few different ones in many rows
        elif value >= 0 or name in _SIGNED:
            found[name] = value
        else:
            return None
    if not found.keys() >= _OWN:
        return None
    size, mtime_ns, sha256, video = (found.pop(name) for name in ("size", "mtime_ns", "sha256", "id"))
    ctime_ns = found.pop("ctime_ns", 0)
    if not _is_below(video) or not (sha256 == "" or untrusted.is_hex(sha256, SHA256_DIGITS)):
        return None
    try:
        receipt = Receipt(video, **found)
    except (TypeError, ValueError):
        return None
    return Entry(size, mtime_ns, sha256, receipt, ctime_ns) if sha256 or not receipt.usable else None


def _is_below(video: str) -> bool:
    """Whether an id is what it must be: a path relative to the root that stays below it."""
    try:
        name = os.fsencode(video)
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return False
    return b"\0" not in name and _CLIMBING.isdisjoint(name.split(b"/"))
