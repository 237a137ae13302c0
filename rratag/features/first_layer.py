"""The first convolution of a network for pictures made over for stacks of optical flow (section 3), as TSN does it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

COLOURS = 3


def widen(network: nn.Module, features: object, images: Tensor, channels: int) -> int:
    """Let `network` take inputs of `channels` channels, in place; how many convolutions were made over.

    Parameters
    ----------
    features : callable (network, images) -> maps
    images : of shape (B, 3, H, W), to find the convolutions that see them: those whose input has their channels and at
        least their size (padding may enlarge it)

    Raises
    ------
    ValueError
        If there is none that mixes the colours, or they are not all that takes the picture.

    Notes
    -----
    The new kernel is the mean of the old one over its input channels, once for each new channel, not rescaled; the bias
    is kept. A network may look at the picture with several convolutions side by side: each is made over.
    """
    assert callable(features)
    found: list[nn.Conv2d] = []

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen = inputs[0]
        if seen.shape[1] == COLOURS and seen.shape[2] >= images.shape[2] and seen.shape[3] >= images.shape[3]:
            assert isinstance(module, nn.Conv2d)
            found.append(module)

    hooks = [one.register_forward_pre_hook(note) for one in network.modules() if isinstance(one, nn.Conv2d)]
    try:
        with torch.inference_mode():
            features(network, images)
    finally:
        for hook in hooks:
            hook.remove()
    if not found or any(one.groups != 1 for one in found):
        raise ValueError("its first layer is not a convolution over the three colours")
    for one in found:
        kernel = one.weight.detach().mean(dim=1, keepdim=True).repeat(1, channels, 1, 1)
        one.weight = nn.Parameter(kernel, requires_grad=False)
        one.in_channels = channels
    try:
        with torch.inference_mode():
            features(network, images[:, :1].expand(-1, channels, -1, -1))
    except RuntimeError as error:
        raise ValueError("more than its first convolution takes the three colours") from error
    return len(found)
