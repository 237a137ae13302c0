"""Clips whose every picture says, in a way a program can read, which frame it is and which side is up."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

QUARTERS = {
    "top left": (220, 40, 40),
    "top right": (40, 200, 40),
    "bottom left": (40, 60, 220),
    "bottom right": (230, 230, 230),
}
NUM_BITS = 12
X264 = {"preset": "veryfast", "crf": "12"}
X265 = {"preset": "ultrafast", "crf": "12"}
ENCODERS = {
    "h264": ("libx264", {**X264, "x264-params": "keyint=20:scenecut=0:bframes=3:open-gop=0:log-level=-1"}),
    "h264_open": (
        "libx264",
        {**X264, "x264-params": "keyint=20:scenecut=0:bframes=3:b-adapt=0:b-pyramid=normal:open-gop=1:log-level=-1"},
    ),
    "h264_one_gop": ("libx264", {**X264, "x264-params": "keyint=infinite:scenecut=0:bframes=2:log-level=-1"}),
    "hevc": (
        "libx265",
        {**X265, "x265-params": "keyint=20:min-keyint=20:scenecut=0:bframes=4:open-gop=1:log-level=none"},
    ),
    "hevc_layers": (
        "libx265",
        {**X265, "x265-params": "keyint=20:min-keyint=20:scenecut=0:bframes=4:temporal-layers=3:log-level=none"},
    ),
    "vp8": (
        "libvpx",
        {"g": "20", "b": "2M", "auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good", "cpu-used": "4"},
    ),
    "vp9": (
        "libvpx-vp9",
        {"g": "20", "b": "2M", "auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "6", "deadline": "good"},
    ),
    "av1": ("libsvtav1", {"g": "20", "preset": "12", "crf": "15", "svtav1-params": "lp=1"}),
    "mpeg4": ("mpeg4", {"g": "20", "bf": "2", "q": "2", "b": "4M"}),
    "mpeg4_plain": ("mpeg4", {"g": "20", "bf": "0", "b": "4M"}),
    "mpeg1": ("mpeg1video", {"g": "18", "bf": "2", "b": "4M"}),
    "mpeg2": ("mpeg2video", {"g": "18", "bf": "2", "b": "4M"}),
    "wmv2": ("wmv2", {"g": "20", "b": "4M"}),
    "mjpeg": ("mjpeg", {"qmin": "2", "qmax": "2"}),
    "ffv1": ("ffv1", {}),
    "prores": ("prores_ks", {}),
}
PIXELS = {"mjpeg": "yuvj420p", "prores": "yuv422p10le"}


class Clips:
    """Draws, encodes and reads numbered pictures."""

    quarters = QUARTERS
    encoders = ENCODERS

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def draw(number: int, width: int = 160, height: int = 96) -> np.ndarray:
        """Draw a picture: a coloured patch in each corner, `number` in 2 x 6 black or white blocks between."""
        image = np.empty((height, width, 3), np.uint8)
        upper, left = height // 4, width // 2
        image[:] = 128
        image[:upper, :left], image[:upper, left:] = QUARTERS["top left"], QUARTERS["top right"]
        image[-upper:, :left], image[-upper:, left:] = QUARTERS["bottom left"], QUARTERS["bottom right"]
        block_h, block_w = (height - 2 * upper) // 2, width // 6
        for bit in range(NUM_BITS):
            row, column = divmod(bit, 6)
            y, x = upper + row * block_h, column * block_w
            image[y : y + block_h, x : x + block_w] = 235 if number >> bit & 1 else 20
        return image

    @staticmethod
    def number(image: np.ndarray) -> int:
        """Read the number out of a picture; fails if the corners say that it is not upright, and on grey blocks."""
        height, width = image.shape[:2]
        upper, left = height // 4, width // 2
        patches = {
            "top left": image[: upper // 2, : left // 2],
            "top right": image[: upper // 2, -left // 2 :],
            "bottom left": image[-upper // 2 :, : left // 2],
            "bottom right": image[-upper // 2 :, -left // 2 :],
        }
        for name, patch in patches.items():
            colour = patch.reshape(-1, 3).mean(axis=0)
            assert np.abs(colour - QUARTERS[name]).max() < 60, f"{name} is {colour.round()}, not {QUARTERS[name]}"
        block_h, block_w = (height - 2 * upper) // 2, width // 6
        value = 0
        for bit in range(NUM_BITS):
            row, column = divmod(bit, 6)
            y, x = upper + row * block_h, column * block_w
            level = image[y + block_h // 4 : y + 3 * block_h // 4, x + block_w // 4 : x + 3 * block_w // 4].mean()
            assert level < 80 or level > 175, f"bit {bit} is grey: {level:.0f}"
            value |= int(level > 128) << bit
        return value

    def make(
        self,
        name: str,
        kind: str = "h264",
        *,
        num_frames: int = 60,
        rate: int = 25,
        pts: Sequence[int] | None = None,
        time_base: Fraction | None = None,
        size: tuple[int, int] = (160, 96),
        rotation: int = 0,
        options: dict[str, str] | None = None,
        muxer: dict[str, str] | None = None,
        container: str | None = None,
    ) -> Path:
        """Encode frames 0 .. num_frames - 1 and return the file.

        ``pts`` are the frames' times in units of ``time_base`` (default: one step of 1 / rate each); ``rotation`` is
        what a player turns the stored picture by, in degrees clockwise (it is stored turned the other way).
        """
        path = self.folder / name
        codec, settings = ENCODERS[kind]
        base = time_base or Fraction(1, rate)
        turns = rotation // 90
        with av.open(str(path), "w", format=container, container_options=muxer or {}) as file:
            stream = file.add_stream(codec, rate=rate, options={**settings, **(options or {})})
            stored = np.rot90(self.draw(0, *size), turns)
            stream.height, stream.width = stored.shape[:2]
            stream.pix_fmt = PIXELS.get(kind, "yuv420p")
            stream.codec_context.time_base = base
            stream.codec_context.thread_count = 1
            if rotation:
                stream.set_display_rotation(-rotation)
            for number in range(num_frames):
                picture = np.ascontiguousarray(np.rot90(self.draw(number, *size), turns))
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = number if pts is None else pts[number]
                frame.time_base = base
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
        return path
