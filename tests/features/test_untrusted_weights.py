"""Weights from strangers: every tensor fits the network before any is copied, and says so in one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from rratag.errors import WeightsError
from rratag.features.weights import load_state, num_classes, read_state


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def state(**changes: Any) -> dict[str, Any]:
    return {**network().state_dict(), **{name.replace("_0_", "0."): value for name, value in changes.items()}}


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "stride 0": (lambda: state(_0_bias=torch.zeros(1).expand(10**10)), r"shape \(10000000000,\) whose elements share"),
    "whole numbers": (lambda: state(_0_bias=torch.ones(2, dtype=torch.int64)), "1 of another shape; e.g. 0.bias"),
    "too large for float32": (
        lambda: state(_0_bias=torch.tensor([1.0, 1e300], dtype=torch.float64)),
        "tensor 0.bias holds values that torch.float32 cannot",
    ),
    "a name like a page": (lambda: state(**{"x\n" * 999: torch.ones(1)}), r"1 unknown, .* e.g. '(x\\n){30}'..."),
    "a page that is not finite": (
        lambda: state(**{"\x1b" * 999: torch.tensor(float("nan"))}),
        r"tensor '(\\x1b){60}'... holds values that are not finite",
    ),
    "one name with the prefix": (
        lambda: {"module.0.bias" if name == "0.bias" else name: value for name, value in state().items()},
        "1 tensors missing, 1 unknown",
    ),
    "two names that become one": (lambda: {**state(), "module.0.bias": torch.zeros(2)}, "0 tensors missing, 1 unknown"),
    "complex": (lambda: state(_0_bias=torch.zeros(2, dtype=torch.complex64)), "a tensor of 'torch ComplexFloat"),
}


@pytest.mark.parametrize("name", WRONG)
def test_weights_that_do_not_fit_are_one_line(name: str, tmp_path: Path) -> None:
    make, words = WRONG[name]
    target, path = network(), tmp_path / "w.pth"
    before = {key: value.clone() for key, value in target.state_dict().items()}
    torch.save(make(), path)
    with pytest.raises(WeightsError, match=words) as caught:
        load_state(target, read_state(path), str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 400
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


@pytest.mark.parametrize("form", ["w.pth", "legacy.pth", "w.safetensors"])
def test_weights_that_fit_are_copied(form: str, tmp_path: Path) -> None:
    target, source, path = network(), network(), tmp_path / form
    if form == "w.safetensors":
        safetensors.torch.save_file(source.state_dict(), path)
    else:
        torch.save(source.state_dict(), path, _use_new_zipfile_serialization=form == "w.pth")
    load_state(target, read_state(path), str(path))
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in target.state_dict().items())


def test_a_single_number_is_no_classifier(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"has no tensor fc\.weight; the file belongs to another network"):
        num_classes({"fc.weight": torch.tensor(3.0)}, "fc.weight", tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("name", ["pipe.pth", "pipe.safetensors"])
def test_a_pipe_is_never_opened(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(WeightsError, match=r"cannot be read \(not a regular file\)"):
        read_state(tmp_path / name)
