"""Where and when a glimpse looked: from its attention to one frame and one box of the full picture.

The one rule of the tool: of the glimpse that speaks for a label, take the frame holding the greatest attention mass,
and in it the smallest box of map cells that holds half of that frame's mass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SHARE = 0.5
"""Share of the frame's attention mass that the box holds."""

_EXACT = 1e-6  # relative; attention comes in float32, whose sums differ by less


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a label was given.

    ``glimpse``, ``view`` and ``frame`` count from 0; ``time_s`` in seconds, as a player shows it; ``box`` x0, y0, x1,
    y1 as fractions in [0, 1] of the upright full picture.
    """

    glimpse: int
    view: int
    frame: int
    time_s: float
    box: tuple[float, float, float, float]


def peak(
    attention: NDArray[np.floating], rectangle: Sequence[float] | NDArray[np.floating]
) -> tuple[int, tuple[float, float, float, float]]:
    """Frame where the attention of one glimpse in one view peaks, and the box it looks at there.

    Parameters
    ----------
    attention : of shape (T, h, w), not negative
    rectangle : x0, y0, x1, y1 of the view as fractions of the upright full picture; a mirrored view has x0 > x1

    Returns
    -------
    The frame's position in [0, T), the first one among equals, and the box as x0, y0, x1, y1, fractions in [0, 1] of
    the upright full picture, with x0 <= x1 and y0 <= y1.

    Raises
    ------
    ValueError
        If the shapes do not fit or the attention is negative, not finite or zero everywhere.
    """
    frame = peak_frame(attention)
    mass = np.asarray(attention, np.float64)[frame]
    return frame, to_picture(smallest_box(mass), mass.shape, rectangle)


def peak_frame(attention: NDArray[np.floating]) -> int:
    """Position in [0, T) of the picture with the greatest mass of `attention` (T, h, w), the first among equals.

    Raises
    ------
    ValueError
        If `attention` has another shape.
    """
    attention = np.asarray(attention, np.float64)
    if attention.ndim != 3 or attention.size == 0:
        raise ValueError(f"attention of shape (T, h, w) expected, got {attention.shape}")
    mass = attention.sum(axis=(1, 2))
    return int(np.argmax(mass >= mass.max() * (1 - _EXACT)))


def smallest_box(mass: NDArray[np.floating], share: float = SHARE) -> tuple[int, int, int, int]:
    """Smallest rectangle of cells that holds `share` of `mass`, by trying all rectangles on an integral image.

    Parameters
    ----------
    mass : of shape (h, w), not negative

    Returns
    -------
    left, top, right, bottom in cells; right and bottom lie outside the box.

    Raises
    ------
    ValueError
        If `mass` has another shape, holds a negative or non-finite value, or is zero everywhere.

    Notes
    -----
    Among boxes of equally few cells the one with the greatest mass wins (up to a millionth), then the lowest,
    widest shape, then the topmost, then the leftmost.
    """
    mass = np.asarray(mass, np.float64)
    if mass.ndim != 2 or not np.isfinite(mass).all() or (mass < 0).any() or not mass.any():
        raise ValueError(f"mass of shape (h, w), finite and not negative, not all zero expected, got {mass.shape}")
    height, width = mass.shape
    integral = np.zeros((height + 1, width + 1))
    integral[1:, 1:] = (mass / mass.sum()).cumsum(axis=0).cumsum(axis=1)
    # fewest cells first; within equal area flat boxes before tall ones
    shapes = sorted((rows * columns, rows, columns) for rows in range(1, height + 1) for columns in range(1, width + 1))
    best: tuple[float, int, int, int, int] | None = None
    best_area = 0
    for area, rows, columns in shapes:
        if best is not None and area > best_area:
            break
        held = (
            integral[rows:, columns:]
            - integral[:-rows, columns:]
            - integral[rows:, :-columns]
            + integral[:-rows, :-columns]
        )  # [h-rows+1, w-columns+1], by top left cell
        greatest = float(held.max())
        if greatest < share - _EXACT or (best is not None and greatest <= best[0] + _EXACT):
            continue
        top, left = np.unravel_index(int(np.argmax(held >= greatest - _EXACT)), held.shape)
        best, best_area = (greatest, int(left), int(top), int(left) + columns, int(top) + rows), area
    assert best is not None  # the whole map holds everything
    return best[1:]


def to_picture(
    box: tuple[int, int, int, int], cells: Sequence[int], rectangle: Sequence[float] | NDArray[np.floating]
) -> tuple[float, float, float, float]:
    """Undo crop and resize: from cells of a view's map to fractions of the upright full picture, clipped to [0, 1].

    Parameters
    ----------
    box : left, top, right, bottom in cells
    cells : h, w of the map
    rectangle : x0, y0, x1, y1 of the view in the picture; a mirrored view has x0 > x1
    """
    height, width = cells
    view_x0, view_y0, view_x1, view_y1 = (float(side) for side in rectangle)
    across = sorted(view_x0 + side / width * (view_x1 - view_x0) for side in (box[0], box[2]))
    down = sorted(view_y0 + side / height * (view_y1 - view_y0) for side in (box[1], box[3]))
    x0, x1 = (min(max(side, 0.0), 1.0) for side in across)
    y0, y1 = (min(max(side, 0.0), 1.0) for side in down)
    return x0, y0, x1, y1
