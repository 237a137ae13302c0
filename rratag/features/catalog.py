"""Which paths hold which content: one listing per scanned root and command. Derived data; JSON; imports no torch.

A file's digest is computed once and remembered by path, size and modification time, so that a folder scanned before is
known again from ``stat`` alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rratag import files
from rratag.errors import CacheError
from rratag.features.store import KEY_DIGITS
from rratag.records import Receipt

FORMAT = "rratag-root"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One candidate of a listing. `size` in bytes; `sha256` is empty where the content was never read."""

    size: int
    mtime_ns: int
    sha256: str
    receipt: Receipt

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
    """What one run found under a root. `request` is what was asked for; `spec` the 16 digits it led to."""

    root: Path
    command: str
    spec: str
    request: dict[str, Any]
    entries: list[Entry]
    when: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="microseconds"))

    def ids_to_keys(self) -> dict[str, str]:
        """Ids of the videos that have features, with their keys, sorted by id."""
        return {entry.id: entry.key for entry in sorted(self.entries, key=lambda entry: entry.id) if entry.key}


class Catalog:
    """The listings of a cache folder."""

    def __init__(self, cache: Path) -> None:
        self.folder = cache / "roots"

    def write(self, listing: Listing, *, part: bool = False) -> None:
        """Replace the listing of this root and command; `part` keeps that of an unfinished run beside it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(listing.root, listing.command, part=part)
        files.write_atomically(path, json.dumps(_to_json(listing), ensure_ascii=True).encode())
        if not part:
            self._path(listing.root, listing.command, part=True).unlink(missing_ok=True)

    def find(self, root: Path, command: str, *, part: bool = False) -> Listing | None:
        """Listing of `root` (its links resolved) by `command`, or None."""
        return _load(self._path(root.resolve(), command, part=part))

    def remembered(self, root: Path) -> Iterator[Listing]:
        """Every listing of `root`, by whichever command, finished or not, oldest knowledge last."""
        for command in ("extract", "predict"):
            for part in (True, False):
                listing = self.find(root, command, part=part)
                if listing is not None:
                    yield listing

    def all(self) -> list[Listing]:
        """Every finished listing, newest first."""
        paths = [path for path in self.folder.glob("*.json") if not path.name.endswith(".part.json")]
        found = [listing for listing in map(_load, paths) if listing is not None]
        return sorted(found, key=lambda listing: listing.when, reverse=True)

    def latest(self, command: str = "extract") -> Listing:
        """Newest listing written by `command` that names a video with features.

        Raises
        ------
        CacheError
            If there is none.
        """
        for listing in self.all():
            if listing.command == command and any(entry.key for entry in listing.entries):
                return listing
        raise CacheError(f"{self.folder.parent}: no extracted videos; run first: rratag extract FOLDER")

    def _path(self, root: Path, command: str, *, part: bool) -> Path:
        # surrogateescape keeps the bytes of a name that is not UTF-8
        name = hashlib.sha256(f"{command}\0{root}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
        return self.folder / f"{name}{'.part' if part else ''}.json"


_RECEIPT_FIELDS = frozenset(f.name for f in fields(Receipt))


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
            {"id": entry.id, "size": entry.size, "mtime_ns": entry.mtime_ns, "sha256": entry.sha256}
            | {name: value for name, value in asdict(entry.receipt).items() if name != "video" and value}
            for entry in listing.entries
        ],
    }


def _load(path: Path) -> Listing | None:
    """Listing at `path`; None where there is none or it is not ours: listings can be rebuilt, features cannot."""
    try:
        data = json.loads(path.read_text())
        if data["format"] != FORMAT or data["version"] != VERSION:
            return None
        return Listing(
            Path(data["root"]),
            data["command"],
            data["spec"],
            data["request"],
            list(_entries(data["videos"])),
            data["when"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _entries(rows: Iterable[dict[str, Any]]) -> Iterator[Entry]:
    for row in rows:
        receipt = {name: value for name, value in row.items() if name in _RECEIPT_FIELDS}
        yield Entry(row["size"], row["mtime_ns"], row["sha256"], Receipt(video=row["id"], **receipt))
