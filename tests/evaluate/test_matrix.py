"""The pictures say what the numbers say: cells are read back by where they stand."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from rratag.evaluate.confusion import class_figures, confusion_matrix
from rratag.evaluate.matrix import LONGEST, MOST_CLASSES, RIGHT, WRONG, confidences_svg, confusion_matrix_svg, readable

SVG = "{http://www.w3.org/2000/svg}"
ODD = ['a < "b" & c', "bell\x07", "caf\udce9", "\u202egnu", "\ufffe", "x" * 300]


def group(root: ElementTree.Element, name: str) -> ElementTree.Element:
    (found,) = [one for one in root.iter(f"{SVG}g") if one.get("class") == name]
    return found


def cells(text: str, count: int) -> dict[tuple[int, int], tuple[str, str]]:
    """Fill and title of every cell by row and column, from where it stands in the grey square."""
    root = ElementTree.fromstring(text)
    square = list(root.iter(f"{SVG}rect"))[1]
    left, top, side = (float(square.get(name, "")) for name in ("x", "y", "width"))
    found = {}
    for one in group(root, "cells").iter(f"{SVG}rect"):
        x, y = float(one.get("x", "")), float(one.get("y", ""))
        place = round((y - top) / side * count), round((x - left) / side * count)
        found[place] = (one.get("fill", ""), one.findtext(f"{SVG}title", ""))
    return found


@pytest.mark.parametrize("count", [1, 2, 10, 61, 400])
def test_cells_stand_in_the_row_of_the_true_class_and_the_column_of_the_first_tag(count: int) -> None:
    rng = np.random.default_rng(count)
    labels = rng.integers(0, count, 3 * count)
    matrix = confusion_matrix(np.where(rng.random(3 * count) < 0.5, labels, (labels + 1) % count), labels, count)
    names = [f"tag {number:03}" for number in range(count)]
    found = cells(confusion_matrix_svg("title", matrix, names), count)
    assert found.keys() == {(int(row), int(column)) for row, column in np.argwhere(matrix)}
    for (row, column), (_, title) in found.items():
        said = f"{names[row]} right" if row == column else f"{names[row]} taken for {names[column]}"
        assert title == f"{said}: {matrix[row, column]} of {matrix[row].sum()}"


def test_darker_is_more_and_wrong_is_another_colour() -> None:
    found = cells(confusion_matrix_svg("t", np.array([[8, 2, 0], [0, 10, 0], [5, 0, 0]]), ["a", "b", "c"]), 3)
    assert found[1, 1][0] == RIGHT.lower()
    assert found[2, 0][0] == WRONG.lower()
    levels = [sum(int(found[place][0][at : at + 2], 16) for at in (1, 3, 5)) for place in ((1, 1), (0, 0))]
    assert levels[0] < levels[1]
    assert found[0, 1][0] not in (WRONG.lower(), "#ffffff")


@pytest.mark.parametrize("count", [2, 30, 100, 400])
def test_everything_lies_inside_and_names_do_not_overlap(count: int) -> None:
    names = [f"a rather long tag {number:03}" for number in range(count)]
    root = ElementTree.fromstring(confusion_matrix_svg("title", np.eye(count, dtype=int), names))
    width, height = (float(root.get(name, "")) for name in ("width", "height"))
    for one in root.iter(f"{SVG}rect"):
        assert float(one.get("x", 0)) + float(one.get("width", "")) <= width
        assert float(one.get("y", 0)) + float(one.get("height", "")) <= height
    names_group = group(root, "names")
    size = float(names_group.get("font-size", ""))
    rows = [float(one.get("y", "")) for one in names_group if one.get("y")]
    assert np.diff(rows).min() >= size
    assert size >= 6
    columns = [
        float(found.group(1))
        for one in names_group
        if (found := re.match(r"translate\(([\d.]+)", one.get("transform", "")))
    ]
    assert len(rows) == len(columns) == count
    assert np.diff(columns).min() >= size


def test_names_are_text_whatever_they_hold() -> None:
    text = confusion_matrix_svg('"<title>"', np.eye(len(ODD), dtype=int), ODD)
    text.encode()
    root = ElementTree.fromstring(text)
    texts = [one.text or "" for one in root.iter(f"{SVG}text")]
    assert texts.count('"<title>"') == 1
    for shown in (ODD[0], "bell\\x07", "caf\\xe9", "\\u202egnu", "\\ufffe"):
        assert texts.count(shown) == 2
    assert "x" * (LONGEST - 1) + "\u2026" in texts
    titles = [one.text or "" for one in root.iter(f"{SVG}title")]
    assert titles.count("x" * 300) == 2
    assert all(letter.isprintable() for name in ODD for letter in readable(name))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="3 x 3"):
        confusion_matrix_svg("t", np.eye(2, dtype=int), ["a", "b", "c"])
    with pytest.raises(ValueError, match="at least one"):
        confusion_matrix_svg("t", np.zeros((0, 0), int), [])
    with pytest.raises(ValueError, match="no class"):
        confidences_svg([("a", class_figures(np.ones((1, 1)), np.zeros(1, int), ["only"]))])


def test_confidences_have_the_smallest_gap_first_and_each_run_beside_the_other() -> None:
    rng = np.random.default_rng(0)
    names = [f"tag {number:02}" for number in range(30)]
    labels = np.repeat(np.arange(29), 2)  # the last one has no video
    runs = []
    for name in ("one", "two & more"):
        scores = rng.random((58, 30))
        scores[np.arange(58), labels] += rng.random(58)
        runs.append((name, class_figures(scores / scores.sum(axis=1, keepdims=True), labels, names)))
    root = ElementTree.fromstring(confidences_svg(runs))
    texts = [one.text or "" for one in root.iter(f"{SVG}text")]
    wanted = sorted((one for one in runs[0][1] if one.gap is not None), key=lambda one: one.gap or 0)[:MOST_CLASSES]
    shown = [one for one in texts if one in names]
    assert shown == [one.label for one in wanted]
    assert "two & more" in texts
    boxes = [one.findtext(f"{SVG}text", "") for one in root.iter(f"{SVG}g")]
    at = 0
    for one in wanted:
        for _, figures in runs:
            (own,) = [other for other in figures if other.label == one.label]
            assert own.most_confusing is not None
            assert own.gap is not None
            expected = [f"{said.confidence:.2f} {said.label}" for said in own.top_confidences]
            expected += [f"{own.confidence:.2f}", f"{own.most_confusing.confidence:.2f}", f"{own.gap:+.2f}"]
            assert boxes[at : at + 6] == expected
            at += 6
    assert at == len(boxes)
