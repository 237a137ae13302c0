"""Confusions as SVG pictures: text alone, no plotting library. Numbers in, a string out; no files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import numpy as np

from rratag.data.cells import escape as without_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rratag.evaluate.confusion import ClassFigures

RIGHT, WRONG = "#0072B2", "#D55E00"
"""Of the palette of Okabe and Ito: videos on the diagonal, and off it."""
LARGEST_CELL, SMALLEST_CELL, WANTED_SIDE = 32.0, 8.0, 640.0
"""Pixels: of a cell, and of the matrix where cells of these sizes allow it."""
LONGEST, LONGEST_TITLE = 32, 120
"""Letters of a label and a title; the whole of it is shown where the mouse rests."""
PALEST = 0.3
"""Of a cell with a single video among many, which must still be seen."""
SMALLEST_NUMBER = 18.0
"""Cells of this size hold their count."""
WIDTH_OF_LETTER = 0.62
"""As a part of the font's size."""
MOST_CLASSES = 20
"""Of the picture of confidences."""


def confusion_matrix_svg(title: str, matrix: NDArray[np.integer], class_names: Sequence[str]) -> str:
    """SVG document of a confusion matrix: a row for each true class, a column for each first tag.

    A cell is the darker, the greater its share of its row. A cell without videos is empty. Every cell and label says in
    full what it is where the mouse rests on it.

    Parameters
    ----------
    matrix : of shape (classes, classes), counts; row = true class
    class_names : at least one

    Raises
    ------
    ValueError
        If the shape does not fit.
    """
    count = len(class_names)
    if not count or matrix.shape != (count, count):
        raise ValueError(f"matrix of {count} x {count} classes expected, at least one; got {matrix.shape}")
    cell = min(LARGEST_CELL, max(SMALLEST_CELL, WANTED_SIDE / count))
    font = min(12.0, cell * 0.85)
    names = [readable(name) for name in class_names]
    margin = 28 + WIDTH_OF_LETTER * font * min(LONGEST, max(map(len, names)))
    side, left, top = cell * count, margin, 32 + margin
    parts = [
        f'<rect x="{_px(left)}" y="{_px(top)}" width="{_px(side)}" height="{_px(side)}" fill="#f4f4f4"/>',
        _text(8, 22, readable(title), "start", 15),
        _text(left + side / 2, 44, "first tag", "middle", 12),
        f'<text transform="translate(18 {_px(top + side / 2)}) rotate(-90)" text-anchor="middle">true tag</text>',
        *_names(names, font, cell, left, top),
        *_cells(matrix, names, cell, left, top),
    ]
    wide = 24 + WIDTH_OF_LETTER * 15 * min(LONGEST_TITLE, len(readable(title)))
    return _document(max(wide, left + side + 16), top + side + 16, parts)


def _names(names: Sequence[str], font: float, cell: float, left: float, top: float) -> list[str]:
    """Labels of rows and columns of a matrix whose corner is at `left`, `top`."""
    parts = [f'<g class="names" font-size="{_px(font)}">']
    for place, name in enumerate(names):
        baseline = (place + 0.5) * cell + font * 0.35
        parts.append(_text(left - 4, top + baseline, name, "end"))
        turned = f"translate({_px(left + baseline)} {_px(top - 4)}) rotate(-90)"
        parts.append(f'<text transform="{turned}">{_shortened(name)}</text>')
    return [*parts, "</g>"]


def _cells(matrix: NDArray[np.integer], names: Sequence[str], cell: float, left: float, top: float) -> list[str]:
    """Cells that hold videos, with their counts where there is room."""
    totals = matrix.sum(axis=1)
    parts = ['<g class="cells">']
    for row, column in np.argwhere(matrix):
        number, total = int(matrix[row, column]), int(totals[row])
        said = f"{names[row]} taken for {names[column]}" if row != column else f"{names[row]} right"
        x, y = left + column * cell, top + row * cell
        fill = _shade(RIGHT if row == column else WRONG, number / total, PALEST)
        parts.append(
            f'<rect x="{_px(x)}" y="{_px(y)}" width="{_px(cell)}" height="{_px(cell)}" fill="{fill}">'
            f"<title>{escape(said)}: {number} of {total}</title></rect>"
        )
        if cell >= SMALLEST_NUMBER:
            colour = "#ffffff" if number > 0.6 * total else "#222222"
            parts.append(_text(x + cell / 2, y + cell / 2 + 4, str(number), "middle", 10, colour))
    return [*parts, "</g>"]


def confidences_svg(runs: Sequence[tuple[str, Sequence[ClassFigures]]]) -> str:
    """SVG document like the paper's Fig. 6: mean scores of the classes that are told apart least.

    Of each run, left, the three highest mean scores over the videos of a class; right, that of the class itself, that
    of the most confusing other class, and the gap between them. Darker is higher.

    Parameters
    ----------
    runs : names and figures of one run or several; the first one's gaps choose the classes, smallest first

    Raises
    ------
    ValueError
        If there is no class with videos and another to confuse it with.
    """
    chosen = sorted((one for one in runs[0][1] if one.gap is not None), key=lambda one: one.gap or 0)[:MOST_CLASSES]
    if not chosen:
        raise ValueError("no class to draw")
    tables = [{one.label: one for one in figures} for _, figures in runs]
    names = [readable(one.label) for one in chosen]
    left = 16 + WIDTH_OF_LETTER * 12 * min(LONGEST, max(map(len, names)))
    wide, narrow, height, top = 170.0, 64.0, 24.0, 76.0
    block = 3 * wide + 3 * narrow + 24
    parts = [_text(8, 22, "Mean scores over the videos of a tag, the smallest gaps first", "start", 15)]
    for number, (name, _) in enumerate(runs):
        x = left + 12 + number * block
        parts.append(_text(x, 44, readable(name), "start", 12))
        heads = ["first", "second", "third", "true", "confusing", "gap"]
        ends = np.cumsum([0.0, wide, wide, wide, narrow, narrow])
        parts += [_text(x + end + 4, 66, head, "start", 11) for head, end in zip(heads, ends, strict=True)]
    for row, (one, name) in enumerate(zip(chosen, names, strict=True)):
        y = top + row * height
        parts.append(_text(left, y + 16, name, "end", 12))
        for number, table in enumerate(tables):
            x = left + 12 + number * block
            own = table.get(one.label)
            for width, colour, value, text in _figures(own) if own and own.gap is not None else ():
                parts.append(_box(x, y, width - 2, height - 2, _shade(colour, abs(value)), text, abs(value) > 0.6))
                x += width
    return _document(left + 16 + len(runs) * block, top + len(chosen) * height + 16, parts)


def _figures(one: ClassFigures) -> Iterable[tuple[float, str, float, str]]:
    """Width, colour, value and text of each box of a class."""
    for said in one.top_confidences + [None] * (3 - len(one.top_confidences)):
        if said is None:
            yield 170.0, RIGHT, 0.0, ""
        else:
            colour = RIGHT if said.label == one.label else WRONG
            yield 170.0, colour, said.confidence, f"{said.confidence:.2f} {readable(said.label)}"
    confusing = one.most_confusing.confidence if one.most_confusing else 0.0
    gap = one.gap or 0.0
    yield 64.0, RIGHT, one.confidence or 0.0, f"{one.confidence:.2f}"
    yield 64.0, WRONG, confusing, f"{confusing:.2f}"
    yield 64.0, RIGHT if gap >= 0 else WRONG, gap, f"{gap:+.2f}"


def readable(name: str) -> str:
    """`name` without what XML cannot hold or a reader cannot see: such characters are written as in Python."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in without_bytes(name)
    )


def _box(x: float, y: float, width: float, height: float, fill: str, text: str, dark: bool) -> str:
    """A coloured cell with text; all of it where the mouse rests."""
    letters = math.floor((width - 8) / (WIDTH_OF_LETTER * 11))
    return (
        f'<g><rect x="{_px(x)}" y="{_px(y)}" width="{_px(width)}" height="{_px(height)}" fill="{fill}"/>'
        f'<text x="{_px(x + 4)}" y="{_px(y + 15)}" font-size="11" fill="{"#ffffff" if dark else "#222222"}">'
        f"{_shortened(text, letters)}</text></g>"
    )


def _shade(colour: str, share: float, least: float = 0.05) -> str:
    """From nearly white at 0, `least` of the colour, to the colour at 1, or above."""
    strength = least + (1 - least) * min(1.0, max(0.0, share))
    levels = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(255 + (level - 255) * strength):02x}" for level in levels)


def _shortened(text: str, longest: int = LONGEST) -> str:
    """Escaped; of a long text the beginning, and all of it as a title."""
    if len(text) <= longest:
        return escape(text)
    return f"{escape(text[: max(longest - 1, 1)])}\u2026<title>{escape(text)}</title>"


def _text(x: float, y: float, text: str, anchor: str, size: float | None = None, colour: str = "#222222") -> str:
    font = "" if size is None else f' font-size="{size:g}"'
    return (
        f'<text x="{_px(x)}" y="{_px(y)}" text-anchor="{anchor}"{font} fill="{colour}">'
        f"{_shortened(text, LONGEST if anchor == 'end' else LONGEST_TITLE)}</text>"
    )


def _document(width: float, height: float, parts: Sequence[str]) -> str:
    size = f"{math.ceil(width)} {math.ceil(height)}"
    wide, high = size.split()
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {size}" '
        'font-family="sans-serif" font-size="12" fill="#222222">'
    )
    return "\n".join([head, f'<rect width="{wide}" height="{high}" fill="#ffffff"/>', *parts, "</svg>", ""])


def _px(value: float) -> str:
    """Pixels, to a hundredth."""
    return f"{value:.2f}"
