"""The picture says what the numbers say: coordinates are read back through the numbers at the axes."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from rratag.evaluate.figures import COLOURS, MOST_TICKS, Curve, line_chart, ticks

SVG = "{http://www.w3.org/2000/svg}"


def curves_in(text: str) -> dict[str, tuple[list[tuple[float, float]], list[tuple[float, float]]]]:
    """Line and band of every curve by name, in epochs and values, as a reader of the axes' numbers sees them."""
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"

    def scale(name: str, place: str) -> tuple[float, float]:
        (group,) = [one for one in root.iter(f"{SVG}g") if one.get("class") == name]
        marks = [(float(one.get(place, "")), float(one.text or "")) for one in group]
        slope, start = np.polyfit(*zip(*marks, strict=True), 1)
        assert all(abs(slope * pixel + start - number) < 1e-3 * abs(slope) * 100 for pixel, number in marks)
        return float(slope), float(start)

    across, down = scale("epochs", "x"), scale("values", "y")

    def pairs(element: ElementTree.Element | None) -> list[tuple[float, float]]:
        if element is None:
            return []
        found = [tuple(map(float, point.split(","))) for point in element.get("points", "").split()]
        # the numbers at the values' axis stand 4 pixels below their lines
        return [(across[0] * px + across[1], down[0] * (py + 4) + down[1]) for px, py in found]

    return {
        one.findtext(f"{SVG}title", ""): (pairs(one.find(f"{SVG}polyline")), pairs(one.find(f"{SVG}polygon")))
        for one in root.iter(f"{SVG}g")
        if one.get("class") == "curve"
    }


def test_every_point_lies_where_the_axes_say() -> None:
    rng = np.random.default_rng(0)
    curves = [Curve(f"curve {place}", rng.uniform(-1, 3, 25).tolist(), [0.0] * 25) for place in range(3)]
    found = curves_in(line_chart("title", "nats", curves))
    assert list(found) == ["curve 0", "curve 1", "curve 2"]
    for one in curves:
        line, band = found[one.name]
        assert [epoch for epoch, _ in line] == pytest.approx(range(1, 26), abs=0.02)
        assert [value for _, value in line] == pytest.approx(one.mean, abs=0.02)
        assert band == []


def test_larger_values_stand_higher_and_later_epochs_further_right() -> None:
    text = line_chart("title", "nats", [Curve("rising", [0.1, 0.2, 0.9], [0, 0, 0])])
    (line,) = ElementTree.fromstring(text).iter(f"{SVG}polyline")
    points = [tuple(map(float, point.split(","))) for point in line.get("points", "").split()]
    assert [x for x, _ in points] == sorted({x for x, _ in points})
    assert [y for _, y in points] == sorted({y for _, y in points}, reverse=True)


def test_the_band_is_one_deviation_to_both_sides() -> None:
    curve = Curve("x", [1.0, 2.0, 4.0], [0.5, 0.25, 1.0])
    _, band = curves_in(line_chart("title", "nats", [curve]))["x"]
    wanted = [(1, 1.5), (2, 2.25), (3, 5.0), (3, 3.0), (2, 1.75), (1, 0.5)]
    assert np.array(band) == pytest.approx(np.array(wanted), abs=0.03)


def test_one_epoch_is_a_point() -> None:
    text = line_chart("title", "nats", [Curve("x", [0.5], [0.0])])
    assert curves_in(text)["x"][0] == [pytest.approx((1, 0.5), abs=0.02)]
    assert len(list(ElementTree.fromstring(text).iter(f"{SVG}circle"))) == 1


def test_curves_are_told_apart_and_names_are_text() -> None:
    root = ElementTree.fromstring(
        line_chart('a < "b"', "&", [Curve(f"<{place}>", [1, 2], [0, 0]) for place in range(9)])
    )
    lines = [(one.get("stroke"), one.get("stroke-dasharray")) for one in root.iter(f"{SVG}polyline")]
    assert len(set(lines)) == 9
    assert {colour for colour, _ in lines} == set(COLOURS)
    texts = [one.text for one in root.iter(f"{SVG}text")]
    for text in ('a < "b"', "&", *(f"<{place}>" for place in range(9))):
        assert texts.count(text) == 1


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.31, 0.62), (-2, 14.2), (0, 1e-4), (5, 5), (0, 0), (97, 103.5)])
def test_ticks_are_few_round_and_hold_all_between_them(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= MOST_TICKS
    assert found[0] <= low + 1e-9
    assert found[-1] >= high - 1e-9
    step = found[1] - found[0]
    assert np.diff(found) == pytest.approx(step)
    assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 6) in (1, 2, 5)


@pytest.mark.parametrize("curves", [[], [Curve("x", [], [])], [Curve("x", [1.0], [])], [Curve("x", [math.nan], [0.0])]])
def test_what_cannot_be_drawn_is_refused(curves: list[Curve]) -> None:
    with pytest.raises(ValueError, match=r"curve|spreads|finite"):
        line_chart("title", "nats", curves)
