"""I3D: inflated layers against loops, still clips against the 2D network, and time as an axis of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2, resnet18, resnet50

from rratag.features.folding import fold
from rratag.head.i3d import FRAMES, InflatedConv, inflate


def flat_network(build: Any) -> Any:
    """A 2D network whose BatchNorms have seen something."""
    torch.manual_seed(0)
    network = build()
    network.train()
    with torch.no_grad():
        network(torch.randn(4, 3, 64, 64))
    return network.eval()


def features(network: Any, x: torch.Tensor) -> torch.Tensor:
    """What the network's global pooling receives."""
    seen: list[torch.Tensor] = []
    hook = network.avgpool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(x)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("build", [resnet18, resnet50])
def test_a_still_clip_gives_the_features_of_its_picture_at_every_moment(build: Any) -> None:
    flat = flat_network(build)
    inflated = inflate(flat, 5).eval()
    pictures = torch.randn(2, 3, 64, 64)
    wanted = features(flat, pictures)  # (B, C, 2, 2)
    found = features(inflated, pictures.unsqueeze(2).expand(-1, -1, FRAMES, -1, -1))
    assert found.shape == (*wanted.shape[:2], FRAMES // 8, *wanted.shape[2:])
    assert wanted.abs().max() > 0.1
    for moment in found.unbind(2):
        np.testing.assert_allclose(moment, wanted, atol=1e-4 * float(wanted.abs().max()))
    # mean over time and space, then the classifier
    inflated.fc = flat.fc
    with torch.no_grad():
        logits = inflated(pictures.unsqueeze(2).expand(-1, -1, FRAMES, -1, -1))
    np.testing.assert_allclose(logits, flat(pictures).detach(), atol=1e-4)


def test_time_is_no_channel_and_order_matters() -> None:
    inflated = inflate(flat_network(resnet18), 5).eval()
    clip = torch.randn(1, 3, FRAMES, 64, 64)
    forward, backward = features(inflated, clip), features(inflated, clip.flip(2))
    assert (forward - backward).abs().max() > 1e-3
    with pytest.raises(RuntimeError):
        inflated(clip.transpose(1, 2))


@pytest.mark.parametrize(("span", "stride"), [(1, 1), (3, 1), (5, 2)])
def test_an_inflated_convolution_is_the_mean_of_the_flat_one_over_neighbouring_frames(span: int, stride: int) -> None:
    torch.manual_seed(0)
    flat = nn.Conv2d(3, 4, 3, stride=2, padding=1)
    clip = torch.randn(1, 3, 7, 6, 5)
    found = InflatedConv(flat, span, stride)(clip)
    moments = range(0, 7, stride)
    assert found.shape[2] == len(moments)
    for place, moment in enumerate(moments):
        near = [min(max(moment + step, 0), 6) for step in range(-(span // 2), span // 2 + 1)]
        wanted = sum(flat(clip[:, :, frame]) for frame in near) / span
        torch.testing.assert_close(found[:, :, place], wanted, atol=1e-5, rtol=1e-5)


def test_which_layers_span_frames() -> None:
    def spans(network: nn.Module) -> dict[str, tuple[int, int]]:
        convs = {name: one for name, one in network.named_modules() if isinstance(one, nn.Conv3d)}
        return {name: (one.kernel_size[0], one.stride[0]) for name, one in convs.items() if one.kernel_size[0] > 1}

    found = spans(inflate(resnet50(), 2))
    wanted = [
        f"layer{layer}.{block}.conv1" for layer, n in ((1, 3), (2, 4), (3, 6), (4, 3)) for block in range(0, n, 2)
    ]
    assert found == {"conv1": (5, 2), **dict.fromkeys(wanted, (3, 1))}
    found = spans(inflate(resnet18(), 2))
    assert found == {"conv1": (5, 2), **{f"layer{layer}.0.conv1": (3, 1) for layer in (1, 2, 3, 4)}}


def test_the_flat_network_is_left_as_it_is_and_all_of_i3d_learns() -> None:
    flat = flat_network(resnet18).requires_grad_(False)
    before = {name: value.clone() for name, value in flat.state_dict().items()}
    inflated = inflate(flat, 3, dropout=0.0).train()
    inflated(torch.randn(2, 3, FRAMES, 32, 32)).sum().backward()
    assert all(one.grad is not None and bool(one.grad.any()) for one in inflated.parameters())
    assert all(torch.equal(value, before[name]) for name, value in flat.state_dict().items())


def test_only_a_resnet_with_its_batchnorm_is_inflated() -> None:
    with pytest.raises(ValueError, match="MobileNetV2"):
        inflate(mobilenet_v2(), 2)
    flat = resnet18().eval()
    folded = fold(flat, lambda network, x: network(x), torch.randn(1, 3, 64, 64))
    with pytest.raises(ValueError, match="a ResNet with its BatchNorm"):
        inflate(folded, 2)
    with pytest.raises(ValueError, match="over 2 frames"):
        InflatedConv(nn.Conv2d(3, 4, 3), 2, 1)
