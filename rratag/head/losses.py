"""Losses over glimpses (Eq. 3-6) and sums of them, written as in the paper: ``Li+Le``, ``Lc + 0.5 Li``.

All take logits [B,K,num_classes] and average over the batch. A new loss is one function and one entry of LOSSES.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import torch
from torch import Tensor
from torch.nn import functional

from rratag.errors import UsageError

LossFunction = Callable[[Tensor, Tensor, "Tensor | None", "Tensor | None"], Tensor]


def concatenation_loss(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, glimpse_weights: Tensor | None = None
) -> Tensor:
    """Cross entropy of the summed logits, L_c (Eq. 4). See :class:`Loss` for the arguments."""
    return functional.cross_entropy(logits.sum(1), labels, class_weights)


def glimpse_losses(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross entropy of each glimpse alone (K,): the terms of L_i (Eq. 5). See :class:`Loss` for the arguments."""
    B, K, _ = logits.shape
    of_videos = functional.cross_entropy(
        logits.transpose(1, 2), labels.unsqueeze(1).expand(B, K), class_weights, reduction="none"
    )
    return of_videos.mean(0) if class_weights is None else of_videos.sum(0) / class_weights[labels].sum()


def individual_loss(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, glimpse_weights: Tensor | None = None
) -> Tensor:
    """Sum over glimpses of each glimpse's cross entropy, L_i (Eq. 5). See :class:`Loss` for the arguments.

    Notes
    -----
    A sum, as in the paper: gradients grow with K.
    """
    return glimpse_losses(logits, labels, class_weights).sum()


def ensemble_loss(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, glimpse_weights: Tensor | None = None
) -> Tensor:
    """Cross entropy of the mean glimpse distribution, L_e (Eq. 6). See :class:`Loss` for the arguments.

    Notes
    -----
    Log of a mean of probabilities, by logsumexp over glimpses plus the log of their weights (1/K each): what underflows
    keeps its gradient.
    """
    K = logits.shape[1]
    log_weights = logits.new_full((K,), -math.log(K)) if glimpse_weights is None else glimpse_weights.log()
    log_mean = (logits.log_softmax(-1) + log_weights.unsqueeze(-1)).logsumexp(1)  # (B, num_classes)
    return functional.nll_loss(log_mean, labels, class_weights)


LOSSES: dict[str, LossFunction] = {"Lc": concatenation_loss, "Li": individual_loss, "Le": ensemble_loss}
"""Terms a loss may be summed of."""

_TERM = re.compile(r"\s*(?:(\d+(?:\.\d*)?|\.\d+)\s*\*?\s*)?([A-Za-z]\w*)\s*")


@dataclass(frozen=True)
class Loss:
    """Weighted sum of losses.

    Attributes
    ----------
    terms : name in :data:`LOSSES` and weight above 0, each name once
    """

    terms: tuple[tuple[str, float], ...]

    def __call__(
        self,
        logits: Tensor,
        labels: Tensor,
        class_weights: Tensor | None = None,
        glimpse_weights: Tensor | None = None,
    ) -> Tensor:
        """Weighted sum of the terms.

        Parameters
        ----------
        logits : (B, K, num_classes), before softmax
        labels : (B,), int64 in [0, num_classes)
        class_weights : (num_classes,); the batch's average is then weighted by them
        glimpse_weights : (K,), importance of each glimpse in L_e (section 3.2), summing to 1; None for equal ones

        Returns
        -------
        Scalar, in nats, averaged over the batch.

        Raises
        ------
        ValueError
            If `logits` does not have three dimensions.
        """
        return self.total(self.parts(logits, labels, class_weights, glimpse_weights))

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum of what :meth:`parts` gave."""
        return torch.stack([weight * parts[name] for name, weight in self.terms]).sum()

    def parts(
        self,
        logits: Tensor,
        labels: Tensor,
        class_weights: Tensor | None = None,
        glimpse_weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Each term by name, before its weight. Arguments as for calling."""
        if logits.ndim != 3:
            raise ValueError(f"logits must be (B, K, num_classes), not {tuple(logits.shape)}")
        return {name: LOSSES[name](logits, labels, class_weights, glimpse_weights) for name, _ in self.terms}

    def __str__(self) -> str:
        return "+".join(name if weight == 1 else f"{_decimal(weight)}{name}" for name, weight in self.terms)


def _decimal(weight: float) -> str:
    """Shortest decimal that reads back as `weight`, without an exponent."""
    return format(Decimal(repr(weight)), "f").removesuffix(".0")


def parse_loss(text: str) -> Loss:
    """Read a sum of losses: terms joined by ``+``, each with a weight before it or none, ``*`` and spaces optional.

    Parameters
    ----------
    text : e.g. ``Li+Le``, ``Li+0.5Le``, ``Li + 0.5 * Le``

    Raises
    ------
    UsageError
        If a term is unknown, stands twice, or has a weight that is not a number above 0.
    """
    accepted = f"a sum of {', '.join(LOSSES)} with weights, e.g. Li+0.5Le"
    terms: dict[str, float] = {}
    for part in text.split("+"):
        match = _TERM.fullmatch(part)
        if match is None or match[2] not in LOSSES:
            raise UsageError(f"loss {text!r}: cannot read {part.strip()!r}; accepted: {accepted}")
        weight = float(match[1] or 1)
        if match[2] in terms:
            raise UsageError(f"loss {text!r}: {match[2]} stands twice; accepted: {accepted}")
        if not 0 < weight < math.inf:
            raise UsageError(f"loss {text!r}: the weight of {match[2]} must be above 0; accepted: {accepted}")
        terms[match[2]] = weight
    return Loss(tuple(terms.items()))
