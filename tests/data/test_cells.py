r"""Names as cells: valid UTF-8, harmless in a spreadsheet, and back exactly."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rratag.data.cells import escape, neutralise, restore, unescape

PIECES = st.sampled_from(["\\", "x", "5c", "ff", "u", "dcff", "'", "=", "-", "\udcff", "\ud800", "a", "\n", "\t"])
NAMES = st.one_of(st.text(st.characters(exclude_categories=())), st.lists(PIECES, max_size=8).map("".join))


@settings(deadline=None, max_examples=300)
@given(NAMES)
@example("\\xff")
@example("\\x5cxff")
@example("\\\udcff")
def test_every_name_comes_back_and_is_valid_unicode(name: str) -> None:
    assert unescape(escape(name)) == name
    escape(name).encode()


@settings(deadline=None, max_examples=300)
@given(NAMES)
@example("'=1")
@example("''=1")
def test_every_cell_comes_back_and_none_is_executed(cell: str) -> None:
    written = neutralise(cell)
    assert restore(written) == cell
    assert not written.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a\udcff.mp4", "a\\xff.mp4"),
        ("a\udc80b", "a\\x80b"),
        ("a\\b.mp4", "a\\b.mp4"),  # an ordinary backslash stays
        ("a\\xff.mp4", "a\\x5cxff.mp4"),
        ("é\u2028.mp4", "é\u2028.mp4"),
    ],
)
def test_bytes_that_are_not_utf8_are_written_in_hex(name: str, written: str) -> None:
    assert escape(name) == written


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+a", "'+a"),
        ("-1.mp4", "'-1.mp4"),
        ("@x", "'@x"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("'=1", "''=1"),
        ("'tis.mp4", "'tis.mp4"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_only_cells_that_would_be_executed_get_a_quote(cell: str, written: str) -> None:
    assert neutralise(cell) == written
