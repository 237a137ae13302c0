"""The I3D row of Table 6: a 2D ResNet, inflated, trained end to end from video frames on the split of `compare`.

In: labelled videos and where their files lie. Out: a result as of any other contender. 32 consecutive frames at a
random time in training, in the middle in testing (section 5.3). The paper says no more; read here as: the recipe of
section 5.1 (Adam, 2e-4), cosine schedule, BatchNorm trained, crops shared by the frames of a clip, no flips (left and
right may be what tells classes apart).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rratag.data.clips import Clip, ClipDataset, sources_of
from rratag.errors import StoppedError, UsageError, WeightsError
from rratag.features import backbones
from rratag.features.backbones import Backbone, Preprocessing
from rratag.head.i3d import FRAMES, inflate
from rratag.train.grid import Contender, Grid, Result, judged, keep_result, kept_result
from rratag.train.run import TrainingData, find_device
from rratag.train.schedule import batches, rate_factor
from rratag.video.views import ViewRule

CLIPS_AT_ONCE = 8


@dataclass(frozen=True)
class I3DConfig:
    """What is inflated and how it is trained.

    Attributes
    ----------
    backbone : a torchvision ResNet
    weights : as for :func:`rratag.features.backbones.load`
    input_size : side of the pictures, in pixels
    epochs, batch_size, learning_rate : of Adam
    """

    backbone: str = "tv:resnet50"
    weights: str | None = None
    input_size: int = 112
    epochs: int = 20
    batch_size: int = 8
    learning_rate: float = 2e-4

    @property
    def contender(self) -> Contender:
        """Its line in a table."""
        return Contender(f"I3D, {self.backbone}", {"kind": "i3d"})


@dataclass(frozen=True)
class I3DEpoch:
    """Mean training loss in nats, loss and accuracy on validation (None without such videos), seconds it took."""

    epoch: int
    loss: float
    validation: tuple[float, float] | None
    seconds: float

    def to_json(self) -> dict[str, float]:
        """A row of a result's history, without its time."""
        row: dict[str, float] = {"epoch": self.epoch, "train_loss": self.loss}
        if self.validation is not None:
            row |= {"validation_loss": self.validation[0], "validation_accuracy": self.validation[1]}
        return row


class I3D:
    """Gives the results of one inflated network.

    Parameters
    ----------
    grid : whose splits are used, and in whose folder results are kept
    workers : decode processes

    Raises
    ------
    UsageError
        If the backbone is no torchvision ResNet.
    WeightsError
        If its weights are not at hand or do not fit.
    """

    def __init__(self, grid: Grid, config: I3DConfig, workers: int) -> None:
        self.grid, self.config, self.workers = grid, config, workers
        self.backbone = self._load()

    def run(self, seed: int, on_epoch: Callable[[I3DEpoch], None] = lambda epoch: None) -> Result:
        """The result on the split of `seed`; from the grid's folder if it is there.

        Raises
        ------
        StoppedError
            If a video cannot be read, the loss stops being finite, or the result cannot be kept.
        """
        data = self.grid.data(seed)
        settings = {**asdict(self.config), "weights": self.backbone.weights_digest}
        path = self.grid.path(data, seed, {"i3d": settings})
        result = kept_result(path)
        if result is None:
            result = self._trained(data, seed, on_epoch)
            keep_result(path, result)
        return result

    def _load(self) -> Backbone:
        """The 2D network, its BatchNorm not folded."""
        config, name = self.config, self.config.backbone
        refusal = f"--i3d {name}: I3D inflates a ResNet of torchvision, e.g. tv:resnet18 or tv:resnet50"
        if not name.startswith("tv:"):
            raise UsageError(refusal)
        try:
            backbone = backbones.load(name, weights=config.weights, input_size=config.input_size, folded=False)
            inflate(backbone.network, 2)
        except ValueError as error:
            raise UsageError(refusal) from error
        except WeightsError as error:
            if config.weights is not None:
                raise
            raise WeightsError(
                f"--i3d {name}: its weights are not on this machine; give --i3d-weights FILE, fetch them by"
                f" extract --backbone {name} --download, or try things out with --i3d-weights random"
            ) from error
        return backbone

    def _trained(self, data: TrainingData, seed: int, on_epoch: Callable[[I3DEpoch], None]) -> Result:
        recipe = self.backbone.preprocessing
        rule = ViewRule("1", recipe.input_size, recipe.resize, recipe.interpolation)
        sources = sources_of([one.video for one in data.instances], data.roots)
        cached = [data.part(name) for name in ("train", "validation", "test")]
        train, validation, test = (ClipDataset(one, sources, FRAMES, rule, self.workers) for one in cached)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = inflate(self.backbone.network, len(data.class_names))
            trainer = Trainer(network, recipe, self.config, seed, torch.device(find_device("auto")))
            history, best = trainer.fit(train, validation, on_epoch)
            logits = trainer.logits(test)
        rows = [one.to_json() for one in history]
        return judged(self.config.contender.name, seed, cached[2], logits[:, None, None], torch.ones(1), best, rows)


class Trainer:
    """Trains a network of clips and applies it.

    Parameters
    ----------
    network : clips (B, 3, T, H, W) to logits (B, num_classes)
    recipe : mean and deviation of the pictures
    """

    def __init__(
        self, network: nn.Module, recipe: Preprocessing, config: I3DConfig, seed: int, device: torch.device
    ) -> None:
        self.network, self.config, self.seed, self.device = network.to(device), config, seed, device
        self.mean = torch.tensor(recipe.mean, device=device).view(3, 1, 1, 1)
        self.std = torch.tensor(recipe.std, device=device).view(3, 1, 1, 1)
        self.optimiser = torch.optim.Adam(network.parameters(), config.learning_rate)

    def fit(
        self, train: ClipDataset, validation: ClipDataset, on_epoch: Callable[[I3DEpoch], None]
    ) -> tuple[list[I3DEpoch], int]:
        """All epochs; the network ends with the weights of the best, whose number is given too.

        The best has the highest validation accuracy, then the lowest validation loss; the last without such videos.
        """
        history: list[I3DEpoch] = []
        best, chosen = (-math.inf, -math.inf), 0
        kept: dict[str, Tensor] = {}
        for epoch in range(1, self.config.epochs + 1):
            started = time.perf_counter()
            loss = self._train_epoch(train, epoch)
            found = self._validate(validation) if len(validation) else None
            seconds = time.perf_counter() - started
            history.append(I3DEpoch(epoch, loss, found, seconds))
            on_epoch(history[-1])
            order = (math.inf, epoch) if found is None else (found[1], -found[0])
            if order > best:
                best, chosen = order, epoch
                kept = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(kept)
        return history, chosen

    @torch.inference_mode()
    def logits(self, data: ClipDataset) -> Tensor:
        """Of the middle of every video, (B, num_classes)."""
        self.network.eval()
        clips = data.middle()
        found = []
        while some := list(islice(clips, CLIPS_AT_ONCE)):
            found.append(self.network(self._input(some)).cpu())
        return torch.cat(found)

    def _train_epoch(self, train: ClipDataset, epoch: int) -> float:
        self.network.train()
        torch.manual_seed(int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0]))
        order = np.random.default_rng([self.seed, epoch]).permutation(len(train)).tolist()
        cut = batches(order, self.config.batch_size)
        clips = train.drawn(order, self.seed, epoch, 2 * self.config.batch_size)
        total = 0.0
        for step, indices in enumerate(cut, start=(epoch - 1) * len(cut)):
            rate = self.config.learning_rate * rate_factor("cosine", step, len(cut), self.config.epochs)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            labels = torch.from_numpy(train.labels[indices]).to(self.device)
            loss = functional.cross_entropy(self.network(self._input(list(islice(clips, len(indices))))), labels)
            if not math.isfinite(loss.item()):
                raise StoppedError(f"the loss of I3D is not finite in epoch {epoch}")
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            total += loss.item() * len(indices)
        clips.close()
        return total / len(train)

    def _validate(self, data: ClipDataset) -> tuple[float, float]:
        """Loss in nats and accuracy."""
        logits, labels = self.logits(data), torch.from_numpy(data.labels)
        right = (logits.argmax(1) == labels).double().mean()
        return functional.cross_entropy(logits, labels).item(), right.item()

    def _input(self, clips: list[Clip]) -> Tensor:
        """Clips of uint8 (T, h, w, 3) as the network takes them: (B, 3, T, h, w)."""
        stacked = torch.from_numpy(np.stack(clips)).to(self.device)
        return (stacked.permute(0, 4, 1, 2, 3).float() / 255 - self.mean) / self.std
