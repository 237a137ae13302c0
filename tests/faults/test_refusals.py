"""A disk that refuses any one operation: one line, the old content or the new, nothing unfinished left behind."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.disk import Disk, broken, fails, full, read_only, writes_little
from tests.faults.states import Operation, read_tree
from tests.faults.writers import WRITERS, Reference, is_left, record

Fault = Callable[[Operation, Callable[..., Any]], Any]
FAULTS: dict[str, Fault] = {
    "full": full,
    "full within a write": fails(errno.ENOSPC, after_bytes=True),
    "broken": broken,
    "read only": read_only,
}


CASES = [
    (name, fault)
    for name in WRITERS
    for fault in FAULTS
    if not name.startswith("model") or fault == "full within a write"
]


@pytest.mark.parametrize(("name", "fault"), CASES)
def test_any_operation_may_be_refused(name: str, fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = WRITERS[name]
    operations = record(writer, tmp_path / "recorded").operations
    reference = Reference.of(writer, tmp_path / "reference")
    for at, operation in enumerate(operations):
        folder = tmp_path / str(at)
        folder.mkdir()
        writer.prepare(folder)
        caplog.clear()
        with Disk(folder, at, FAULTS[fault]) as disk:
            told = ""
            try:
                writer.write(folder)
            except writer.errors as error:
                told = str(error)
        where = f"operation {at}: {operation.kind} {operation.path}"
        assert len(disk.operations) > at, where
        told = told or caplog.text.strip()
        assert told, f"{where}: nobody said a word"
        assert "\n" not in told, where
        left = [path for path in read_tree(folder) if is_left(path) and not path.startswith("models/.previous-m")]
        assert not left, where
        reference.check(folder)


@pytest.mark.parametrize("name", WRITERS)
def test_a_system_that_takes_one_byte_at_a_time(name: str, tmp_path: Path) -> None:
    reference = Reference.of(WRITERS[name], tmp_path / "reference")
    operations = record(WRITERS[name], tmp_path / "recorded").operations
    for at in (at for at, operation in enumerate(operations) if operation.kind == "write"):
        folder = tmp_path / str(at)
        folder.mkdir()
        WRITERS[name].prepare(folder)
        with Disk(folder, at, writes_little):
            WRITERS[name].write(folder)
        reference.check(folder, ended=True)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EACCES])
def test_a_file_system_that_cannot_sync_folders_serves(number: int, tmp_path: Path) -> None:
    """Network disks and FUSE answer so; the file itself is whole and synced."""
    reference = Reference.of(WRITERS["tags"], tmp_path / "reference")
    operations = record(WRITERS["tags"], tmp_path / "recorded").operations
    at = next(at for at, operation in enumerate(operations) if operation.kind == "sync folder")
    (tmp_path / "videos").mkdir()
    WRITERS["tags"].prepare(tmp_path / "videos")
    with Disk(tmp_path / "videos", at, fails(number)):
        WRITERS["tags"].write(tmp_path / "videos")
    reference.check(tmp_path / "videos", ended=True)
