"""A checksum at the end of a JSON object."""

from __future__ import annotations

import json
import zlib

import pytest

from rratag import sealed


@pytest.mark.parametrize("indent", [None, 1])
def test_any_changed_bit_or_cut_is_noticed(indent: int | None) -> None:
    data = {"a": 12, "b": ["ä", {"c": None}], "d": 0.5}
    content = sealed.to_bytes(data, indent=indent)
    found = json.loads(content)
    assert list(found) == ["a", "b", "d", "crc32"]
    assert {name: found[name] for name in data} == data
    assert sealed.is_whole(content)
    for bit in range(8 * (len(content) - 1)):  # the last byte is a line's end, which an editor may take away
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        assert not sealed.is_whole(bytes(changed)) or json.loads(changed) == found
    assert not any(sealed.is_whole(content[:end]) for end in range(len(content) - 1))


def test_the_checksum_is_that_of_all_before_it() -> None:
    assert sealed.to_bytes({"a": 1}) == b'{"a": 1, "crc32": "%08x"}\n' % zlib.crc32(b'{"a": 1')


def test_an_older_checksum_is_replaced() -> None:
    assert sealed.to_bytes({"a": 1, "crc32": "0"}) == sealed.to_bytes({"a": 1})


def test_content_without_a_checksum_is_not_whole() -> None:
    for content in (b"", b"{}", b'{"a": 1}', b'{"a": 1, "crc32": "00000000"}', b'{"crc32": "00000000"}'):
        assert not sealed.is_whole(content)


def test_a_number_that_json_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        sealed.to_bytes({"a": float("nan")})
