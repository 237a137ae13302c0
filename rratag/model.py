"""The saved model: a folder that holds all it takes to tag videos, and says what it is.

``model.safetensors`` (the head's weights), ``config.json`` (head, class names, what its features mean and how to make
them), ``metrics.json``, ``history.csv``, ``README.md`` (the model card); ``backbone.safetensors`` if the backbone was
trained too.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

import rratag
from rratag import config, files, sealed, tensorfile, untrusted
from rratag.errors import ModelError, StoppedError, UsageError
from rratag.head.rra import GlimpseHead, HeadConfig
from rratag.head.variants import build_head
from rratag.model_backbone import BACKBONE_FILE, own_backbone
from rratag.untrusted import shown

FORMAT = "rratag-model"
VERSION = 1
WEIGHTS_FILE, CONFIG_FILE, LABELS_FILE = "model.safetensors", "config.json", "labels.csv"
METRICS_FILE, HISTORY_FILE, CARD_FILE = "metrics.json", "history.csv", "README.md"
MAX_CONFIG = 2**24
"""Bytes of ``config.json``: two hundred thousand tags of eighty letters."""
MODEL_FILES = (WEIGHTS_FILE, CONFIG_FILE, METRICS_FILE, HISTORY_FILE, CARD_FILE, LABELS_FILE, BACKBONE_FILE)

_RECIPE: dict[str, tuple[type, ...]] = {
    "backbone": (str,),
    "weights": (str, type(None)),
    "input_size": (int, type(None)),
    "crops": (str,),
    "sampling": (dict,),
    "modality": (str,),
}
_SAMPLING: dict[str, tuple[type, ...]] = {
    "frames": (int, type(None)),
    "fps": (int, float, type(None)),
    "max_frames": (int, type(None)),
}
"""Types of what :meth:`rratag.features.request.Request.from_recipe` takes."""


@dataclass
class Model:
    """A trained head and everything needed to use it.

    Attributes
    ----------
    head : in evaluation mode
    head_config : what `head` is
    class_names : name of each class, in the order of the logits
    meaning : of the features that the head takes (:class:`rratag.features.spec.Spec`)
    spec_request : how to extract such features again: backbone, weights, input size, crops, sampling
    info : further JSON values: ``compute`` of the training features, ``random_backbone``, training settings
    backbone : weights of a backbone that was trained too, or their file; see :mod:`rratag.model_backbone`
    """

    head: GlimpseHead
    head_config: HeadConfig
    class_names: list[str]
    meaning: dict[str, Any]
    spec_request: dict[str, Any]
    info: dict[str, Any] = field(default_factory=dict)
    backbone: bytes | Path | None = None


def save_model(
    folder: Path,
    model: Model,
    metrics: dict[str, Any] | None = None,
    history: Sequence[dict[str, Any]] = (),
    labels: str | None = None,
) -> None:
    """Write a model folder, replacing the model that is there; a kill at any instant leaves the old or the new one.

    Parameters
    ----------
    folder : where; files of other names in it are kept
    model : what
    metrics : content of ``metrics.json``
    history : rows of ``history.csv``
    labels : content of ``labels.csv``: which videos were trained and judged on; None for none

    Raises
    ------
    ModelError
        If the weights are not finite, or `folder` is there and is not a model of rratag.
    StoppedError
        If the folder cannot be written.
    """
    contents = _contents(model, metrics or {}, history)
    if labels is not None:
        contents[LABELS_FILE] = labels.encode("utf-8", "surrogateescape")
    folder = Path(os.path.abspath(folder))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _recover(folder)
        check_place(folder)
        temporary = Path(tempfile.mkdtemp(prefix=files.TEMPORARY_PREFIX, dir=folder.parent))
        try:
            for name, content in contents.items():
                files.write_atomically(temporary / name, content)
            temporary.chmod(0o777 & ~_umask())
            _swap(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise StoppedError(f"{folder}: the model cannot be written ({error.strerror}); free some space") from error


def check_place(folder: Path) -> None:
    """Refuse a folder that a model may not replace, before it is trained.

    Raises
    ------
    ModelError
        If `folder` is there and is not a model of rratag, or one of its parents is a file.
    """
    if folder.exists() and not _ours(folder):
        raise ModelError(f"{folder}: is there and is not a model of rratag; choose another name")
    parent = next(path for path in folder.absolute().parents if path.exists())
    if not parent.is_dir():
        raise ModelError(f"{folder}: {parent} is a file; choose another name")


def load_model(path: str | Path = config.MODELS_DIR / config.MODEL_NAME) -> Model:
    """Read a model folder.

    Parameters
    ----------
    path : the folder; by default the model trained last in the working folder

    Returns
    -------
    The model, its head on the CPU in evaluation mode.

    Raises
    ------
    ModelError
        If there is no model, or it is not ours, newer than this version, or damaged.
    """
    folder = Path(path)
    if not folder.exists() and _previous(folder).is_dir():
        folder = _previous(folder)  # a kill came between the two renames of a replacement
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder; run: rratag train")
    data = _read_config(folder / CONFIG_FILE)
    try:
        head_config = HeadConfig.from_json(data["head"])
        class_names, meaning, spec_request, info = (
            _typed(data, name, kind)
            for name, kind in (("class_names", list), ("meaning", dict), ("spec_request", dict), ("info", dict))
        )
        _check_content(head_config, class_names, meaning, spec_request, info)
        sha256 = _typed(data, "weights_sha256", str)
        backbone = own_backbone(folder, data, meaning)
        with torch.device("meta"):  # shapes alone: nothing is allocated before the file is known to fit them
            head = build_head(head_config)
    except (KeyError, ValueError, UsageError) as error:
        raise ModelError(f"{folder / CONFIG_FILE}: damaged ({str(error)[:200]}); train again") from error
    weights = _read_weights(folder / WEIGHTS_FILE, sha256, head.state_dict())
    head.load_state_dict(weights, assign=True)
    head.eval().requires_grad_(True)
    if backbone is not None:
        spec_request = {**spec_request, "weights": str(backbone)}
    return Model(head, head_config, class_names, meaning, spec_request, info, backbone)


def _contents(model: Model, metrics: dict[str, Any], history: Sequence[dict[str, Any]]) -> dict[str, bytes]:
    """Bytes of every file of the folder."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.head.state_dict().items()}
    if not all(bool(value.isfinite().all()) for value in state.values()):
        raise ModelError("the weights are not finite, so the model is not saved; train with a lower learning rate")
    weights = safetensors.torch.save(state, {"format": "pt"})
    settings = {
        "format": FORMAT,
        "version": VERSION,
        "rratag": rratag.__version__,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "head": model.head_config.to_json(),
        "class_names": model.class_names,
        "meaning": model.meaning,
        "spec_request": model.spec_request,
        "info": model.info,
    }
    own: dict[str, bytes] = {}
    if model.backbone is not None:
        own[BACKBONE_FILE] = model.backbone if isinstance(model.backbone, bytes) else model.backbone.read_bytes()
        settings["backbone_sha256"] = hashlib.sha256(own[BACKBONE_FILE]).hexdigest()
        settings["spec_request"] = {**model.spec_request, "weights": BACKBONE_FILE}
    return {
        **own,
        WEIGHTS_FILE: weights,
        CONFIG_FILE: sealed.to_bytes(_finite(settings), indent=1),
        METRICS_FILE: _json(metrics),
        HISTORY_FILE: _csv(history),
        CARD_FILE: _card(model, metrics).encode("utf-8", "backslashreplace"),
    }


def _json(value: Any) -> bytes:
    return (json.dumps(_finite(value), indent=1, allow_nan=False) + "\n").encode()


def _finite(value: Any) -> Any:
    """`value` with null for numbers that JSON does not have, e.g. the accuracy of a class that was never tested."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """Rows under the columns of all of them, in order of appearance."""
    out = io.StringIO(newline="")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def _card(model: Model, metrics: dict[str, Any]) -> str:
    """The model card: what the model is, what it was trained on, how good it is, what not to expect of it."""
    head = model.head_config
    lines = ["# Video tagging model", ""]
    if model.info.get("random_backbone"):
        lines += [
            "**The backbone has random weights: this model is for trying things out, its tags mean nothing.**",
            "",
        ]
    lines += [
        f"Made by rratag {rratag.__version__}. Use it: `rratag predict FOLDER --model THIS_FOLDER --out tags.csv`.",
        "",
        "## What it is",
        f"- Head: {head.kind}, {head.num_glimpses} glimpses, {head.channels} channels"
        f" ({sum(value.numel() for value in model.head.parameters()):,} weights)",
        *(f"- {name}: {_shown(value)}" for name, value in model.meaning.items()),
        "",
        "## Trained with",
        *(f"- {name}: {_shown(value)}" for name, value in model.info.items() if name != "roots"),
        "",
        "## Measured",
        *(f"- {name}: {_shown(value)}" for name, value in metrics.items()),
        *([] if metrics else ["- nothing"]),
        "",
        f"## The {len(model.class_names)} tags",
        *(f"    {_shown(name)}" for name in model.class_names),
        "",
        "## Limits",
        "It always gives one of these tags, to videos of anything. Its scores are not calibrated probabilities. It has"
        " seen the sampled frames of its training videos and nothing else.",
    ]
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return " ".join(text.split())


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = untrusted.read_bytes(path, MAX_CONFIG)
        data = untrusted.parse_json(content)
    except FileNotFoundError as error:
        raise ModelError(f"{path.parent}: not a model of rratag (no {CONFIG_FILE}); run: rratag train") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ModelError(f"{path}: damaged ({error}); train again") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ModelError(f"{path}: not a model of rratag; run: rratag train")
    if data.get("version") != VERSION:
        raise ModelError(
            f"{path}: model format version {shown(data.get('version'))}, this program reads {VERSION}; upgrade rratag"
        )
    if not sealed.is_whole(content):
        raise ModelError(f"{path}: damaged (it was changed after it was written); train again")
    return data


def _check_content(
    head: HeadConfig, class_names: list[Any], meaning: dict[str, Any], recipe: dict[str, Any], info: dict[str, Any]
) -> None:
    """Whether the parts of ``config.json`` are what they were written as, and fit each other.

    Raises
    ------
    ValueError, UsageError
        Saying which is not.
    """
    if not all(isinstance(name, str) for name in class_names) or len(set(class_names)) != len(class_names):
        raise ValueError("class_names are not different strings")
    if len(class_names) != head.num_classes:
        raise ValueError(f"{len(class_names)} class names for {head.num_classes} classes")
    if meaning.get("channels", head.channels) != head.channels:
        raise ValueError(f"features of {shown(meaning['channels'])} channels, a head of {head.channels}")
    for name, value in recipe.items():
        if name not in _RECIPE or type(value) not in _RECIPE[name]:
            raise ValueError(f"spec_request has {shown(name)} of {shown(value)}")
    sampling = recipe.get("sampling", {})
    if any(type(value) not in _SAMPLING.get(name, ()) for name, value in sampling.items()):
        raise ValueError("spec_request.sampling is not what it was written as")
    roots = info.get("roots", [])
    if (
        not isinstance(info.get("compute", {}), dict)
        or not isinstance(info.get("random_backbone", False), bool)
        or not isinstance(roots, list)
        or not all(isinstance(root, str) and b"\0" not in os.fsencode(root) for root in roots)
    ):
        raise ValueError("info is not what it was written as")


def _typed(data: dict[str, Any], name: str, kind: type) -> Any:
    if not isinstance(data[name], kind):
        raise ValueError(f"{name} is not a {kind.__name__}")
    return data[name]


def _read_weights(path: Path, sha256: str, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the file, all of the expected names, shapes and types, and finite."""
    try:
        largest = sum(one.numel() * one.element_size() for one in expected.values()) + tensorfile.MAX_HEADER
        content = untrusted.read_bytes(path, largest)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); train again") from error
    except ValueError as error:
        raise ModelError(
            f"{path}: does not fit the head that {CONFIG_FILE} describes ({error}); train again"
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ModelError(f"{path}: damaged (not the weights that {CONFIG_FILE} names); train again")
    try:
        tensorfile.check_safetensors(content)
        found: dict[str, Tensor] = safetensors.torch.load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: damaged (not safetensors); train again") from error
    if {name: (one.shape, one.dtype) for name, one in found.items()} != {
        name: (one.shape, one.dtype) for name, one in expected.items()
    }:
        raise ModelError(f"{path}: does not fit the head that {CONFIG_FILE} describes; train again")
    broken = [name for name, one in found.items() if not one.isfinite().all()]
    if broken:
        raise ModelError(f"{path}: {broken[0]} holds values that are not finite; train again")
    return found


def _previous(folder: Path) -> Path:
    """Where a replaced model waits until the new one stands in its place."""
    return folder.parent / f".previous-{folder.name}"


def _recover(folder: Path) -> None:
    """Finish or undo a replacement that a kill cut short."""
    previous = _previous(folder)
    if not previous.is_dir():
        return
    if folder.exists():
        _keep_others(previous, folder)
        shutil.rmtree(previous)
    else:
        os.rename(previous, folder)


def _swap(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`."""
    previous = _previous(folder)
    if folder.exists():
        os.rename(folder, previous)
    try:
        os.rename(new, folder)
    except OSError:
        if previous.exists():
            os.rename(previous, folder)
        raise
    files.sync_folder(folder.parent)
    if previous.exists():
        _keep_others(previous, folder)
        shutil.rmtree(previous)


def _keep_others(previous: Path, folder: Path) -> None:
    """Move what a user put beside the model; what stands there already was put there later."""
    for path in previous.iterdir():
        ours = path.name in MODEL_FILES or path.name.startswith(files.TEMPORARY_PREFIX)
        if not ours and not (folder / path.name).exists():
            os.replace(path, folder / path.name)


def _ours(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    if not any(folder.iterdir()):
        return True
    try:
        _read_config(folder / CONFIG_FILE)
    except ModelError:
        return False
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
