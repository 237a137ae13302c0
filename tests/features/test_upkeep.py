"""Keeping a cache in order: what is found, what is offered for removal, and that nothing else ever goes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from rratag import sealed
from rratag.errors import CacheError
from rratag.features import upkeep
from rratag.features.catalog import Catalog
from rratag.features.spec import Spec
from rratag.features.store import SpecStore


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def age(folder: Path, seconds: float = 7200) -> None:
    """As if all files below had been there for a while."""
    for path in folder.rglob("*"):
        if path.is_file():
            then = time.time() - seconds
            os.utime(path, (then, then))


def below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def model(folder: Path, meaning: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(sealed.to_bytes({"meaning": meaning}))


# --- verify ---


def test_whole_files_are_whole(toy_cache: Any) -> None:
    toy_cache.fill(["a.mp4", "b.mp4"])
    before = below(toy_cache.cache)
    checked = list(upkeep.verify(toy_cache.store))
    assert [one.problem for one in checked] == ["", ""]
    assert upkeep.count(toy_cache.store) == 2
    assert below(toy_cache.cache) == before


def test_a_damaged_file_is_moved_aside_and_its_videos_named(toy_cache: Any) -> None:
    store = toy_cache.fill(["a.mp4", "b.mp4"])
    path = store.path(toy_cache.key("b.mp4"))
    flip(path)
    content = path.read_bytes()
    bad = [one for one in upkeep.verify(toy_cache.store) if one.problem]
    assert [one.path for one in bad] == [path]
    assert bad[0].videos == [str(toy_cache.root.resolve() / "b.mp4")]
    assert not path.exists()
    assert bad[0].moved_to is not None
    assert bad[0].moved_to.read_bytes() == content
    assert store.keys() == [toy_cache.key("a.mp4")]
    assert [one.problem for one in upkeep.verify(toy_cache.store)] == [""]


def test_what_cannot_be_judged_here_stays_where_it_is(toy_cache: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = toy_cache.fill(["a.mp4"])
    monkeypatch.setattr("rratag.features.h5.VERSION", 0)
    (checked,) = upkeep.verify(toy_cache.store)
    assert "version 1" in checked.problem
    assert checked.moved_to is None
    assert store.path(toy_cache.key("a.mp4")).exists()


# --- prune ---


def test_features_that_a_listing_knows_are_never_offered(toy_cache: Any) -> None:
    store = toy_cache.fill(["a.mp4", "b.mp4"])
    assert upkeep.unknown(toy_cache.store) == []
    toy_cache.fill(["a.mp4"])  # the folder now holds one video less
    (store.failures).mkdir()
    (store.failures / f"{'0' * 32}.json").write_text("{}")
    assert upkeep.unknown(toy_cache.store) == []  # a run that is still going on may have made them
    age(toy_cache.cache)
    assert [one.path for one in upkeep.unknown(toy_cache.store)] == [
        store.path(toy_cache.key("b.mp4")),
        store.failures / f"{'0' * 32}.json",
    ]


def test_what_an_unfinished_run_has_done_is_known(toy_cache: Any) -> None:
    toy_cache.fill(["a.mp4", "b.mp4"])
    catalog = Catalog(toy_cache.cache)
    (listing,) = catalog.all()
    catalog.write(listing, part=True)
    toy_cache.fill(["a.mp4"], command="predict")
    for path in (toy_cache.cache / "roots").iterdir():
        if not path.name.endswith(".part.json"):
            path.unlink()
    age(toy_cache.cache)
    assert upkeep.unknown(toy_cache.store) == []


def test_a_damaged_listing_stops_prune_since_what_it_knew_seems_unknown(toy_cache: Any) -> None:
    toy_cache.fill(["a.mp4"])
    (path,) = (toy_cache.cache / "roots").iterdir()
    path.write_text("{")
    with pytest.raises(CacheError, match="damaged listing"):
        upkeep.unknown(toy_cache.store)


def test_specs_of_no_model_are_offered_only_beside_models(toy_cache: Any, tmp_path: Path) -> None:
    store = toy_cache.fill(["a.mp4"])
    other = Spec({**toy_cache.spec.meaning, "crops": "3"}, toy_cache.spec.compute)
    unused = toy_cache.fill(["a.mp4"], root=tmp_path / "other", spec=other)
    assert upkeep.unused(toy_cache.store, tmp_path / "models") == []
    model(tmp_path / "models/latest", toy_cache.spec.meaning)
    assert upkeep.unused(toy_cache.store, tmp_path / "models") == []
    age(toy_cache.cache)
    (tmp_path / "models/.latest.0.checkpoint").touch()  # nobody knows which features it needs
    assert upkeep.unused(toy_cache.store, tmp_path / "models") == []
    (tmp_path / "models/.latest.0.checkpoint").unlink()
    removals = upkeep.unused(toy_cache.store, tmp_path / "models")
    assert [one.path for one in removals] == [unused.path(toy_cache.key("a.mp4"))]
    assert upkeep.remove(removals) == (1, removals[0].size)
    assert not unused.folder.exists()
    assert [one.path for one in upkeep.verify(toy_cache.store)] == [store.path(toy_cache.key("a.mp4"))]


def test_features_of_equal_meaning_computed_otherwise_are_used(toy_cache: Any, tmp_path: Path) -> None:
    toy_cache.fill(["a.mp4"], spec=Spec(toy_cache.spec.meaning, {"runtime": "torch", "precision": "fp16"}))
    model(tmp_path / "models/latest", toy_cache.spec.meaning)
    age(toy_cache.cache)
    assert upkeep.unused(toy_cache.store, tmp_path / "models") == []


@pytest.mark.parametrize("content", ["{", "[]", "{}", "[" * 100_000])
def test_a_damaged_model_stops_prune_since_what_it_uses_seems_unused(
    toy_cache: Any, tmp_path: Path, content: str
) -> None:
    toy_cache.fill(["a.mp4"])
    model(tmp_path / "models/latest", {})
    (tmp_path / "models/latest/config.json").write_text(content)
    with pytest.raises(CacheError, match=r"config\.json: cannot be read"):
        upkeep.unused(toy_cache.store, tmp_path / "models")


# --- gc ---


def leave(folder: Path, name: str, age_s: float) -> Path:
    path = folder / name
    path.write_bytes(b"half")
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


def test_leftovers_of_killed_runs_and_damaged_files_are_all_that_gc_takes(toy_cache: Any) -> None:
    store: SpecStore = toy_cache.fill(["a.mp4", "b.mp4"])
    before = below(toy_cache.cache)
    flip(store.path(toy_cache.key("b.mp4")))
    aside = store.set_aside(toy_cache.key("b.mp4"))
    folder = store.path(toy_cache.key("a.mp4")).parent
    old = [leave(folder, ".tmp-old", 7200), leave(toy_cache.cache / "roots", ".tmp-later", -7200)]
    young = leave(folder, ".tmp-young", 5)
    found = upkeep.leftovers(toy_cache.store)
    assert {one.path for one in found} == {*old, aside}
    upkeep.remove(found)
    gone = str(store.path(toy_cache.key("b.mp4")).relative_to(toy_cache.cache))
    assert below(toy_cache.cache) == before - {gone} | {str(young.relative_to(toy_cache.cache))}
    assert not store.damaged.exists()


def test_what_another_run_deleted_meanwhile_is_no_trouble(toy_cache: Any) -> None:
    store = toy_cache.fill(["a.mp4"])
    path = leave(store.folder, ".tmp-old", 7200)
    found = upkeep.leftovers(toy_cache.store)
    path.unlink()
    assert upkeep.remove(found) == (0, 0)
    path = leave(store.folder, ".tmp-old", 7200)
    found = upkeep.leftovers(toy_cache.store)
    leave(store.folder, ".tmp-old", 0)  # written anew since
    assert upkeep.remove(found) == (0, 0)
    assert path.exists()


# --- the commands ---


def test_verify_names_file_and_video_and_ends_with_3(toy_cache: Any, cli: Any) -> None:
    store = toy_cache.fill(["a.mp4", "b.mp4"])
    ran = cli("cache", "verify", "--cache", toy_cache.cache)
    assert (ran.code, ran.out) == (0, "")
    assert "2 files: 2 whole, 0 not" in ran.err
    flip(store.path(toy_cache.key("a.mp4")))
    ran = cli("cache", "verify", "--cache", toy_cache.cache)
    assert ran.code == 3
    assert str(store.path(toy_cache.key("a.mp4"))) in ran.out
    assert str(toy_cache.root / "a.mp4") in ran.out
    assert "2 files: 1 whole, 1 not" in ran.err
    flip(store.path(toy_cache.key("b.mp4")))
    ran = cli("cache", "verify", "--cache", toy_cache.cache, "--json")
    assert ran.json["files"] == 1
    assert ran.json["damaged"][0]["videos"] == [str(toy_cache.root / "b.mp4")]


def test_prune_asks_and_without_an_answer_keeps_everything(toy_cache: Any, cli: Any) -> None:
    toy_cache.fill(["a.mp4", "b.mp4"])
    toy_cache.fill(["a.mp4"])
    age(toy_cache.cache)
    before = below(toy_cache.cache)
    ran = cli("cache", "prune", "--cache", toy_cache.cache)
    assert ran.code == 2
    assert "nobody can be asked here" in ran.err
    assert cli("cache", "prune", "--cache", toy_cache.cache, "--dry-run").code == 0
    assert below(toy_cache.cache) == before
    ran = cli("cache", "prune", "--cache", toy_cache.cache, "--yes")
    assert ran.code == 0
    assert "deleted 1 files" in ran.err
    assert len(below(toy_cache.cache)) == len(before) - 1
    assert "nothing to prune" in cli("cache", "prune", "--cache", toy_cache.cache).err


def test_yes_deletes_what_no_model_needs_only_where_it_is_said_where_models_are(
    toy_cache: Any, cli: Any, tmp_path: Path
) -> None:
    toy_cache.fill(["a.mp4"])
    toy_cache.fill(["a.mp4"], root=tmp_path / "other", spec=Spec({**toy_cache.spec.meaning, "crops": "3"}, {}))
    model(tmp_path / ".rratag/models/latest", toy_cache.spec.meaning)
    age(toy_cache.cache)
    before = below(toy_cache.cache)
    ran = cli("cache", "prune", "--cache", toy_cache.cache, "--yes")
    assert (ran.code, below(toy_cache.cache)) == (0, before)
    assert "kept: say with --models" in ran.err
    ran = cli("cache", "prune", "--cache", toy_cache.cache, "--yes", "--models", tmp_path / ".rratag/models")
    assert "deleted 1 files" in ran.err


def test_gc_takes_leftovers_without_asking(toy_cache: Any, cli: Any) -> None:
    store = toy_cache.fill(["a.mp4"])
    path = leave(store.folder, ".tmp-old", 7200)
    assert cli("cache", "gc", "--cache", toy_cache.cache, "--dry-run").code == 0
    assert path.exists()
    ran = cli("cache", "gc", "--cache", toy_cache.cache)
    assert (ran.code, path.exists()) == (0, False)
    assert "deleted 1 files" in ran.err


def test_gc_of_a_folder_that_is_no_cache_takes_nothing(tmp_path: Path, cli: Any) -> None:
    (tmp_path / "sub").mkdir()
    mine = [leave(tmp_path / "sub", ".tmp-notes", 7200), leave(tmp_path, ".tmp-thesis", 7200)]
    assert cli("cache", "gc", "--cache", tmp_path).code == 0
    assert all(path.exists() for path in mine)


def test_gc_takes_only_what_lies_where_rratag_writes(toy_cache: Any) -> None:
    toy_cache.fill(["a.mp4"])
    (toy_cache.cache / "mine").mkdir()
    mine = leave(toy_cache.cache / "mine", ".tmp-notes", 7200)
    ours = leave(toy_cache.cache, ".tmp-marker", 7200)
    assert [one.path for one in upkeep.leftovers(toy_cache.store)] == [ours]
    upkeep.remove(upkeep.leftovers(toy_cache.store))
    assert mine.exists()


def test_models_in_folders_of_folders_are_models(toy_cache: Any, tmp_path: Path) -> None:
    toy_cache.fill(["a.mp4"])
    model(tmp_path / "models/project/a", toy_cache.spec.meaning)
    model(tmp_path / "models/latest", {**toy_cache.spec.meaning, "crops": "3"})
    age(toy_cache.cache)
    assert upkeep.unused(toy_cache.store, tmp_path / "models") == []
    assert upkeep.unused(toy_cache.store, tmp_path / "models/project/a") == []


def test_verify_reads_on_where_nothing_can_be_moved(toy_cache: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = toy_cache.fill(["a.mp4", "b.mp4", "c.mp4"])
    for video in ("a.mp4", "c.mp4"):
        flip(store.path(toy_cache.key(video)))

    def refuse(*arguments: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", refuse)
    checked = list(upkeep.verify(toy_cache.store))
    assert sorted(bool(one.problem) for one in checked) == [False, True, True]
    assert [one.moved_to for one in checked] == [None, None, None]
