"""How much the glimpses of a model repeat each other, what a reduction takes away, and whether a further glimpse pays.

Arrays, a head and cached maps in, numbers out; no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rratag.evaluate.bootstrap import paired_gain
from rratag.evaluate.metrics import ranks
from rratag.head.rra import POOLING, GlimpseHead, RRAHead

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from rratag.head.onepass import Maps


@dataclass(frozen=True, slots=True)
class Reduction:
    """What Eq. 2 does between glimpse k and the next. Both in [0, 1], means over videos and views.

    Attributes
    ----------
    negative : share of the C channels with x-tilde^k below 0, those that the reduction pushes down
    silenced : share of the entries of X^k above 0 that are 0 in X-bar^{k+1}: thresholded away

    Notes
    -----
    Fig. 4 shows the decrements X^k - X-bar^{k+1}. The scale of the BatchNorm stands between the two, so an entry may be
    smaller for that reason alone; one that was there and is 0 is gone at any scale. `negative` is before the BatchNorm,
    which takes away what x-tilde has in common over videos.
    """

    negative: float
    silenced: float


@dataclass(frozen=True, slots=True)
class Gain:
    """Top-1 accuracy of the first k glimpses less that of the first k-1, and its 95 % interval (paired bootstrap)."""

    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Redundancy:
    """Measures of a head with K glimpses.

    Attributes
    ----------
    overlap : K x K; sum over positions of min(a^j, a^k), the mean over videos and views. 1 for equal attentions, 0 for
        attentions that share no position
    first_accuracy : top-1 accuracy of the ensemble (Eq. 6) of the first k glimpses, k = 1 to K, in [0, 1]
    gains : of the second glimpse to the K-th
    reductions : K-1 of them; None for a head without any
    """

    overlap: list[list[float]]
    first_accuracy: list[float]
    gains: list[Gain]
    reductions: list[Reduction] | None


def applies_to(head: GlimpseHead) -> bool:
    """Whether a head has several glimpses to compare."""
    return head.config.num_glimpses > 1 and head.config.kind not in POOLING


def measure(
    head: GlimpseHead,
    maps: Iterable[NDArray[np.float16]],
    glimpse_scores: NDArray[np.float64],
    labels: NDArray[np.integer] | NDArray[np.bool_],
    groups: Sequence[str],
) -> Redundancy:
    """All measures of one head on labelled videos.

    Parameters
    ----------
    head : in evaluation mode, with several glimpses
    maps : of each video, (T, V, h, w, C)
    glimpse_scores : of shape (B, K, num_classes), mean over views
    labels : of shape (B,) or (B, num_classes); see :func:`rratag.evaluate.metrics.ranks`
    groups : of each video, see :func:`rratag.evaluate.bootstrap.group_names`
    """
    overlaps, reductions = _looked_at(head, maps)
    weights = head.glimpse_weights().detach().cpu().double().numpy()
    right = first_right(glimpse_scores, weights, labels)
    gains = [Gain(*paired_gain([right[k] - right[k - 1]], [groups])) for k in range(1, len(right))]
    return Redundancy(
        np.mean(overlaps, axis=0).tolist(),
        right.mean(1).tolist(),
        gains,
        [Reduction(*step) for step in np.mean(reductions, axis=0).tolist()] if isinstance(head, RRAHead) else None,
    )


def attention_overlap(attention: Tensor) -> Tensor:
    """Sum over positions of min(a^j, a^k): (B, K, N, h, w) to (B, K, K), in [0, 1], 1 on the diagonal."""
    a = attention.flatten(2)  # (B, K, P)
    return torch.stack([torch.minimum(a, one.unsqueeze(1)).sum(-1) for one in a.unbind(1)], 1)


def first_right(
    scores: NDArray[np.float64], weights: NDArray[np.float64], labels: NDArray[np.integer] | NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Whether the ensemble of the first k glimpses is right: (K, B), 1 or 0.

    Parameters
    ----------
    scores : of shape (B, K, num_classes)
    weights : of shape (K,), importance of each glimpse; in an ensemble of fewer their proportions stay
    labels : as of `measure`
    """
    summed = np.cumsum(scores * weights[:, None], axis=1)
    ensembles = summed / np.cumsum(weights)[:, None]
    return np.stack([ranks(ensembles[:, k], labels) == 0 for k in range(len(weights))]).astype(np.float64)


def _looked_at(
    head: GlimpseHead, maps: Iterable[NDArray[np.float16]]
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Of each video the overlap (K, K) and both figures of each reduction (K-1, 2), means over views."""
    parameter = next(head.parameters())
    overlaps, reductions = [], []
    for one in maps:
        views = torch.from_numpy(one).to(parameter.device, parameter.dtype).transpose(0, 1)  # (V, T, h, w, C)
        # without gradients a head writes X-bar^{k+1} over X^k, and here both are needed
        with torch.enable_grad(), _watched(head) as steps:
            attention = head(views).attention.detach()
        overlaps.append(attention_overlap(attention).mean(0).double().cpu().numpy())
        reductions.append(np.array(steps, np.float64).reshape(-1, 2))
    return overlaps, reductions


@contextmanager
def _watched(head: GlimpseHead) -> Iterator[list[tuple[float, float]]]:
    """Both figures of each reduction of the next call of `head`, in order."""
    steps: list[tuple[float, float]] = []

    def look(module: Any, arguments: tuple[Maps, Tensor], output: tuple[Maps, Tensor, Tensor]) -> None:
        (x, x_tilde), x_bar = arguments, output[0]
        active = x.values.detach() > 0  # (V, P, C)
        silenced = (active & (x_bar.values.detach() <= 0)).sum((1, 2)) / active.sum((1, 2)).clamp_min(1)
        steps.append(((x_tilde < 0).double().mean().item(), silenced.double().mean().item()))

    handles = [glimpse.register_forward_hook(look) for glimpse in head.later] if isinstance(head, RRAHead) else []
    try:
        yield steps
    finally:
        for handle in handles:
            handle.remove()
