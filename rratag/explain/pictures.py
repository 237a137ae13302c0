"""Frames with heat over them, side by side: one strip a kind, one row a glimpse. Arrays in, pictures out; no files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from numpy.typing import NDArray

STOPS = ((0.0, (0, 0, 130)), (0.35, (0, 170, 220)), (0.65, (250, 220, 60)), (1.0, (190, 0, 0)))
"""Colours from no heat to most, blue to red as in the paper's figures."""
STRONGEST = 0.7
"""Share of the colour in the blend where heat is greatest; where there is none the frame is as it was."""
TOP_SHARE = 0.995
"""Quantile of a glimpse's heat that counts as most: a single pixel does not darken all others."""
MARGIN, CAPTION = 4, 16


def coloured(heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colours (..., 3) of heat in [0, 1]."""
    places = [place for place, _ in STOPS]
    channels = [np.interp(heat, places, [colour[number] for _, colour in STOPS]) for number in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def relative(heat: NDArray[np.floating]) -> NDArray[np.floating]:
    """Heat, at least 0, as a share in [0, 1] of what counts as most in all of it."""
    most = float(np.quantile(heat, TOP_SHARE)) or float(heat.max()) or 1.0
    return np.asarray(np.clip(heat / most, 0, 1))


def blended(frames: NDArray[np.uint8], heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Heat over frames; of one scale for all frames, so that they can be compared.

    Parameters
    ----------
    frames : (N, H, W, 3)
    heat : (N, H, W), at least 0
    """
    scaled = relative(heat)
    share = STRONGEST * scaled[..., None]
    return np.asarray(((1 - share) * frames + share * coloured(scaled)).round(), np.uint8)


def strip(rows: Sequence[tuple[str, NDArray[np.uint8]]], captions: Sequence[str], title: str) -> Image.Image:
    """Rows of pictures with what they are to the left of them.

    Parameters
    ----------
    rows : name, and pictures (N, H, W, 3)
    captions : of the N columns
    title : first line
    """
    font = ImageFont.load_default(size=12)
    number, height, width = rows[0][1].shape[:3]
    left = MARGIN + max(int(font.getlength(name)) for name, _ in rows) + MARGIN
    size = (
        max(left + number * (width + MARGIN), int(font.getlength(title)) + 2 * MARGIN),
        2 * CAPTION + 2 * MARGIN + len(rows) * (height + MARGIN),
    )
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, "black", font)
    for column, caption in enumerate(captions):
        draw.text((left + column * (width + MARGIN), CAPTION + MARGIN), caption, "black", font)
    for row, (name, pictures) in enumerate(rows):
        top = 2 * CAPTION + 2 * MARGIN + row * (height + MARGIN)
        draw.text((MARGIN, top), name, "black", font)
        for column, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture), (left + column * (width + MARGIN), top))
    return sheet
