"""What a run has to do: which candidates have features already, which are known to fail, which must be decoded.

Everything here comes from listings and ``stat``; no torch, no HDF5 unless a receipt must be read from a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rratag import files
from rratag.features.catalog import Catalog, Entry, Listing
from rratag.features.parts import Part
from rratag.features.store import FeatureStore, SpecStore
from rratag.records import Receipt, Video
from rratag.video.discover import Discovery

RETRIED = ("permission_denied", "vanished", "changed_while_read")
"""Failures that a second look may cure; the others are remembered until ``--retry-failed``."""


@dataclass
class Plan:
    """`done` need no work; `pending` must be decoded; `unseen` are candidates that never reach a decoder.

    `held` are entries, by id, of pending videos that lack training views alone.
    """

    discovery: Discovery
    done: list[Entry]
    pending: list[Video]
    held: dict[str, Entry] = field(default_factory=dict)

    @property
    def unseen(self) -> list[Entry]:
        """Entries of what discovery itself refused (broken links, pipes)."""
        return [Entry(0, 0, "", receipt) for receipt in self.discovery.failures]


def make_plan(discovery: Discovery, parts: Sequence[Part], catalog: Catalog, *, retry_failed: bool = False) -> Plan:
    """Sort the candidates of `discovery` into done and pending.

    Parameters
    ----------
    parts : the base and its training views; a video is done where all of them have its features
    """
    root = discovery.root.resolve()
    listings = list(catalog.remembered(root))
    seen = [{entry.id: entry for entry in listing.entries} for listing in listings]
    plan = Plan(discovery, [], [])
    for video in discovery.videos:
        entry = _recall(video, parts[0].stores, list(zip(listings, seen, strict=True)), retry_failed)
        if entry is not None and (not entry.key or all(part.has(entry.key) for part in parts[1:])):
            plan.done.append(entry)
            continue
        plan.pending.append(video)
        if entry is not None:
            plan.held[video.id] = entry
    return plan


def _recall(
    video: Video, stores: Sequence[SpecStore], listings: list[tuple[Listing, dict[str, Entry]]], retry_failed: bool
) -> Entry | None:
    """The entry of an unchanged video that needs no work, or None."""
    known = [(listing, entries[video.id]) for listing, entries in listings if video.id in entries]
    if not known:
        return None
    try:
        found = files.stamp(video.path.stat())
    except OSError:
        return None
    for listing, entry in reversed(known):
        # programs set the time of change back (copies, archives); the system's own note of it they cannot
        if (entry.size, entry.mtime_ns, entry.ctime_ns) != found:
            continue
        same_spec = any(listing.spec == store.folder.name for store in stores)
        if entry.receipt.usable:
            if same_spec and any(store.has(entry.key) for store in stores):
                return entry
            holder = next((store for store in stores if store.is_whole(entry.key)), None)
            if holder is not None:
                return replace(entry, receipt=receipt_of(holder, entry.key, video.id))
        elif same_spec and not retry_failed and entry.receipt.status not in RETRIED:
            return entry
    return None


def receipt_of(store: SpecStore, key: str, video_id: str) -> Receipt:
    """The receipt kept with the features of `key`, under the name of `video_id`."""
    return replace(store.header(key).receipt, video=video_id)


def open_stores(store: FeatureStore, short: str) -> list[SpecStore]:
    """The store of spec `short` and those of equal meaning behind it; none if the cache has no such spec."""
    if not (store.cache / short / "spec.json").exists():
        return []
    first = store.open_spec(short)
    return [first, *(other for other in store.with_meaning(first.spec.meaning_digest) if other.folder != first.folder)]
