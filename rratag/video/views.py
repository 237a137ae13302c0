"""Which part of a frame the backbone sees: resize, crops and flips, rounded as the weights' own preprocessing does.

Runs in the parent process (torchvision), never in a decode worker. Images are uint8 ``[H,W,3]``, upright RGB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rratag.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CROPS: dict[str, str] = {
    "1": "centre crop",
    "3": "three crops along the longer side",
    "5": "four corners and the centre",
    "10": "the five crops and their mirror images",
    "full": "whole picture at the scale of the crops, aspect ratio kept to the nearest stride, one pass",
    "squash": "whole picture squashed to a square",
}
"""``--crops``: how many views of a frame, and which."""

LONGEST_ASPECT = 3.0
"""A whole picture is never wider (or taller) than this many times its shorter side; beyond, it is squashed."""


@dataclass(frozen=True, slots=True)
class ViewRule:
    """How a frame becomes the V images the backbone sees.

    ``input_size`` is S in pixels; ``resize`` the shorter side before cropping, in pixels, and that of the whole
    picture; ``interpolation`` is "bilinear" or "bicubic" (both antialiased); ``stride`` is the backbone's, to which the
    sides of a whole picture are rounded.
    """

    crops: str
    input_size: int
    resize: int
    interpolation: str
    stride: int = 32

    def __post_init__(self) -> None:
        if self.crops not in CROPS:
            raise UsageError(f"unknown --crops {self.crops!r}; choose from {', '.join(CROPS)}")

    @property
    def num_views(self) -> int:
        """V, views per frame."""
        return int(self.crops) if self.crops.isdigit() else 1

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width in pixels that a ``height x width`` picture is resized to before cropping."""
        if self.crops == "squash":
            return self.input_size, self.input_size
        if self.crops == "full":
            return self._whole(height, width)
        # torchvision's Resize(int): the longer side is truncated, not rounded
        if height <= width:
            return self.resize, max(self.resize, int(self.resize * width / height))
        return max(self.resize, int(self.resize * height / width)), self.resize

    def _whole(self, height: int, width: int) -> tuple[int, int]:
        short = self.resize  # the scale of the weights' own recipe, without its crop
        long = short * min(max(height, width) / min(height, width), LONGEST_ASPECT)
        sides = [max(self.stride, self.stride * round(side / self.stride)) for side in (short, long)]
        return (sides[0], sides[1]) if height <= width else (sides[1], sides[0])

    def offsets(self, resized_height: int, resized_width: int) -> list[tuple[int, int, bool]]:
        """Top, left (pixels of the resized picture) and mirrored, for each of the V views."""
        if not self.crops.isdigit():
            return [(0, 0, False)]
        down, right = resized_height - self.input_size, resized_width - self.input_size
        # torchvision's CenterCrop rounds half to even, as Python's round does
        centre = (round(down / 2.0), round(right / 2.0))
        if self.crops == "1":
            places = [centre]
        elif self.crops == "3":
            along_width = resized_width >= resized_height
            start, end = ((centre[0], 0), (centre[0], right)) if along_width else ((0, centre[1]), (down, centre[1]))
            places = [start, centre, end]
        else:
            places = [(0, 0), (0, right), (down, 0), (down, right), centre]
        plain = [(top, left, False) for top, left in places]
        return plain + [(top, left, True) for top, left in places] if self.crops == "10" else plain

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize and crop one picture.

        Parameters
        ----------
        image : of shape (H, W, 3), upright RGB

        Returns
        -------
        Of shape (V, h, w, 3); its memory is its own. h = w = `input_size` but for ``full``.

        Notes
        -----
        Antialiased resize in uint8 over channels-last memory: 4-6 times faster than PIL and the same rounding.
        """
        return self.cut(self.shrunk(image))

    def shrunk(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One picture (H, W, 3) resized to (h', w', 3), before any crop; its memory is its own."""
        height, width = self.resized(image.shape[0], image.shape[1])
        resized = scaled(image[None], height, width, self.interpolation)[0]
        return image.copy() if np.may_share_memory(resized, image) else resized

    def cut(self, resized: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The views (V, h, w, 3) of a resized picture (h', w', 3); the picture itself where nothing is cropped.

        Of optical flow (h', w', 10) they are (V, h, w, 10).
        """
        if not self.crops.isdigit():
            return resized[None]
        side = self.input_size
        views = np.empty((self.num_views, side, side, resized.shape[2]), np.uint8)
        for view, (top, left, turned) in zip(views, self.offsets(*resized.shape[:2]), strict=True):
            crop = resized[top : top + side, left : left + side]
            view[:] = mirrored(crop) if turned else crop
        return views

    def rectangles(self, width: int, height: int) -> NDArray[np.float64]:
        """Where each view lies in the upright full picture.

        Parameters
        ----------
        width, height : of the upright source picture, in pixels

        Returns
        -------
        Of shape (V, 4): x0, y0, x1, y1 as fractions of the picture. x0 is where the view's left edge lies, so a
        mirrored view has x0 > x1.
        """
        resized_height, resized_width = self.resized(height, width)
        if not self.crops.isdigit():
            return np.array([[0.0, 0.0, 1.0, 1.0]])
        rows = []
        for top, left, mirrored in self.offsets(resized_height, resized_width):
            x0, x1 = left / resized_width, (left + self.input_size) / resized_width
            y0, y1 = top / resized_height, (top + self.input_size) / resized_height
            rows.append([x1, y0, x0, y1] if mirrored else [x0, y0, x1, y1])
        return np.array(rows)

    def describe(self) -> dict[str, object]:
        """What of this rule decides a feature, for the spec."""
        return {
            "crops": self.crops,
            "input_size": self.input_size,
            "resize": None if self.crops == "squash" else self.resize,
            "interpolation": f"{self.interpolation}, antialiased uint8",
        }


def mirrored(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mirror image, left and right, of a picture (H, W, 3) or of optical flow (H, W, 10).

    In the latter motion to the right, the even channels, becomes motion to the left: 255 - value, as TSN does.
    """
    turned = image[:, ::-1].copy()
    if image.shape[2] != 3:
        turned[:, :, ::2] = 255 - turned[:, :, ::2]
    return turned


def scaled(images: NDArray[np.uint8], height: int, width: int, interpolation: str) -> NDArray[np.uint8]:
    """`images` (B, H, W, 3) resized to (B, height, width, 3), antialiased, in uint8; themselves if they fit already."""
    if images.shape[1:3] == (height, width):
        return images
    import torch
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as transforms

    # torch takes no read-only memory, which a frame in the ring may be
    writeable = images if images.flags.writeable else images.copy()
    pictures = torch.from_numpy(writeable).permute(0, 3, 1, 2)  # [B,3,H,W], channels-last in memory
    mode = InterpolationMode(interpolation)
    resized = transforms.resize(pictures, [height, width], interpolation=mode, antialias=True)
    return np.asarray(resized.permute(0, 2, 3, 1).numpy(), np.uint8)
