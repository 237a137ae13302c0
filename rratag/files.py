"""Writing files so that a kill or a power loss at any instant leaves the old content or the new, never a mixture."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path

TEMPORARY_PREFIX = ".tmp-"

_UNSYNCED = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EBADF, errno.EISDIR)
"""What file systems answer that cannot sync a folder, or that refuse to open one: there is nothing more to be done."""

_settled: set[Path] = set()
"""Folders whose own names are known to be durable."""


def _ordinary_mode() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


# mkstemp makes files private; ours get the user's ordinary mode. Read once: umask is not safe among threads.
_MODE = _ordinary_mode()


def stamp(status: os.stat_result) -> tuple[int, int, int]:
    """Size, and times of change of content (``mtime``) and of anything (``ctime``) in ns, of a file.

    Times beyond the year 2262 are cut off: no file of ours can hold them.
    """
    times = (max(-(2**63), min(time, 2**63 - 1)) for time in (status.st_mtime_ns, status.st_ctime_ns))
    return status.st_size, *times  # type: ignore[return-value]


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to a temporary name beside `path`, fsync, rename over it, fsync the folder.

    When it returns, the file survives a power loss, and so do the folders that lead to it, whoever made them.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; nothing is left behind then. If only the last step failed,
        the sync of the folder, the new content stands already.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(temporary, _MODE)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)
    _settle(Path(os.path.abspath(path.parent)))


def sync_folder(folder: Path) -> None:
    """Make what was made, renamed or removed in `folder` durable; a no-op where the system cannot do it.

    Raises
    ------
    OSError
        If the disk fails.
    """
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _UNSYNCED:
            raise


def _settle(folder: Path) -> None:
    """Make the names of `folder` and of all folders above it durable, once in a process.

    A folder that was made just now, by this run or by one that was killed, could otherwise be lost with all that was
    synced in it.
    """
    new = []
    while folder not in _settled and folder != folder.parent:
        new.append(folder)
        folder = folder.parent
    for folder in reversed(new):
        sync_folder(folder.parent)
        _settled.add(folder)
