"""Paths with a weight, as ``--model FOLDER:1.5`` and ``evaluate A.json B.json:1.5`` give them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rratag.errors import UsageError
from rratag.untrusted import shown


def shares(weights: Sequence[float]) -> list[float]:
    """Weights in the same proportions whose sum is no more than their number: those of a mean may be huge."""
    _, exponent = math.frexp(max(weights))
    return [math.ldexp(weight, -exponent) for weight in weights]  # a power of two changes no digit


def parse_weighted(text: str, option: str, kind: str) -> tuple[Path, float]:
    """Path and weight of ``PATH[:WEIGHT]``.

    What follows the last colon is the weight if it is a number; else the colon is the path's own, and the weight is 1.

    Parameters
    ----------
    option, kind : what it is an argument of, and what the path leads to, for messages

    Raises
    ------
    UsageError
        If the weight is not above 0, there is no path, or no number follows the colon of a path that is there.
    """
    path, colon, tail = text.rpartition(":")
    try:
        weight = float(tail) if colon else math.nan
    except ValueError:
        if path and Path(path).exists() and not Path(text).exists():
            raise UsageError(
                f"{option} {text}: {shown(tail)} is no weight; give a number above 0: {path}:1.5"
            ) from None
        colon = ""
    if not colon:
        path, weight = text, 1.0
    if not path:
        raise UsageError(f"{option} {shown(text)}: names no {kind.lower()}; give {kind} or {kind}:WEIGHT")
    if not (weight > 0 and math.isfinite(weight)):
        raise UsageError(f"{option} {text}: the weight is {tail}; give a number above 0: {path}:1.5")
    return Path(path), weight
