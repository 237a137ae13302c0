"""Made-up content of a cache, written and read by the program itself. Imports no torch: a process starts fast."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from rratag.features.catalog import Catalog, Entry, Listing
from rratag.features.failures import keep_failure, read_failure
from rratag.features.spec import Spec
from rratag.features.store import Features, FeatureStore, SpecStore
from rratag.records import Receipt

SPEC = Spec(
    {"backbone": "toy", "channels": 4, "crops": "1", "input_size": 64, "sampling": {"frames": 3}}, {"precision": "fp32"}
)


def digest(video: str) -> str:
    return hashlib.sha256(video.encode()).hexdigest()


def features_of(video: str) -> Features:
    rng = np.random.default_rng(int(digest(video)[:8], 16))
    maps = np.maximum(rng.normal(size=(3, 1, 2, 2, 4)), 0).astype(np.float16)
    return Features(maps, np.arange(3) + 0.25, np.arange(3) * 7)


def put_features(folder: Path, *videos: str) -> None:
    store = FeatureStore(folder / "cache").create_spec(SPEC)
    for video in videos:
        source = {"name": video, "size": 9, "mtime_ns": 5, "sha256": digest(video)}
        store.write(digest(video)[:32], features_of(video), Receipt(video, "ok"), source)


def read_features_below(folder: Path) -> dict[str, Any]:
    """Bytes of everything in every spec, by key."""
    found = {}
    for path in FeatureStore(folder / "cache").cache.glob("*/spec.json"):
        store = FeatureStore(folder / "cache").open_spec(path.parent.name)
        for key in store.keys():  # noqa: SIM118 - a store is no dict
            one = store.read(key)
            found[key] = (one.maps.tobytes(), one.time_s.tobytes(), one.frame_index.tobytes(), store.header(key).sha256)
        store.close()
    return found


def listing(count: int) -> Listing:
    entries = [Entry(9, 5, digest(str(number)), Receipt(f"{number}.mp4", "ok")) for number in range(count)]
    return Listing(
        Path("/videos"), "extract", SPEC.short, {"backbone": "toy"}, entries, when="2030-01-01T00:00:00.000000+00:00"
    )


def put_listing(folder: Path, count: int, *, part: bool = False) -> None:
    Catalog(folder / "cache").write(listing(count), part=part)


def read_listings(folder: Path) -> tuple[Listing | None, Listing | None]:
    """The finished one and the part; a file under its name that cannot be read is found by their number."""
    catalog = Catalog(folder / "cache")
    found = catalog.find(Path("/videos"), "extract"), catalog.find(Path("/videos"), "extract", part=True)
    assert len(list(catalog.folder.glob("*.json"))) == sum(one is not None for one in found)
    return found


FAILED = Receipt("a.mp4", "unreadable", "empty", "no bytes")


def read_failures(folder: Path) -> list[Receipt | None]:
    store = SpecStore(folder / "cache" / SPEC.short, SPEC)
    names = sorted(path.stem for path in store.failures.glob("*.json"))
    found = [read_failure(store, name, "a.mp4") for name in names]
    assert None not in found
    return found


def put_failure(folder: Path, video: str) -> None:
    store = FeatureStore(folder / "cache").create_spec(SPEC)
    keep_failure(store, digest(video)[:32], FAILED)
