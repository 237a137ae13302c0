"""I3D: a 2D ResNet inflated to three dimensions (Table 6, reference [2]). Clips in, logits out; knows nothing of files.

Which layers are inflated, and where time is shortened, is that of "I3D ResNet-50" in Wang et al., *Non-local Neural
Networks* (CVPR 2018, Table 1 and section 4.1), which the paper's "I3D(Res50)" most likely is:

    layer                       kernel (time first)             stride in time   frames after it
    conv1                       5 x 7 x 7                        2                16
    max pooling                 3 x 3 x 3                        2                 8
    layer1, then max pooling    3 x 1 x 1 pooling                2                 4
    layer2, layer3, layer4                                       1                 4
    mean over time and space

In every second block, beginning with the first of each layer, the first convolution spans three frames: 3 x 1 x 1 in a
bottleneck, 3 x 3 x 3 in a basic block. All others see one frame at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

FRAMES = 32
"""Consecutive frames of a clip (section 5.3)."""


class InflatedConv(nn.Conv3d):
    """A 2D convolution over `span` frames, whose first weights are the 2D ones divided by `span`.

    On a clip of equal frames it gives what the 2D convolution gives of one, at every moment: the first and last frames
    are repeated beyond the ends, where the original pads with zeros.

    Parameters
    ----------
    flat : the 2D convolution
    span : frames, odd
    stride : in time
    """

    def __init__(self, flat: nn.Conv2d, span: int, stride: int) -> None:
        if span % 2 == 0 or not isinstance(flat.padding, tuple) or flat.padding_mode != "zeros":
            raise ValueError(f"cannot inflate {flat} over {span} frames")
        height, width = flat.kernel_size
        down, right = flat.stride
        top, left = flat.padding
        super().__init__(
            flat.in_channels,
            flat.out_channels,
            (span, height, width),
            stride=(stride, down, right),
            padding=(0, top, left),
            dilation=(1, flat.dilation[0], flat.dilation[1]),
            groups=flat.groups,
            bias=flat.bias is not None,
        )
        with torch.no_grad():
            self.weight.copy_(flat.weight.unsqueeze(2).expand_as(self.weight) / span)
            if self.bias is not None and flat.bias is not None:
                self.bias.copy_(flat.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, h, w) to (B, C', T', h', w')."""
        beyond = self.kernel_size[0] // 2
        if beyond:
            x = functional.pad(x, (0, 0, 0, 0, beyond, beyond), mode="replicate")
        return super().forward(x)


def inflate(network: nn.Module, num_classes: int, dropout: float = 0.5) -> nn.Module:
    """I3D from a torchvision ResNet; its classifier is new.

    Parameters
    ----------
    network : a ``torchvision.models.ResNet`` whose BatchNorm is not folded; its weights are copied
    num_classes : at least 2
    dropout : before the classifier

    Returns
    -------
    A network of clips (B, 3, T, H, W), normalised as the 2D network takes pictures, to logits (B, num_classes).

    Raises
    ------
    ValueError
        If `network` is not such a ResNet.
    """
    from torchvision.models import ResNet

    if not isinstance(network, ResNet) or not isinstance(network.bn1, nn.BatchNorm2d):
        raise ValueError(f"a ResNet with its BatchNorm is needed, not {type(network).__name__}")
    found = cast(Any, copy.deepcopy(network))
    layers = [found.layer1, found.layer2, found.layer3, found.layer4]
    spanning = [block.conv1 for layer in layers for block in list(layer)[::2]]
    first = InflatedConv(found.conv1, 5, 2)
    _inflate_children(found, spanning)
    found.conv1 = first
    found.maxpool = nn.MaxPool3d((3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1))
    found.layer1.append(nn.MaxPool3d((3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0)))
    found.avgpool = nn.AdaptiveAvgPool3d(1)
    found.fc = nn.Sequential(nn.Dropout(dropout), nn.Linear(found.fc.in_features, num_classes))
    return cast(nn.Module, found.requires_grad_(True))


def _inflate_children(module: nn.Module, spanning: Sequence[nn.Module]) -> None:
    """Replace every 2D convolution and BatchNorm below `module`; those of `spanning` see three frames, others one."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d):
            span = 3 if any(child is one for one in spanning) else 1
            setattr(module, name, InflatedConv(child, span, 1))
        elif isinstance(child, nn.BatchNorm2d):
            norm = nn.BatchNorm3d(child.num_features, child.eps, child.momentum)
            norm.load_state_dict(child.state_dict())
            setattr(module, name, norm)
        else:
            _inflate_children(child, spanning)
