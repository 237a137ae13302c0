"""Listings: which paths hold which content."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rratag.errors import CacheError
from rratag.features.catalog import Catalog, Entry, Listing
from rratag.records import Receipt

SHA256 = "ab" * 32
ENTRIES = [
    Entry(10, 1_700_000_000_123_456_789, SHA256, Receipt("z/ä b.mp4", "ok", width=64, height=48, duration_s=1.5)),
    Entry(
        11,
        2,
        "cd" * 32,
        Receipt("a/\udcff\udc80.mp4", "partial", "frames", "3 of 5", frames_wanted=5, frames_decoded=3),
    ),
    Entry(0, 0, "", Receipt("b/gone.mp4", "unreadable", "broken_link", 'leads "nowhere"\\')),
    Entry(5, 3, "ef" * 32, Receipt("b/bad.mp4", "unreadable", "corrupt", rotation=270)),
]


def listing(root: Path, command: str = "extract", **changes: object) -> Listing:
    return replace(Listing(root, command, "0123456789abcdef", {"crops": "full"}, ENTRIES), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["videos", "vid\udcffeos", "ü ö"])
def test_a_listing_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    wanted = listing(tmp_path / name)
    Catalog(tmp_path / "cache").write(wanted)
    found = Catalog(tmp_path / "cache").find(tmp_path / name, "extract")
    assert found == wanted
    assert Catalog(tmp_path / "cache").all() == [wanted]


def test_only_usable_videos_have_a_key_and_they_are_sorted(tmp_path: Path) -> None:
    assert listing(tmp_path).ids_to_keys() == {"a/\udcff\udc80.mp4": "cd" * 16, "z/ä b.mp4": "ab" * 16}
    assert list(listing(tmp_path).ids_to_keys()) == ["a/\udcff\udc80.mp4", "z/ä b.mp4"]
    assert [entry.key for entry in ENTRIES] == ["ab" * 16, "cd" * 16, "", ""]


def test_commands_and_roots_have_listings_of_their_own(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "cache")
    kept = [listing(tmp_path / "a"), listing(tmp_path / "a", "predict"), listing(tmp_path / "b")]
    for one in kept:
        catalog.write(one)
    assert [catalog.find(one.root, one.command) for one in kept] == kept
    assert catalog.find(tmp_path / "b", "predict") is None
    catalog.write(listing(tmp_path / "a", entries=[]))
    assert catalog.find(tmp_path / "a", "predict") == kept[1]
    assert len(catalog.all()) == 3


def test_latest_is_the_newest_of_its_command(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "cache")
    with pytest.raises(CacheError, match="run first: rratag extract"):
        catalog.latest()
    for name, command, when in (
        ("a", "extract", "2026-01-02T00:00:00.000001+00:00"),
        ("b", "extract", "2026-01-02T00:00:00.000002+00:00"),
        ("c", "extract", "2025-12-31T23:59:59.999999+00:00"),
        ("d", "predict", "2026-01-03T00:00:00.000000+00:00"),
    ):
        catalog.write(listing(tmp_path / name, command, when=when))
    assert catalog.latest("extract").root.name == "b"
    assert catalog.latest("predict").root.name == "d"
    assert [one.root.name for one in catalog.all()] == ["d", "b", "a", "c"]


def test_a_new_listing_is_newer_than_the_one_before(tmp_path: Path) -> None:
    times = [listing(tmp_path).when for _ in range(3)]
    assert times == sorted(times)
    assert times[0].endswith("+00:00")


def test_an_unfinished_run_is_remembered_beside_the_finished_one(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "cache")
    finished, unfinished = listing(tmp_path / "a"), listing(tmp_path / "a", entries=ENTRIES[:1])
    catalog.write(finished)
    catalog.write(unfinished, part=True)
    predicted = listing(tmp_path / "a", "predict", entries=ENTRIES[1:2])
    catalog.write(predicted)
    assert catalog.find(tmp_path / "a", "extract") == finished
    assert catalog.find(tmp_path / "a", "extract", part=True) == unfinished
    assert list(catalog.remembered(tmp_path / "a")) == [unfinished, finished, predicted]
    assert {one.command for one in catalog.all()} == {"extract", "predict"}
    assert len(catalog.all()) == 2
    catalog.write(finished)
    assert catalog.find(tmp_path / "a", "extract", part=True) is None


def test_a_root_behind_a_link_is_the_same_root(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    catalog = Catalog(tmp_path / "cache")
    catalog.write(listing(tmp_path / "real"))
    assert catalog.find(tmp_path / "link", "extract") is not None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": "rratag-root", "version": 2}',
        '{"format": "rratag-root", "version": 1}',
        "\udcff",
        "UNKNOWN STATUS",
        "VIDEOS ARE TEXT",
    ],
)
def test_a_corrupted_listing_is_ignored(tmp_path: Path, content: str) -> None:
    catalog = Catalog(tmp_path / "cache")
    catalog.write(listing(tmp_path / "a"))
    (path,) = catalog.folder.iterdir()
    text = path.read_text()
    if content == "UNKNOWN STATUS":
        content = text.replace('"unreadable"', '"eaten"')
    if content == "VIDEOS ARE TEXT":
        content = json.dumps({**json.loads(text), "videos": "none"})
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert catalog.find(tmp_path / "a", "extract") is None
    assert catalog.all() == []
    assert list(catalog.remembered(tmp_path / "a")) == []
