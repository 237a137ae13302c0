"""The naive ways: what one would write first, and what many programs do."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rratag.head.rra import Glimpse, MaskedBatchNorm, RRAHead


def seek_per_frame(path: Path, times_s: Sequence[float]) -> list[NDArray[np.uint8]]:
    """Pictures (H, W, 3) shown at these times: a seek for each, then decoding on from the key frame before."""
    import av

    found = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for time_s in times_s:
            container.seek(round(time_s / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if frame.time is not None and frame.time >= time_s - 1e-4:
                    found.append(frame.to_ndarray(format="rgb24"))
                    break
    return found


def every_frame(path: Path, indices: Sequence[int]) -> list[NDArray[np.uint8]]:
    """The same pictures by decoding everything up to the last of them."""
    import av

    wanted = set(indices)
    found = []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                found.append(frame.to_ndarray(format="rgb24"))
                if len(found) == len(wanted):
                    break
    return found


def by_decord(path: Path, indices: Sequence[int]) -> list[NDArray[np.uint8]]:
    """The same pictures by decord, all asked for at once, in one thread."""
    from decord import VideoReader, cpu

    return list(VideoReader(str(path), ctx=cpu(0), num_threads=1).get_batch(list(indices)).asnumpy())


def resized_by_pil(pictures: Sequence[NDArray[np.uint8]], height: int, width: int, mode: str) -> NDArray[np.uint8]:
    """Pictures (H, W, 3) resized one by one through PIL, as torchvision's transforms of a PIL image do it."""
    from PIL import Image

    resample = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[mode]
    return np.stack([np.asarray(Image.fromarray(one).resize((width, height), resample)) for one in pictures])


def fancy_indexing(path: Path, frames: Sequence[int]) -> NDArray[np.float16]:
    """Maps of some cached frames by a list of indices in h5py's brackets."""
    import h5py
    import hdf5plugin  # noqa: F401 - registers the zstd filter

    with h5py.File(path, "r", locking=False) as file:
        found: NDArray[np.float16] = file["maps"][sorted(frames)]
    return found


class NaiveRRA(nn.Module):
    """Eq. 1 and 2 as they are written, on maps (B, C, P) in float32, with the weights of an RRA head.

    Parameters
    ----------
    head : K glimpses in the paper's variant, with `input_bn`
    """

    def __init__(self, head: RRAHead) -> None:
        super().__init__()
        steps = [head.first, *head.later]
        self.norms = nn.ModuleList(_batch_norm(step.norm) for step in steps if isinstance(step, Glimpse))
        self.queries = nn.ParameterList(
            nn.Parameter(step.queries[0].detach().clone())
            for step in steps
            if isinstance(step, Glimpse) and step.queries is not None
        )
        self.fc, self.classifiers = copy.deepcopy(head.fc), copy.deepcopy(head.classifiers)

    def forward(self, maps: Tensor) -> Tensor:
        """Logits (B, K, classes) of maps (B, C, P)."""
        x, logits = maps, []
        for k, (norm, query) in enumerate(zip(self.norms, self.queries, strict=True)):
            x = torch.relu(norm(x))  # Eq. 2; X-bar^1 of input_bn
            attention = torch.softmax(torch.einsum("c,bcp->bp", query, x), 1)
            x_hat = torch.einsum("bcp,bp->bc", x, attention)  # Eq. 1
            logits.append(self.classifiers[k](x_hat))
            if k < len(self.fc):
                x = x + torch.tanh(self.fc[k](x_hat)).unsqueeze(2)
        return torch.stack(logits, 1)


def _batch_norm(ours: nn.Module | None) -> nn.BatchNorm1d:
    assert isinstance(ours, MaskedBatchNorm)
    norm = nn.BatchNorm1d(len(ours.weight))
    with torch.no_grad():
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(norm, name).copy_(getattr(ours, name))
    return norm
