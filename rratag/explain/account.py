"""What each glimpse did for a tag: arrays in, one account per glimpse out. No files, no pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class GlimpseAccount:
    """One glimpse, and the ensemble (Eq. 6) of it with those before it. Classes by number, scores in [0, 1].

    Attributes
    ----------
    score : of the tag, by this glimpse alone
    together : of the tag, by the first k glimpses
    gain : `together` less that of the first k-1; of the first glimpse its score
    first : the class that this glimpse alone puts first
    first_together : the class that the first k glimpses put first
    """

    score: float
    together: float
    gain: float
    first: int
    first_together: int


@dataclass(frozen=True, slots=True)
class Account:
    """All glimpses for one tag.

    Attributes
    ----------
    glimpses : in their order
    agreeing : glimpses that put the tag of all together first
    changed_by : the last glimpse, counted from 0, with which another class came first; None if the first one decided
    """

    glimpses: tuple[GlimpseAccount, ...]
    agreeing: int
    changed_by: int | None


def account(scores: NDArray[np.floating], weights: Sequence[float] | NDArray[np.floating], label: int) -> Account:
    """Who raised the score of a class and who lowered it.

    Parameters
    ----------
    scores : of shape (K, num_classes), each glimpse's softmax
    weights : of shape (K,), above 0, importance of each glimpse; only the proportions count
    label : the class

    Notes
    -----
    Of equal scores the lower class number stands first, as in `rratag.evaluate.metrics`.
    """
    shares = np.asarray(weights, np.float64)
    summed = np.cumsum(np.asarray(scores, np.float64) * shares[:, None], axis=0)
    together = summed / np.cumsum(shares)[:, None]  # (K, num_classes), of the first k
    gains = np.diff(together[:, label], prepend=0.0)
    firsts, leading = np.argmax(scores, axis=1), np.argmax(together, axis=1)
    changes = [k for k in range(1, len(leading)) if leading[k] != leading[k - 1]]
    glimpses = tuple(
        GlimpseAccount(
            float(scores[k][label]), float(together[k, label]), float(gains[k]), int(firsts[k]), int(leading[k])
        )
        for k in range(len(shares))
    )
    return Account(glimpses, int((firsts == leading[-1]).sum()), changes[-1] if changes else None)
