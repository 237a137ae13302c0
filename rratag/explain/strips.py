"""The pictures that explain one video: where each glimpse looked, what moved it (Eq. 7), what was taken away (Fig. 4).

In: a model, its backbone, the frames of one view as the backbone sees them. Out: one strip of pictures a kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as transforms

from rratag.errors import StoppedError
from rratag.explain.heatmaps import IMAGES_AT_ONCE, attention_gradients, influence, suppression_gradients
from rratag.explain.pictures import blended, strip
from rratag.video.pool import DecodePool, PoolOptions
from rratag.video.views import scaled

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from rratag.features.backbones import Backbone
    from rratag.features.extract import Extraction
    from rratag.head.rra import GlimpseHead
    from rratag.records import Video

FRAMES_SHOWN = 8
SMOOTHING = 1 / 32
"""Standard deviation of the Gaussian filter of section 3.3, as a share of the shorter side; the paper gives none."""


@dataclass(frozen=True)
class View:
    """One video in one view.

    Attributes
    ----------
    frames : uint8 (T, H, W, 3), as the backbone sees them
    maps : (T, h, w, C), what it made of them
    time_s : (T,)
    """

    frames: NDArray[np.uint8]
    maps: NDArray[np.float16]
    time_s: NDArray[np.float64]


def decoded_view(extraction: Extraction, video: Video, view: int) -> View:
    """One video as the backbone of `extraction` sees it in one of its views.

    Raises
    ------
    StoppedError
        If it cannot be decoded any more.
    """
    request, network = extraction.request, extraction.network
    rule = request.view_rule(network.backbone)
    with DecodePool(PoolOptions(1, request.decoder), request.sampling, rule.shrunk, lambda _: False) as pool:
        (decoded,) = pool.run([video])
    if not decoded.frames:
        raise StoppedError(f"{video.path}: cannot be decoded now ({decoded.receipt.status}); extract it again")
    cut = [rule.cut(picture) for picture in decoded.frames]
    height, width = cut[0].shape[1:3]
    frames = np.stack([scaled(views, height, width, rule.interpolation)[view] for views in cut])
    pieces = range(0, len(frames), IMAGES_AT_ONCE)
    maps = np.concatenate([network.maps(frames[start : start + IMAGES_AT_ONCE]) for start in pieces])
    return View(frames, maps, decoded.time_s)


def strips(head: GlimpseHead, backbone: Backbone, view: View, title: str) -> dict[str, Image]:
    """Strips by name: ``attention``, ``influence`` (Eq. 7) and, of a head with reductions, ``suppressed`` (Fig. 4).

    The frames are the :data:`FRAMES_SHOWN` that hold most of the attention of all glimpses together, in their order.
    """
    maps = torch.from_numpy(view.maps).to(next(head.parameters()))
    with torch.inference_mode():
        attention = head(maps.unsqueeze(0)).attention.squeeze(0)  # (K, T, h, w)
    mass = attention.sum((0, 2, 3))
    shown = mass.argsort(descending=True, stable=True)[:FRAMES_SHOWN].sort().values
    frames = view.frames[shown.cpu().numpy()]
    images = torch.from_numpy(frames)
    captions = [f"{view.time_s[place]:.2f} s" for place in shown.tolist()]

    def sheet(name: str, heat: Tensor, kind: str) -> Image:
        rows = [(f"{kind} {number}", blended(frames, one)) for number, one in enumerate(heat.cpu().numpy(), start=1)]
        return strip([("frames", frames), *rows], captions, f"{title}: {name}")

    enlarged = functional.interpolate(attention[:, shown], frames.shape[1:3], mode="bilinear")
    moved = influences(head, backbone, view, shown.tolist())
    found = {
        "attention": sheet("where each glimpse looked", enlarged, "glimpse"),
        "influence": sheet("pixels that moved each attention (Eq. 7)", moved, "glimpse"),
    }
    taken = suppression_gradients(head, maps)[:, shown]
    if len(taken):
        heat = smoothed(influence(backbone, images, taken))
        found["suppressed"] = sheet("pixels behind the four most suppressed channels", heat, "reduction")
    return found


def influences(head: GlimpseHead, backbone: Backbone, view: View, shown: Sequence[int]) -> Tensor:
    """Eq. 7 through the Gaussian filter: of each glimpse, for the frames at these positions; (K, len(shown), H, W)."""
    maps = torch.from_numpy(view.maps).to(next(head.parameters()))
    images = torch.from_numpy(view.frames[list(shown)])
    return smoothed(influence(backbone, images, attention_gradients(head, maps)[:, shown]))


def smoothed(heat: Tensor) -> Tensor:
    """Heat (G, N, H, W) through a Gaussian filter."""
    sigma = min(heat.shape[2:]) * SMOOTHING
    size = _odd(4 * sigma, heat.shape[2:])
    found: Tensor = transforms.gaussian_blur(heat, [size, size], [sigma, sigma])
    return found


def _odd(length: float, sides: Sequence[int]) -> int:
    """An odd number of pixels near `length` whose half is below both sides, as reflection at the edges asks."""
    return min(2 * int(length / 2) + 1, 2 * min(sides) - 1)
