"""BatchNorm folded into the convolution before it: the same features for fewer passes over memory."""

from __future__ import annotations

import copy
import itertools
import logging

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Largest accepted difference, relative to the largest feature: rounding of a re-associated float32 product."""


def fold(network: nn.Module, features: object, example: Tensor) -> nn.Module:
    """`network` in evaluation mode with every BatchNorm that directly follows a convolution folded into it.

    Parameters
    ----------
    features : callable (network, images) -> maps
    example : images of shape (B, 3, H, W) to compare both on

    Returns
    -------
    The folded network, or `network` itself where folding would change its features.

    Notes
    -----
    "Directly follows" is read from the order of definition, which a network need not keep to: hence the comparison.
    """
    assert callable(features)
    folded = _fold_children(copy.deepcopy(network))
    with torch.inference_mode():
        wanted, got = features(network, example), features(folded, example)
    if (wanted - got).abs().max() <= TOLERANCE * wanted.abs().max():
        return folded
    logger.info("BatchNorm is not folded: this network does not apply its layers in order of definition")
    return network


def _fold_children(module: nn.Module) -> nn.Module:
    children = list(module.named_children())
    for _, child in children:
        _fold_children(child)
    for (conv_name, conv), (norm_name, norm) in itertools.pairwise(children):
        if (
            isinstance(conv, nn.Conv2d)
            and isinstance(norm, nn.BatchNorm2d)
            and norm.track_running_stats
            and conv.out_channels == norm.num_features
        ):
            setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
            # timm's BatchNormAct2d carries its activation
            setattr(module, norm_name, getattr(norm, "act", nn.Identity()))
    return module
