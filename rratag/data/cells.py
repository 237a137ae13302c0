r"""Names as text cells: bytes that are not UTF-8 and cells a spreadsheet would execute, both undone exactly.

File names arrive as ``str`` with PEP 383 surrogates for bytes that are not UTF-8. In our files such a byte is written
``\xNN`` (any other lone surrogate ``\uNNNN``). A name that holds such a sequence literally has its backslash written
``\x5c``, so that the way back is exact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_SPECIAL = re.compile(r"[\ud800-\udfff]|\\(?=x5c|x[89a-f][0-9a-f]|ud[89a-f][0-9a-f]{2})")
_ESCAPED = re.compile(r"\\(?:x(5c|[89a-f][0-9a-f])|u(d[89a-f][0-9a-f]{2}))")
_EXECUTED = re.compile(r"'*[=+\-@\t\r\n]")
_QUOTE = '"'
_NEEDS_QUOTES = frozenset(',"\r\n')
_PROTECTED = re.compile(r"'+[=+\-@\t\r\n]")


def escape(name: str) -> str:
    r"""`name` as valid Unicode: a byte that is not UTF-8 becomes ``\xNN``."""
    return _SPECIAL.sub(_written, name)


def unescape(text: str) -> str:
    """Undo `escape` exactly."""
    return _ESCAPED.sub(_meant, text)


def neutralise(cell: str) -> str:
    """Put a ``'`` before a cell that a spreadsheet would execute (``= + - @``, tab, CR, LF), or that looks neutralised.

    A name that merely begins with ``'`` stays as it is.
    """
    return f"'{cell}" if _EXECUTED.match(cell) else cell


def restore(cell: str) -> str:
    """Undo `neutralise` exactly."""
    return cell[1:] if _PROTECTED.match(cell) else cell


def csv_line(cells: Iterable[str]) -> str:
    """One line of CSV with its end."""
    # by hand: csv.writer leaves a carriage return unquoted on some Python versions
    return ",".join(f'"{c.replace(_QUOTE, _QUOTE * 2)}"' if _NEEDS_QUOTES & set(c) else c for c in cells) + "\n"


def text_cell(value: str) -> str:
    """`value` as a CSV cell holds it: escaped and neutralised."""
    return neutralise(escape(value))


def _written(found: re.Match[str]) -> str:
    code = ord(found.group())
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return "\\x5c" if code == ord("\\") else f"\\u{code:04x}"


def _meant(found: re.Match[str]) -> str:
    byte, unit = found.groups()
    if unit is not None:
        return chr(int(unit, 16))
    return "\\" if byte == "5c" else chr(0xDC00 + int(byte, 16))
