"""The one rule of evidence: frame of greatest mass, smallest box of half of it, in the full picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rratag.explain.evidence import peak, smallest_box, to_picture
from rratag.video.views import ViewRule

WHOLE = (0.0, 0.0, 1.0, 1.0)


def slow_smallest_box(mass: np.ndarray) -> tuple[int, int, int, int]:
    """Every rectangle by loops, with the tie rule of the docstring."""
    height, width = mass.shape
    half = 0.5 * mass.sum()
    found = []
    for top in range(height):
        for bottom in range(top + 1, height + 1):
            for left in range(width):
                for right in range(left + 1, width + 1):
                    held = mass[top:bottom, left:right].sum()
                    if held >= half:
                        rows, columns = bottom - top, right - left
                        found.append((rows * columns, -held, rows, top, left, (left, top, right, bottom)))
    return min(found)[-1]


@settings(deadline=None, max_examples=150)
@given(hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.integers(0, 6)))
def test_smallest_box_is_what_trying_all_rectangles_finds(mass: np.ndarray) -> None:
    if mass.any():
        assert smallest_box(mass.astype(float)) == slow_smallest_box(mass)  # whole numbers: exact sums and true ties


def test_peak_takes_the_frame_of_greatest_mass_not_of_greatest_cell() -> None:
    attention = np.zeros((3, 2, 2))
    attention[0] = 0.05
    attention[1, 0, 1] = 0.3  # the single strongest cell
    attention[2] = 0.125  # more in total
    assert peak(attention, WHOLE)[0] == 2


def test_peak_of_equal_frames_is_the_first() -> None:
    assert peak(np.full((4, 2, 3), 1 / 24), WHOLE)[0] == 0


def test_box_of_uniform_attention_is_the_topmost_leftmost_flat_half() -> None:
    assert smallest_box(np.ones((4, 4))) == (0, 0, 4, 2)


def test_box_is_exact_at_half_of_the_mass_in_float32() -> None:
    mass = np.array([[0.5, 0.1], [0.1, 0.3]], np.float32)  # 0.5 of a sum that is not exactly 1
    assert smallest_box(mass) == (0, 0, 1, 1)


# A 16:9 picture, shorter side to 256 (455 wide), centre 224: the view spans these fractions.
LEFT, RIGHT = 116 / 455, 340 / 455
TOP, BOTTOM = 16 / 256, 240 / 256


@pytest.mark.parametrize(
    ("row", "column", "box"),
    [
        (0, 0, (LEFT, TOP, LEFT + (RIGHT - LEFT) / 7, TOP + (BOTTOM - TOP) / 7)),
        (0, 6, (RIGHT - (RIGHT - LEFT) / 7, TOP, RIGHT, TOP + (BOTTOM - TOP) / 7)),
        (6, 0, (LEFT, BOTTOM - (BOTTOM - TOP) / 7, LEFT + (RIGHT - LEFT) / 7, BOTTOM)),
        (6, 6, (RIGHT - (RIGHT - LEFT) / 7, BOTTOM - (BOTTOM - TOP) / 7, RIGHT, BOTTOM)),
    ],
)
def test_bright_corner_cell_seen_through_a_centre_crop(
    row: int, column: int, box: tuple[float, float, float, float]
) -> None:
    attention = np.full((5, 7, 7), 0.001)
    attention[3, row, column] = 0.9
    rectangle = ViewRule("1", 224, 256, "bilinear").rectangles(1920, 1080)[0]
    frame, found = peak(attention, rectangle)
    assert frame == 3
    assert found == pytest.approx(box, abs=1e-12)


def test_box_in_a_mirrored_view_lies_on_the_other_side_of_the_picture() -> None:
    assert to_picture((0, 0, 1, 1), (4, 4), (0.9, 0.2, 0.1, 1.0)) == pytest.approx((0.7, 0.2, 0.9, 0.4))


def test_box_is_clipped_to_the_picture() -> None:
    assert to_picture((0, 0, 2, 1), (1, 2), (-0.5, -0.1, 1.5, 1.2)) == (0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "attention", [np.zeros((2, 3, 3)), np.ones((3, 3)), -np.ones((1, 2, 2)), np.full((1, 2, 2), np.nan)]
)
def test_attention_that_is_none_is_refused(attention: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected, got"):
        peak(attention, WHOLE)
