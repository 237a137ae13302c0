"""The training loop: a head learns from cached features, then perhaps with its backbone from video frames.

Everything random derives from (seed, epoch) or (seed, epoch, video): a run that was killed and taken up again at the
last checkpoint ends, on a CPU, with the same weights to the last bit.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rratag import config as defaults
from rratag.data.datasets import Batch, CachedDataset, draw_generator
from rratag.errors import StoppedError, UsageError
from rratag.head.losses import glimpse_losses, parse_loss
from rratag.head.parallel import threads_for_groups
from rratag.head.rra import GlimpseHead, HeadConfig, recomputed_statistics
from rratag.head.variants import build_head
from rratag.train.checkpoint import check_state, describe, read_checkpoint, write_checkpoint
from rratag.train.finetune import Unfrozen
from rratag.train.history import EpochRecord
from rratag.train.schedule import SCHEDULES, batches, default_batch_size, default_epochs, rate_factor
from rratag.train.validate import Evaluation, validate

logger = logging.getLogger(__name__)

CLASS_BALANCES = ("none", "balanced")
MAPS_TYPE = torch.bfloat16
"""Of cached maps in the steps of training. The head is bound by memory, so half the bytes are a fifth less time; its
weights, statistics and arithmetic stay in float32, and so do the maps by which it is judged."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train. What is None is chosen by the size of the training set.

    Attributes
    ----------
    loss : as :func:`rratag.head.losses.parse_loss` reads it
    epochs : passes over the training set; None is :func:`rratag.train.schedule.default_epochs`
    batch_size : videos a step, at most as many as there are; None is
        :func:`rratag.train.schedule.default_batch_size`
    learning_rate, weight_decay : of Adam
    schedule, decay_every : see :func:`rratag.train.schedule.rate_factor`
    frames : N, random frames of each video in training
    seed : of everything random
    patience : epochs without a better validation accuracy after which training ends; None never ends early
    class_balance : ``balanced`` weights each class by the inverse of its number of training videos

    Raises
    ------
    UsageError
        If a name is unknown or a number is out of range.
    """

    loss: str = defaults.LOSS
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: str = "cosine"
    decay_every: int | None = None
    frames: int = defaults.TRAIN_FRAMES
    seed: int = defaults.SEED
    patience: int | None = None
    class_balance: str = "none"

    def __post_init__(self) -> None:
        parse_loss(self.loss)
        for name, accepted in (("schedule", SCHEDULES), ("class_balance", CLASS_BALANCES)):
            value = getattr(self, name)
            if value not in accepted:
                raise UsageError(f"unknown {name} {value!r}; choose from {', '.join(accepted)}")
        least = {"epochs": 1, "batch_size": 2, "frames": 1, "seed": 0, "patience": 1, "decay_every": 1}
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None and value < smallest:
                raise UsageError(f"{name} is {value}; it must be at least {smallest}")
        if self.decay_every is not None and self.schedule != "step":
            raise UsageError(f"decay_every changes nothing in the schedule {self.schedule}; it belongs to step")
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"learning_rate is {self.learning_rate}; it must be a number above 0")
        if not 0 <= self.weight_decay < math.inf:
            raise UsageError(f"weight_decay is {self.weight_decay}; it must be a number of at least 0")


def check_together(head: HeadConfig, config: TrainConfig) -> None:
    """Refuse a head that this training cannot train.

    Raises
    ------
    UsageError
        If weights of glimpses are to be learned by a loss in which they have no part.
    """
    if head.glimpse_weights == "learned" and "Le" not in dict(parse_loss(config.loss).terms):
        raise UsageError(f"learned glimpse weights have no part in the loss {config.loss}; add Le to it, e.g. Li+Le")


@dataclass(frozen=True)
class FitResult:
    """A trained head and how it came about.

    Attributes
    ----------
    head : on the CPU, in evaluation mode, with recomputed BatchNorm statistics
    history : one record per epoch
    best_epoch : the epoch whose weights were kept, counted from 1
    validation : the returned head on the validation videos; None if there are none
    chosen_by : what kept the epoch: ``validation accuracy``, or ``last epoch`` without validation videos
    stopped_early : whether patience ended the run before its last epoch
    backbone : tensors of the trained backbone, on the CPU; None if the kept epoch is of the cached features
    """

    head: GlimpseHead
    history: list[EpochRecord]
    best_epoch: int
    validation: Evaluation | None
    chosen_by: str
    stopped_early: bool
    backbone: dict[str, Tensor] | None = None


def fit(
    head_config: HeadConfig,
    train: CachedDataset,
    validation: CachedDataset,
    config: TrainConfig,
    *,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochRecord], None] = lambda record: None,
    device: torch.device | str = "cpu",
    unfrozen: Unfrozen | None = None,
) -> FitResult:
    """Train a head by Adam and keep its best epoch.

    Parameters
    ----------
    head_config : what to train
    train : training videos, at least 2; each gives N random frames an epoch
    validation : videos that choose the epoch, with all their cached frames; may be empty
    config : how to train
    checkpoint : file to go on from, if it is there, and to write after each epoch; left where it is at the end
    on_epoch : called after each epoch, the ones of a resumed run included
    device : where to compute
    unfrozen : how the run goes on after its frozen epochs, on the same videos; None is frozen to the end

    Raises
    ------
    UsageError
        If the head cannot be trained by this loss, or the run ends before it unfreezes anything.
    StoppedError
        If the loss stops being finite; the checkpoint of the epoch before is kept.
    ModelError
        If the checkpoint is not ours, or belongs to another run.
    """
    check_together(head_config, config)
    if len(train) < 2:
        raise ValueError(f"training needs at least 2 videos, got {len(train)}")
    with torch.random.fork_rng(devices=[]), threads_for_groups():
        run = _Run(head_config, train, validation, config, checkpoint, torch.device(device), unfrozen)
        for record in run.history:
            on_epoch(record)
        while not run.finished:
            on_epoch(run.epoch())
        return run.result()


class _Run:
    """State of one call of :func:`fit`."""

    def __init__(
        self,
        head_config: HeadConfig,
        train: CachedDataset,
        validation: CachedDataset,
        config: TrainConfig,
        checkpoint: Path | None,
        device: torch.device,
        unfrozen: Unfrozen | None,
    ) -> None:
        self.train, self.validation = train, validation
        self.config, self.checkpoint, self.device = config, checkpoint, device
        self.unfrozen = unfrozen
        self.loss = parse_loss(config.loss)
        self.batch_size = min(config.batch_size or default_batch_size(len(train)), len(train))
        self.epochs = config.epochs or default_epochs(len(train), self.batch_size)
        self.frozen_epochs = self.epochs if unfrozen is None else unfrozen.config.after
        if unfrozen is not None and self.frozen_epochs >= self.epochs:
            raise UsageError(f"{self.epochs} epochs, {self.frozen_epochs} of them frozen: give more --epochs")
        self.weights = _class_weights(train, config.class_balance, device)
        torch.manual_seed(config.seed)
        self.head = build_head(head_config).to(device)
        self.optimiser = torch.optim.Adam(
            self.head.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.history: list[EpochRecord] = []
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] = {}
        self.best_backbone: dict[str, Tensor] | None = None
        self.description = describe(head_config, config, self.epochs, train, validation) | {"maps": str(MAPS_TYPE)}
        if unfrozen is not None:
            self.description["fine-tuning"] = asdict(unfrozen.config)
        self._resume()

    @property
    def stopped_early(self) -> bool:
        """Whether patience has run out before the last epoch."""
        waited = len(self.history) - self.best_epoch
        if self.unfrozen is not None:  # the frozen epochs are for what comes after them
            waited = min(waited, len(self.history) - self.frozen_epochs)
        impatient = self.config.patience is not None and len(self.validation) > 0 and waited >= self.config.patience
        return impatient and len(self.history) < self.epochs

    @property
    def finished(self) -> bool:
        """Whether there is no further epoch."""
        return len(self.history) >= self.epochs or self.stopped_early

    def epoch(self) -> EpochRecord:
        """Train one epoch, validate, remember the weights if they are the best, write the checkpoint."""
        number, started = len(self.history) + 1, time.perf_counter()
        phase = self._phase(number)
        gap = self._unfreeze(phase) if phase is not None and number == self.frozen_epochs + 1 else None
        losses, by_glimpse, rate = self._train_epoch(number, phase)
        self._check_finite(phase)
        found = self._validate(phase)
        record = EpochRecord(number, losses, by_glimpse, found, rate, time.perf_counter() - started, gap)
        self.history.append(record)
        if self._is_best(record):
            self.best_epoch, self.best_weights = number, _copied(self.head)
            self.best_backbone = None if phase is None else _copied(phase.network)
        if self.checkpoint is not None:
            write_checkpoint(self.checkpoint, self.description, self._state())
        return record

    def result(self) -> FitResult:
        """The best epoch's head, its BatchNorm statistics recomputed by one pass over the training set."""
        self.head.load_state_dict(self.best_weights)
        phase, backbone = self._phase(self.best_epoch), None
        if phase is not None and self.best_backbone is not None:
            phase.network.load_state_dict(self.best_backbone)
            backbone = {name: value.cpu() for name, value in self.best_backbone.items()}
        self._recompute_statistics(phase)
        found = self._validate(phase)
        head = self.head.cpu().eval()
        chosen_by = "last epoch" if found is None else "validation accuracy"
        return FitResult(head, self.history, self.best_epoch, found, chosen_by, self.stopped_early, backbone)

    def _phase(self, epoch: int) -> Unfrozen | None:
        """Where the maps of an epoch come from: the backbone being trained, or None for the cache."""
        return self.unfrozen if epoch > self.frozen_epochs else None

    def _unfreeze(self, phase: Unfrozen) -> tuple[float, float] | None:
        """Give the backbone to the optimiser; what frames and cache say differently of the validation videos."""
        self.optimiser.add_param_group({"params": phase.parameters()})
        seen, cached = self._validate(phase), self._validate(None)
        return None if seen is None or cached is None else (seen.accuracy - cached.accuracy, seen.loss - cached.loss)

    def _train_epoch(self, number: int, phase: Unfrozen | None) -> tuple[dict[str, float], tuple[float, ...], float]:
        self.head.train()
        if phase is not None:
            phase.train(True)
        # of this epoch alone, so that a resumed run draws the same dropout
        torch.manual_seed(_mix(self.config.seed, number))
        order = np.random.default_rng([self.config.seed, number]).permutation(len(self.train)).tolist()
        cut = batches(order, self.batch_size)
        sums: dict[str, float] = dict.fromkeys((name for name, _ in self.loss.terms), 0.0)
        by_glimpse = np.zeros(self.head.config.num_glimpses)
        rate = 0.0
        with closing(self._batches(cut, number, phase)) as drawn:
            for step, batch in enumerate(drawn, start=(number - 1) * len(cut)):
                factor = rate_factor(self.config.schedule, step, len(cut), self.epochs, self.config.decay_every)
                rate = self.config.learning_rate * factor
                parts, glimpses = self._step(batch, rate, number, phase)
                for name, value in parts.items():
                    sums[name] += value
                by_glimpse += glimpses
        means = {name: value / len(cut) for name, value in sums.items()}
        return means, tuple((by_glimpse / len(cut)).tolist()), rate

    def _batches(
        self, cut: list[list[int]], epoch: int, phase: Unfrozen | None, *, base_only: bool = False
    ) -> Generator[Batch, None, None]:
        if phase is None:
            return (self._draw(indices, epoch, base_only) for indices in cut)
        return phase.batches(cut, self.config.frames, self.config.seed, epoch, base_only=base_only)

    def _draw(self, indices: list[int], epoch: int, base_only: bool) -> Batch:
        def generator(index: int) -> np.random.Generator:
            return draw_generator(self.config.seed, epoch, self.train.instances[index].video)

        drawn = self.train.train_batch(indices, self.config.frames, generator, base_only=base_only)
        return drawn.to(self.device)

    def _step(
        self, batch: Batch, rate: float, epoch: int, phase: Unfrozen | None
    ) -> tuple[dict[str, float], NDArray[np.float64]]:
        """One step; the losses before it, of each term and of each glimpse (K,)."""
        scales = (1.0,) if phase is None else (1.0, phase.config.rate_scale)
        for group, scale in zip(self.optimiser.param_groups, scales, strict=True):
            group["lr"] = rate * scale
        # maps that a backbone learns from are left as they are: they carry its gradient
        output = self.head(batch.features.to(MAPS_TYPE) if phase is None else batch.features, batch.mask)
        parts = self.loss.parts(output.logits, batch.labels, self.weights, output.weights)
        total = self.loss.total(parts)
        if not math.isfinite(total.item()):
            raise StoppedError(self._not_finite(epoch))
        self.optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        if phase is not None:
            phase.backward(batch, self.head)
        self.optimiser.step()
        by_glimpse = glimpse_losses(output.logits.detach(), batch.labels, self.weights)
        return {name: part.item() for name, part in parts.items()}, by_glimpse.double().cpu().numpy()

    def _validate(self, phase: Unfrozen | None) -> Evaluation | None:
        if phase is not None and len(self.validation):
            return phase.validate(self.head, self.loss)
        return validate(self.head, self.validation, self.loss, self.device) if len(self.validation) else None

    def _is_best(self, record: EpochRecord) -> bool:
        """Higher validation accuracy, then lower validation loss; the last epoch without validation videos."""
        best = self.history[self.best_epoch - 1].validation if self.best_epoch else None
        if best is None or record.validation is None:
            return True
        return (record.validation.accuracy, -record.validation.loss) > (best.accuracy, -best.loss)

    @torch.no_grad()
    def _recompute_statistics(self, phase: Unfrozen | None) -> None:
        """Running statistics = those of one pass over the training set with the final weights, without dropout.

        Of the base alone, whatever views trained: these statistics are used where the base alone is read.
        """
        self.head.train()
        self.head.dropout.eval()
        if phase is not None:
            phase.train(False)
        with recomputed_statistics(self.head):
            order = list(range(len(self.train)))
            for batch in self._batches(batches(order, self.batch_size), 0, phase, base_only=True):
                self.head(batch.features.float(), batch.mask)  # exact, as they are to serve
        self.head.dropout.train()

    def _check_finite(self, phase: Unfrozen | None) -> None:
        trained = [self.head] if phase is None else [self.head, phase.network]
        if not all(bool(value.isfinite().all()) for module in trained for value in module.state_dict().values()):
            raise StoppedError(self._not_finite(len(self.history) + 1))

    def _not_finite(self, epoch: int) -> str:
        kept = "" if self.checkpoint is None or epoch == 1 else f"; {self.checkpoint} keeps epoch {epoch - 1}"
        return f"the loss is not finite in epoch {epoch}; train with a lower learning rate{kept}"

    def _state(self) -> dict[str, Any]:
        phase = self._phase(len(self.history))
        tuned = {} if phase is None else {"backbone": phase.network.state_dict(), "best_backbone": self.best_backbone}
        return {
            "head": self.head.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "history": [record.to_kept() for record in self.history],
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
            **tuned,
        }

    def _resume(self) -> None:
        if self.checkpoint is None:
            return
        state = read_checkpoint(self.checkpoint, self.description)
        if state is None:
            return
        network = None
        if self.unfrozen is not None and "backbone" in state:
            network = self.unfrozen.network
            self.optimiser.add_param_group({"params": self.unfrozen.parameters()})
        check_state(
            self.checkpoint, state, self.head, self.optimiser, self.epochs, backbone=network, frozen=self.frozen_epochs
        )
        self.head.load_state_dict(state["head"])
        if network is not None:
            network.load_state_dict(state["backbone"])
            self.best_backbone = state["best_backbone"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.history = [EpochRecord.from_kept(row) for row in state["history"]]
        self.best_epoch, self.best_weights = state["best_epoch"], state["best_weights"]
        logger.info("going on from %s after epoch %d", self.checkpoint, len(self.history))


def _class_weights(train: CachedDataset, balance: str, device: torch.device) -> Tensor | None:
    """Weights (num_classes,) inversely proportional to the number of training videos, 1 on average over videos."""
    if balance == "none":
        return None
    counts = np.bincount(train.labels, minlength=len(train.class_names))
    present = counts > 0
    weights = np.zeros(len(counts))
    weights[present] = len(train) / (present.sum() * counts[present])
    return torch.tensor(weights, dtype=torch.float32, device=device)


def _copied(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _mix(seed: int, epoch: int) -> int:
    """One seed for torch from two."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
