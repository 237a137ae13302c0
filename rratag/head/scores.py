"""Logits of K glimpses become scores over classes."""

from __future__ import annotations

from torch import Tensor


def glimpse_scores(logits: Tensor) -> Tensor:
    """Softmax of each glimpse, y-hat^k of section 3.2: (B, K, num_classes) to (B, K, num_classes)."""
    return logits.softmax(-1)


def ensemble_scores(logits: Tensor) -> Tensor:
    """Mean over glimpses of their scores, y-bar (Eq. 6): (B, K, num_classes) to (B, num_classes)."""
    return glimpse_scores(logits).mean(1)


def concatenation_scores(logits: Tensor) -> Tensor:
    """Softmax of the summed logits, y-hat_cat (Eq. 4): (B, K, num_classes) to (B, num_classes)."""
    return logits.sum(1).softmax(-1)
