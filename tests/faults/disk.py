"""A disk that can fail: every change below a folder is one numbered operation, which may be recorded, fail or kill.

`Disk` stands between Python and the system while a writer runs. `states.Log` builds from what it recorded what a kill
or a loss of power could have left.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import pathlib
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from tests.faults.states import Log, Operation, read_tree

_PATCHED = (
    "open", "fdopen", "write", "fsync", "close", "replace", "rename", "unlink", "remove", "mkdir", "rmdir", "chmod",
)  # fmt: skip
_OPEN = builtins.open


class Disk:
    """Inside, what changes anything below `folder` is an operation.

    Parameters
    ----------
    at : number of the operation at which `fault` comes; it is called instead of the operation, and may do it
    """

    def __init__(self, folder: Path, at: int = -1, fault: Callable[[Operation, Callable[[], Any]], Any] | None = None):
        self.folder, self.at, self.fault = os.path.abspath(folder), at, fault
        self.before = read_tree(folder)
        self.numbers = {path: number for number, path in enumerate(self.before)}
        self.count = len(self.numbers)
        self.operations: list[Operation] = []
        self.open: dict[int, tuple[str, int]] = {}  # path and number (-1: a folder) by descriptor
        self.original = {name: getattr(os, name) for name in _PATCHED}
        self.stack = ExitStack()

    def __enter__(self) -> Disk:
        for name in _PATCHED:
            function = getattr(self, f"_{name}")
            self.stack.enter_context(mock.patch.object(os, name, function))
            accessor = getattr(pathlib, "_NormalAccessor", None)  # Python 3.10 binds the functions of `os` there
            if hasattr(accessor, name) and name != "open":
                self.stack.enter_context(mock.patch.object(accessor, name, staticmethod(function)))
        for module in (io, builtins):
            self.stack.enter_context(mock.patch.object(module, "open", self._open_file))
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    @property
    def log(self) -> Log:
        """What was recorded."""
        return Log(self.before, self.operations)

    def _do(self, operation: Operation, action: Callable[[], Any]) -> Any:
        self.operations.append(operation)
        if self.fault is not None and len(self.operations) - 1 == self.at:
            return self.fault(operation, action)
        return action()

    def _within(self, path: Any, dir_fd: int | None = None) -> str | None:
        """`path` relative to the folder, or None where it lies elsewhere."""
        if isinstance(path, int):
            return None
        base = os.getcwd() if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
        whole = os.path.normpath(os.path.join(base, os.fspath(path)))
        return os.path.relpath(whole, self.folder) if whole.startswith(self.folder + os.sep) else None

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        def action() -> int:
            return int(self.original["open"](path, flags, mode, dir_fd=dir_fd))

        name = self._within(path, dir_fd)
        if name is None and os.path.abspath(path) == self.folder:
            name = ""
        if name is None:
            return action()
        if not flags & (os.O_WRONLY | os.O_RDWR):
            descriptor = action()
            self.open[descriptor] = (name, self.numbers.get(name, -1) if not os.path.isdir(descriptor) else -1)
            return descriptor
        if name in self.numbers and os.path.lexists(os.path.join(self.folder, name)):
            number = self.numbers[name]
            operation = Operation("truncate", name, number) if flags & os.O_TRUNC else None
        else:
            number = self.numbers[name] = self.count
            self.count += 1
            operation = Operation("create", name, number)
        descriptor = action() if operation is None else self._do(operation, action)
        self.open[descriptor] = (name, number)
        return descriptor

    def _open_file(self, path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not isinstance(path, int) and set(mode) & set("wxa") and self._within(path) is not None:
            flags = os.O_WRONLY | os.O_CREAT | (0 if "a" in mode else os.O_EXCL if "x" in mode else os.O_TRUNC)
            return _Handle(self, self._open(path, flags, 0o666))
        return _OPEN(path, mode, *arguments, **options)

    def _fdopen(self, descriptor: int, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if descriptor in self.open and "r" not in mode:
            return _Handle(self, descriptor)
        return self.original["fdopen"](descriptor, mode, *arguments, **options)

    def _write(self, descriptor: int, data: bytes) -> int:
        if descriptor not in self.open:
            return int(self.original["write"](descriptor, data))
        name, number = self.open[descriptor]

        def action(data: bytes = bytes(data)) -> int:
            return int(self.original["write"](descriptor, data))

        return int(self._do(Operation("write", name, number, bytes(data)), action))

    def _fsync(self, descriptor: int) -> None:
        def action() -> None:
            self.original["fsync"](descriptor)

        if descriptor not in self.open:
            return action()
        name, number = self.open[descriptor]
        return self._do(Operation("sync" if number >= 0 else "sync folder", name, number), action)

    def _close(self, descriptor: int) -> None:
        self.open.pop(descriptor, None)
        self.original["close"](descriptor)

    def _named(self, kind: str, path: Any, target: Any, action: Callable[[], Any], dir_fd: int | None = None) -> Any:
        name, new = self._within(path, dir_fd), None if target is None else self._within(target)
        if name is None:
            return action()
        done = self._do(Operation(kind, name, target=new or ""), action)
        if new is not None:  # numbers follow the names, those below a folder too
            moved = {p: n for p, n in self.numbers.items() if p == name or p.startswith(name + os.sep)}
            self.numbers = {p: n for p, n in self.numbers.items() if p not in moved and p != new}
            self.numbers |= {new + p[len(name) :]: n for p, n in moved.items()}
        return done

    def _replace(self, source: Any, target: Any, **options: Any) -> None:
        self._named("rename", source, target, lambda: self.original["replace"](source, target, **options))

    _rename = _replace

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._named("unlink", path, None, lambda: self.original["unlink"](path, dir_fd=dir_fd), dir_fd)

    _remove = _unlink

    def _mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        if self._within(path) is None or not os.path.lexists(path):  # else it fails, and changes nothing
            self._named("mkdir", path, None, lambda: self.original["mkdir"](path, mode, dir_fd=dir_fd), dir_fd)
        else:
            self.original["mkdir"](path, mode, dir_fd=dir_fd)

    def _rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._named("rmdir", path, None, lambda: self.original["rmdir"](path, dir_fd=dir_fd), dir_fd)

    def _chmod(self, path: Any, mode: int, **options: Any) -> None:
        self._named("chmod", path, None, lambda: self.original["chmod"](path, mode, **options))


class _Handle:
    """A file open for writing whose every write is an operation at once, without a buffer of Python's."""

    def __init__(self, disk: Disk, descriptor: int) -> None:
        self.disk, self.descriptor = disk, descriptor

    def write(self, data: Any) -> int:
        left = data.encode() if isinstance(data, str) else bytes(data)
        while left:
            left = left[self.disk._write(self.descriptor, left) :]
        return len(data)

    def flush(self) -> None:
        """Nothing is kept back."""

    def fileno(self) -> int:
        return self.descriptor

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    __del__ = close

    def __enter__(self) -> _Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# --- faults ---


def fails(number: int, *, after_bytes: bool = False) -> Callable[[Operation, Callable[..., Any]], Any]:
    """The system refuses with this errno; `after_bytes`: it took the first half of a write before."""

    def fault(operation: Operation, action: Callable[..., Any]) -> Any:
        if after_bytes and operation.data:
            action(operation.data[: len(operation.data) // 2])
        raise OSError(number, os.strerror(number))

    return fault


full, broken, read_only = fails(errno.ENOSPC), fails(errno.EIO), fails(errno.EROFS)


def writes_little(operation: Operation, action: Callable[..., Any]) -> Any:
    """The system takes one byte of a write and says so."""
    return action(operation.data[:1]) if operation.data else action()


def kills(operation: Operation, action: Callable[..., Any]) -> Any:
    """The process dies before the operation, of a write after its first half."""
    if operation.data:
        action(operation.data[: len(operation.data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
