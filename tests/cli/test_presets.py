"""--preset: what extract takes by it, what train refuses, and that the way out is one."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from rratag.head.rra import HeadConfig
from rratag.presets import PRESETS
from rratag.train.fit import TrainConfig
from tests.conftest import TINY, CommandLine, ToyCache

TOY = ("--backbone", TINY, "--weights", "random", "--input-size", "64", "--workers", "1")


def sampling(cli: CommandLine) -> list[str]:
    return [one["sampling"] for one in cli("cache", "ls", "--json").json["specs"]]


def test_frames_a_second_belong_to_the_features(cli: CommandLine, clip_folder: Path) -> None:
    """The clips have 8 frames in 0.8 s: 4 a second are 4 frames, 25 of the default are 8."""
    assert cli("extract", "videos", *TOY, "--frames", 3).code == 0
    train = ("train", "--preset", "youtube-cars", "--epochs", 1)
    ran = cli(*train)
    ran.says_one_line(1, "features of fps=4.0", "not frames=3", "--preset youtube-cars")
    command = shlex.split(ran.err.split("run rratag ")[1])
    assert "--frames" not in command
    assert cli(*command).code == 0
    assert sorted(sampling(cli)) == ["fps=4.0", "frames=3"]
    again = cli(*train)
    assert again.code == 0, again.err
    assert "preset youtube-cars: the frozen phase" in again.err


def test_what_the_user_says_stands_above_the_preset(cli: CommandLine, clip_folder: Path) -> None:
    assert cli("extract", "videos", *TOY, "--frames", 2, "--preset", "activitynet").code == 0
    assert sampling(cli) == ["frames=2"]
    cli("extract", "videos", *TOY, "--preset", "best").says_one_line(2, "youtube-birds")


def test_a_preset_without_features_takes_any(cli: CommandLine, toy_cache: ToyCache) -> None:
    toy_cache.fill_classes()
    ran = cli("train", "--cache", toy_cache.cache, "--preset", "kinetics", "--decay-every", 39_000)
    assert ran.code == 0, ran.err
    assert ran.err.count("the frozen phase") == 1


def test_the_accurate_one_wants_larger_pictures(cli: CommandLine, toy_cache: ToyCache) -> None:
    toy_cache.fill_classes()
    ran = cli("train", "--cache", toy_cache.cache, "--preset", "accurate")
    ran.says_one_line(1, "features of input_size=448, not input_size=64", "--preset accurate")
    assert "--input-size" not in ran.err


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_of_known_settings(name: str) -> None:
    preset = PRESETS[name]
    TrainConfig(**{**preset.train, **preset.finetuned})
    HeadConfig(8, 3, **preset.head)
    assert preset.features.keys() <= {"input_size", "frames", "fps"}
    assert (TrainConfig(**preset.train).learning_rate == 2e-4) == (name not in ("default", "accurate"))
