"""Listings: which paths hold which content."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rratag import sealed
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


def test_modalities_have_listings_of_their_own(tmp_path: Path) -> None:
    catalog, root = Catalog(tmp_path / "cache"), tmp_path / "a"
    catalog.write(listing(root))
    assert catalog.find(root, "extract", modality="flow") is None
    with pytest.raises(CacheError, match="run first: rratag extract FOLDER --modality flow"):
        catalog.latest("extract", "flow")
    catalog.write(listing(root, request={"modality": "flow"}, spec="f" * 16))
    rgb, flow = (catalog.find(root, "extract", modality=name) for name in ("rgb", "flow"))
    assert rgb is not None
    assert flow is not None
    assert (rgb.modality, rgb.spec, flow.modality, flow.spec) == ("rgb", "0123456789abcdef", "flow", "f" * 16)
    assert catalog.find(root, "extract") == catalog.latest("extract") == flow  # the newest
    assert catalog.latest("extract", "rgb") == rgb
    assert list(catalog.remembered(root)) == [rgb, flow]
    catalog.write(listing(root), part=True)
    catalog.write(flow)  # finishes that of its own modality alone
    assert catalog.find(root, "extract", part=True) is not None
    catalog.write(rgb)
    assert catalog.find(root, "extract", part=True) is None
    assert catalog.latest("extract").modality == "rgb"


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
    # the clock was set back before c was extracted: what was written last is the newest all the same
    assert catalog.latest("extract").root.name == "c"
    assert catalog.latest("predict").root.name == "d"
    assert [one.root.name for one in catalog.all()] == ["d", "c", "b", "a"]
    assert catalog.all()[1].when == "2026-01-02T00:00:00.000003+00:00"


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
        '{"format": "rratag-root", "version": 0}',
        '{"format": "rratag-root", "version": 1}',
        '{"format": "rratag-root", "version": "2"}',
        "[" * 100_000,
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
        content = sealed.to_bytes(json.loads(text.replace('"unreadable"', '"eaten"'))).decode()
    if content == "VIDEOS ARE TEXT":
        content = sealed.to_bytes({**json.loads(text), "videos": "none"}).decode()
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert catalog.find(tmp_path / "a", "extract") is None
    assert catalog.all() == []
    assert list(catalog.remembered(tmp_path / "a")) == []


@pytest.mark.parametrize("part", [False, True])
def test_a_listing_of_a_newer_version_is_told_and_kept(tmp_path: Path, part: bool) -> None:
    catalog = Catalog(tmp_path / "cache")
    catalog.write(listing(tmp_path / "a"), part=part)
    (path,) = catalog.folder.iterdir()
    path.write_text('{"format": "rratag-root", "version": 2, "more": []}')
    with pytest.raises(CacheError, match=r"listing version 2, this program reads 1; upgrade rratag") as caught:
        list(catalog.remembered(tmp_path / "a"))
    assert str(path) in str(caught.value)
    assert "more" in path.read_text()


ROWS: dict[str, dict[str, Any]] = {
    "size of text": {"size": "10"},
    "size of True": {"size": True},
    "negative size": {"size": -1},
    "half a size": {"size": 1.5},
    "time of text": {"mtime_ns": "1"},
    "time over 64 bits": {"mtime_ns": 2**63},
    "digest that climbs": {"sha256": "../../../../etc/passwd"},
    "long digest that climbs": {"sha256": "../" * 10 + "a" * 34},
    "capitals": {"sha256": "AB" * 32},
    "short digest": {"sha256": "ab" * 31},
    "no digest, but features": {"sha256": "", "status": "ok", "reason": ""},
    "unknown status": {"status": "eaten"},
    "status of a list": {"status": ["ok"]},
    "reason of another status": {"status": "ok", "reason": "empty"},
    "absolute": {"id": "/etc/a.mp4"},
    "climbing": {"id": "a/../../b.mp4"},
    "folder itself": {"id": "."},
    "no name": {"id": ""},
    "NUL": {"id": "a\0.mp4"},
    "a name that no disk can hold": {"id": "\ud800.mp4"},
    "id of a number": {"id": 3},
    "message of a dict": {"message": {}},
    "width of text": {"width": "64"},
    "negative frames": {"frames_wanted": -5},
    "duration of text": {"duration_s": "long"},
    "another field": {"colour": "red"},
    "video": {"video": "b.mp4"},
    "the id of another": {"id": "b/gone.mp4"},
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_that_we_would_not_write_makes_a_listing_none(tmp_path: Path, name: str) -> None:
    catalog = Catalog(tmp_path / "cache")
    catalog.write(listing(tmp_path / "a"))
    (path,) = catalog.folder.iterdir()
    content = json.loads(path.read_text())
    content["videos"][0] |= ROWS[name]
    path.write_bytes(sealed.to_bytes(content))
    assert catalog.all() == []


@pytest.mark.parametrize("field", ["id", "size", "mtime_ns", "sha256", "status"])
def test_a_row_without_a_field_makes_a_listing_none(tmp_path: Path, field: str) -> None:
    catalog = Catalog(tmp_path / "cache")
    catalog.write(listing(tmp_path / "a"))
    (path,) = catalog.folder.iterdir()
    content = json.loads(path.read_text())
    del content["videos"][0][field]
    path.write_bytes(sealed.to_bytes(content))
    assert catalog.all() == []


HEADS: dict[str, dict[str, Any]] = {
    "root of a number": {"root": 3},
    "another root": {"root": "/elsewhere"},
    "relative root": {"root": "elsewhere"},
    "a root that no disk can hold": {"root": "/\ud800"},
    "a root with NUL": {"root": "/a\0"},
    "another command": {"command": "predict"},
    "unknown command": {"command": "eat"},
    "spec that climbs": {"spec": "../../../../../x"},
    "spec in capitals": {"spec": "0123456789ABCDEF"},
    "request of text": {"request": "all"},
    "when of a number": {"when": 3},
    "videos of a dict": {"videos": {}},
    "version of True": {"version": True, "videos": 3},
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_we_would_not_write_makes_a_listing_none(tmp_path: Path, name: str) -> None:
    catalog = Catalog(tmp_path / "cache")
    catalog.write(listing(tmp_path / "a"))
    (path,) = catalog.folder.iterdir()
    path.write_bytes(sealed.to_bytes({**json.loads(path.read_text()), **HEADS[name]}))
    assert catalog.all() == []
    assert catalog.find(tmp_path / "a", "extract") is None


@pytest.mark.parametrize("part", [False, True])
def test_a_changed_digit_makes_a_listing_none(tmp_path: Path, part: bool) -> None:
    catalog = Catalog(tmp_path / "cache")
    wanted = listing(tmp_path / "a")
    catalog.write(wanted, part=part)
    (path,) = catalog.folder.iterdir()
    content = path.read_bytes()
    assert catalog.find(tmp_path / "a", "extract", part=part) == wanted
    version = content.index(b'"version": ') + len(b'"version": ')
    for place in (place for place, byte in enumerate(content) if byte in b"0123456789" and place != version):
        changed = bytearray(content)
        changed[place] = ord("7") if changed[place] != ord("7") else ord("8")
        path.write_bytes(bytes(changed))
        assert catalog.find(tmp_path / "a", "extract", part=part) is None


def test_listings_of_many_videos_are_read_in_bounded_memory(tmp_path: Path) -> None:
    """About 1 kB a video; rows kept as dicts would take twice that."""
    count = 5000
    entries = [
        Entry(number, number, f"{number:064x}", Receipt(f"class/{number}.mp4", "ok", decoder="pyav", frames_wanted=25))
        for number in range(count)
    ]
    catalog = Catalog(tmp_path / "cache")
    catalog.write(listing(tmp_path / "a", entries=entries))
    tracemalloc.start()
    try:
        found = catalog.find(tmp_path / "a", "extract")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found is not None
    assert found.entries == entries
    assert peak < 1500 * count


def test_newer_listings_of_other_roots_hinder_no_writing(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "cache")
    catalog.write(listing(tmp_path / "a", when="2026-01-02T00:00:00.000001+00:00"))
    (path,) = catalog.folder.iterdir()
    path.write_text(path.read_text().replace('"version": 1', '"version": 99'))
    catalog.write(listing(tmp_path / "b", when="2026-01-01T00:00:00.000000+00:00"))
    assert catalog.find(tmp_path / "b", "extract").when == "2026-01-02T00:00:00.000002+00:00"


@pytest.mark.parametrize("when", ["zzz", "", "2026-01-02", "2026-01-02T00:00:00"])
def test_a_listing_without_a_time_is_none(tmp_path: Path, when: str) -> None:
    catalog = Catalog(tmp_path / "cache")
    catalog.write(listing(tmp_path / "a"))
    (path,) = catalog.folder.iterdir()
    data = json.loads(path.read_text())
    path.write_bytes(sealed.to_bytes(data | {"when": when}))
    assert catalog.find(tmp_path / "a", "extract") is None


def test_a_listing_of_a_part_by_other_settings_stands_beside_that_of_the_whole(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "cache")
    whole = listing(tmp_path / "a")
    catalog.write(whole)
    part = replace(listing(tmp_path / "a", entries=ENTRIES[:1]), spec="f" * 16)
    catalog.write(part, part=True, aside=True)
    assert catalog.unfinished() == [part]
    catalog.write(part, aside=True)
    assert catalog.find(tmp_path / "a", "extract") == whole
    assert {one.spec for one in catalog.all()} == {whole.spec, "f" * 16}
    assert catalog.unfinished() == []
