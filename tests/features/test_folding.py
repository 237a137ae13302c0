"""Folded BatchNorm changes nothing beyond rounding, and is refused where the order of definition lies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from rratag.features.folding import TOLERANCE, fold


def lively(network: nn.Module) -> nn.Module:
    """Running statistics and weights as after training, not 0 and 1."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.5)
            nn.init.uniform_(module.running_var, 0.3, 3)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias, 0, 0.5)
    return network.eval()


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        yield


def forward(network: nn.Module, x: Tensor) -> Tensor:
    return network(x)  # type: ignore[no-any-return]


def count(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_folding_keeps_the_features_and_the_original() -> None:
    network = lively(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Sequential(nn.Conv2d(8, 8, 3, groups=8, stride=2), nn.BatchNorm2d(8)),
        )
    )
    example = torch.randn(2, 3, 20, 24)
    wanted = network(example)
    folded = fold(network, forward, example)
    assert (count(network), count(folded)) == (2, 0)
    other = torch.randn(2, 3, 16, 16)
    assert torch.equal(network(example), wanted)
    for pictures in (example, other):
        difference = (folded(pictures) - network(pictures)).abs().max() / network(pictures).abs().max()
        assert 0 < difference < TOLERANCE


class Misleading(nn.Module):
    """Defines conv, norm in this order and applies them in the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3)
        self.conv = nn.Conv2d(6, 6, 1)
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(self.first(x)))  # type: ignore[no-any-return]


class Twice(nn.Module):
    """Applies one convolution twice, once without the norm that follows it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(self.conv(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [Misleading, Twice])
def test_a_network_that_does_not_keep_its_order_stays_as_it_is(kind: type[nn.Module]) -> None:
    network = lively(kind())
    example = torch.randn(1, 3, 10, 10)
    assert fold(network, forward, example) is network
    assert count(network) == 1


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d(8, track_running_stats=False), nn.BatchNorm2d(4)], ids=["of the batch", "of other channels"]
)
def test_a_norm_that_cannot_be_folded_is_left(norm: nn.Module) -> None:
    conv = nn.Conv2d(3, 8, 3)
    network = nn.Sequential(conv, norm).eval()
    folded = fold(network, lambda net, x: net[0](x), torch.randn(1, 3, 8, 8))
    assert count(folded) == 1
    assert torch.equal(folded[0].weight, conv.weight)  # type: ignore[index]


def test_the_activation_inside_a_timm_norm_survives() -> None:
    from timm.layers import BatchNormAct2d

    network = lively(nn.Sequential(nn.Conv2d(3, 8, 3), BatchNormAct2d(8)))
    example = torch.randn(2, 3, 12, 12)
    folded = fold(network, forward, example)
    assert count(folded) == 0
    assert folded(example).min() == 0
    torch.testing.assert_close(folded(example), network(example), rtol=1e-4, atol=1e-5)
