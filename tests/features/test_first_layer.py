"""The first convolution made over for optical flow: against an explicit loop, for every family, before folding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torchvision import models

from rratag.errors import UsageError
from rratag.features import backbones
from rratag.features.backbones import load
from rratag.features.first_layer import widen
from tests.conftest import TINY
from tests.features.test_backbones import SMALL, given, lively


def by_loop(kernel: torch.Tensor, channels: int) -> torch.Tensor:
    """Mean over the three colours, once for each new channel, number by number."""
    out, _, height, width = kernel.shape
    made = torch.zeros(out, channels, height, width)
    for o in range(out):
        for row in range(height):
            for column in range(width):
                total = sum(float(kernel[o, colour, row, column]) for colour in range(3))
                for channel in range(channels):
                    made[o, channel, row, column] = total / 3
    return made


def first_convolution(network: nn.Module) -> nn.Conv2d:
    return next(one for one in network.modules() if isinstance(one, nn.Conv2d))


def stacks(side: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, side, side + 32, 10), np.uint8))


@pytest.mark.parametrize("bias", [True, False])
def test_the_kernel_is_that_of_an_explicit_loop(bias: bool) -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, (3, 2), stride=2, bias=bias), nn.ReLU(), nn.Conv2d(5, 3, 1))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert widen(network, lambda net, images: net(images), torch.zeros(1, 3, 16, 16), 10) == 1
    assert torch.allclose(network[0].weight, by_loop(before["0.weight"], 10), atol=1e-7)
    assert network[0].in_channels == 10
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items() if name != "0.weight")
    assert network(torch.zeros(1, 10, 16, 16)).shape[1] == 3


@pytest.mark.parametrize("family", sorted(SMALL.keys() - {"wide_resnet", "resnext"}))  # they begin as resnet does
def test_every_family_takes_stacks_and_gives_the_maps_of_the_widened_network(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the unfolded network with the loop's kernel; Inception's own input transform has no place here."""
    name, side = SMALL[family]
    arguments: dict[str, Any] = {"init_weights": False} if name == "inception_v3" else {}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = lively(models.get_model(name, weights=None, **arguments), side)
    path = given(monkeypatch, tmp_path, network)
    backbone = load(f"tv:{name}", weights=path, input_size=side, modality="flow")
    deviation = 0.5 if family == "inception_v3" else 0.226
    assert backbone.preprocessing.mean == (0.5,)
    assert backbone.preprocessing.std == pytest.approx((deviation,))
    first = first_convolution(network)
    first.weight = nn.Parameter(by_loop(first.weight.detach(), 10))
    images = stacks(side)
    with torch.inference_mode():
        wanted = backbones.TORCHVISION[family].features(network, ((images / 255 - 0.5) / deviation).permute(0, 3, 1, 2))
        found = backbone.features(images)
    assert found.shape == wanted.shape
    assert found.shape[1] == backbone.channels
    assert (found - wanted).abs().max() <= 2e-3 * wanted.abs().max()


def test_a_network_of_timm_takes_stacks() -> None:
    backbone = load(TINY, weights="random", input_size=64, modality="flow")
    assert backbone.features(stacks(64)).shape[:2] == (2, backbone.channels)
    assert backbone.weights_digest == load(TINY, weights="random", input_size=64).weights_digest  # of the same file
    deviations = timm.get_pretrained_cfg(TINY).std
    assert backbone.preprocessing.std == pytest.approx((sum(deviations) / 3,))


def test_convolutions_side_by_side_are_all_made_over() -> None:
    """RepVGG looks at the picture with a 3x3 and a 1x1 kernel at once."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = timm.create_model("repvgg_a0").eval()
    images = torch.zeros(1, 3, 64, 64)
    assert widen(network, lambda net, x: net.forward_features(x), images, 10) == 2
    assert network(torch.zeros(1, 10, 64, 64)).shape == (1, 1000)


def test_a_first_layer_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    grouped = nn.Sequential(nn.Conv2d(3, 6, 3, groups=3))
    with pytest.raises(ValueError, match="three colours"):
        widen(grouped, lambda net, images: net(images), torch.zeros(1, 3, 16, 16), 10)
    unshuffled = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, 6, 3))
    with pytest.raises(ValueError, match="three colours"):
        widen(unshuffled, lambda net, images: net(images), torch.zeros(1, 3, 16, 16), 10)

    beside = nn.Conv2d(3, 3, 3, padding=1)
    with pytest.raises(ValueError, match="more than its first convolution"):
        widen(beside, lambda net, images: net(images) + images, torch.zeros(1, 3, 16, 16), 10)

    def refuse(*_: object) -> int:
        raise ValueError("its first layer is odd")

    monkeypatch.setattr("rratag.features.first_layer.widen", refuse)
    with pytest.raises(UsageError, match=f"--backbone {TINY} with --modality flow: its first layer is odd; choose"):
        load(TINY, weights="random", input_size=64, modality="flow")
