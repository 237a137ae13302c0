"""The state of an unfinished training run on disk: written atomically, read without unpickling code."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from rratag import files
from rratag.errors import ModelError, StoppedError

FORMAT = "rratag-checkpoint"
VERSION = 1


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
    """
    way_out = "delete it to start afresh"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); {way_out}") from error
    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no checkpoint can make the unpickler raise nearly anything
        raise ModelError(f"{path}: not a checkpoint of rratag, or damaged; {way_out}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ModelError(f"{path}: not a checkpoint of rratag; {way_out}")
    if found.get("version") != VERSION:
        raise ModelError(
            f"{path}: checkpoint version {found.get('version')!r}, this program reads {VERSION}; {way_out}"
        )
    its_run, state = found.get("run"), found.get("state")
    if not isinstance(its_run, dict) or not isinstance(state, dict):
        raise ModelError(f"{path}: damaged; {way_out}")
    differing = sorted(name for name in run.keys() | its_run.keys() if run.get(name) != its_run.get(name))
    if differing:
        raise ModelError(f"{path}: belongs to another run (other {', '.join(differing)}); {way_out}")
    return state
