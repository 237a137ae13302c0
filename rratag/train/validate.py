"""A head on labelled cached videos: loss and accuracy. Used to choose an epoch; the full figures are in evaluate/."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rratag.data.datasets import CachedDataset
from rratag.head.losses import Loss
from rratag.head.rra import GlimpseHead
from rratag.head.scores import glimpse_scores, weighted_mean

VIDEOS_AT_ONCE = 8
"""12 frames each of the default backbone's float32 maps of 12x21 cells are 120 MB."""


@dataclass(frozen=True)
class Evaluation:
    """A head on a labelled set.

    Attributes
    ----------
    loss : mean over videos, in nats; the mean over views where there are several
    accuracy : share of videos whose highest ensemble score (Eq. 6) is the right class's, in [0, 1]
    glimpse_accuracy : the same of each glimpse alone
    """

    loss: float
    accuracy: float
    glimpse_accuracy: tuple[float, ...]


def validate(head: GlimpseHead, dataset: CachedDataset, loss: Loss, device: torch.device) -> Evaluation:
    """Evaluate a head with all cached frames of every video; scores are averaged over a frame's views.

    Parameters
    ----------
    head : on `device`; its mode is restored
    dataset : at least one video
    """
    logits, weights = all_logits(head, dataset, device)
    return judge(logits, weights, torch.from_numpy(dataset.labels), loss)


def judge(logits: Tensor, weights: Tensor, labels: Tensor, loss: Loss) -> Evaluation:
    """Evaluate logits (B, V, K, num_classes) and glimpse weights (K,) by labels (B,); scores are averaged over V."""
    V = logits.shape[1]
    total = loss(logits.flatten(0, 1), labels.repeat_interleave(V), None, weights)
    scores = glimpse_scores(logits).mean(1)  # (B, K, num_classes), over views
    both = torch.cat([weighted_mean(scores, weights).unsqueeze(1), scores], 1)  # ensemble first
    right = (both.argmax(-1) == labels.unsqueeze(1)).double().mean(0).tolist()
    return Evaluation(total.item(), right[0], tuple(right[1:]))


@torch.inference_mode()
def all_logits(head: GlimpseHead, dataset: CachedDataset, device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits (B, V, K, num_classes) of all videos in their order, all cached frames each, and glimpse weights (K,).

    Parameters
    ----------
    head : on `device`; its mode is restored
    dataset : at least one video
    """
    was_training = head.training
    head.eval()
    # videos of equal map shape side by side need no padding
    order = sorted(range(len(dataset)), key=lambda index: dataset.map_shape(index))
    found: list[Tensor] = []
    for start in range(0, len(dataset), VIDEOS_AT_ONCE):
        indices = order[start : start + VIDEOS_AT_ONCE]
        views = []
        for view in range(dataset.num_views):
            batch = dataset.eval_batch(indices, view).to(device)
            views.append(head(batch.features, batch.mask).logits.cpu())
        found.append(torch.stack(views, 1))
    head.train(was_training)
    places = torch.empty(len(dataset), dtype=torch.int64)
    places[order] = torch.arange(len(dataset))
    return torch.cat(found)[places], head.glimpse_weights().cpu()
