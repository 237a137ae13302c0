"""JSON that a stranger wrote: parsed whole or refused, every fault with file, line and column."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rratag import untrusted
from rratag.data.readers.annotation import is_utf8
from rratag.errors import LabelError, UsageError
from rratag.untrusted import shown

MAX_BYTES = 2**28
MAX_VALUES = 2**23
"""220,847 videos of Something-Something V2 make about two million."""

_BLANK = " \t\n\r"
_DECODER = json.JSONDecoder(parse_int=float)  # of any number of digits

Key = str | int


@dataclass(frozen=True)
class Document:
    """The content of a JSON file, and its text, in which places are looked up when something is wrong."""

    path: Path
    text: str
    value: Any

    def where(self, *keys: Key) -> str:
        """The way to a value: ``database/ID/annotations/3``."""
        return "/".join(map(str, keys))

    def at(self, *keys: Key) -> str:
        """``FILE:LINE:COLUMN: way`` of a value, for the beginning of an error."""
        return f"{self.path}:{_line_column(self.text, _find(self.text, keys))}: {self.where(*keys)}"

    def error(self, message: str, *keys: Key) -> LabelError:
        """What is wrong with one value, with its place."""
        return LabelError(f"{self.at(*keys)}: {message}" if keys else f"{self.path}:1: {message}")

    def text_at(self, value: Any, *keys: Key) -> str:
        """`value` if it is a text that is not blank, without blanks around it.

        Raises
        ------
        LabelError
            If it is none.
        """
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"expected a name, found {shown(value)}", *keys)
        if not is_utf8(value):
            raise self.error(f"{shown(value)} holds half a character", *keys)
        return value.strip()


def load(path: Path) -> Document:
    """Read a JSON file.

    Raises
    ------
    LabelError
        With file, line and column, if it is not JSON, too large or too deep, names a key twice, or holds a number that
        is not finite.
    UsageError
        If it is not there.
    """
    try:
        content = untrusted.read_bytes(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such label file") from error
    except OSError as error:
        raise LabelError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise LabelError(f"{path}: {error}; a label file is smaller") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig", "replace")
        raise LabelError(f"{path}:{_line_column(before, len(before))}: not UTF-8; save it as UTF-8") from error
    if sum(map(text.count, ",[{")) > MAX_VALUES:
        raise LabelError(f"{path}: more than {MAX_VALUES:,} values; a label file has fewer")
    try:
        return Document(path, text, untrusted.parse_json(text, max_values=MAX_VALUES))
    except json.JSONDecodeError as error:
        raise _no_json(path, error) from error
    except ValueError as error:
        refused = str(error)
    try:
        place = _fault(text)
    except json.JSONDecodeError as error:  # further down than what is refused
        raise _no_json(path, error) from error
    raise LabelError(f"{path}:{_line_column(text, place)}: JSON that is not accepted: {refused}")


def _no_json(path: Path, error: json.JSONDecodeError) -> LabelError:
    return LabelError(f"{path}:{error.lineno}:{error.colno}: not JSON ({error.msg})")


def _line_column(text: str, at: int) -> str:
    return f"{text.count(chr(10), 0, at) + 1}:{at - text.rfind(chr(10), 0, at)}"


def _find(text: str, keys: tuple[Key, ...]) -> int:
    """Where the value at the end of the way begins; of a way that ends earlier, where it ends."""
    at = _skip(text, 0)
    for key in keys:
        found = next((begins for name, _, begins, _ in _members(text, at) if name == key), None)
        if found is None:
            break
        at = found
    return at


def _fault(text: str) -> int:
    """Where the innermost value that is refused begins; of an object that names a key twice, the second of them.

    Raises
    ------
    json.JSONDecodeError
        If `text` is no JSON at all.
    """
    at, end = _skip(text, 0), len(text)
    try:
        _DECODER.decode(text)
    except RecursionError:
        return at
    while True:
        seen: set[Key] = set()
        inner = None
        for key, named, begins, ends in _members(text, at):
            if key in seen:
                return named
            seen.add(key)
            if inner is None and not _is_accepted(text[begins:ends]):
                inner = begins, ends
        if inner is None or inner == (at, end):
            return at
        at, end = inner


def _is_accepted(text: str) -> bool:
    try:
        untrusted.parse_json(text, max_values=MAX_VALUES)
    except ValueError:
        return False
    return True


def _members(text: str, at: int) -> Iterator[tuple[Key, int, int, int]]:
    """Of the object or list at `at`: key, where the key begins, where the value begins and ends. `text` is JSON."""
    if text[at] not in "{[":
        return
    is_object = text[at] == "{"
    at = _skip(text, at + 1)
    number = 0
    while text[at] not in "}]":
        named, key = at, number
        if is_object:
            name, at = _DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)  # over the colon
        begins = at
        _, at = _DECODER.raw_decode(text, at)
        yield (name if is_object else key), named, begins, at
        number += 1
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    """The first place from `at` on that is not blank."""
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at
