"""Logits of K glimpses become scores over classes."""

from __future__ import annotations

import torch
from torch import Tensor


def glimpse_scores(logits: Tensor) -> Tensor:
    """Softmax of each glimpse, y-hat^k of section 3.2: (B, K, num_classes) to (B, K, num_classes)."""
    return logits.softmax(-1)


def ensemble_scores(logits: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over glimpses of their scores, y-bar (Eq. 6): (B, K, num_classes) to (B, num_classes).

    Parameters
    ----------
    weights : (K,), importance of each glimpse, summing to 1; None for equal ones
    """
    return weighted_mean(glimpse_scores(logits), weights)


def weighted_mean(scores: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over glimpses with their weights (K,), or equal ones: (B, K, num_classes) to (B, num_classes)."""
    return scores.mean(1) if weights is None else torch.einsum("bkc,k->bc", scores, weights.to(scores))


def concatenation_scores(logits: Tensor) -> Tensor:
    """Softmax of the summed logits, y-hat_cat (Eq. 4): (B, K, num_classes) to (B, num_classes)."""
    return logits.sum(1).softmax(-1)
