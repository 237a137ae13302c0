"""Eq. 2 and Eq. 1 in one pass over a feature map, forward and backward.

The head is bound by memory, not by arithmetic: each glimpse reads and writes all of [B,N,h,w,C]. So one autograd
function takes a map that already has its statistics, normalises it, thresholds it, attends to it and gathers the
statistics of the result, a few videos at a time, while they lie in the processor's cache. Everything small ([B,C] and
less: BatchNorm's algebra, the reductions, the classifiers) is left to ordinary autograd.

Maps may be bfloat16 or float16; arithmetic, statistics and parameters have the parameters' type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rratag.head.parallel import each_group

_CACHED_ELEMENTS = 2**19
"""Elements of a map taken at once on a CPU: 2 MiB in float32, about one core's second-level cache."""


@dataclass(frozen=True)
class Layout:
    """Which positions of the maps [B,P,C], P = N*h*w, are real.

    Attributes
    ----------
    num_frames : N
    mask : bool (B, P), False where a position is padding; None if nothing is padded
    counts : (B, 1), number of real positions of each video, in the parameters' type
    """

    num_frames: int
    mask: Tensor | None
    counts: Tensor

    def rows(self, rows: slice) -> Layout:
        """Layout of some of the videos."""
        return Layout(self.num_frames, rows_of(self.mask, rows), self.counts[rows])


class Maps(NamedTuple):
    """Feature maps with their statistics over each video's real positions.

    Attributes
    ----------
    values : (B, P, C); zero at padded positions
    mean, var : (B, C), over the P positions of a video, or None where nobody needs them
    layout : which positions are real
    """

    values: Tensor
    mean: Tensor | None
    var: Tensor | None
    layout: Layout


def attention_weights(logits: Tensor, layout: Layout, attention: str) -> Tensor:
    """Attention a of Eq. 1 from the logits X-bar^T W_a.

    Parameters
    ----------
    logits : (B, G, P), G glimpses at one map
    attention : ``spatiotemporal``, one softmax over all positions of a video; ``spatial``, one in each frame, then the
        mean over frames; ``mean``, the logits are ignored

    Returns
    -------
    (B, G, P), at least 0, summing to 1 over P, exactly 0 at padded positions.
    """
    B, G, P = logits.shape
    mask = layout.mask
    if attention == "mean":
        weights = (1 / layout.counts).unsqueeze(1).expand(B, G, P)
        return weights if mask is None else weights * mask.unsqueeze(1)
    if mask is not None:
        # finite, so that a frame that is all padding stays finite in the spatial softmax
        logits = logits.masked_fill(~mask.unsqueeze(1), torch.finfo(logits.dtype).min)
    if attention == "spatiotemporal":
        return logits.softmax(-1)
    frames = logits.reshape(B, G, layout.num_frames, -1).softmax(-1)  # (B, G, N, hw)
    if mask is None:
        return frames.flatten(2) / layout.num_frames
    real = mask.reshape(B, layout.num_frames, -1).any(-1).to(logits.dtype)  # (B, N)
    share = real / real.sum(-1, keepdim=True)
    return (frames * share[:, None, :, None]).flatten(2)


def _logits_gradient(weights: Tensor, gradient: Tensor, layout: Layout, attention: str) -> Tensor:
    """Gradient of the attention logits: a * (da - <a, da>), the mean taken inside each softmax."""
    if attention == "spatiotemporal":
        return weights * (gradient - (weights * gradient).sum(-1, keepdim=True))
    a = weights.reshape(*weights.shape[:2], layout.num_frames, -1)
    da = gradient.reshape(a.shape)
    total = a.sum(-1, keepdim=True)  # 1/N; 0 in a frame that is all padding
    mean = (a * da).sum(-1, keepdim=True) / total.clamp_min(torch.finfo(total.dtype).tiny)
    return (a * (da - mean)).flatten(2)


def video_groups(maps: Tensor) -> list[slice]:
    """Slices of videos that fit a CPU's cache together; everything at once elsewhere."""
    B, P, C = maps.shape
    step = max(1, _CACHED_ELEMENTS // (P * C)) if maps.device.type == "cpu" else B
    return [slice(start, start + step) for start in range(0, B, step)]


class _OnePass(torch.autograd.Function):
    """See :func:`one_pass`; `ctx` keeps x and y, so a glimpse costs one map of memory in training."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        queries: Tensor,
        layout: Layout,
        relu: bool,
        attention: str,
        statistics: bool,
        overwrite: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        B, P, C = x.shape
        G = len(queries)
        y = x.new_empty(0) if scale is None else x if overwrite else torch.empty_like(x)
        weights = queries.new_empty(B, G, P)
        summaries = queries.new_empty(B, G, C)
        mean, var = queries.new_empty(2, B if statistics else 0, C)

        def work(rows: slice) -> None:
            part = layout.rows(rows)
            values = x[rows].to(queries.dtype)
            if scale is not None and shift is not None:
                out = y[rows] if y.dtype == queries.dtype else torch.empty_like(values)
                values = torch.addcmul(shift[rows].unsqueeze(1), values, scale, out=out)
                if relu:
                    values.relu_()
                if part.mask is not None:
                    values.mul_(part.mask.unsqueeze(-1))
                if y.dtype != queries.dtype:
                    y[rows] = values
            if G:
                logits = (values @ queries.T).transpose(1, 2)  # (b, G, P)
                weights[rows] = attention_weights(logits, part, attention)
                torch.bmm(weights[rows], values, out=summaries[rows])  # Eq. 1
            if statistics:
                mean[rows], var[rows] = _moments(values, part)

        each_group(work, video_groups(x))
        ctx.save_for_backward(x, y, scale, queries, weights, mean)
        ctx.options = layout, relu, attention
        ctx.set_materialize_grads(False)
        return y, weights, summaries, mean, var

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        x, y, scale, queries, weights, mean = ctx.saved_tensors
        layout, relu, attention = ctx.options
        transformed = scale is not None
        dx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        dshift = queries.new_empty(len(x), x.shape[-1]) if transformed else None

        def work(rows: slice) -> tuple[Tensor | None, Tensor | None]:
            part = layout.rows(rows)
            values = (y if transformed else x)[rows].to(queries.dtype)
            dy, dlogits = _output_gradient(
                values, weights[rows], mean[rows], queries, part, attention, [rows_of(one, rows) for one in gradients]
            )
            dqueries = None if dlogits is None else torch.bmm(dlogits, values).sum(0)
            dscale = None
            if transformed and relu:
                dy = torch.ops.aten.threshold_backward(dy, values, 0)
            dy = _zero_padding(dy, part)
            if dshift is not None:
                ones = dy.new_ones(1, dy.shape[1])
                dshift[rows] = (ones @ dy).squeeze(1)
                dscale = (ones @ (dy * x[rows])).sum((0, 1))
            if dx is not None:
                if transformed and dx.dtype == dy.dtype:
                    torch.mul(dy, scale, out=dx[rows])
                else:
                    dx[rows] = dy * scale if transformed else dy
            return dscale, dqueries

        dscale, dqueries = (_sum(column) for column in zip(*each_group(work, video_groups(x)), strict=True))
        return dx, dscale, dshift, dqueries, None, None, None, None, None


def _output_gradient(
    values: Tensor,
    weights: Tensor,
    mean: Tensor,
    queries: Tensor,
    layout: Layout,
    attention: str,
    gradients: list[Tensor | None],
) -> tuple[Tensor, Tensor | None]:
    """Gradient that reaches y (b, P, C) by every way, and that of the attention logits (b, G, P).

    y goes to the next glimpse (`dy`), into the summaries a^T y, into the attention, and into the mean and variance of
    each channel. But for the first all of these have low rank: they are one matrix product `left^T right`.
    """
    dy, da, ds, dmean, dvar = gradients
    b, P, _ = values.shape
    dlogits = None
    left, right = [], []  # (b, rank, P) and (b, rank, C)
    if ds is not None:
        left.append(weights)
        right.append(ds)
    if attention != "mean" and (ds is not None or da is not None):
        da = torch.zeros_like(weights) if da is None else da
        if ds is not None:
            da = da + torch.bmm(ds, values.transpose(1, 2))
        dlogits = _logits_gradient(weights, da, layout, attention)
        left.append(dlogits)
        right.append(queries.expand(b, -1, -1))
    if dmean is not None:
        left.append((1 / layout.counts).expand(b, P).unsqueeze(1))
        right.append(dmean.unsqueeze(1))
    if dvar is not None:
        # var = sum((y - mean)^2) / count; its derivative by the mean is zero
        left.append((-2 / layout.counts).expand(b, P).unsqueeze(1))
        right.append((dvar * mean).unsqueeze(1))
        factor = (2 / layout.counts * dvar).unsqueeze(1)
        dy = values * factor if dy is None else torch.addcmul(dy, values, factor)
    if not left:
        return (torch.zeros_like(values) if dy is None else dy.to(values.dtype)), dlogits
    left_t, right_t = torch.cat(left, 1).transpose(1, 2), torch.cat(right, 1)
    if dy is None:
        return torch.bmm(left_t, right_t), dlogits
    return torch.baddbmm(dy.to(values.dtype), left_t, right_t), dlogits


def _moments(values: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Mean and variance (b, C) of each video's channels over its real positions, in two passes: nothing cancels."""
    average = (1 / layout.counts).unsqueeze(1).expand(-1, 1, values.shape[1])
    mean = torch.bmm(average, values)  # (b, 1, C)
    deviation = _zero_padding(values - mean, layout)
    return mean.squeeze(1), torch.bmm(average, deviation.square_()).squeeze(1)


def _zero_padding(values: Tensor, layout: Layout) -> Tensor:
    return values if layout.mask is None else values * layout.mask.unsqueeze(-1)


def _sum(tensors: tuple[Tensor | None, ...]) -> Tensor | None:
    """Sum in a fixed order, so that it does not depend on threads."""
    present = [one for one in tensors if one is not None]
    return torch.stack(present).sum(0) if present else None


def rows_of(tensor: Tensor | None, rows: slice) -> Tensor | None:
    """Some videos of what may be None."""
    return None if tensor is None else tensor[rows]


def one_pass(
    x: Tensor,
    layout: Layout,
    *,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    relu: bool = True,
    queries: Tensor,
    attention: str = "spatiotemporal",
    statistics: bool = False,
    overwrite: bool = False,
) -> tuple[Maps, Tensor, Tensor]:
    """y = ReLU(x * scale + shift) (Eq. 2), its attention and its summaries (Eq. 1), and its statistics.

    Parameters
    ----------
    x : (B, P, C), zero at padded positions
    scale, shift : (C,) and (B, C): BatchNorm, folded, with the reduction inside `shift`; None for y = x
    queries : W_a of the G glimpses at this map, (G, C); G = 0 for statistics alone
    attention : see :func:`attention_weights`
    statistics : whether to gather mean and variance of y
    overwrite : whether y may take the memory of x, which is then lost; only where no gradient is recorded

    Returns
    -------
    y with its statistics, attention (B, G, P), summaries (B, G, C); differentiable once by all tensors.
    """
    y, weights, summaries, mean, var = _OnePass.apply(
        x, scale, shift, queries, layout, relu, attention, statistics, overwrite
    )
    values = x if scale is None else y
    return Maps(values, mean if statistics else None, var if statistics else None, layout), weights, summaries
