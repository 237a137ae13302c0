"""The injector finds what it is for: writers that leave out one step of the commit protocol are caught."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from rratag import files
from tests.faults.disk import Disk
from tests.faults.states import Tree, read_tree
from tests.faults.writers import WRITERS, kill_faults, power_faults, record

TAGS = WRITERS["tags"]
Write = Callable[[Path, bytes], None]


def in_place(path: Path, content: bytes) -> None:
    with open(path, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    files.sync_folder(path.parent)


def naive(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def without_fsync(path: Path, content: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=files.TEMPORARY_PREFIX, dir=path.parent)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
    os.replace(temporary, path)
    files.sync_folder(path.parent)


def rename_before_fsync(path: Path, content: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=files.TEMPORARY_PREFIX, dir=path.parent)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
        os.replace(temporary, path)
        os.fsync(handle.fileno())
    files.sync_folder(path.parent)


def under_a_final_name(path: Path, content: bytes) -> None:
    beside = path.with_name(f"{path.name}.new")
    in_place(beside, content)
    os.replace(beside, path)
    files.sync_folder(path.parent)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Write], None]:
    """Puts another writer in the place of ours."""
    return lambda write: monkeypatch.setattr(files, "write_atomically", write)


@pytest.mark.parametrize("write", [naive, in_place])
def test_a_writer_in_place_is_caught_by_kills(use: Callable[[Write], None], write: Write, tmp_path: Path) -> None:
    use(write)
    found = list(kill_faults(TAGS, tmp_path))
    assert any("killed within operation" in line for line in found)


def test_a_naive_writer_is_caught_by_power_losses(use: Callable[[Write], None], tmp_path: Path) -> None:
    use(naive)
    assert list(power_faults(TAGS, tmp_path))


@pytest.mark.parametrize("name", ["tags", "features", "first features", "checkpoint", "listing"])
def test_a_writer_without_fsync_is_caught(use: Callable[[Write], None], name: str, tmp_path: Path) -> None:
    use(without_fsync)
    found = list(power_faults(WRITERS[name], tmp_path))
    assert any("bytes half" in line for line in found)
    assert any("bytes all" in line for line in found)


def test_a_rename_before_fsync_is_caught(use: Callable[[Write], None], tmp_path: Path) -> None:
    use(rename_before_fsync)
    assert list(power_faults(TAGS, tmp_path))


def test_a_rename_without_a_sync_of_the_folder_is_caught(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(files, "sync_folder", lambda folder: None)
    found = list(power_faults(TAGS, tmp_path))
    assert found
    assert all("neither the old content nor the new" in line for line in found)  # that is: it had ended, and is gone


def test_a_new_folder_that_is_not_synced_is_caught(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(files, "_settle", lambda folder: None)
    assert list(power_faults(WRITERS["first features"], tmp_path))


def test_leftovers_under_other_names_are_caught(use: Callable[[Write], None], tmp_path: Path) -> None:
    use(under_a_final_name)
    assert any("left under a final name" in line for line in kill_faults(TAGS, tmp_path))


def test_a_model_replaced_file_by_file_is_caught(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def swap(new: Path, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        for path in sorted(new.iterdir()):
            os.replace(path, folder / path.name)

    monkeypatch.setattr("rratag.model._swap", swap)
    assert list(kill_faults(WRITERS["model again"], tmp_path))


def unnamed(tree: Tree) -> Tree:
    """`tree` with one name for all temporary files."""
    return {re.sub(r"\.tmp-[^/]+", ".tmp-", path): content for path, content in tree.items()}


KILL = """
import os, sys
from pathlib import Path
from tests.faults.cached import put_features
from tests.faults.disk import Disk, kills

for at in range(int(sys.argv[2])):
    folder = Path(sys.argv[1]) / str(at)
    folder.mkdir()
    if os.fork() == 0:
        with Disk(folder, at, kills):
            put_features(folder, "a")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == -9
"""


@pytest.mark.skipif(os.name == "nt", reason="needs fork")
def test_the_states_after_a_kill_are_those_of_killed_processes(tmp_path: Path) -> None:
    log = record(WRITERS["first features"], tmp_path / "recorded")
    assert {one.kind for one in log.operations} == {
        "mkdir",
        "create",
        "write",
        "sync",
        "chmod",
        "rename",
        "sync folder",
    }
    (tmp_path / "killed").mkdir()
    script = [sys.executable, "-c", KILL, str(tmp_path / "killed"), str(len(log.operations))]
    subprocess.run(script, check=True, cwd=Path(__file__).parents[2], env={**os.environ, "OMP_NUM_THREADS": "1"})
    built = dict(log.kills())
    for at, operation in enumerate(log.operations):
        when = f"killed within operation {at}" if operation.data else f"killed after {at} operations"
        assert unnamed(read_tree(tmp_path / "killed" / str(at))) == unnamed(built[when]), when


def test_what_happens_elsewhere_is_no_operation(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    with Disk(tmp_path / "here") as disk:
        (tmp_path / "there").mkdir()
        files.write_atomically(tmp_path / "there" / "file", b"content")
        with pytest.raises(FileNotFoundError):
            (tmp_path / "here" / "nothing").read_bytes()
    assert disk.operations == []
    assert (tmp_path / "there" / "file").read_bytes() == b"content"
