"""JSON objects that end in a checksum of themselves: a digit that a disk changed is no other count, name or number."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

FIELD = "crc32"

_LAST = re.compile(rb',\s*"crc32": "([0-9a-f]{8})"\s*\}\s*\Z')
_LAST_BYTES = 64


def to_bytes(data: Mapping[str, Any], *, indent: int | None = None) -> bytes:
    """`data`, not empty, as ASCII JSON whose last field is the CRC-32 of all bytes before it, in 8 hex digits.

    Raises
    ------
    ValueError
        If a number is not finite, or JSON has no such value.
    """
    known = {name: value for name, value in data.items() if name != FIELD}
    content = json.dumps(known, indent=indent, allow_nan=False).encode()[:-1].rstrip()
    return content + f', "{FIELD}": "{zlib.crc32(content):08x}"}}\n'.encode()


def is_whole(content: bytes) -> bool:
    """Whether `content` ends in the checksum of what stands before it."""
    found = _LAST.search(content, max(0, len(content) - _LAST_BYTES))
    return found is not None and zlib.crc32(memoryview(content)[: found.start()]) == int(found[1], 16)
