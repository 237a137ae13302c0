"""The state of an unfinished training run on disk: written atomically, read without unpickling code."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rratag import files, tensorfile
from rratag.errors import ModelError, StoppedError
from rratag.untrusted import shown

if TYPE_CHECKING:
    from rratag.data.datasets import CachedDataset
    from rratag.head.rra import HeadConfig
    from rratag.train.fit import TrainConfig

FORMAT = "rratag-checkpoint"
VERSION = 1
WAY_OUT = "delete it to start afresh"
_ROW = {"epoch", "train_losses", "glimpse_losses", "validation", "learning_rate", "seconds"}


def describe(
    head: HeadConfig, config: TrainConfig, epochs: int, train: CachedDataset, validation: CachedDataset
) -> dict[str, Any]:
    """What must be equal for a checkpoint to be gone on from. Patience may change."""
    settings = {name: value for name, value in asdict(config).items() if name not in ("patience", "epochs")}
    videos = {"training videos": _digest(train), "validation videos": _digest(validation)}
    views = {"views": list(train.views)} if train.views else {}
    return {**head.to_json(), **settings, "epochs": epochs, "class names": train.class_names, **videos, **views}


def _digest(dataset: CachedDataset) -> str:
    rows = [[one.video, one.key, one.label, one.start_s, one.end_s] for one in dataset.instances]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def write_checkpoint(path: Path, run: dict[str, Any], state: dict[str, Any]) -> None:
    """Replace the checkpoint; a kill at any instant leaves the old one or the new one.

    Parameters
    ----------
    path : the file
    run : JSON-like description of the run that the state belongs to
    state : tensors, numbers, strings, lists and dicts

    Raises
    ------
    StoppedError
        If the file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "version": VERSION, "run": run, "state": state}, buffer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise StoppedError(
            f"{path}: the checkpoint cannot be written ({error.strerror}); free some space and run again to go on"
        ) from error


def read_checkpoint(path: Path, run: dict[str, Any]) -> dict[str, Any] | None:
    """State of the run described by `run`; None if there is no checkpoint.

    Raises
    ------
    ModelError
        If the file is not a checkpoint of this program, is damaged, or belongs to another run.

    Notes
    -----
    That the state fits what is trained is for `check_state` to say.
    """
    try:
        found = tensorfile.load_torch(path)
        tensorfile.check_sums(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); {WAY_OUT}") from error
    except ValueError as error:
        raise ModelError(f"{path}: not a checkpoint of rratag, or damaged ({error}); {WAY_OUT}") from error
    if not isinstance(found, dict) or not _equal(found.get("format"), FORMAT):
        raise ModelError(f"{path}: not a checkpoint of rratag; {WAY_OUT}")
    if not _equal(found.get("version"), VERSION):
        raise ModelError(
            f"{path}: checkpoint version {shown(found.get('version'))}, this program reads {VERSION}; {WAY_OUT}"
        )
    its_run, state = found.get("run"), found.get("state")
    if not isinstance(its_run, dict) or not isinstance(state, dict):
        raise ModelError(f"{path}: damaged; {WAY_OUT}")
    differing = sorted(name for name in run if name not in its_run or not _equal(its_run[name], run[name]))
    if differing or len(its_run) != len(run):
        raise ModelError(f"{path}: belongs to another run (other {', '.join(differing) or 'settings'}); {WAY_OUT}")
    return state


def check_state(
    path: Path,
    state: dict[str, Any],
    head: nn.Module,
    optimiser: torch.optim.Optimizer,
    epochs: int,
    *,
    backbone: nn.Module | None = None,
    frozen: int | None = None,
) -> None:
    """Refuse a state that does not fit what is trained, before any of it is taken over.

    Parameters
    ----------
    path : the file that `state` is from
    state : ``head``, ``optimiser``, ``history``, ``best_epoch`` and ``best_weights``; once the backbone is unfrozen
        also ``backbone`` and ``best_backbone``
    head, optimiser : as they are at the start of this run
    epochs : at most so many are in the history
    backbone : what is trained beside the head; None while it is frozen
    frozen : epochs that leave the backbone as it is; None for all

    Raises
    ------
    ModelError
        If a name, shape, type or number is not what this run would have written.
    """
    try:
        parts = {"head", "optimiser", "history", "best_epoch", "best_weights"}
        _require(state.keys() == (parts if backbone is None else parts | {"backbone", "best_backbone"}), "its parts")
        own = head.state_dict()
        _check_tensors(state["head"], own, "head")
        _check_tensors(state["best_weights"], own, "best_weights")
        _check_optimiser(state["optimiser"], optimiser)
        _check_history(state["history"], state["best_epoch"], epochs)
        last_frozen = epochs if frozen is None else frozen
        _require((len(state["history"]) > last_frozen) == (backbone is not None), "its phase")
        if backbone is not None:
            _check_backbone(state, backbone.state_dict(), last_frozen)
    except ValueError as error:
        raise ModelError(f"{path}: damaged (unexpected: {error}); {WAY_OUT}") from error


def _check_backbone(state: dict[str, Any], own: Mapping[str, Tensor], last_frozen: int) -> None:
    _check_tensors(state["backbone"], own, "backbone")
    _require((state["best_backbone"] is None) == (state["best_epoch"] <= last_frozen), "best_backbone")
    if state["best_backbone"] is not None:
        _check_tensors(state["best_backbone"], own, "best_backbone")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _equal(found: Any, own: Any) -> bool:
    """Equal as JSON; what `found` holds may be anything, tensors included, whose ``==`` gives no bool."""
    try:
        return json.dumps(found, sort_keys=True) == json.dumps(own, sort_keys=True)
    except (TypeError, ValueError):
        return False


def _check_tensors(found: Any, own: Mapping[str, Tensor], what: str) -> None:
    """Names, shapes and types first: only then is every element looked at."""
    _require(isinstance(found, dict) and found.keys() == own.keys(), f"names of {what}")
    versions = getattr(found, "_metadata", {})  # torch's, of each layer
    _require(
        isinstance(versions, dict) and all(isinstance(one, dict) for one in versions.values()), f"versions of {what}"
    )
    for name, value in own.items():
        _require(_alike(found[name], value.shape, value.dtype), f"{what} {name}")
    for name, value in found.items():
        _require(bool(value.isfinite().all()), f"{what} {name} is not finite")


def _alike(found: Any, shape: torch.Size, dtype: torch.dtype) -> bool:
    return isinstance(found, Tensor) and found.shape == shape and found.dtype == dtype


def _check_optimiser(found: Any, optimiser: torch.optim.Optimizer) -> None:
    """Of Adam: settings as they are here but for the rate, and moments of the parameters' shapes."""
    _require(isinstance(found, dict) and found.keys() == {"state", "param_groups"}, "the optimiser")
    groups, states, own = found["param_groups"], found["state"], optimiser.state_dict()["param_groups"]
    _require(isinstance(groups, list) and len(groups) == len(own), "the optimiser's groups")
    for group, settings in zip(groups, own, strict=True):
        _require(isinstance(group, dict) and _number(group.get("lr")) and group["lr"] >= 0, "the learning rate")
        common = (group.keys() & settings.keys()) - {"lr"}  # another version of torch may have more of them
        same = all(_equal(group[name], settings[name]) for name in common)
        _require("params" in common and same, "the optimiser's settings")
    parameters = [one for group in optimiser.param_groups for one in group["params"]]
    _require(isinstance(states, dict) and states.keys() <= set(range(len(parameters))), "the optimiser's state")
    for place, one in states.items():
        shape, dtype = parameters[place].shape, parameters[place].dtype
        shapes = {"step": torch.Size(), "exp_avg": shape, "exp_avg_sq": shape}
        _require(isinstance(one, dict) and one.keys() == shapes.keys(), "the optimiser's moments")
        _require(all(_alike(one[name], shapes[name], dtype) for name in shapes), "the optimiser's moments")
        _require(all(bool(value.isfinite().all()) for value in one.values()), "moments that are not finite")
        _require(bool((one["exp_avg_sq"] >= 0).all()) and one["step"] >= 1, "the optimiser's moments")


def _check_history(rows: Any, best_epoch: Any, epochs: int) -> None:
    _require(isinstance(rows, list) and 1 <= len(rows) <= epochs, "the history")
    _require(type(best_epoch) is int and 1 <= best_epoch <= len(rows), "best_epoch")
    for number, row in enumerate(rows, start=1):
        _require(isinstance(row, dict) and row.keys() - {"gap"} == _ROW, "the history")
        _require(_equal(row["epoch"], number) and _is_gap(row.get("gap", (0, 0))), "the history")
        losses, judged = row["train_losses"], row["validation"]
        _require(isinstance(losses, dict) and all(map(_number, losses.values())), "losses in the history")
        by_glimpse = row["glimpse_losses"]
        _require(isinstance(by_glimpse, (tuple, list)) and all(map(_number, by_glimpse)), "losses in the history")
        _require(_number(row["learning_rate"]) and _number(row["seconds"]), "numbers in the history")
        _require((judged is None) == (rows[0]["validation"] is None), "validation in the history")
        _require(judged is None or _is_evaluation(judged), "validation in the history")


def _is_gap(found: Any) -> bool:
    return isinstance(found, (tuple, list)) and len(found) == 2 and all(map(_number, found))


def _is_evaluation(found: Any) -> bool:
    return (
        isinstance(found, dict)
        and found.keys() == {"loss", "accuracy", "glimpse_accuracy"}
        and isinstance(found["loss"], float)
        and isinstance(found["glimpse_accuracy"], (tuple, list))
        and all(_number(share) and 0 <= share <= 1 for share in (found["accuracy"], *found["glimpse_accuracy"]))
    )


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
