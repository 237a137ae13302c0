"""``rratag train`` on a disk that fails, and killed: the same command goes on to the same model."""

from __future__ import annotations

import csv
import errno
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CommandLine, Ran, ToyCache
from tests.faults.disk import Disk, fails, full
from tests.faults.states import Log, read_tree, write_tree
from tests.faults.writers import is_left

STEP = 7
"""Every seventh operation of the run: with six for a checkpoint, each kind of operation has its turn."""


@pytest.fixture
def train(cli: CommandLine, toy_cache: ToyCache) -> Any:
    """Trains three epochs into a folder, on a made-up cache."""
    toy_cache.fill_classes(4)

    def run(folder: Path, *options: object) -> Ran:
        fixed = ("--cache", toy_cache.cache, "--epochs", 3, "--glimpses", 1, "--device", "cpu")
        return cli("train", *fixed, *(options or ("--quiet",)), "--out", folder / "m")

    return run


def model_below(folder: Path) -> dict[str, Any]:
    """Every file of the model, but for the seconds of its history."""
    found: dict[str, Any] = {path.name: path.read_bytes() for path in (folder / "m").iterdir()}
    rows = list(csv.DictReader(found["history.csv"].decode().splitlines()))
    return {**found, "history.csv": [{name: row[name] for name in row if name != "seconds"} for row in rows]}


def beside(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name != "m" and not is_left(path.name)]


def recorded(train: Any, folder: Path) -> Log:
    folder.mkdir()
    with Disk(folder) as disk:
        assert train(folder).code == 0
    return disk.log


def test_killed_at_any_moment_the_same_command_gives_the_same_model(train: Any, tmp_path: Path) -> None:
    log = recorded(train, tmp_path / "whole")
    expected = model_below(tmp_path / "whole")
    for when, tree in list(log.kills())[::STEP]:
        folder = write_tree(tree, tmp_path / when)
        ran = train(folder)
        assert (ran.code, ran.err) == (0, ""), when
        assert model_below(folder) == expected, when
        assert beside(folder) == [], when


@pytest.mark.parametrize("fault", [full, fails(errno.EIO, after_bytes=True)], ids=["full", "broken within a write"])
def test_a_disk_that_fails_is_one_line_and_the_next_run_goes_on(train: Any, fault: Any, tmp_path: Path) -> None:
    operations = recorded(train, tmp_path / "whole").operations
    expected = model_below(tmp_path / "whole")
    for at in range(0, len(operations) - 1, STEP):
        where = f"operation {at}: {operations[at].kind} {operations[at].path}"
        folder = tmp_path / str(at)
        folder.mkdir()
        with Disk(folder, at, fault) as disk:
            ran = train(folder)
        assert len(disk.operations) > at
        ran.says_one_line(1, "cannot be written")
        assert [name for name in read_tree(folder) if is_left(name)] == [], where
        assert train(folder).code == 0, where
        assert model_below(folder) == expected, where
        assert beside(folder) == [], where
        shutil.rmtree(folder)


def test_a_full_disk_keeps_the_epoch_before(train: Any, tmp_path: Path) -> None:
    log = recorded(train, tmp_path / "whole")
    writes = [at for at, one in enumerate(log.operations) if one.kind == "rename" and "checkpoint" in one.target]
    (tmp_path / "disturbed").mkdir()
    with Disk(tmp_path / "disturbed", writes[2], full):
        train(tmp_path / "disturbed").says_one_line(1, "free some space and run again to go on")
    with Disk(tmp_path / "disturbed") as disk:
        assert train(tmp_path / "disturbed").code == 0
    again = [one for one in disk.operations if one.kind == "rename" and "checkpoint" in one.target]
    assert len(again) == 1  # the third epoch alone


def test_a_finished_training_removes_its_own_checkpoint_and_names_the_others(train: Any, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    other = tmp_path / "models/.m.0123456789ab.checkpoint"
    foreign = tmp_path / "models/.other.0123456789ab.checkpoint"
    for path in (other, foreign):
        path.write_bytes(b"of another training")
    ran = train(tmp_path / "models", "--seed", 1)
    assert ran.code == 0
    assert ran.err.splitlines()[-1].startswith(f"unfinished trainings with other settings: {other};")
    assert sorted(beside(tmp_path / "models")) == [other.name, foreign.name]


def test_a_checkpoint_that_cannot_be_removed_is_said_and_harms_nothing(train: Any, tmp_path: Path) -> None:
    operations = recorded(train, tmp_path / "whole").operations
    assert (operations[-1].kind, operations[-1].path[:3]) == ("unlink", ".m.")
    (tmp_path / "disturbed").mkdir()
    with Disk(tmp_path / "disturbed", len(operations) - 1, fails(errno.EIO)):
        ran = train(tmp_path / "disturbed")
    assert ran.code == 0
    assert ran.err.startswith("warning: ")
    assert "cannot be removed (Input/output error)" in ran.err
    assert model_below(tmp_path / "disturbed") == model_below(tmp_path / "whole")
    assert train(tmp_path / "disturbed").err == ""
    assert beside(tmp_path / "disturbed") == []
