"""Strict JSON, regular files, and text that is fit for a message."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rratag.untrusted import MAX_DEPTH, check_depth, is_hex, parse_json, read_bytes, read_json, shown

leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(leaves | st.text(), lambda one: st.lists(one) | st.dictionaries(st.text(), one), max_leaves=10)


@settings(deadline=None, max_examples=100)
@given(values)
def test_json_that_python_writes_comes_back(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Expecting value"),
        ("{} {}", "Extra data"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' is there twice"),
        ('{"a": {"b": 1, "b": 1}}', "'b' is there twice"),
        ("NaN", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("1e999", "'1e999' is too large"),
        (str(2**63), "is too large"),
        ("9" * 10_000, "is too large"),
        ("[" * 200_000, "more than 32 levels"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "more than 32 levels"),
        ('{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1), "more than 32 levels"),
        ("[" + "0," * 20 + "0]", "more than 20 values"),
        (b'"\xff"', "codec can't decode"),
        ("[]".encode("utf-16"), "codec can't decode"),
    ],
)
def test_json_that_python_would_take_is_refused(text: str | bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_json(text, max_values=20 if "20" in words else 10**6)
    assert len(str(caught.value)) < 200


def test_depth_is_counted_through_lists_and_dicts() -> None:
    deepest: Any = 1
    for number in range(MAX_DEPTH):
        deepest = [deepest] if number % 2 else {"a": deepest}
    check_depth(deepest)
    with pytest.raises(ValueError, match="levels deep"):
        check_depth([deepest])


def test_files_are_read_up_to_a_size(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"[1]")
    assert read_bytes(path, 3) == b"[1]"
    assert read_json(path, 3) == [1]
    with pytest.raises(ValueError, match="more than 2 bytes"):
        read_bytes(path, 2)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):  # reading it would never end
        read_bytes(tmp_path / "pipe", 10)
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path, 10)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "none", 10)


@pytest.mark.parametrize(
    ("value", "digits", "good"),
    [
        ("00ff", 4, True),
        ("00FF", 4, False),
        ("0/ff", 4, False),
        ("../x", 4, False),
        ("00ff\n", 4, False),
        ("00ff\n", 5, False),
        ("٠٠٠٠", 4, False),
        ("00ff", 5, False),
        (0x00FF, 4, False),
        (None, 4, False),
    ],
)
def test_only_hex_digits_become_a_path(value: Any, digits: int, good: bool) -> None:
    assert is_hex(value, digits) == good


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\x1b[31m\n\u202e", r"'a\x1b[31m\n\u202e'"),
        ("x" * 100, "'" + "x" * 60 + "'..."),
        (["x" * 100], "a list"),
        (True, "True"),
        (None, "None"),
    ],
)
def test_values_are_shown_short_and_on_one_line(value: Any, text: str) -> None:
    assert shown(value) == text
