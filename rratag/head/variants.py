"""What RRA is compared with: parallel glimpses and mean pooling. A new head is one class and one entry of HEADS."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from rratag.errors import UsageError
from rratag.head.onepass import Maps
from rratag.head.rra import GlimpseHead, HeadConfig, RRAHead


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


HEADS: dict[str, Callable[[HeadConfig], GlimpseHead]] = {"rra": RRAHead, "parallel": ParallelHead, "mean": MeanHead}
"""Accepted `kind` of a :class:`HeadConfig`."""


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
