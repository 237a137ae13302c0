"""A head on labelled cached videos: loss and accuracy. Used to choose an epoch; the full figures are in evaluate/."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rratag.data.datasets import CachedDataset
from rratag.head.losses import Loss
from rratag.head.rra import GlimpseHead
from rratag.head.scores import glimpse_scores, weighted_mean

VIDEOS_AT_ONCE = 8
"""25 frames each of the default backbone's float32 maps are 50 MB."""


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


@torch.inference_mode()
def validate(head: GlimpseHead, dataset: CachedDataset, loss: Loss, device: torch.device) -> Evaluation:
    """Evaluate a head with all cached frames of every video; scores are averaged over a frame's views.

    Parameters
    ----------
    head : on `device`; its mode is restored
    dataset : at least one video
    """
    was_training = head.training
    head.eval()
    total_loss, right = 0.0, torch.zeros(head.config.num_glimpses + 1, dtype=torch.int64)
    views = range(dataset.num_views)
    # videos of equal map shape side by side need no padding
    order = sorted(range(len(dataset)), key=lambda index: dataset.map_shape(index))
    for start in range(0, len(dataset), VIDEOS_AT_ONCE):
        indices = order[start : start + VIDEOS_AT_ONCE]
        scores = torch.zeros(())
        for view in views:
            batch = dataset.eval_batch(indices, view).to(device)
            logits, _, _, weights = head(batch.features, batch.mask)
            total_loss += loss(logits, batch.labels, None, weights).item() * len(indices) / len(views)
            scores = scores.to(device) + glimpse_scores(logits)  # (B, K, num_classes)
        both = torch.cat([weighted_mean(scores, weights).unsqueeze(1), scores], 1)  # ensemble first
        right += (both.argmax(-1) == batch.labels.unsqueeze(1)).sum(0).cpu()
    head.train(was_training)
    shares = (right.double() / len(dataset)).tolist()
    return Evaluation(total_loss / len(dataset), shares[0], tuple(shares[1:]))
