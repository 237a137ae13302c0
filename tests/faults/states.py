"""What a kill or a loss of power leaves of a folder, from the list of operations that changed it.

After a kill the disk holds all operations so far, the last write perhaps in part. After a loss of power it holds what
was synced, and of the rest what bad luck chose. The model: changes of folders (made, renamed, removed) reach the disk
in their order, at the latest when their folder is synced; the bytes of a file reach it at any time, at the latest when
the file is synced: before that in part, or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

Tree = dict[str, bytes | None]
"""What lies below a folder: content by path; None is a folder."""

NAMED = ("create", "rename", "unlink", "mkdir", "rmdir")  # what changes a folder


@dataclass(frozen=True)
class Operation:
    """`kind` on `path`; `file` is the file's number, whatever it is called meanwhile."""

    kind: str
    path: str
    file: int = -1
    data: bytes = b""
    target: str = ""

    @property
    def folders(self) -> set[str]:
        return {os.path.dirname(path) for path in (self.path, self.target) if path}


def read_tree(folder: Path) -> Tree:
    """What lies below `folder`."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def write_tree(tree: Tree, folder: Path) -> Path:
    """Make a folder that holds `tree`."""
    folder.mkdir()
    for path in sorted(tree):
        content = tree[path]
        if content is None:
            (folder / path).mkdir(exist_ok=True)
        else:
            (folder / path).write_bytes(content)
    return folder


@dataclass(frozen=True)
class Log:
    """What a writer did, in order, to a folder that held `before`."""

    before: Tree
    operations: list[Operation]

    def kills(self) -> Iterator[tuple[str, Tree]]:
        """Every state that a kill leaves: after each operation, and in the middle of each write."""
        for end in range(len(self.operations) + 1):
            yield f"killed after {end} operations", self._replay(self.operations[:end])
            if end < len(self.operations) and (data := self.operations[end].data):
                torn = replace(self.operations[end], data=data[: len(data) // 2])
                yield f"killed within operation {end}", self._replay([*self.operations[:end], torn])

    def power_losses(self) -> Iterator[tuple[str, Tree, bool]]:
        """Every state that a loss of power leaves, and whether the writer had ended before it."""
        seen = set()
        durable = [self._durable(place) for place in range(len(self.operations))]
        for end in range(len(self.operations) + 1):
            for named in range(end + 1):
                for lost in ("nothing", "half", "all"):
                    tree = self._replay(self._survivors(durable, end, named, lost))
                    ended = end == len(self.operations)
                    key = (ended, frozenset(tree.items()))
                    if key not in seen:
                        seen.add(key)
                        yield f"power lost after {end}, names up to {named}, of unsynced bytes {lost}", tree, ended

    def _durable(self, place: int) -> int:
        """After how many operations that at `place` is safe from a loss of power."""
        one, waiting = self.operations[place], set(self.operations[place].folders)
        for later in range(place + 1, len(self.operations)):
            other = self.operations[later]
            if one.kind in NAMED:
                waiting -= {other.path} if other.kind == "sync folder" else set()
            elif other.kind == "sync" and other.file == one.file:
                waiting.clear()
            if not waiting:
                return later + 1
        return len(self.operations) + 1

    def _survivors(self, durable: list[int], end: int, named: int, lost: str) -> Iterator[Operation]:
        for place, one in enumerate(self.operations[:end]):
            if durable[place] <= end or (place < named if one.kind in NAMED else lost == "nothing"):
                yield one
            elif one.kind not in NAMED and lost == "half":
                yield replace(one, data=one.data[: len(one.data) // 2])
            elif one.kind == "truncate":
                yield one

    def _replay(self, operations: Iterable[Operation]) -> Tree:
        names: dict[str, int | None] = {
            path: None if content is None else number for number, (path, content) in enumerate(self.before.items())
        }
        contents = {number: content or b"" for number, content in enumerate(self.before.values())}
        for one in operations:
            _apply(one, names, contents)
        return {path: None if number is None else contents.get(number, b"") for path, number in names.items()}


def _apply(one: Operation, names: dict[str, int | None], contents: dict[int, bytes]) -> None:
    """One operation on a tree; nothing where what it needs did not survive."""
    if one.kind == "truncate":
        contents[one.file] = b""
    elif one.kind == "write":
        contents[one.file] = contents.get(one.file, b"") + one.data
    elif any(folder and folder not in names for folder in one.folders):
        return
    elif one.kind in ("create", "mkdir"):
        names[one.path] = one.file if one.kind == "create" else None
    elif one.kind in ("unlink", "rmdir"):
        names.pop(one.path, None)
    elif one.kind == "rename" and one.path in names:
        moved = {path: n for path, n in names.items() if path == one.path or path.startswith(one.path + os.sep)}
        for path in moved:
            del names[path]
        names |= {one.target + path[len(one.path) :]: number for path, number in moved.items()}
