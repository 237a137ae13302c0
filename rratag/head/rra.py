"""Redundancy Reduction Attention (section 3.1): attend to what tells classes apart, suppress it, attend again.

    X-bar^1 -> attention -> x-hat^1 -> scores of glimpse 1           Eq. 1
                             |
                             v  tanh(FC)
    X-bar^1  (+)          x-tilde^1  -> BatchNorm -> ReLU -> X-bar^2   Eq. 2
    X-bar^2 -> attention -> x-hat^2 -> scores of glimpse 2 ...

K glimpses need K-1 reductions. Nothing is shared between glimpses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rratag import config
from rratag.errors import UsageError
from rratag.head.onepass import Layout, Maps, one_pass, rows_of, video_groups
from rratag.head.parallel import each_group

ATTENTIONS = ("spatiotemporal", "spatial", "mean")
REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "linear": lambda x: x,
    "neg-relu": lambda x: -torch.relu(x),
    "zero": torch.zeros_like,
}
"""What is done to FC(x-hat^k) to give x-tilde^k (Table 4; ``zero`` is the control that leaves the BN-ReLU stack)."""
MAPS = ("chained", "original")
POOLING = ("mean", "tsn", "single-frame")
"""Kinds with one glimpse that looks everywhere alike."""


@dataclass(frozen=True)
class HeadConfig:
    """Everything that decides a head but its weights.

    Attributes
    ----------
    channels : C of the feature maps
    num_classes : at least 2
    kind : a name in :data:`rratag.head.variants.HEADS`
    num_glimpses : K, at most 64; becomes 1 for the kinds of :data:`POOLING`
    dropout : probability, in [0, 1), on x-hat^k before its classifier only
    input_bn : a BatchNorm-ReLU before the first glimpse: X-bar^1 = ReLU(BN(X)) instead of X
    attention : one softmax over all positions, one per frame and the mean over frames, or equal weights (in the
        kinds of :data:`POOLING` always)
    norm, relu : whether Eq. 2 has its BatchNorm and its ReLU; `input_bn` is not touched by them
    reduction : a name in :data:`REDUCTIONS`
    map : whether glimpse k+1 reduces X-bar^k (``chained``) or X-bar^1 (``original``)
    glimpse_weights : importance of each glimpse in L_e and in the ensemble scores (section 3.2, end): ``equal``,
        ``learned``, or K numbers above 0 with commas between, of which only the proportions count

    Raises
    ------
    UsageError
        If a name is unknown or a number is out of range.
    """

    channels: int
    num_classes: int
    kind: str = "rra"
    num_glimpses: int = config.GLIMPSES
    dropout: float = 0.5
    input_bn: bool = True
    attention: str = "spatiotemporal"
    norm: bool = True
    relu: bool = True
    reduction: str = "tanh"
    map: str = "chained"
    glimpse_weights: str = "equal"

    def __post_init__(self) -> None:
        if self.kind in POOLING:
            object.__setattr__(self, "num_glimpses", 1)
            object.__setattr__(self, "attention", "mean")
        for name, accepted in (("attention", ATTENTIONS), ("reduction", tuple(REDUCTIONS)), ("map", MAPS)):
            value = getattr(self, name)
            if value not in accepted:
                raise UsageError(f"unknown {name} {value!r}; choose from {', '.join(accepted)}")
        for name, smallest, largest in (("channels", 1, 2**20), ("num_classes", 2, 2**20), ("num_glimpses", 1, 64)):
            value = getattr(self, name)
            if not smallest <= value <= largest:
                raise UsageError(f"{name} is {value}; it must be from {smallest} to {largest}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout is {self.dropout!r}; it must be at least 0 and below 1")
        self.fixed_weights()

    def fixed_weights(self) -> list[float]:
        """Weights of the K glimpses, summing to 1; those that training starts from where they are learned.

        Raises
        ------
        UsageError
            If `glimpse_weights` is neither a word nor K numbers above 0.
        """
        K, text = self.num_glimpses, self.glimpse_weights
        if text in ("equal", "learned"):
            return [1 / K] * K
        try:
            weights = [float(one) for one in text.split(",")]
        except ValueError:
            weights = []
        if len(weights) != K or not all(0 < one < math.inf for one in weights):
            raise UsageError(
                f"glimpse weights {text!r}: accepted are equal, learned, or {K} numbers above 0, e.g."
                f" {','.join(['1'] * K)}"
            )
        return [one / sum(weights) for one in weights]

    def to_json(self) -> dict[str, Any]:
        """JSON object with every field."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> HeadConfig:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        ValueError
            If a field is missing, unknown or of another type.
        UsageError
            If a value is not accepted.
        """
        types: dict[str, tuple[type, ...]] = {"int": (int,), "str": (str,), "bool": (bool,), "float": (int, float)}
        known = {field.name: types[str(field.type)] for field in fields(cls)}
        if not isinstance(data, dict) or data.keys() != known.keys():
            raise ValueError(f"a head has the fields {', '.join(known)}")
        for name, value in data.items():
            if not isinstance(value, known[name]) or (isinstance(value, bool) and bool not in known[name]):
                raise ValueError(f"{name} is {value!r}")
        return cls(**data)


class HeadOutput(NamedTuple):
    """What a head says of B videos.

    Attributes
    ----------
    logits : (B, K, num_classes), before softmax: s^k of section 3.2
    attention : (B, K, N, h, w), at least 0, summing to 1 over N*h*w: a of Eq. 1
    summaries : (B, K, C): x-hat^k of Eq. 1
    weights : (K,), above 0, summing to 1: importance of each glimpse in L_e and in the ensemble scores
    """

    logits: Tensor
    attention: Tensor
    summaries: Tensor
    weights: Tensor


class MaskedBatchNorm(nn.Module):
    """BatchNorm per channel over videos, frames and positions (Eq. 2), given as the scale and shift it amounts to.

    In training its statistics are those of the batch's real positions. They follow from each video's own mean and
    variance without looking at the map again, x-tilde included, because x-tilde is constant over a video (law of total
    variance). The running statistics start as plain averages and become exponential ones with `momentum`.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches: Tensor

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum = momentum
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.int64))
        self._collected: list[tuple[Tensor, Tensor, Tensor]] | None = None

    def forward(self, maps: Maps, reduction: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scale (C,) and shift (B, C) such that BN(X (+) x-tilde) = X * scale + shift.

        Parameters
        ----------
        maps : X, with statistics when training
        reduction : x-tilde (B, C), or None for none
        """
        offset = maps.values.new_zeros((), dtype=self.weight.dtype) if reduction is None else reduction
        if self.training:
            if maps.mean is None or maps.var is None:
                raise ValueError("training needs maps with statistics")
            share = maps.layout.counts / maps.layout.counts.sum()  # (B, 1)
            means = maps.mean + offset  # (B, C), of X (+) x-tilde in each video
            mean = (share * means).sum(0)
            var = (share * (maps.var + (means - mean).square())).sum(0)
            self._update(mean.detach(), var.detach(), maps.layout.counts.sum())
        else:
            mean, var = self.running_mean, self.running_var
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias + (offset - mean) * scale
        return scale, shift.expand(len(maps.values), -1)

    @torch.no_grad()
    def _update(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        if self._collected is not None:
            self._collected.append((mean, var, count))
            return
        self.num_batches += 1
        # the plain average of the first batches: with few batches an epoch, 0.1 would lag behind for many epochs
        momentum = max(self.momentum, 1 / int(self.num_batches))
        unbiased = var * (count / (count - 1).clamp_min(1))
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(unbiased, momentum)

    @torch.no_grad()
    def collect(self) -> None:
        """Begin to gather the statistics of whole passes instead of updating the running ones."""
        self._collected = []

    @torch.no_grad()
    def adopt(self) -> None:
        """End what :meth:`collect` began: mean and variance over all positions seen since become the running ones."""
        collected, self._collected = self._collected, None
        if not collected:
            return
        means, variances, counts = (torch.stack(column).double() for column in zip(*collected, strict=True))
        share = (counts / counts.sum()).unsqueeze(1)
        mean = (share * means).sum(0)
        self.running_mean.copy_(mean)
        self.running_var.copy_((share * (variances + (means - mean).square())).sum(0))


@contextmanager
def recomputed_statistics(head: nn.Module) -> Iterator[None]:
    """Replace the running statistics of every BatchNorm by those of what the head sees inside, in training mode."""
    norms = [module for module in head.modules() if isinstance(module, MaskedBatchNorm)]
    for norm in norms:
        norm.collect()
    try:
        yield
    finally:
        for norm in norms:
            norm.adopt()


class Glimpse(nn.Module):
    """One map and the attentions to it: X-bar = ReLU(BatchNorm(X (+) x-tilde)) (Eq. 2), x-hat = X-bar a (Eq. 1).

    Parameters
    ----------
    channels : C
    num_queries : attentions to this one map; 1 in RRA
    block : which of BatchNorm and ReLU Eq. 2 has; (False, False) leaves the map as it is but for x-tilde
    attention : see :class:`HeadConfig`
    """

    def __init__(self, channels: int, num_queries: int, block: tuple[bool, bool], attention: str) -> None:
        super().__init__()
        self.norm = MaskedBatchNorm(channels) if block[0] else None
        self.relu = block[1]
        self.attention = attention
        self.num_queries = num_queries
        # small: training starts near mean pooling, and parallel queries start apart
        self.queries = None if attention == "mean" else nn.Parameter(torch.randn(num_queries, channels) * 0.01)

    def forward(
        self, maps: Maps, reduction: Tensor | None, *, statistics: bool = False, overwrite: bool = False
    ) -> tuple[Maps, Tensor, Tensor]:
        """Reduce and attend.

        Parameters
        ----------
        maps : X^k
        reduction : x-tilde^k (B, C), or None
        statistics : whether a BatchNorm will want those of the result
        overwrite : whether the result may take the memory of `maps`

        Returns
        -------
        X-bar^{k+1}, its attention (B, G, P) and its summaries (B, G, C).
        """
        scale = shift = None
        if self.norm is not None:
            scale, shift = self.norm(maps, reduction)
        elif reduction is not None:
            scale, shift = torch.ones_like(reduction[0]), reduction
        counts = maps.layout.counts
        queries = counts.new_zeros(self.num_queries, maps.values.shape[-1]) if self.queries is None else self.queries
        return one_pass(
            maps.values,
            maps.layout,
            scale=scale,
            shift=shift,
            relu=self.relu,
            queries=queries,
            attention=self.attention,
            statistics=statistics,
            overwrite=overwrite,
        )


class GlimpseHead(nn.Module):
    """What every head shares: the first map X-bar^1, K classifiers, the shapes at the door.

    Subclasses say how K summaries come from the maps (:meth:`glimpses`).
    """

    def __init__(self, config: HeadConfig, num_first: int) -> None:
        super().__init__()
        C, K = config.channels, config.num_glimpses
        self.config = config
        self.first = Glimpse(C, num_first, (config.input_bn, config.input_bn), config.attention)
        self.dropout = nn.Dropout(config.dropout)
        self.classifiers = nn.ModuleList(nn.Linear(C, config.num_classes) for _ in range(K))
        # log-weights of the glimpses; equal at first, as in Eq. 6
        self.importance = nn.Parameter(torch.zeros(K)) if config.glimpse_weights == "learned" else None

    def glimpse_weights(self) -> Tensor:
        """Importance of each glimpse (K,), summing to 1."""
        if self.importance is not None:
            return self.importance.softmax(0)
        weight = next(self.classifiers[0].parameters())
        return torch.tensor(self.config.fixed_weights(), dtype=weight.dtype, device=weight.device)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> HeadOutput:
        """Glimpse K times at each video.

        Parameters
        ----------
        features : (B, N, h, w, C), floating point; float16 and bfloat16 maps are computed with in the parameters' type
        mask : bool (B, N, h, w), False where a position is padding; None if none is. Each video needs a real position

        Raises
        ------
        ValueError
            If a shape does not fit.
        """
        self.check(features, mask)
        _, N, h, w, _ = features.shape
        if self.training or torch.is_grad_enabled():
            logits, attention, summaries = self._classified(features, mask)
        else:
            # a few videos through all glimpses at a time: their maps stay in the cache and memory stays small
            dtype = next(self.parameters()).dtype

            def work(rows: slice) -> tuple[Tensor, Tensor, Tensor]:
                return self._classified(features[rows].to(dtype), rows_of(mask, rows))

            groups = each_group(work, video_groups(features.flatten(1, 3)))
            logits, attention, summaries = (torch.cat(column) for column in zip(*groups, strict=True))
        return HeadOutput(logits, attention.reshape(*attention.shape[:2], N, h, w), summaries, self.glimpse_weights())

    def check(self, features: Tensor, mask: Tensor | None) -> None:
        """Raise ``ValueError`` for shapes that do not fit; arguments as for calling."""
        if features.ndim != 5 or features.shape[-1] != self.config.channels or 0 in features.shape:
            raise ValueError(f"features must be (B, N, h, w, {self.config.channels}), not {tuple(features.shape)}")
        if mask is not None and mask.shape != features.shape[:4]:
            raise ValueError(f"mask must be {tuple(features.shape[:4])}, not {tuple(mask.shape)}")

    def _classified(self, features: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        attention, summaries = self.glimpses(self._maps(features, mask))
        logits = [
            classifier(self.dropout(summary))  # s^k = W_c^k x-hat^k + b_c^k
            for classifier, summary in zip(self.classifiers, summaries.unbind(1), strict=True)
        ]
        return torch.stack(logits, 1), attention, summaries

    def _maps(self, features: Tensor, mask: Tensor | None) -> Maps:
        """X as (B, P, C), with the statistics that the first BatchNorm wants."""
        x = features.flatten(1, 3)  # (B, P, C)
        real = None if mask is None else mask.flatten(1)
        weight = self.classifiers[0].weight
        assert isinstance(weight, Tensor)
        if real is None:
            counts = weight.new_full((len(x), 1), x.shape[1])
        else:
            x = x.masked_fill(~real.unsqueeze(-1), 0)
            counts = real.sum(1, keepdim=True).to(weight.dtype)
        layout = Layout(features.shape[1], real, counts)
        if not (self.training and self.config.input_bn):
            return Maps(x, None, None, layout)
        maps, _, _ = one_pass(x, layout, queries=weight.new_empty(0, x.shape[-1]), statistics=True)
        return maps

    def glimpses(self, maps: Maps) -> tuple[Tensor, Tensor]:
        """Attention (B, K, P) and summaries (B, K, C) from X (B, P, C)."""
        raise NotImplementedError


class RRAHead(GlimpseHead):
    """K glimpses with a redundancy reduction between each and the next (Fig. 2, Fig. 3).

    Parameters
    ----------
    config : what to build

    Notes
    -----
    Open in the paper, read here as: attention and summary are both taken from X-bar^k; X^k of Eq. 2 is X-bar^k
    (``map="chained"``); no module is shared; BatchNorm is over videos, frames and positions; dropout stands before the
    classifiers only. The last glimpse has no reduction.
    """

    def __init__(self, config: HeadConfig) -> None:
        super().__init__(config, num_first=1)
        C, later = config.channels, range(config.num_glimpses - 1)
        self.fc = nn.ModuleList(nn.Linear(C, C) for _ in later if config.reduction != "zero")
        self.later = nn.ModuleList(Glimpse(C, 1, (config.norm, config.relu), config.attention) for _ in later)

    def glimpses(self, maps: Maps) -> tuple[Tensor, Tensor]:
        """See :meth:`GlimpseHead.glimpses`."""
        K = self.config.num_glimpses
        wanted, chained = self.training and self.config.norm, self.config.map == "chained"
        x_bar, attention, x_hat = self.first(maps, None, statistics=wanted and K > 1)  # Eq. 1
        first, attentions, summaries = x_bar, [attention], [x_hat]
        for k, glimpse in enumerate(self.later, start=1):
            x_tilde = self._reduction(k, x_hat.squeeze(1))
            x = x_bar if chained else first
            x_bar, attention, x_hat = glimpse(  # Eq. 2, Eq. 1
                x,
                x_tilde,
                statistics=wanted and chained and k < K - 1,
                overwrite=chained and x.values is not maps.values and not torch.is_grad_enabled(),
            )
            attentions.append(attention)
            summaries.append(x_hat)
        return torch.cat(attentions, 1), torch.cat(summaries, 1)

    def _reduction(self, k: int, x_hat: Tensor) -> Tensor:
        """x-tilde^k (B, C) from x-hat^k, in (-1, 1) for tanh."""
        if self.config.reduction == "zero":
            return torch.zeros_like(x_hat)
        return REDUCTIONS[self.config.reduction](self.fc[k - 1](x_hat))
