"""A CNN compiled by OpenVINO: torch's features, whatever the shape of the images, and nobody is told."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from rratag.errors import StoppedError, UsageError
from rratag.features import compiled
from rratag.features.compiled import Compiled
from rratag.features.extract import load_network
from rratag.features.request import Request
from tests.conftest import TINY

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="needs OpenVINO: pip install 'rratag[openvino]'")

REQUEST = Request(TINY, "random", 64, device="cpu", precision="fp32", runtime="openvino")


@pytest.fixture(autouse=True)
def _with_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "is_installed", lambda: True)


def images(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth pictures: an upside-down or mirrored one gives other features."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, height // 8, width // 8, channels))
    return np.kron(coarse, np.ones((1, 8, 8, 1))).astype(np.uint8)


def distance(found: np.ndarray, wanted: np.ndarray) -> float:
    wanted = wanted.astype(np.float32)
    return float(np.linalg.norm(found.astype(np.float32) - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("backbone", [TINY, "tv:resnet18"])
def test_features_are_those_of_torch(backbone: str) -> None:
    ours = load_network(replace(REQUEST, backbone=backbone))
    torchs = load_network(replace(REQUEST, backbone=backbone, runtime="torch"))
    assert (ours.runtime, torchs.runtime) == ("openvino", "torch")
    for number, (height, width) in enumerate(((64, 64), (64, 96), (96, 64), (64, 64))):
        pictures = images(height, width, seed=number)
        found, wanted = ours.maps(pictures), torchs.maps(pictures)
        assert (found.shape, found.dtype) == (wanted.shape, np.float16)
        assert distance(found, wanted) < 1e-3
        assert distance(found[::-1], wanted) > 0.1
        kept = found.copy()
        ours.maps(images(height, width, seed=9))
        assert (found == kept).all()  # not the memory that the next images are computed in


def test_flow_has_ten_channels() -> None:
    request = replace(REQUEST, modality="flow")
    stacks = images(64, 64, 10)
    assert (
        distance(load_network(request).maps(stacks), load_network(replace(request, runtime="torch")).maps(stacks))
        < 1e-3
    )


def test_half_precision_is_near_and_only_on_request() -> None:
    pictures = images(64, 64)
    wanted = load_network(REQUEST).maps(pictures)
    half = load_network(replace(REQUEST, precision="bf16"))
    assert (half.precision, half.runtime) == ("bf16", "openvino")
    assert distance(half.maps(pictures), wanted) < 0.3
    for precision in ("auto", "fp32"):
        spec_precision = load_network(replace(REQUEST, precision=precision)).precision
        assert spec_precision == "fp32"
    compute = REQUEST.spec(half.backbone, half.precision, half.runtime).compute
    assert compute == {"runtime": "openvino", "precision": "bf16"}


def test_other_features_than_torch_s_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    network = load_network(REQUEST)
    monkeypatch.setattr(compiled, "_token_first", lambda maps: maps.permute(0, 3, 2, 1).to(torch.float16))
    broken = Compiled(network.backbone, "fp32")
    run = broken._compiled(images(64, 64))
    monkeypatch.undo()
    monkeypatch.setattr(broken, "_compiled", lambda images: run)
    with pytest.raises(StoppedError, match=rf"{TINY} gives other features .* images of 64x64 .* --runtime torch"):
        broken.maps(images(64, 64))


def test_a_shape_that_was_not_traced_is_traced_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network whose padding was written down as a number gives something else on other pictures."""
    network = load_network(REQUEST)
    features = network.backbone._features

    def padded(net: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
        return features(net, pixels) * float(pixels.shape[3])  # a number to the tracer

    monkeypatch.setattr(network.backbone, "_features", padded)
    ours = Compiled(network.backbone, "fp32")
    for width in (64, 96, 64):
        pictures = images(64, width)
        with torch.inference_mode():
            wanted = network.backbone.features(torch.from_numpy(pictures)).permute(0, 2, 3, 1).numpy()
        assert distance(ours.maps(pictures), wanted) < 1e-3


def test_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO's converter would tell its maker, if the package that does it could be loaded."""
    load_network(REQUEST).maps(images(64, 64))
    assert sys.modules["openvino_telemetry"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "fp16"}, "--precision fp32 or bf16, not with cpu and fp16"),
        ({"runtime": "tensorrt"}, "unknown --runtime 'tensorrt'; choose from auto, torch, openvino"),
    ],
)
def test_what_openvino_cannot_do_is_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_network(replace(REQUEST, **change))


def test_without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "is_installed", lambda: False)
    assert load_network(replace(REQUEST, runtime="auto")).runtime == "torch"
    with pytest.raises(UsageError, match=r"OpenVINO is not installed; pip install 'rratag\[openvino\]', or give torch"):
        load_network(REQUEST)
