"""The backbone in a model folder: ``backbone.safetensors``, weights that were trained together with the head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from rratag import untrusted
from rratag.errors import ModelError
from rratag.features.weights import ORIGINAL, file_digest, original_name

BACKBONE_FILE = "backbone.safetensors"


def backbone_bytes(state: Mapping[str, Tensor], original: Path | None) -> bytes:
    """Content of ``backbone.safetensors``, whose sha256 names the weights in the meaning of their features.

    Parameters
    ----------
    original : file of the weights that training began with; None if there was none
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    said = {} if original is None else {ORIGINAL: original_name(original)}
    return bytes(safetensors.torch.save(tensors, {"format": "pt", **said}))


def own_backbone(folder: Path, data: dict[str, Any], meaning: dict[str, Any]) -> Path | None:
    """File of the model's own backbone, wherever the folder now lies; None if it has none.

    Parameters
    ----------
    data, meaning : what ``config.json`` holds, and says of the features

    Raises
    ------
    ValueError
        If the features of the model are not those of its backbone.
    ModelError
        If the file has gone or is another one.
    """
    if "backbone_sha256" not in data:
        return None
    path = folder.absolute() / BACKBONE_FILE
    if meaning.get("weights") != data["backbone_sha256"]:
        raise ValueError("its features are not of its own backbone")
    try:
        untrusted.check_regular(path)
        found = file_digest(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); train again") from error
    if found != data["backbone_sha256"]:
        raise ModelError(f"{path}: damaged (not the weights that config.json names); train again")
    return path
