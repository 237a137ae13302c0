"""The unfrozen phase of training (section 5.1): maps come from video frames through the backbone, which learns too.

A batch of any size fits into memory and stays exact: the backbone runs over a few images at a time, of which only the
last are recorded; the head sees the whole batch and says what gradient its maps get; the others then run again,
recorded, to take it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rratag.data.datasets import Batch
from rratag.data.frames import FrameDataset, Pictures
from rratag.errors import CacheError, StoppedError, UsageError
from rratag.features import backbones
from rratag.features.backbones import Backbone
from rratag.features.request import Request
from rratag.features.spec import Spec, differences
from rratag.head.losses import Loss
from rratag.head.parallel import threads_for_operations
from rratag.head.rra import GlimpseHead
from rratag.train.validate import Evaluation, judge
from rratag.video.augment import parse_views
from rratag.video.plan import Sampling

BN_MODES = ("frozen", "partial", "train")
IMAGES_AT_ONCE = {"cpu": 8, "cuda": 64}
"""Images whose activations are held for the backward pass: about 130 MB each at 320x256 with the default backbone."""


@dataclass(frozen=True)
class FinetuneConfig:
    """How to go on once the backbone is unfrozen.

    Attributes
    ----------
    after : epochs with the backbone frozen, from the cache, before; at least 0
    backbone_bn : which BatchNorms of the backbone learn and take the batch's statistics: none (``frozen``), the first
        (``partial``, as in TSN) or all (``train``)
    rate_scale : learning rate of the backbone as a multiple of the head's, above 0
    clip : largest norm of the gradient over all weights, above 0; None for no bound
    views : training views to draw from, as :func:`rratag.video.augment.parse_views` reads them; None for the base alone

    Raises
    ------
    UsageError
        If a name is unknown or a number is out of range.
    """

    after: int = 0
    backbone_bn: str = "frozen"
    rate_scale: float = 0.1
    clip: float | None = None
    views: str | None = None

    def __post_init__(self) -> None:
        parse_views(self.views)
        if self.backbone_bn not in BN_MODES:
            raise UsageError(f"unknown --backbone-bn {self.backbone_bn!r}; choose from {', '.join(BN_MODES)}")
        if self.after < 0:
            raise UsageError(f"--finetune-after {self.after}: it must be at least 1; for 0 give --finetune")
        for option, value in (("--backbone-lr-scale", self.rate_scale), ("--clip", self.clip)):
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{option} {value}: it must be a number above 0")


def trainable(spec: Spec, recipe: dict[str, Any]) -> tuple[Backbone, Request]:
    """The backbone that features of `spec` come from, as it can be trained, and how they were asked for.

    Parameters
    ----------
    recipe : of the features (:meth:`rratag.features.request.Request.from_recipe`)

    Raises
    ------
    UsageError
        If they are not features of pictures.
    CacheError
        If that backbone would now give other features.
    WeightsError
        If its weights are not at hand.
    """
    modality = spec.meaning.get("modality", "rgb")
    if modality != "rgb":
        raise UsageError(
            f"--finetune trains on pictures; these are features of {modality}: give --modality rgb, or train without"
        )
    request = Request.from_recipe(recipe)
    backbone = backbones.load(request.backbone, weights=request.weights, input_size=request.input_size, folded=False)
    wrong = differences(request.spec(backbone, "fp32", "torch").meaning, spec.meaning)
    if wrong:
        raise CacheError(f"the backbone is not the one that the cache was extracted with ({'; '.join(wrong)})")
    return backbone, request


@dataclass
class _Part:
    """Images that go through the backbone together, and their place in the batch.

    Attributes
    ----------
    images : uint8 (m, H, W, 3)
    places : video and frame of each image, int64 (m,) each
    maps : (m, C, h, w); None once the batch has them, if they are not recorded
    """

    images: Tensor
    places: tuple[Tensor, Tensor]
    maps: Tensor | None


class Unfrozen:
    """The phase in which the backbone is trained.

    Parameters
    ----------
    config : how
    backbone : unfolded, in float32
    train, validation : the videos
    sampling : which frames of a video are judged
    device : where to compute

    Raises
    ------
    UsageError
        If BatchNorm is to be trained and the network has none.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        backbone: Backbone,
        train: FrameDataset,
        validation: FrameDataset,
        sampling: Sampling,
        device: torch.device | str,
    ) -> None:
        self.device = torch.device(device)
        self.config, self.backbone = config, backbone.to(self.device, torch.float32)
        self.train_videos, self.validation_videos, self.sampling = train, validation, sampling
        self.network = backbone.network
        self._norms = _prepare(backbone, config.backbone_bn)
        self._held: list[_Part] = []

    def parameters(self) -> list[nn.Parameter]:
        """What is trained of the backbone."""
        return [one for one in self.network.parameters() if one.requires_grad]

    def train(self, mode: bool) -> None:
        """Whether the BatchNorms that are trained take the batch's statistics; all else is in evaluation mode."""
        for norm in self._norms:
            norm.train(mode)

    def batches(
        self, cut: Sequence[Sequence[int]], num_frames: int, seed: int, epoch: int, *, base_only: bool = False
    ) -> Generator[Batch, None, None]:
        """Maps of random frames of the training videos, batch by batch; the next ones are decoded meanwhile.

        Parameters
        ----------
        cut : videos of each batch
        num_frames, seed, epoch, base_only : see :meth:`rratag.data.frames.FrameDataset.drawn`

        Raises
        ------
        StoppedError
            If no video of a batch can be decoded; see also there.
        """
        order = [index for indices in cut for index in indices]
        ahead = 2 * max(map(len, cut))
        pictures_of = self.train_videos.drawn(order, num_frames, seed, epoch, ahead, base_only=base_only)
        with contextlib.closing(pictures_of) as drawn:
            for indices in cut:
                pairs = zip(indices, list(islice(drawn, len(indices))), strict=True)
                found = [(index, pictures) for index, pictures in pairs if pictures is not None]
                if not found:
                    raise StoppedError("no video of a batch can be decoded; extract the folder again to see why")
                features, mask = self._batch([pictures for _, pictures in found])
                labels = torch.from_numpy(self.train_videos.labels[[index for index, _ in found]])
                yield Batch(features, mask, labels.to(self.device))

    def backward(self, batch: Batch, head: GlimpseHead) -> None:
        """Pass the gradient of the features of the last batch on to the backbone; bound it together with the head's."""
        gradient = batch.features.grad
        assert gradient is not None
        while self._held:
            part = self._held.pop()  # the recorded one first: there are never two of them
            with threads_for_operations():
                maps = self._features(part.images, torch.bfloat16) if part.maps is None else part.maps
                h, w = maps.shape[2:]
                wanted = gradient[(*part.places, slice(h), slice(w))].permute(0, 3, 1, 2)  # (m, C, h, w)
                maps.backward(wanted.to(maps.dtype))  # type: ignore[no-untyped-call]
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_([*head.parameters(), *self.parameters()], self.config.clip)

    def validate(self, head: GlimpseHead, loss: Loss) -> Evaluation:
        """Evaluate the head with the backbone as it is on the regular frames of the validation videos.

        Maps are rounded to float16, as `predict` will see them.

        Raises
        ------
        StoppedError
            If no video can be decoded.
        """
        was_training = head.training
        head.eval()
        self.train(False)
        logits, kept = [], []
        with torch.inference_mode():
            for index, pictures in enumerate(self.validation_videos.regular(self.sampling)):
                if pictures is not None:
                    logits.append(head(self._judged(pictures)).logits.cpu())
                    kept.append(index)
            weights = head.glimpse_weights().cpu()
        if not kept:
            raise StoppedError("no validation video can be decoded; extract the folder again to see why")
        head.train(was_training)
        self.train(was_training)
        return judge(torch.stack(logits), weights, torch.from_numpy(self.validation_videos.labels[kept]), loss)

    def _judged(self, pictures: Pictures) -> Tensor:
        """Maps (V, T, h, w, C) of one video's pictures (T, V, H, W, 3)."""
        T, V = pictures.shape[:2]
        flat = torch.from_numpy(pictures).flatten(0, 1)
        with threads_for_operations():
            pieces = torch.split(flat, IMAGES_AT_ONCE[self.device.type])
            maps = torch.cat([self._features(one, torch.float16) for one in pieces]).half().float()
            maps = maps.permute(0, 2, 3, 1)  # (T*V, h, w, C)
            return maps.reshape(T, V, *maps.shape[1:]).transpose(0, 1).contiguous()

    def _batch(self, videos: Sequence[Pictures]) -> tuple[Tensor, Tensor | None]:
        """Features (B, N, h, w, C), which will get a gradient, and the mask of what is not padding."""
        with threads_for_operations():
            self._held = list(self._parts(videos))
        found = [part.maps for part in self._held if part.maps is not None]
        h, w = (max(maps.shape[axis] for maps in found) for axis in (2, 3))
        B, N, C = len(videos), len(videos[0]), found[0].shape[1]
        features = torch.zeros(B, N, h, w, C, device=self.device)
        mask = torch.zeros(B, N, h, w, dtype=torch.bool, device=self.device)
        for part, maps in zip(self._held, found, strict=True):
            inside = (*part.places, slice(maps.shape[2]), slice(maps.shape[3]))
            features[inside] = maps.detach().permute(0, 2, 3, 1).float()
            mask[inside] = True
            part.maps = maps if maps.requires_grad else None
        return features.requires_grad_(torch.is_grad_enabled()), None if mask.all() else mask

    def _parts(self, videos: Sequence[Pictures]) -> Iterator[_Part]:
        """Images of equal size together, a few at a time, with their maps, of which the last are recorded."""
        by_size: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        for row, frames in enumerate(videos):
            by_size.setdefault(frames.shape[1:], []).extend((row, number) for number in range(len(frames)))
        step = IMAGES_AT_ONCE[self.device.type]
        groups = [places[start : start + step] for places in by_size.values() for start in range(0, len(places), step)]
        for number, places in enumerate(groups, start=1):
            record = torch.is_grad_enabled() and number == len(groups)
            images = torch.from_numpy(np.stack([videos[row][frame] for row, frame in places]))
            rows, numbers = torch.tensor(places, device=self.device).unbind(1)
            with self._norms_kept(not record), torch.set_grad_enabled(record):
                maps = self._features(images, torch.bfloat16)
            yield _Part(images, (rows, numbers), maps)

    @contextlib.contextmanager
    def _norms_kept(self, kept: bool) -> Iterator[None]:
        """Inside, running statistics stay as they are if `kept`: the images run again, and count once."""
        before = [norm.momentum for norm in self._norms]
        try:
            for norm in self._norms:
                norm.momentum = 0.0 if kept else norm.momentum
            yield
        finally:
            for norm, momentum in zip(self._norms, before, strict=True):
                norm.momentum = momentum

    def _features(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Maps (m, C, h, w) of images (m, H, W, 3); on a GPU in mixed precision of `dtype` where it has it."""
        mixed = self.device.type == "cuda" and (dtype != torch.bfloat16 or torch.cuda.is_bf16_supported())
        with torch.autocast(self.device.type, dtype, enabled=mixed):
            return self.backbone.features(images)


def _prepare(backbone: Backbone, mode: str) -> list[nn.BatchNorm2d]:
    """Let the network's weights learn, its BatchNorms as `mode` says; those that learn, in evaluation mode as all."""
    norms = [one for one in backbone.network.modules() if isinstance(one, nn.BatchNorm2d)]
    # what was exported folded has no BatchNorm, or ones that do nothing
    idle = all(one.running_mean is None or not one.running_mean.any() for one in norms)
    if mode != "frozen" and (not norms or (idle and not backbone.is_random)):
        raise UsageError(
            f"--backbone-bn {mode}: the weights of {backbone.name} have no BatchNorm, or one folded into the"
            " convolutions; choose frozen"
        )
    learning = {"frozen": [], "partial": norms[:1], "train": norms}[mode]
    backbone.network.eval().requires_grad_(True)
    for norm in norms:
        norm.requires_grad_(any(norm is one for one in learning))
    return learning
