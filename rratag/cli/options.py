"""Every option of the command line, defined once: the same name means the same in every command."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rratag import config

if TYPE_CHECKING:
    from rratag.features.spec import Spec
    from rratag.model import Model
    from rratag.tag.fuse import Fusion
    from rratag.tag.rows import About
    from rratag.video.plan import Sampling

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH...",
        help="Folders (searched recursively), video files, globs, a list file (.txt, .lst), or - for a list on stdin.",
        show_default=False,
    ),
]
Roots = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[ROOT]...", help="Extracted folders; the one extracted last by default.", show_default=False
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option("--epochs", min=1, help="Passes over the training videos; by default chosen by their number."),
]
Cache = Annotated[Path, typer.Option("--cache", envvar="RRATAG_CACHE", help="Folder of the cached features.")]
Backbone = Annotated[
    str,
    typer.Option(
        "--backbone",
        envvar="RRATAG_BACKBONE",
        help="Frozen CNN: efficientnet_lite0 (bundled), tv:NAME (torchvision), or a timm tag.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights", metavar="FILE|random", help="Backbone weights: a state dict or safetensors file, or random."
    ),
]
InputSize = Annotated[
    int | None,
    typer.Option(
        "--input-size",
        help=f"Side of the CNN's input in pixels.  [default: {config.INPUT_SIZE}; preset accurate: 448]",
    ),
]
Crops = Annotated[
    str,
    typer.Option(
        "--crops",
        help="Views of a frame: 1 (centre), 3, 5, 10, full (whole, aspect kept) or squash (whole, square).",
    ),
]
Views = Annotated[
    str | None,
    typer.Option(
        "--views",
        metavar="flip|tsn:V",
        help="Training views beside the features: flip (mirrored), or tsn:V (V multi-scale crops, V from 1 to 16).",
    ),
]
Modality = Annotated[
    str,
    typer.Option(
        "--modality", help="What the CNN sees: rgb, or flow (TV-L1 optical flow; slow, see --dry-run; needs OpenCV)."
    ),
]
Preset = Annotated[
    str,
    typer.Option(
        "--preset",
        help="default; accurate (larger pictures); paper (section 5.1, frozen phase), and the same for its data sets:"
        " activitynet, kinetics, youtube-birds, youtube-cars. Give `extract` and `train` the same.",
    ),
]
CachedModality = Annotated[
    str | None,
    typer.Option("--modality", help="rgb or flow features, where both were extracted; the last ones by default."),
]
Frames = Annotated[
    int | None,
    typer.Option("--frames", help=f"Frames per video, the middles of equal time slices.  [default: {config.FRAMES}]"),
]
Fps = Annotated[float | None, typer.Option("--fps", help="Frames per second instead of --frames.")]
MaxFrames = Annotated[int | None, typer.Option("--max-frames", help="With --fps: at most this many per video.")]
Decoder = Annotated[str, typer.Option("--decoder", help="auto, pyav or decord (cross-checked against pyav).")]
Device = Annotated[str, typer.Option("--device", envvar="RRATAG_DEVICE", help="auto, cpu or cuda.")]
Precision = Annotated[str, typer.Option("--precision", help="auto (fp32 on CPU, fp16 on GPU), fp32, fp16 or bf16.")]
Runtime = Annotated[
    str,
    typer.Option(
        "--runtime",
        envvar="RRATAG_RUNTIME",
        help="What runs the CNN: torch, openvino (on CPUs, in half the time: rratag[openvino]), or auto: OpenVINO"
        " on a CPU where it is installed.",
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        "--workers",
        envvar="RRATAG_WORKERS",
        min=1,
        max=256,
        help="Decode processes.",
        show_default="CPU count, at most 8",
    ),
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, max=4096, help="Images per forward pass.")]
Download = Annotated[bool, typer.Option("--download", help="Allow fetching backbone weights from the network.")]
Compress = Annotated[str, typer.Option("--compress", help="Compression of cached features: zstd, gzip or none.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Compute again what is there already.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Try videos again that failed before.")]
Strict = Annotated[bool, typer.Option("--strict", help="Count partial videos as failed.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, how many bytes and how long; change nothing.")
]
ReportFile = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE.csv", help="Write one row per candidate: status, reason, decoder, counts."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors and warnings on stderr.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="More talk on stderr.")]
Seed = Annotated[
    int, typer.Option("--seed", envvar="RRATAG_SEED", min=0, max=2**63 - 1, help="Decides every random draw.")
]
Labels = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        help="CSV video,label[,start_s,end_s,split,group], or annotations of a data set: see `labels`; by default the"
        " first folder below the root is the tag.",
    ),
]
TrainFrames = Annotated[
    int, typer.Option("--train-frames", min=1, help="N, random frames of a video in training, one of each slice.")
]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns", metavar="OUR=THEIR,...", help="Column names of --labels, e.g. video=file,group=source_group."
    ),
]
COLUMNS_ALONE = "it names columns of the file that --labels gives"
"""Why ``--columns`` without ``--labels`` is refused."""
GroupBy = Annotated[
    str | None,
    typer.Option(
        "--group-by",
        metavar="REGEX",
        help="Group of a video = what REGEX finds in its id; a group never spans a split.",
    ),
]
Finetune = Annotated[
    bool,
    typer.Option("--finetune", help="Train the CNN too, from the videos' frames, from the first epoch on."),
]
FinetuneAfter = Annotated[
    int | None,
    typer.Option("--finetune-after", metavar="E", min=1, help="Train the CNN too after E epochs from the cache."),
]
BackboneBn = Annotated[
    str,
    typer.Option(
        "--backbone-bn", help="BatchNorms of the CNN that learn: frozen (none), partial (the first) or train (all)."
    ),
]
BackboneLrScale = Annotated[
    float | None,
    typer.Option(
        "--backbone-lr-scale", help="The CNN's learning rate as a multiple of the head's.  [default: 0.1; paper: 1]"
    ),
]
Clip = Annotated[
    float | None,
    typer.Option("--clip", help="Largest norm of the gradient of head and CNN together, once the CNN learns."),
]


def _one_from_variable(context: typer.Context, parameter: typer.CallbackParam, value: list[str]) -> list[str]:
    """A variable names one model: what it holds is not cut at its spaces, as a list would be."""
    source = context.get_parameter_source(str(parameter.name))
    if source is not None and source.name == "ENVIRONMENT":
        return [os.environ[MODEL_VARIABLE]]
    return value


MODEL_VARIABLE = "RRATAG_MODEL"
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        envvar=MODEL_VARIABLE,
        metavar="FOLDER[:WEIGHT]",
        callback=_one_from_variable,
        help="Model folder; repeat it to fuse models of the same tags, each with its weight (1 by default)."
        "  [default: .rratag/models/latest]",
        show_default=False,
    ),
]
CropFusion = Annotated[
    str,
    typer.Option(
        "--crop-fusion",
        help="Several views of a frame: mean (each view by itself, then the mean of the scores) or joint (one attention"
        " over all views of all frames).",
    ),
]
TestFrames = Annotated[
    int | None,
    typer.Option(
        "--test-frames",
        min=1,
        help="Of each video's cached frames use those at the middles of this many equal slices; all by default. The"
        " paper's tests take 25.",
        show_default=False,
    ),
]
TestOn = Annotated[
    str,
    typer.Option(
        "--test-on",
        help="video (all cached frames of a video against each label it has) or instance (a labelled interval by the"
        " frames inside it).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]


def default_workers() -> int:
    """Decode processes by default: one a core, at most 8."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, count)


def sampling(
    frames: int | None, fps: float | None, max_frames: int | None, usual: Mapping[str, Any] | None = None
) -> Sampling:
    """Which frames of a video are wanted, from the three options.

    Parameters
    ----------
    usual : ``frames`` or ``fps`` of a preset, for where the user gives neither

    Raises
    ------
    UsageError
        If they contradict each other.
    """
    from rratag.errors import UsageError
    from rratag.video.plan import Sampling

    if frames is None and fps is None and usual:
        frames, fps = usual.get("frames"), usual.get("fps")
    if fps is None:
        return Sampling(frames=config.FRAMES if frames is None else frames, max_frames=max_frames)
    if frames is not None:
        raise UsageError("--frames and --fps exclude each other; --max-frames bounds --fps")
    return Sampling(frames=None, fps=fps, max_frames=max_frames)


def is_given(context: typer.Context, name: str) -> bool:
    """Whether the parameter stands on the command line; variables and rratag.toml do not count."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def refuse_unused(context: typer.Context, names: Sequence[str], because: str) -> None:
    """Refuse what was given on the command line and would change nothing; variables and rratag.toml may say it.

    Raises
    ------
    UsageError
        If one of the parameters `names` was given.
    """
    from rratag.errors import UsageError

    for name in names:
        if is_given(context, name):
            raise UsageError(f"--{name.replace('_', '-')} changes nothing here: {because}")


def compression(name: str) -> str:
    """`name` if it is a compression the store knows.

    Raises
    ------
    UsageError
        If not.
    """
    from rratag.errors import UsageError
    from rratag.features.store import COMPRESSIONS

    if name not in COMPRESSIONS:
        raise UsageError(f"unknown --compress {name!r}; choose from {', '.join(COMPRESSIONS)}")
    return name


def check_modality(name: str | None) -> None:
    """Refuse a kind of features that does not exist; None, for either, is fine.

    Raises
    ------
    UsageError
        If there is no such modality.
    """
    from rratag.errors import UsageError
    from rratag.records import MODALITIES

    if name not in (None, *MODALITIES):
        raise UsageError(f"unknown --modality {name!r}; choose from {', '.join(MODALITIES)}")


def absolute(path: Path) -> Path:
    """`path` from the root, links kept, ``~`` resolved.

    Raises
    ------
    UsageError
        If ``~`` is of nobody, or there is no working folder any more.
    """
    from rratag.errors import UsageError

    try:
        return path.expanduser().absolute()
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def models(given: Sequence[str] | None) -> list[tuple[Path, float]]:
    """Folder and weight of every ``--model``; the one trained last if none is given.

    Raises
    ------
    UsageError
        If a weight is none.
    """
    from rratag.tag.fuse import parse_model

    return [parse_model(text) for text in given or ()] or [(config.MODELS_DIR / config.MODEL_NAME, 1.0)]


def about(
    model: Model, spec: Spec, top: int, score: str, crop_fusion: str = "mean", test_frames: int | None = None
) -> About:
    """What all tags of a run have in common."""
    from rratag.tag.writers import About

    words = _words(model)
    names = {"head": words["head"], "class_names": model.class_names, "info": words["info"]}
    num_glimpses = model.head.config.num_glimpses
    return About(names, spec.meaning, spec.compute, num_glimpses, top, score, crop_fusion, test_frames)


def about_fusion(fusion: Fusion, top: int, score: str, crop_fusion: str) -> About:
    """What all tags of a run of several models have in common; of one model as `about`."""
    streams = fusion.streams
    specs = [fusion.tagging(number).extraction.stores[0].spec for number in range(len(streams))]
    first = about(streams[0].model, specs[0], top, score, crop_fusion, fusion.tagging(0).test_frames)
    if len(streams) == 1:
        return first
    described = tuple(
        {
            "name": stream.name,
            "weight": stream.weight,
            **_words(stream.model),
            "spec": spec.meaning,
            "compute": spec.compute,
            "num_glimpses": stream.model.head.config.num_glimpses,
        }
        for stream, spec in zip(streams, specs, strict=True)
    )
    return replace(first, num_glimpses=sum(one["num_glimpses"] for one in described), models=described)


def _words(model: Model) -> dict[str, Any]:
    # where the training videos lay is nobody's business but this machine's
    info = {name: value for name, value in model.info.items() if name != "roots"}
    return {"head": model.head_config.to_json(), "info": info}
