"""Damage to bytes and to text, drawn from a seed: the same seed and content give the same damage."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable
from typing import Any

INTEGERS = (0, 1, -1, 0x7F, 0x7FFF, 0x8000, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63))
LONG = 100_000
DEEP = 20_000
"""More than Python recurses; json and tomllib must not be led there."""


def damaged(content: bytes, other: bytes, rng: random.Random, *, text: bool = False) -> bytes:
    """`content` after one to three mutations; `other` is what a splice takes its second half from.

    Parameters
    ----------
    text : whether to treat it as text half of the time: values of JSON, and cells of lines
    """
    if text and rng.random() < 0.5:
        return _damaged_text(content.decode(), rng).encode("utf-8", "surrogateescape")
    result = content
    for _ in range(rng.choice((1, 1, 2, 3))):
        result = rng.choice(BYTES)(result, other, rng)
    return result if result != content else content[:-1]


# --- bytes ---


def _block(content: bytes, rng: random.Random) -> tuple[int, int]:
    """Start and end of a block, small ones more often."""
    start = rng.randrange(len(content) + 1)
    return start, min(len(content), start + int(2 ** rng.uniform(0, 12)))


def _flip(content: bytes, other: bytes, rng: random.Random) -> bytes:
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 4, 64)) if out else 0):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _overwrite(content: bytes, other: bytes, rng: random.Random) -> bytes:
    start, end = _block(content, rng)
    fill = rng.choice((b"\0" * (end - start), b"\xff" * (end - start), rng.randbytes(end - start)))
    return content[:start] + fill + content[end:]


def _truncate(content: bytes, other: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _insert(content: bytes, other: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + rng.randbytes(int(2 ** rng.uniform(0, 10))) + content[start:]


def _duplicate(content: bytes, other: bytes, rng: random.Random) -> bytes:
    start, end = _block(content, rng)
    return content[:end] + content[start:end] + content[end:]


def _remove(content: bytes, other: bytes, rng: random.Random) -> bytes:
    start, end = _block(content, rng)
    return content[:start] + content[end:]


def _swap(content: bytes, other: bytes, rng: random.Random) -> bytes:
    a, b, c, d = sorted(rng.randrange(len(content) + 1) for _ in range(4))
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def _integer(content: bytes, other: bytes, rng: random.Random) -> bytes:
    width = rng.choice((1, 2, 4, 8))
    value = rng.choice(INTEGERS) % 2 ** (8 * width)
    written = struct.pack(rng.choice("<>") + {1: "B", 2: "H", 4: "I", 8: "Q"}[width], value)
    start = rng.randrange(len(content) + 1)
    return content[:start] + written + content[start + width :]


def _splice(content: bytes, other: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other) + 1) :]


BYTES = (_flip, _overwrite, _truncate, _insert, _duplicate, _remove, _swap, _integer, _splice)


# --- text ---


def _strange(rng: random.Random) -> Any:
    """A value that stands where another was expected."""
    return rng.choice(
        (
            *(None, True, "", [], {}, -1, 0, 2**31, 2**63, 1e308, -0.5, "x" * LONG, "\ud800", "\0", "../x", "=1"),
            *(float("nan"), float("inf"), [[]], {"": None}, "nan", 10**400, "🦤\n\u2028", ["a"] * 1000),
        )
    )


def _damaged_text(content: str, rng: random.Random) -> str:
    try:
        value = json.loads(content)
    except ValueError:
        return rng.choice(LINES)(content, rng)
    if rng.random() < 0.1:
        return rng.choice(
            (deep_json("[", "]"), deep_json('{"a":', "}"), "", "null", "[]", "{}", '{"format": 1}', "NaN")
        )
    for _ in range(rng.choice((1, 1, 2))):
        _change(value, rng)
    # a lone surrogate is written as an escape, NaN and Infinity by their names
    return json.dumps(value)


def deep_json(start: str, end: str) -> str:
    """Containers within each other, `DEEP` of them."""
    return start * DEEP + "0" + end * DEEP


def _change(value: Any, rng: random.Random) -> None:
    """Change one place of a parsed JSON: drop, add, replace or rename."""
    places = list(_places(value))
    if not places:
        return
    holder, key = rng.choice(places)
    action = rng.choice(("drop", "replace", "replace", "copy", "nudge"))
    if action == "drop":
        del holder[key]
    elif action == "copy":
        holder[key] = copy.deepcopy(rng.choice([other[place] for other, place in places]))
    elif action == "nudge" and isinstance(holder[key], (int, float)) and not isinstance(holder[key], bool):
        holder[key] += rng.choice((1, -1, 0.5))
    else:
        holder[key] = _strange(rng)
    if isinstance(holder, dict) and rng.random() < 0.2:
        holder[str(key) + "x"] = holder.pop(key, 0)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container with each of its keys."""
    found: list[tuple[Any, Any]] = []
    pending = [value]
    while pending:
        holder = pending.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        found += [(holder, key) for key in keys]
        pending += [holder[key] for key in keys]
    return found


def _line(content: str, rng: random.Random) -> str:
    lines = content.split("\n")
    place = rng.randrange(len(lines))
    action = rng.randrange(5)
    if action == 0:
        del lines[place]
    elif action == 1:
        lines.insert(place, lines[rng.randrange(len(lines))])
    elif action == 2:
        lines[place] += "," + lines[place]
    elif action == 3:
        lines[place] = '"' + lines[place]
    else:
        lines.insert(place, "x" * rng.choice((LONG, 2**21)))
    return "\n".join(lines)


def _cell(content: str, rng: random.Random) -> str:
    """Another value in one cell of a table, or behind one equals sign."""
    lines = content.split("\n")
    place = rng.randrange(len(lines))
    delimiter = "=" if "=" in lines[place] else ","
    cells = lines[place].split(delimiter)
    cells[rng.randrange(len(cells))] = str(_strange(rng))
    return _whole("\n".join([*lines[:place], delimiter.join(cells), *lines[place + 1 :]]))


def _written_otherwise(content: str, rng: random.Random) -> str:
    return rng.choice(
        (
            content.replace("\n", "\r\n"),
            content.replace("\n", "\r"),
            "\ufeff" + content,
            content.replace(",", ";"),
            content.replace('"', "'"),
            content * 100,
            content.upper(),
            "[" * DEEP + content,
            "a = " + "[" * DEEP + "]" * DEEP + "\n" + content,
        )
    )


def _whole(text: str) -> str:
    """`text` without lone surrogates, which no file can hold as UTF-8."""
    return text.encode("utf-8", "replace").decode()


LINES: tuple[Callable[[str, random.Random], str], ...] = (_line, _cell, _cell, _written_otherwise)
