"""Keeping a cache in order: what is damaged, what nobody needs, what a killed run left. Imports no torch.

Nothing here removes anything by itself: lists come out, the command line asks, then :func:`remove` acts.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rratag import files, sealed, untrusted
from rratag.errors import CacheError, DamagedError, StoppedError
from rratag.features.catalog import Catalog
from rratag.features.spec import base_of, digest
from rratag.features.store import KEY_DIGITS, FeatureStore, SpecStore

MAX_CONFIG = 2**24
LEFTOVER_S = 3600.0
"""A temporary file older than this (seconds) belongs to no run that still lives: writing one takes moments."""


@dataclass(frozen=True)
class Checked:
    """One features file: `problem` is empty if all is well; `videos` are the paths that hold this content."""

    path: Path
    problem: str
    videos: list[str]
    moved_to: Path | None = None


@dataclass(frozen=True)
class Removal:
    """A file that may go, why, and its size in bytes; `always` even if it is young."""

    path: Path
    why: str
    size: int
    always: bool = False


def verify(store: FeatureStore) -> Iterator[Checked]:
    """Read every features file whole; what is damaged is set aside, so that the next run makes it again.

    A file that cannot be judged here (no right to read it, a newer format), or moved, is reported and left where it is.
    """
    names = _names(Catalog(store.cache))
    for spec in store.specs():
        for key in spec.keys():  # noqa: SIM118 - a store is no dict
            try:
                spec.check(key)
            except DamagedError as error:
                yield Checked(spec.path(key), str(error), names[key], _set_aside(spec, key))
            except CacheError as error:
                yield Checked(spec.path(key), str(error), names[key])
            else:
                yield Checked(spec.path(key), "", names[key])


def _set_aside(spec: SpecStore, key: str) -> Path | None:
    """Where a damaged file is now; None where a cache may only be read."""
    try:
        return spec.set_aside(key)
    except StoppedError:
        return None


def count(store: FeatureStore) -> int:
    """Features files in the cache."""
    return sum(len(spec.keys()) for spec in store.specs())


def _names(catalog: Catalog) -> defaultdict[str, list[str]]:
    """Paths by the key of their content."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for listing in catalog.all():
        for entry in listing.entries:
            path = str(listing.root / entry.id)
            if entry.key and path not in names[entry.key]:
                names[entry.key].append(path)
    return names


def unknown(store: FeatureStore) -> list[Removal]:
    """Features, and notes of failures, of content that no listing knows: its videos changed or left their folders.

    Young files are left out: a run that is still going on may have made them.

    Raises
    ------
    CacheError
        If a listing is damaged: what it knew would seem unknown.
    """
    catalog = Catalog(store.cache)
    listings = [*catalog.all(), *catalog.unfinished()]
    known = {entry.sha256[:KEY_DIGITS] for listing in listings for entry in listing.entries}
    for path in catalog.damaged():
        raise CacheError(f"{path}: a damaged listing; run rratag extract on its folder again; delete it if it stays so")
    removals = []
    for spec in store.specs():
        for path in _below(spec):
            if path.stem not in known and _is_old(path):
                removals.append(_removal(path, "no scanned folder holds this content"))
    return removals


def unused(store: FeatureStore, models: Path) -> list[Removal]:
    """Features of specs that no model below the folder `models` was trained on, young files left out.

    A training view is needed as long as its base is: it may be asked for in the next training on it.

    None if there is no model at all, or an unfinished training, of which nobody knows what it needs.
    """
    needed = _meanings(models)
    if not needed or any(models.rglob(".*.checkpoint")):
        return []
    return [
        _removal(path, f"no model in {models} uses features of spec {spec.folder.name}")
        for spec in store.specs()
        if digest(base_of(spec.spec.meaning)) not in needed
        for path in _below(spec)
        if _is_old(path)
    ]


def leftovers(store: FeatureStore) -> list[Removal]:
    """What killed runs left and what `verify` set aside: nothing that any run would read."""
    if not store.exists:
        return []  # whatever lies there is not ours
    folders = [store.cache, Catalog(store.cache).folder]
    for spec in store.specs():
        folders += [spec.folder, spec.failures, spec.damaged, *spec.folder.glob("[0-9a-f][0-9a-f]")]
    removals = [
        _removal(path, "left by a run that was killed")
        for folder in folders
        for path in sorted(folder.glob(f"{files.TEMPORARY_PREFIX}*"))
        if path.is_file() and _is_old(path)
    ]
    for spec in store.specs():
        removals += [_removal(path, "damaged, set aside", always=True) for path in sorted(spec.damaged.glob("*.h5"))]
    return removals


def remove(removals: Iterable[Removal]) -> tuple[int, int]:
    """Delete the files and the folders they leave empty; how many files went, and their bytes.

    Raises
    ------
    CacheError
        If one cannot be deleted; those before it are gone.
    """
    number = size = 0
    for removal in removals:
        if not _is_old(removal.path) and not removal.always:
            continue  # written anew since the question was asked
        try:
            removal.path.unlink(missing_ok=True)
        except OSError as error:
            raise CacheError(f"{removal.path}: cannot be deleted ({error.strerror})") from error
        number, size = number + 1, size + removal.size
        _remove_if_empty(removal.path.parent)
    return number, size


def _remove_if_empty(folder: Path) -> None:
    """Remove `ab`, `failed` or `damaged`, and a spec's folder that holds nothing but its ``spec.json``."""
    if folder.name not in ("failed", "damaged") and not untrusted.is_hex(folder.name, 2):
        return
    try:
        os.rmdir(folder)
        if os.listdir(folder.parent) == ["spec.json"]:
            (folder.parent / "spec.json").unlink()
            os.rmdir(folder.parent)
    except OSError:
        pass  # not empty, or another run was faster: it stays


def _is_old(path: Path) -> bool:
    """Whether no run that still lives can have made the file; one that has gone meanwhile is none of ours."""
    try:
        # a clock that was set back gives files of the future: those are old, too
        return abs(time.time() - path.lstat().st_mtime) > LEFTOVER_S
    except FileNotFoundError:
        return False


def _removal(path: Path, why: str, *, always: bool = False) -> Removal:
    try:
        size = path.lstat().st_size
    except FileNotFoundError:
        size = 0
    return Removal(path, why, size, always)


def _below(spec: SpecStore) -> list[Path]:
    return [spec.path(key) for key in spec.keys()] + sorted(spec.failures.glob("*.json"))  # noqa: SIM118


def _meanings(models: Path) -> set[str]:
    """Digests of what the features of each model mean."""
    found = set()
    for path in models.rglob("config.json"):
        try:
            content = untrusted.read_bytes(path, MAX_CONFIG)
            found.add(digest(untrusted.parse_json(content)["meaning"]))
            if not sealed.is_whole(content):
                raise ValueError("it was changed after it was written")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CacheError(f"{path}: cannot be read ({error}); mend or remove this model first") from error
    return found
