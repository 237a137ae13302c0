"""Several programs on one cache: writers at once, readers of what others hold or replace, what killed ones left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rratag.features.catalog import Catalog
from rratag.features.store import FeatureStore
from rratag.records import Receipt
from tests.conftest import CommandLine
from tests.faults.cached import SPEC, digest, features_of, listing, put_features, put_listing, read_features_below
from tests.faults.states import read_tree, write_tree
from tests.faults.writers import WRITERS, is_left, record

ROOT = Path(__file__).parents[2]
NUM_WRITERS, NUM_SHARED, NUM_OWN = 4, 34, 16

WRITE_MANY = """
import random, sys
from pathlib import Path
from tests.faults.cached import put_features, put_listing

number, shared, own = map(int, sys.argv[2:])
videos = [f"{place}.mp4" for place in range(shared)] + [f"{number}/{place}.mp4" for place in range(own)]
random.Random(number).shuffle(videos)
sys.stdin.readline()  # all begin together
for place, video in enumerate(videos):
    put_features(Path(sys.argv[1]), video)
    if place % 10 == 0:
        put_listing(Path(sys.argv[1]), place + 1)
"""


def start(program: str, *arguments: object, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_writers_at_once(tmp_path: Path) -> None:
    """Each writes 34 keys that all write, and 16 of its own, in an order of its own."""
    writers = [start(WRITE_MANY, tmp_path, number, NUM_SHARED, NUM_OWN) for number in range(NUM_WRITERS)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    videos = [f"{place}.mp4" for place in range(NUM_SHARED)]
    videos += [f"{number}/{place}.mp4" for number in range(NUM_WRITERS) for place in range(NUM_OWN)]
    found = read_features_below(tmp_path)
    assert found.keys() == {digest(video)[:32] for video in videos}
    for video in videos:
        assert found[digest(video)[:32]][0] == features_of(video).maps.tobytes()
    assert Catalog(tmp_path / "cache").find(Path("/videos"), "extract") is not None
    assert [name for name in read_tree(tmp_path) if is_left(name)] == []


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.flock(file, fcntl.LOCK_EX)
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""

READ = """
import sys
from pathlib import Path
from tests.faults.cached import digest, features_of, put_features, read_features_below
assert read_features_below(Path(sys.argv[1]))[digest("a")[:32]][0] == features_of("a").maps.tobytes()
put_features(Path(sys.argv[1]), "a")
"""


VERIFY = """
import sys
from pathlib import Path
from rratag.features import upkeep
from rratag.features.store import FeatureStore
for one in upkeep.verify(FeatureStore(Path(sys.argv[1]))):
    print(one.problem)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs fcntl")
@pytest.mark.parametrize("locking", ["", "FALSE"])
def test_locks_that_others_hold_stop_neither_reading_nor_writing(locking: str, tmp_path: Path) -> None:
    put_features(tmp_path, "a")
    (path,) = tmp_path.glob("cache/*/*/*.h5")
    with start(HOLD, path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with start(READ, tmp_path, **({"HDF5_USE_FILE_LOCKING": locking} if locking else {})) as reader:
            reader.communicate(timeout=60)
        assert reader.returncode == 0
        holder.communicate("done\n", timeout=60)


@pytest.mark.skipif(os.name == "nt", reason="needs fcntl")
def test_a_lock_that_the_user_insists_on_is_named_and_is_no_damage(tmp_path: Path) -> None:
    """HDF5 2.0 lets the variable overrule what a program asks for."""
    put_features(tmp_path, "a")
    (path,) = tmp_path.glob("cache/*/*/*.h5")
    with start(HOLD, path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with start(VERIFY, tmp_path / "cache", HDF5_USE_FILE_LOCKING="TRUE") as reader:
            out, _ = reader.communicate(timeout=60)
        holder.communicate("\n")
    if out.strip():  # older ones do as the program asks
        assert "another program holds a lock on it; set HDF5_USE_FILE_LOCKING=FALSE" in out
    assert path.exists()


def test_a_file_that_is_replaced_while_it_is_open_is_read_to_its_end(tmp_path: Path) -> None:
    put_features(tmp_path, "a")
    reader = FeatureStore(tmp_path / "cache").open_spec(SPEC.short)
    key = digest("a")[:32]
    assert reader.read(key, [0]).maps.tobytes() == features_of("a").maps[:1].tobytes()
    source = {"name": "a", "size": 9, "mtime_ns": 5, "sha256": digest("a")}
    FeatureStore(tmp_path / "cache").open_spec(SPEC.short).write(
        key, features_of("b"), Receipt("a", "ok"), source, compression="none"
    )
    assert reader.read(key).maps.tobytes() == features_of("a").maps.tobytes()
    reader.close()
    assert reader.read(key).maps.tobytes() == features_of("b").maps.tobytes()
    reader.close()


@pytest.mark.parametrize("seconds", [-1e9, 0, 1e9])
def test_times_of_files_decide_nothing(seconds: float, tmp_path: Path) -> None:
    """A clock that was wrong, or a copy that kept no times."""
    put_features(tmp_path, "a", "b")
    put_listing(tmp_path, 2)
    before = read_features_below(tmp_path)
    for path in tmp_path.rglob("*"):
        os.utime(path, (2e9 + seconds, 2e9 + seconds))
    assert read_features_below(tmp_path) == before
    assert Catalog(tmp_path / "cache").latest() == listing(2)


def test_what_killed_runs_left_disturbs_nothing(cli: CommandLine, tmp_path: Path) -> None:
    put_features(tmp_path, "a")
    put_listing(tmp_path, 1)
    whole = cli("cache", "ls", "--cache", "cache", "--json").json
    for name in ("features", "listing", "failure"):
        for when, tree in record(WRITERS[name], tmp_path / name).kills():
            killed = write_tree(tree, tmp_path / name / when)
            for path in killed.rglob(".tmp-*"):
                place = tmp_path / path.relative_to(killed)
                place.parent.mkdir(exist_ok=True)
                os.replace(path, place)
    left = [name for name in read_tree(tmp_path / "cache") if is_left(name)]
    assert len(left) == 3
    assert cli("cache", "ls", "--cache", "cache", "--json").json == whole
    store = FeatureStore(tmp_path / "cache")
    assert [spec.keys() for spec in store.specs()] == [[digest("a")[:32]]]
    assert json.dumps([str(one.root) for one in Catalog(tmp_path / "cache").all()]) == '["/videos"]'
