"""Settings of training that go together, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Settings that go together: fields of :class:`TrainConfig` and of :class:`HeadConfig`.

    `finetuned` replaces fields of `train` where the backbone is trained too, at `lr_scale` times the head's rate.
    """

    train: Mapping[str, Any]
    head: Mapping[str, Any]
    finetuned: Mapping[str, Any] = field(default_factory=dict)
    lr_scale: float = 0.1


PRESETS: dict[str, Preset] = {
    "default": Preset({}, {}),
    # section 5.1: the 30 epochs with frozen convolutions, and 90 end to end where that is asked for
    "paper": Preset(
        {"learning_rate": 2e-4, "schedule": "step", "epochs": 30, "batch_size": 256},
        {"dropout": 0.7, "input_bn": False},
        {"epochs": 120},
        1.0,
    ),
}
