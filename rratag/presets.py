"""Settings that go together, by name: ``--preset`` of ``extract`` and ``train``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rratag.errors import UsageError


@dataclass(frozen=True)
class Preset:
    """What one name stands for.

    Attributes
    ----------
    train, head : fields of :class:`rratag.train.fit.TrainConfig` and of :class:`rratag.head.rra.HeadConfig`
    finetuned : replaces fields of `train` where the backbone is trained too, at `lr_scale` times the head's rate
    features : what ``extract`` takes where the user says nothing: ``input_size``, and ``frames`` or ``fps``
    """

    train: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[str, Any] = field(default_factory=dict)
    finetuned: Mapping[str, Any] = field(default_factory=dict)
    lr_scale: float = 0.1
    features: Mapping[str, Any] = field(default_factory=dict)


# section 5.1: the 30 epochs with frozen convolutions, and 90 end to end where that is asked for
_PAPER = Preset(
    {"learning_rate": 2e-4, "schedule": "step", "epochs": 30, "batch_size": 256},
    {"dropout": 0.7, "input_bn": False},
    {"epochs": 120},
    1.0,
)

PRESETS: dict[str, Preset] = {
    "default": Preset(),
    # the best that was measured, at any cost: docs/results.md
    "accurate": Preset(features={"input_size": 448}),
    "paper": _PAPER,
    # section 5.1: videos brought to 2 or 4 frames a second
    "youtube-birds": replace(_PAPER, features={"fps": 2.0}),
    "youtube-cars": replace(_PAPER, features={"fps": 4.0}),
    "activitynet": replace(_PAPER, features={"fps": 4.0}),
    # of how many epochs in all the paper does not say; 5 are with frozen convolutions
    "kinetics": replace(_PAPER, train={**_PAPER.train, "epochs": 5, "decay_every": 13_000}),
}


def preset(name: str) -> Preset:
    """The preset of this name.

    Raises
    ------
    UsageError
        If there is none.
    """
    if name not in PRESETS:
        raise UsageError(f"unknown --preset {name!r}; choose from {', '.join(PRESETS)}")
    return PRESETS[name]
