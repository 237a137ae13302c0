"""Accounts by hand: who raised a tag, who agrees, who changed the answer."""

from __future__ import annotations

import numpy as np
import pytest

from rratag.explain.account import account

SCORES = np.array([[0.5, 0.3, 0.2], [0.1, 0.7, 0.2], [0.6, 0.2, 0.2]])


def test_gains_by_hand() -> None:
    found = account(SCORES, [1, 1, 1], 1)
    assert [one.score for one in found.glimpses] == [0.3, 0.7, 0.2]
    assert [one.together for one in found.glimpses] == pytest.approx([0.3, 0.5, 0.4])
    assert [one.gain for one in found.glimpses] == pytest.approx([0.3, 0.2, -0.1])
    assert [one.first for one in found.glimpses] == [0, 1, 0]
    # 0.4 and 0.4 are equal at the end: the lower number
    assert [one.first_together for one in found.glimpses] == [0, 1, 0]
    assert (found.agreeing, found.changed_by) == (2, 2)


def test_weights_count_by_their_proportions() -> None:
    for weights in ([1, 3, 1], [0.2, 0.6, 0.2]):
        found = account(SCORES, weights, 1)
        assert [one.together for one in found.glimpses] == pytest.approx([0.3, 2.4 / 4, 2.6 / 5])
        assert (found.glimpses[-1].first_together, found.agreeing, found.changed_by) == (1, 1, 1)


def test_the_first_glimpse_may_decide_alone() -> None:
    found = account(SCORES[:1], [2], 0)
    assert (found.agreeing, found.changed_by, found.glimpses[0].gain) == (1, None, 0.5)
