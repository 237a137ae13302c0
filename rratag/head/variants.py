"""What RRA is compared with (Table 6 and its peers). A new head is one class and one entry of HEADS."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rratag.errors import UsageError
from rratag.head.onepass import Maps
from rratag.head.rra import GlimpseHead, HeadConfig, HeadOutput, RRAHead


class ParallelHead(GlimpseHead):
    """K independent glimpses at one map: what Eq. 4 calls concatenating glimpses, with nothing reduced in between."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__(config, num_first=config.num_glimpses)

    def glimpses(self, maps: Maps) -> tuple[Tensor, Tensor]:
        """See :meth:`GlimpseHead.glimpses`."""
        _, attention, summaries = self.first(maps, None)
        return attention, summaries


class MeanHead(ParallelHead):
    """Mean pooling and a linear classifier: one glimpse that looks everywhere.

    Through the BatchNorm-ReLU first if `input_bn`, as the other heads. Its configuration says K = 1, equal weights.
    """


class FrameConsensusHead(MeanHead):
    """TSN's consensus (Table 6): every frame is pooled, classified and the logits are averaged, before any softmax.

    Notes
    -----
    With frozen features and a linear classifier, the mean of the frames' logits is the logits of the mean: in testing
    this is mean pooling to the last digit. In training each frame has a dropout of its own.
    """

    def forward(self, features: Tensor, mask: Tensor | None = None) -> HeadOutput:
        """See :meth:`GlimpseHead.forward`; frames go through the head as videos of one frame."""
        self.check(features, mask)
        B, N = features.shape[:2]
        real = features.new_ones(B, N, dtype=torch.bool) if mask is None else mask.flatten(2).any(2)  # (B, N)
        video = real.nonzero()[:, 0]
        frame_mask = None if mask is None else mask[real].unsqueeze(1)
        frames = super().forward(features[real].unsqueeze(1), frame_mask)  # M real frames as M videos
        share = (1 / real.sum(1).to(frames.logits))[video]  # of each frame in its video

        def consensus(values: Tensor) -> Tensor:
            weighted = values * share.view(-1, *[1] * (values.ndim - 1))
            return values.new_zeros(B, *values.shape[1:]).index_add(0, video, weighted)

        attention = frames.attention.new_zeros(B, N, *frames.attention.shape[1:])  # (B, N, 1, 1, h, w)
        attention[real] = frames.attention * share.view(-1, 1, 1, 1, 1)
        return HeadOutput(
            consensus(frames.logits), attention[:, :, :, 0].transpose(1, 2), consensus(frames.summaries), frames.weights
        )


class SingleFrameHead(MeanHead):
    """One frame of each video, pooled (Table 6): a random one in training, the middle one in testing."""

    def forward(self, features: Tensor, mask: Tensor | None = None) -> HeadOutput:
        """See :meth:`GlimpseHead.forward`."""
        self.check(features, mask)
        B, N = features.shape[:2]
        counts = torch.full((B,), N) if mask is None else mask.flatten(2).any(2).sum(1).cpu()
        chosen = _drawn(counts) if self.training else counts // 2  # the 13th of 25
        rows, chosen = torch.arange(B), chosen.to(features.device)
        one_mask = None if mask is None else mask[rows, chosen].unsqueeze(1)
        output = super().forward(features[rows, chosen].unsqueeze(1), one_mask)
        attention = output.attention.new_zeros(B, 1, *features.shape[1:4])
        attention[rows, :, chosen] = output.attention[:, :, 0]
        return output._replace(attention=attention)


def _drawn(counts: Tensor) -> Tensor:
    """A random position below each of `counts` (B,), from torch's global generator."""
    return (torch.rand(len(counts)) * counts).long()


class ClustersHead(ParallelHead):
    """Attention clusters (reference [22] of the paper): parallel glimpses, each shifted and brought to unit length.

        v^k = (alpha_k x-hat^k + beta_k) / (sqrt(K) |alpha_k x-hat^k + beta_k|)

    The shift lets equal attentions end in different summaries. Its own loss is Lc: the glimpses are concatenated.
    """

    def __init__(self, config: HeadConfig) -> None:
        super().__init__(config)
        K = config.num_glimpses
        self.alpha, self.beta = nn.Parameter(torch.ones(K, 1)), nn.Parameter(torch.zeros(K, 1))

    def glimpses(self, maps: Maps) -> tuple[Tensor, Tensor]:
        """See :meth:`GlimpseHead.glimpses`."""
        attention, summaries = super().glimpses(maps)
        shifted = self.alpha * summaries + self.beta
        return attention, functional.normalize(shifted, dim=-1) / math.sqrt(self.config.num_glimpses)


HEADS: dict[str, Callable[[HeadConfig], GlimpseHead]] = {
    "rra": RRAHead,
    "parallel": ParallelHead,
    "mean": MeanHead,
    "tsn": FrameConsensusHead,
    "single-frame": SingleFrameHead,
    "clusters": ClustersHead,
}
"""Accepted `kind` of a :class:`HeadConfig`."""


VARIANTS: dict[str, dict[str, Any]] = {
    "rra": {},
    "average": {"attention": "mean"},
    "spatial": {"attention": "spatial"},
    "no-norm": {"norm": False},
    "no-relu": {"relu": False},
    "linear": {"reduction": "linear"},
    "neg-relu": {"reduction": "neg-relu"},
    "zero": {"reduction": "zero"},
    "original": {"map": "original"},
}
"""Changes to RRA by name, fields of :class:`HeadConfig`: the six of Table 4 in its order, the control that leaves the
BatchNorm-ReLU stack without a reduction, and the other reading of Eq. 2. All else stays as in RRA."""


def variant_fields(kind: str, variant: str) -> dict[str, Any]:
    """Fields of the head that ``--head`` and ``--variant`` name.

    Raises
    ------
    UsageError
        If the variant is unknown, or is one of RRA and the head is another.
    """
    if variant not in VARIANTS:
        raise UsageError(f"unknown --variant {variant!r}; choose from {', '.join(VARIANTS)}")
    if variant != "rra" and kind != "rra":
        raise UsageError(f"--variant {variant} is a variant of RRA; it does not go with --head {kind}")
    return {"kind": kind, **VARIANTS[variant]}


def build_head(config: HeadConfig) -> GlimpseHead:
    """Head with fresh weights, drawn from torch's global generator, in training mode.

    Raises
    ------
    UsageError
        If the kind is unknown.
    """
    if config.kind not in HEADS:
        raise UsageError(f"unknown head {config.kind!r}; choose from {', '.join(HEADS)}")
    return HEADS[config.kind](config)
