"""Atomic writes: whole content, ordinary rights, nothing left, folders that last. Faults: tests/faults/."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rratag import files


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths that were synced, in order."""
    found: list[str] = []

    def fsync(descriptor: int) -> None:
        found.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", [b"", b"\0\xff", bytes(1 << 20)])
def test_the_content_replaces_what_was_there(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "na\u0308me \udcff.csv"
    path.write_bytes(b"old and longer than some")
    files.write_atomically(path, content)
    assert path.read_bytes() == content
    assert names(tmp_path) == [path.name]


@pytest.mark.skipif(os.name == "nt", reason="has no such rights")
def test_the_file_has_the_rights_of_any_other_file(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"")
    files.write_atomically(tmp_path / "file", b"content")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_name_of_any_allowed_length_can_be_written(tmp_path: Path) -> None:
    files.write_atomically(tmp_path / ("n" * 255), b"content")
    assert names(tmp_path) == ["n" * 255]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_folders_that_lead_to_a_file_are_synced_once(synced: list[str], tmp_path: Path) -> None:
    tmp_path = tmp_path.resolve()
    folder = tmp_path / "new" / "ab"
    folder.mkdir(parents=True)
    files.write_atomically(folder / "one", b"content")
    assert synced[0].startswith(str(folder / files.TEMPORARY_PREFIX))
    assert synced[1] == str(folder)
    assert synced[-2:] == [str(tmp_path), str(tmp_path / "new")]
    synced.clear()
    files.write_atomically(folder / "two", b"content")
    assert len(synced) == 2
    (tmp_path / "new" / "cd").mkdir()
    synced.clear()
    files.write_atomically(tmp_path / "new" / "cd" / "one", b"content")
    assert synced[1:] == [str(tmp_path / "new" / "cd"), str(tmp_path / "new")]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EIO, errno.ENOSPC])
def test_only_a_disk_that_fails_is_an_error_of_syncing_a_folder(
    number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    if number in (errno.EIO, errno.ENOSPC):
        with pytest.raises(OSError, match=os.strerror(number)):
            files.sync_folder(tmp_path)
    else:
        files.sync_folder(tmp_path)


def test_an_interrupt_leaves_the_old_content_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files.write_atomically(tmp_path / "file", b"old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for function in ("fsync", "chmod", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, interrupt)
            with pytest.raises(KeyboardInterrupt):
                files.write_atomically(tmp_path / "file", b"new")
        assert names(tmp_path) == ["file"]
        assert (tmp_path / "file").read_bytes() == b"old"
