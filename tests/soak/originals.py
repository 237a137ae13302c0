"""What is damaged by the soak: short clips of many containers, and a working folder with everything the tool writes."""

from __future__ import annotations

import os
import random
import shutil
from fractions import Fraction
from pathlib import Path
from unittest import mock

import av

from tests.conftest import COLOURS, TINY, TINY_OPTIONS, CommandLine, coloured, encode

NAMES = {
    "plain.mp4": ("libx264", "yuv420p", {}),
    "faststart.mp4": ("libx264", "yuv420p", {"movflags": "faststart"}),
    "fragments.mp4": ("libx264", "yuv420p", {"movflags": "frag_keyframe+empty_moov"}),
    "hevc.mp4": ("libx265", "yuv420p", {}),
    "h264.mkv": ("libx264", "yuv420p", {}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {}),
    "mpeg4.avi": ("mpeg4", "yuv420p", {}),
    "mpeg2.ts": ("mpeg2video", "yuv420p", {}),
    "h264.ts": ("libx264", "yuv420p", {}),
    "mpeg1.mpg": ("mpeg1video", "yuv420p", {}),
    "mjpeg.mov": ("mjpeg", "yuvj420p", {}),
    "prores.mov": ("prores_ks", "yuv422p10le", {}),
    "picture.gif": ("gif", "rgb8", {}),
    "wmv2.wmv": ("wmv2", "yuv420p", {}),
    "flv1.flv": ("flv1", "yuv420p", {}),
    "vp8.ogv": ("libvpx", "yuv420p", {}),
    "h263.3gp": ("h263", "yuv420p", {}),
    "mpeg2.mxf": ("mpeg2video", "yuv420p", {}),
    "ffv1.nut": ("ffv1", "yuv420p", {}),
    "raw.h264": ("libx264", "yuv420p", {}),
    "raw.y4m": ("wrapped_avframe", "yuv420p", {}),
}
"""Codec, pixel format and muxer options of each clip."""
OPTIONS = {
    "libx264": {"preset": "ultrafast", "bf": "1"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}

CLASSES = tuple(sorted(COLOURS))
VIDEOS = tuple(f"{colour}/{number}.mp4" for colour in CLASSES for number in range(3))
BROKEN = "red/broken.mp4"
TRAIN = ("--epochs", 3, "--glimpses", 2, "--batch-size", 2, "--learning-rate", 0.01)
AGAIN = Path(".rratag/models/again")
LABELS = "video,label,start_s,end_s,split,group\n" + "".join(
    f"{video},{video.split('/')[0]},0,{10 + number},{'validation' if number % 3 == 2 else 'train'},g{number}\n"
    for number, video in enumerate(VIDEOS)
)
SETTINGS = """seed = 1

[extract]
frames = 3
input-size = 64
workers = 1
compress = "none"
backbone = "test_efficientnet.r160_in1k"
weights = "random"

[train]
epochs = 2
loss = "Li+Le"
"""


def clips(folder: Path) -> dict[str, bytes]:
    """Every clip of `NAMES`, with the same bytes in every run."""
    return {name: _clip(folder / name, *how) for name, how in NAMES.items()}


def _clip(path: Path, codec: str, pixels: str, muxer: dict[str, str]) -> bytes:
    width, height = (176, 144) if codec == "h263" else (80, 48)
    with av.open(str(path), "w", container_options={"fflags": "+bitexact", **muxer}) as file:
        stream = file.add_stream(codec, rate=Fraction(25), options={"flags": "+bitexact", **OPTIONS.get(codec, {})})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.thread_count = 1
        for picture in coloured("red", 1, 12):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(width, height)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path.read_bytes()


def fill_work(work: Path) -> str:
    """Do one whole job in `work`, so that every kind of file the tool writes lies there; says what went wrong.

    To be run in a process of its own: it changes the working folder.
    """
    os.chdir(work)
    for place, colour in enumerate(CLASSES):
        Path("videos", colour).mkdir(parents=True)
        for number in range(3):
            encode(Path("videos", colour, f"{number}.mp4"), coloured(colour, 100 * place + number))
    Path("videos", BROKEN).write_bytes(random.Random(0).randbytes(3000))
    tool = CommandLine()
    whole = AGAIN.parent / "whole"
    for code, command in (
        (3, ("extract", "videos", *TINY_OPTIONS)),
        (0, ("train", *TRAIN)),
        (0, ("train", *TRAIN, "--out", whole)),
        *(
            (3, ("predict", "videos", "--workers", 1, "--out", f"tags{suffix}"))
            for suffix in (".csv", ".json", ".jsonl")
        ),
    ):
        ran = tool(*command)
        if ran.code != code:
            return f"{command[0]} ended with {ran.code}: {ran.err}"
    shutil.move(whole / "model.safetensors", "expected.safetensors")
    shutil.rmtree(whole)
    _interrupted_training(tool)
    _weight_files()
    Path("labels.csv").write_text(LABELS)
    Path("settings.toml").write_text(SETTINGS)
    Path("list.txt").write_text("# a list\n" + "".join(f"videos/{video}\n" for video in VIDEOS) + "videos/blue\n")
    return ""


def _interrupted_training(tool: CommandLine) -> None:
    """Leave the checkpoint of a training that is to end as that in ``expected.safetensors``."""
    from rratag.train import fit

    write, written = fit.write_checkpoint, []

    def write_two(path: Path, *content: object) -> None:
        write(path, *content)
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt

    with mock.patch.object(fit, "write_checkpoint", write_two):
        assert tool("train", *TRAIN, "--out", AGAIN).code == 130


def _weight_files() -> None:
    import safetensors.torch
    import timm
    import torch

    torch.manual_seed(0)
    state = timm.create_model(TINY, pretrained=False).state_dict()
    torch.save(state, "weights.pth")
    safetensors.torch.save_file(state, "weights.safetensors")
