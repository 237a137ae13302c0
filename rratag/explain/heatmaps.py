"""Eq. 7: how much each pixel moves an attention, and Fig. 4: how much it moves what a reduction takes away.

A heat map is the gradient of one number with respect to the pixels, its l1 norm over colours. The number is a weighted
sum over the feature maps or over the attention to them, so the work is split there: what the head asks of the maps,
then what the backbone makes of that, a few frames at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rratag.head.rra import GlimpseHead, RRAHead

if TYPE_CHECKING:
    from rratag.features.backbones import Backbone
    from rratag.head.onepass import Maps

SUPPRESSED_CHANNELS = 4
"""Of Fig. 4: those with the smallest x-tilde."""
IMAGES_AT_ONCE = 8
"""Whose activations are held: about 130 MB each at 320x256 with the default backbone."""


def attention_gradients(head: GlimpseHead, maps: Tensor, weights: Tensor | None = None) -> Tensor:
    """Gradient of sum_i w_i a_i with respect to the maps, for each glimpse; w is held constant (section 3.3).

    Parameters
    ----------
    head : in evaluation mode, in float32 or float64
    maps : X of one video in one view, (N, h, w, C), of the head's type and device
    weights : w, (K, N, h, w); None is w = a, which makes the sum's gradient that of 1/2 ||a||^2: Eq. 7

    Returns
    -------
    (K, N, h, w, C).
    """
    x = maps.detach().requires_grad_()
    with torch.enable_grad():
        attention = head(x.unsqueeze(0)).attention.squeeze(0)  # (K, N, h, w)
        held = attention.detach() if weights is None else weights
        sums = (held * attention).flatten(1).sum(1)
    return _each_gradient(sums, x)


def suppression_gradients(head: GlimpseHead, maps: Tensor) -> Tensor:
    """The same for what each reduction takes away (Fig. 4): sum over decreased entries of decrement times entry.

    Of the :data:`SUPPRESSED_CHANNELS` channels with the smallest x-tilde^k, the entries that are smaller in X-bar^{k+1}
    than in X^k; w_i is the decrement, which holds the scale of the BatchNorm between the two, and a_i the entry of X^k.

    Parameters
    ----------
    head : of RRA, in evaluation mode
    maps : as for :func:`attention_gradients`

    Returns
    -------
    (K-1, N, h, w, C), one for each reduction; none for a head without reductions.
    """
    x = maps.detach().requires_grad_()
    with torch.enable_grad(), _reductions(head) as sums:
        head(x.unsqueeze(0))
    return _each_gradient(torch.stack(sums), x) if sums else maps.new_empty(0, *maps.shape)


def influence(backbone: Backbone, images: Tensor, gradients: Tensor) -> Tensor:
    """I_vis (Eq. 7): l1 norm over colours of the gradient with respect to the pixels.

    Parameters
    ----------
    backbone : frozen, in evaluation mode
    images : frames of one view as the backbone sees them, uint8 (N, H, W, 3)
    gradients : of G numbers with respect to their maps, (G, N, h, w, C)

    Returns
    -------
    (G, N, H, W), at least 0, for pixels in [0, 1].
    """
    std = torch.tensor(backbone.preprocessing.std).view(-1, 1, 1)
    found = []
    pieces = torch.split(images, IMAGES_AT_ONCE), torch.split(gradients, IMAGES_AT_ONCE, 1)
    for frames, wanted in zip(*pieces, strict=True):
        pixels = backbone.normalise(frames).requires_grad_()
        with torch.enable_grad():
            maps = backbone.maps(pixels)
        numbers = [
            torch.autograd.grad(maps, pixels, one.permute(0, 3, 1, 2).to(maps), retain_graph=True)[0]
            for one in wanted.unbind(0)
        ]
        found.append(torch.stack([(one / std.to(one)).abs().sum(1) for one in numbers]))  # (G, n, H, W)
    return torch.cat(found, 1)


def _each_gradient(numbers: Tensor, x: Tensor) -> Tensor:
    """Gradients (G, *x.shape) of G numbers."""
    return torch.stack([torch.autograd.grad(one, x, retain_graph=True)[0] for one in numbers.unbind(0)])


@contextmanager
def _reductions(head: GlimpseHead) -> Iterator[list[Tensor]]:
    """Of each reduction in the next call of `head`, in order, the number whose gradient Fig. 4 shows."""
    sums: list[Tensor] = []

    def look(module: Any, arguments: tuple[Maps, Tensor], output: tuple[Maps, Tensor, Tensor]) -> None:
        (x, x_tilde), x_bar = arguments, output[0]
        chosen = x_tilde.squeeze(0).topk(min(SUPPRESSED_CHANNELS, x_tilde.shape[1]), largest=False).indices
        before, after = (one.values.squeeze(0)[:, chosen] for one in (x, x_bar))  # (P, 4)
        sums.append(((before - after).clamp_min(0).detach() * before).sum())

    handles = [glimpse.register_forward_hook(look) for glimpse in head.later] if isinstance(head, RRAHead) else []
    try:
        yield sums
    finally:
        for handle in handles:
            handle.remove()
