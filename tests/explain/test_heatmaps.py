"""Heat maps against finite differences: a pixel is changed, and the number must change as the gradient says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rratag.explain import heatmaps
from rratag.explain.heatmaps import attention_gradients, influence, suppression_gradients
from rratag.features.backbones import Backbone, Preprocessing
from rratag.head.rra import HeadConfig, RRAHead
from rratag.head.variants import build_head

CHANNELS, GLIMPSES, FRAMES = 6, 3, 2
STEP = 1e-6


@pytest.fixture
def backbone() -> Backbone:
    """A smooth network of two convolutions, in float64; pictures of 12x8 become maps of 3x2."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.Softplus(), nn.Conv2d(5, CHANNELS, 3, stride=2, padding=1)
    )
    recipe = Preprocessing(8, 8, "bilinear", (0.4, 0.5, 0.6), (0.2, 0.25, 0.5))
    network.double().eval().requires_grad_(False)
    return Backbone("toy", network, recipe, "0", CHANNELS, 4, True, lambda net, x: net(x), lambda net, x: x)


@pytest.fixture
def head() -> RRAHead:
    torch.manual_seed(1)
    built = build_head(HeadConfig(CHANNELS, 4, num_glimpses=GLIMPSES)).double().eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
        built.first.norm.bias.add_(1)  # so that enough is there to be suppressed
        for glimpse in built.later:
            glimpse.norm.weight.mul_(0.6)
    assert isinstance(built, RRAHead)
    return built


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (FRAMES, 12, 8, 3), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)


def maps_of(backbone: Backbone, pixels: Tensor) -> Tensor:
    """X (N, h, w, C) of pixels in [0, 1], (N, 3, H, W)."""
    recipe = backbone.preprocessing
    mean, std = (torch.tensor(one, dtype=torch.float64).view(3, 1, 1) for one in (recipe.mean, recipe.std))
    return backbone.maps((pixels - mean) / std).permute(0, 2, 3, 1)


def changes(backbone: Backbone, images: Tensor, frame: int, y: int, x: int) -> list[tuple[Tensor, Tensor]]:
    """Maps with one colour of one pixel a little less, and a little more, for each colour."""
    pixels = images.permute(0, 3, 1, 2).double() / 255
    found = []
    for colour in range(3):
        pair = []
        for sign in (-1, 1):
            changed = pixels.clone()
            changed[frame, colour, y, x] += sign * STEP
            pair.append(maps_of(backbone, changed))
        found.append((pair[0], pair[1]))
    return found


PLACES = [(0, 0, 0), (1, 11, 7), (0, 5, 2), (1, 2, 6)]


@pytest.mark.parametrize("given", [False, True], ids=["Eq. 7", "other weights"])
def test_the_influence_on_an_attention_is_the_sum_of_absolute_differences(
    backbone: Backbone, head: RRAHead, images: Tensor, given: bool
) -> None:
    maps = maps_of(backbone, images.permute(0, 3, 1, 2).double() / 255)
    weights = torch.rand(GLIMPSES, *maps.shape[:3], dtype=torch.float64) if given else None
    heat = influence(backbone, images, attention_gradients(head, maps, weights))
    assert heat.shape == (GLIMPSES, FRAMES, 12, 8)

    def numbers(x: Tensor) -> Tensor:
        a = head(x.unsqueeze(0)).attention.squeeze(0)
        return (a.square() / 2 if weights is None else weights * a).flatten(1).sum(1).detach()

    for frame, y, x in PLACES:
        slopes = [(numbers(more) - numbers(less)) / (2 * STEP) for less, more in changes(backbone, images, frame, y, x)]
        torch.testing.assert_close(heat[:, frame, y, x], torch.stack(slopes).abs().sum(0), rtol=1e-5, atol=1e-8)


def test_the_influence_on_what_is_suppressed(backbone: Backbone, head: RRAHead, images: Tensor) -> None:
    maps = maps_of(backbone, images.permute(0, 3, 1, 2).double() / 255)
    heat = influence(backbone, images, suppression_gradients(head, maps))
    assert heat.shape[0] == GLIMPSES - 1

    def steps(x: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """X^k, x-tilde^k and X-bar^{k+1}, written out from the paper."""
        norm = head.first.norm
        assert norm is not None
        found, current = [], torch.relu(normalised(x.reshape(-1, CHANNELS), norm))
        for k in range(GLIMPSES - 1):
            queries = (head.first if k == 0 else head.later[k - 1]).queries
            summary = (current @ queries.T).softmax(0).T @ current
            x_tilde = torch.tanh(head.fc[k](summary)).squeeze(0)
            after = torch.relu(normalised(current + x_tilde, head.later[k].norm))
            found.append((current, x_tilde, after))
            current = after
        return found

    held = []
    for before, x_tilde, after in steps(maps):
        chosen = x_tilde.argsort()[: heatmaps.SUPPRESSED_CHANNELS]
        held.append((chosen, torch.clamp(before - after, min=0)[:, chosen].detach()))
        assert (held[-1][1] > 0).any()

    def numbers(x: Tensor) -> Tensor:
        pairs = zip(steps(x), held, strict=True)
        return torch.stack([(w * before[:, chosen]).sum() for (before, _, _), (chosen, w) in pairs]).detach()

    for frame, y, x in PLACES:
        slopes = [(numbers(more) - numbers(less)) / (2 * STEP) for less, more in changes(backbone, images, frame, y, x)]
        torch.testing.assert_close(heat[:, frame, y, x], torch.stack(slopes).abs().sum(0), rtol=1e-5, atol=1e-8)


def normalised(x: Tensor, norm: nn.Module) -> Tensor:
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return (x - norm.running_mean) * scale + norm.bias


def test_frames_beyond_one_batch_of_the_backbone_are_the_same(
    backbone: Backbone, head: RRAHead, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = maps_of(backbone, images.permute(0, 3, 1, 2).double() / 255)
    gradients = attention_gradients(head, maps)
    together = influence(backbone, images, gradients)
    monkeypatch.setattr(heatmaps, "IMAGES_AT_ONCE", 1)
    torch.testing.assert_close(influence(backbone, images, gradients), together)


def test_a_head_without_reductions_suppresses_nothing(backbone: Backbone, images: Tensor) -> None:
    parallel = build_head(HeadConfig(CHANNELS, 4, kind="parallel", num_glimpses=2)).double().eval()
    maps = maps_of(backbone, images.permute(0, 3, 1, 2).double() / 255)
    gradients = suppression_gradients(parallel, maps)
    assert gradients.shape == (0, *maps.shape)
