"""I3D is trained on what only time can tell, and its line stands beside the base's on the same split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from rratag.errors import StoppedError
from rratag.features.backbones import Preprocessing
from rratag.head.i3d import FRAMES, inflate
from rratag.train import i3d as i3d_module
from rratag.train.i3d import I3DConfig, I3DEpoch, Trainer

SIDE = 24
RECIPE = Preprocessing(SIDE, 28, "bilinear", (0.5, 0.25, 0.125), (0.5, 0.25, 2.0))


class Moving:
    """Made-up clips: a bright square that goes right (class 1) or left (0), round the edge, from anywhere.

    Every single frame of one class is as likely in the other.
    """

    def __init__(self, count: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.labels = np.arange(count) % 2
        self.clips = [self._clip(rng, label) for label in self.labels]

    @staticmethod
    def _clip(rng: np.random.Generator, label: int) -> np.ndarray:
        clip = np.full((FRAMES, SIDE, SIDE, 3), 90, np.uint8)
        start, top = rng.integers(SIDE), rng.integers(SIDE - 8)
        for time in range(FRAMES):
            columns = (start + (2 if label else -2) * time + np.arange(8)) % SIDE
            clip[time, top : top + 8, columns] = 220
        return clip

    def __len__(self) -> int:
        return len(self.labels)

    def drawn(self, order: Sequence[int], seed: int, epoch: int, ahead: int) -> Iterator[np.ndarray]:
        return (self.clips[index] for index in order)

    def middle(self) -> Iterator[np.ndarray]:
        return iter(self.clips)


def trainer(network: nn.Module, **settings: Any) -> Trainer:
    return Trainer(network, RECIPE, I3DConfig(**settings), 0, torch.device("cpu"))


class Narrow(ResNet):
    """A ResNet of four blocks with 8 and 16 channels."""

    def __init__(self) -> None:
        super().__init__(BasicBlock, [1, 1, 1, 1])
        self.inplanes = 8
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8)
        self.layer1 = self._make_layer(BasicBlock, 8, 1)
        self.layer2, self.layer3, self.layer4 = (self._make_layer(BasicBlock, 16, 1) for _ in range(3))
        self.fc = nn.Linear(16, 2)


def small() -> nn.Module:
    torch.manual_seed(0)
    return inflate(Narrow(), 2, dropout=0.0)


def test_clips_enter_with_time_behind_the_channels_and_normalised() -> None:
    clip = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)
    (found,) = trainer(small())._input([clip])
    assert found.shape == (3, 4, 5, 6)
    for channel in range(3):
        wanted = (clip[..., channel] / 255 - RECIPE.mean[channel]) / RECIPE.std[channel]
        np.testing.assert_allclose(found[channel], wanted, atol=1e-6)


def test_it_learns_a_direction_that_no_single_frame_tells() -> None:
    learner = trainer(small(), epochs=8, batch_size=8, learning_rate=5e-3)
    train, unseen = Moving(48, 1), Moving(32, 2)
    history, best = learner.fit(train, unseen, lambda _: None)  # type: ignore[arg-type]
    assert history[best - 1].validation is not None
    logits = learner.logits(unseen)  # type: ignore[arg-type]
    right = (logits.argmax(1).numpy() == unseen.labels).mean()
    assert right == history[best - 1].validation[1] == max(one.validation[1] for one in history if one.validation)
    assert right > 0.9
    unseen.clips = [clip[::-1].copy() for clip in unseen.clips]  # backwards in time
    assert (learner.logits(unseen).argmax(1).numpy() == unseen.labels).mean() < 0.1  # type: ignore[arg-type]
    unseen.clips = [np.repeat(clip[:1], FRAMES, 0) for clip in unseen.clips]  # one frame alone
    assert (learner.logits(unseen).argmax(1).numpy() == unseen.labels).mean() < 0.8  # type: ignore[arg-type]


def test_equal_seeds_give_equal_weights_and_without_validation_the_last_epoch_is_kept() -> None:
    data, none = Moving(6, 3), Moving(0, 0)
    states = []
    for _ in range(2):
        learner = trainer(small(), epochs=2, batch_size=4)
        history, best = learner.fit(data, none, lambda _: None)  # type: ignore[arg-type]
        assert (best, len(history), history[0].validation) == (2, 2, None)
        states.append(learner.network.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_loss_that_is_not_finite_ends_it() -> None:
    network = small()
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    with pytest.raises(StoppedError, match="not finite in epoch 1"):
        trainer(network, batch_size=4).fit(Moving(6, 0), Moving(0, 0), lambda _: None)  # type: ignore[arg-type]


# --- the command ---


def test_the_command_gives_a_line_beside_the_base_and_keeps_it(
    clip_folder: Path, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.conftest import TINY_OPTIONS

    assert cli("extract", clip_folder, *TINY_OPTIONS).code == 0
    arguments = ("compare", "--i3d", "tv:resnet18", "--i3d-weights", "random", "--i3d-size", 64, "--workers", 1)
    ran = cli(*arguments, "--epochs", 1, "--json")
    assert ran.code == 0, ran.err
    assert "starts from random weights" in ran.err
    assert "I3D epoch 1/1: loss" in ran.err
    assert list(ran.json) == ["i3d"]
    line, base = ran.json["i3d"]
    assert (line["name"], base["name"]) == ("I3D, tv:resnet18", "RRA, 4 glimpses, Li+Le")
    assert (line["num_seeds"], line["num_videos"]) == (1, base["num_videos"])
    assert line["difference"] == pytest.approx(line["top1"] - base["top1"])
    assert len(list((tmp_path / ".rratag/compare/runs").iterdir())) == 2
    monkeypatch.setattr(i3d_module.I3D, "_trained", None)
    assert cli(*arguments, "--epochs", 1, "--json").json == ran.json


def test_what_the_command_cannot_inflate_is_one_line(toy_cache: Any, cli: Any) -> None:
    toy_cache.fill_classes()
    arguments = ("compare", "--cache", toy_cache.cache, "--i3d-weights", "random", "--i3d")
    cli(*arguments, "tv:mobilenet_v2").says_one_line(2, "--i3d tv:mobilenet_v2", "tv:resnet50")
    cli("compare", "--i3d-size", 64).says_one_line(2, "--i3d-size", "--i3d")
    cli(*arguments, "tv:resnet18", "--figures", "drawn").says_one_line(2, "--figures", "--table")
    cli(*arguments, "resnet18").says_one_line(2, "--i3d resnet18", "tv:resnet18")
    ran = cli(*arguments, "tv:resnet18")
    assert (ran.code, ran.out) == (1, "")
    assert ".mp4: vanished: " in ran.err.splitlines()[-1]


def test_missing_weights_name_the_ways_out(
    toy_cache: Any, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_cache.fill_classes()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    ran = cli("compare", "--cache", toy_cache.cache, "--i3d", "tv:resnet18")
    ran.says_one_line(1, "--i3d tv:resnet18", "--i3d-weights FILE", "--download")
    ran = cli("compare", "--cache", toy_cache.cache, "--i3d", "tv:resnet18", "--i3d-weights", "none.pth")
    ran.says_one_line(1, "none.pth")


def test_a_row_of_the_history_has_no_time() -> None:
    assert I3DEpoch(2, 0.5, (0.7, 0.25), 9.0).to_json() == {
        "epoch": 2,
        "train_loss": 0.5,
        "validation_loss": 0.7,
        "validation_accuracy": 0.25,
    }
