"""Reading what a stranger may have written: bounded bytes, strict JSON, names that become paths, values in messages.

Every refusal is a ``ValueError`` (or the ``OSError`` of the file) with one phrase; callers say which file it was and
what to do.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

MAX_DEPTH = 32
"""Lists and objects inside each other; ours hold at most six."""
MAX_VALUES = 2**21
"""Values of one JSON text. Empty ones are the worst: two bytes of text each, some sixty of memory."""

_STRUCTURE = ",[{"
_LARGEST_INTEGER = 2**63


def read_bytes(path: Path, largest: int) -> bytes:
    """Content of a regular file of at most `largest` bytes.

    Raises
    ------
    OSError
        If it cannot be read, or is a pipe or device, which is never opened.
    ValueError
        If it is larger.
    """
    check_regular(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(min(size, largest) + 1)  # this much is set aside before it is read
    if len(content) > largest:
        raise ValueError(f"more than {largest:,} bytes")
    return content


def check_regular(path: Path) -> None:
    """Refuse pipes and devices, of which a read may never end.

    Raises
    ------
    OSError
        If `path` is not there or not a regular file.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def parse_json(
    content: bytes | str, *, max_values: int = MAX_VALUES, make: Callable[[dict[str, Any]], Any] = lambda found: found
) -> Any:
    """JSON without what Python's own reader lets pass.

    Parameters
    ----------
    content : UTF-8
    max_values : more values are refused before any is made
    make : what to keep of each object, innermost first

    Raises
    ------
    ValueError
        If it is not JSON, too large or too deep, names a key twice, or holds a number that is not finite, or a whole
        one of more than 64 bits.
    """
    text = content if isinstance(content, str) else content.decode("utf-8-sig")
    if sum(text.count(sign) for sign in _STRUCTURE) > max_values:
        raise ValueError(f"more than {max_values:,} values")

    def once(pairs: list[tuple[str, Any]]) -> Any:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError(f"{shown(_repeated(name for name, _ in pairs))} is there twice")
        return make(found)

    try:
        found = json.loads(
            text, object_pairs_hook=once, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_whole
        )
    except RecursionError as error:
        raise ValueError(f"more than {MAX_DEPTH} levels deep") from error
    check_depth(found)
    return found


def read_json(path: Path, largest: int, *, max_values: int = MAX_VALUES) -> Any:
    """JSON of a regular file: `read_bytes`, `parse_json`."""
    return parse_json(read_bytes(path, largest), max_values=max_values)


def check_depth(value: Any) -> None:
    """Refuse lists and dicts that would exhaust whoever walks through them.

    Raises
    ------
    ValueError
        If more than `MAX_DEPTH` stand inside each other.
    """
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for one in level
            if isinstance(one, (dict, list))
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise ValueError(f"more than {MAX_DEPTH} levels deep")


def is_hex(value: Any, digits: int) -> bool:
    """Whether `value` is a string of so many lower-case hex digits: the only text of a file that becomes a path."""
    return isinstance(value, str) and len(value) == digits and not value.strip("0123456789abcdef")


def shown(value: Any, longest: int = 60) -> str:
    """`value` for a message: quoted, on one line, cut off."""
    if isinstance(value, str):
        return repr(value) if len(value) <= longest else f"{value[:longest]!r}..."
    return repr(value) if isinstance(value, (bool, int, float, type(None))) else f"a {type(value).__name__}"


def _repeated(names: Iterable[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    raise AssertionError("all names differ")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{shown(text)} is too large")
    return value


def _whole(text: str) -> int:
    if len(text) > 20 or not -_LARGEST_INTEGER <= (value := int(text)) < _LARGEST_INTEGER:
        raise ValueError(f"{shown(text)} is too large")
    return value
