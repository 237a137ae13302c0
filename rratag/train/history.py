"""What one epoch of training brought: a row of ``history.csv`` and of the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rratag.train.validate import Evaluation


@dataclass(frozen=True)
class EpochRecord:
    """One row of the history.

    Attributes
    ----------
    epoch : counted from 1
    train_losses : mean over the epoch's steps of each term of the loss before its weight, in nats
    glimpse_losses : the same of each glimpse's cross entropy, the terms of L_i (Eq. 5)
    validation : None if there are no validation videos
    learning_rate : at the epoch's last step
    seconds : time the epoch took
    gap : of the first epoch from video frames: accuracy and loss of the weights before it on the validation videos
        through frames, less the same from the cache; None in other epochs
    """

    epoch: int
    train_losses: dict[str, float]
    glimpse_losses: tuple[float, ...]
    validation: Evaluation | None
    learning_rate: float
    seconds: float
    gap: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Flat JSON object: a row of ``history.csv``."""
        row: dict[str, Any] = {"epoch": self.epoch}
        row |= {f"train_{name}": value for name, value in self.train_losses.items()}
        row |= {f"train_glimpse_{k}": one for k, one in enumerate(self.glimpse_losses, start=1)}
        if self.validation is not None:
            row |= {"validation_loss": self.validation.loss, "validation_accuracy": self.validation.accuracy}
            row |= {f"validation_glimpse_{k}": one for k, one in enumerate(self.validation.glimpse_accuracy, start=1)}
        row |= {"learning_rate": self.learning_rate, "seconds": round(self.seconds, 3)}
        return row if self.gap is None else row | {"gap_accuracy": self.gap[0], "gap_loss": self.gap[1]}

    def to_kept(self) -> dict[str, Any]:
        """What a checkpoint keeps of it; :meth:`from_kept` reads it."""
        row = asdict(self)
        return row if self.gap is not None else {name: value for name, value in row.items() if name != "gap"}

    @classmethod
    def from_kept(cls, row: Mapping[str, Any]) -> EpochRecord:
        """The record of which :meth:`to_kept` gave the row; checked by `rratag.train.checkpoint.check_state`."""
        found = row["validation"]
        if found is not None:
            found = Evaluation(found["loss"], found["accuracy"], tuple(found["glimpse_accuracy"]))
        return cls(**{**row, "glimpse_losses": tuple(row["glimpse_losses"]), "validation": found})
