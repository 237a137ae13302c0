"""A checkpoint whose content does not fit the run: one line, and nothing of it is taken over."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rratag.errors import ModelError
from rratag.head.rra import HeadConfig
from rratag.head.variants import build_head
from rratag.train.checkpoint import check_state, read_checkpoint, write_checkpoint

RUN = {"channels": 4, "seed": 2**40, "class names": ["a", "b\udcff"], "dropout": 0.5, "loss": "Li"}
EPOCHS = 3


def trained() -> tuple[torch.nn.Module, torch.optim.Optimizer, dict[str, Any]]:
    """A head, its optimiser, and the state after two epochs."""
    torch.manual_seed(0)
    head = build_head(HeadConfig(4, 2, num_glimpses=2))
    optimiser = torch.optim.Adam(head.parameters(), 0.01, fused=True)
    head(torch.rand(3, 2, 2, 2, 4)).logits.sum().backward()
    optimiser.step()
    judged = {"loss": 0.5, "accuracy": 0.75, "glimpse_accuracy": (0.5, 1.0)}
    row = {
        "train_losses": {"Li": 0.5},
        "glimpse_losses": (0.2, 0.3),
        "validation": judged,
        "learning_rate": 0.01,
        "seconds": 1.5,
    }
    state = {
        "head": head.state_dict(),
        "optimiser": optimiser.state_dict(),
        "history": [{"epoch": 1, **row}, {"epoch": 2, **row}],
        "best_epoch": 1,
        "best_weights": {name: value.clone() for name, value in head.state_dict().items()},
    }
    return head, optimiser, state


def test_what_is_written_comes_back_and_fits(tmp_path: Path) -> None:
    head, optimiser, state = trained()
    write_checkpoint(tmp_path / "c", RUN, state)
    found = read_checkpoint(tmp_path / "c", RUN)
    assert found is not None
    check_state(tmp_path / "c", found, head, optimiser, EPOCHS)
    fresh = torch.optim.Adam(head.parameters(), 0.5, fused=True)
    check_state(tmp_path / "c", found, head, fresh, EPOCHS)  # the rate is of each step
    state["history"] = [{**row, "validation": None} for row in state["history"]]
    check_state(tmp_path / "c", state, head, optimiser, EPOCHS)


def moments(state: dict[str, Any]) -> dict[str, Any]:
    return state["optimiser"]["state"][0]


def row(state: dict[str, Any]) -> dict[str, Any]:
    return state["history"][1]


def group(state: dict[str, Any]) -> dict[str, Any]:
    return state["optimiser"]["param_groups"][0]


NAN, NAME = float("nan"), "fc.0.bias"
WRONG: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no part": (lambda s: s.pop("best_epoch"), "its parts"),
    "one part more": (lambda s: s.update(more=1), "its parts"),
    "no tensor": (lambda s: s["head"].pop(NAME), "names of head"),
    "one tensor more": (lambda s: s["best_weights"].update(more=torch.zeros(1)), "names of best_weights"),
    "no dict": (lambda s: s.update(head=[1]), "names of head"),
    "versions": (lambda s: setattr(s["head"], "_metadata", 3), "versions of head"),
    "version": (lambda s: setattr(s["head"], "_metadata", {"": 3}), "versions of head"),
    "shape": (lambda s: s["head"].update({NAME: torch.zeros(5)}), f"head {NAME}"),
    "shape of one value": (lambda s: s["head"].update({NAME: torch.zeros(1)}), f"head {NAME}"),
    "type": (lambda s: s["head"].update({NAME: torch.zeros(4).double()}), f"head {NAME}"),
    "no tensor there": (lambda s: s["best_weights"].update({NAME: 3}), f"best_weights {NAME}"),
    "not finite": (lambda s: s["best_weights"][NAME].fill_(NAN), f"best_weights {NAME} is not finite"),
    "optimiser": (lambda s: s.update(optimiser=3), "the optimiser"),
    "no groups": (lambda s: s["optimiser"].update(param_groups=[]), "the optimiser's groups"),
    "settings": (lambda s: group(s).update(weight_decay=9.0), "the optimiser's settings"),
    "betas": (lambda s: group(s).update(betas=(0.5, "x")), "the optimiser's settings"),
    "parameters": (lambda s: group(s).update(params=[0]), "the optimiser's settings"),
    "rate": (lambda s: group(s).update(lr=NAN), "the learning rate"),
    "place": (lambda s: s["optimiser"]["state"].update({99: moments(s)}), "the optimiser's state"),
    "no moment": (lambda s: moments(s).pop("exp_avg"), "the optimiser's moments"),
    "moment's shape": (lambda s: moments(s).update(exp_avg=torch.zeros(1)), "the optimiser's moments"),
    "moment is no tensor": (lambda s: moments(s).update(step=1), "the optimiser's moments"),
    "moment not finite": (lambda s: moments(s)["exp_avg"].fill_(NAN), "moments that are not finite"),
    "negative moment": (lambda s: moments(s)["exp_avg_sq"].fill_(-1), "the optimiser's moments"),
    "no step": (lambda s: moments(s)["step"].fill_(0), "the optimiser's moments"),
    "history is no list": (lambda s: s.update(history={}), "the history"),
    "no history": (lambda s: s.update(history=[]), "the history"),
    "too long a history": (lambda s: s.update(history=[row(s)] * 4), "the history"),
    "a field is missing": (lambda s: row(s).pop("seconds"), "the history"),
    "a field more": (lambda s: row(s).update(more=1), "the history"),
    "epochs out of order": (lambda s: row(s).update(epoch=1), "the history"),
    "an epoch is a tensor": (lambda s: row(s).update(epoch=torch.ones(2)), "the history"),
    "losses": (lambda s: row(s).update(train_losses={"Li": NAN}), "losses in the history"),
    "losses of glimpses": (lambda s: row(s).update(glimpse_losses=(0.2, NAN)), "losses in the history"),
    "seconds": (lambda s: row(s).update(seconds="1"), "numbers in the history"),
    "one validation": (lambda s: row(s).update(validation=None), "validation in the history"),
    "accuracy": (lambda s: row(s).update(validation={**row(s)["validation"], "accuracy": 1.5}), "validation in"),
    "validation": (lambda s: row(s).update(validation={"loss": 1.0}), "validation in the history"),
    "best is 0": (lambda s: s.update(best_epoch=0), "best_epoch"),
    "best is to come": (lambda s: s.update(best_epoch=3), "best_epoch"),
    "best is text": (lambda s: s.update(best_epoch="1"), "best_epoch"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_state_that_does_not_fit_is_one_line(name: str, tmp_path: Path) -> None:
    change, words = WRONG[name]
    head, optimiser, state = trained()
    state = copy.deepcopy(state)
    change(state)
    with pytest.raises(ModelError, match=rf"damaged \(unexpected: {words}\b.*\); delete it to start afresh$") as caught:
        check_state(tmp_path / "c", state, head, optimiser, EPOCHS)
    assert str(caught.value).startswith(f"{tmp_path / 'c'}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "not a checkpoint of rratag;"),
        ({"format": torch.zeros(2)}, "not a checkpoint of rratag;"),
        ({"format": "rratag-checkpoint", "version": "x" * 1000}, "checkpoint version 'x{60}'..., this program reads 1"),
        ({"format": "rratag-checkpoint", "version": True, "run": RUN, "state": {}}, "version True"),
        ({"format": "rratag-checkpoint", "version": 1, "run": [], "state": {}}, "damaged;"),
        ({"format": "rratag-checkpoint", "version": 1, "run": RUN, "state": 3}, "damaged;"),
        (
            {"format": "rratag-checkpoint", "version": 1, "run": {**RUN, "seed": torch.zeros(2)}, "state": {}},
            r"belongs to another run \(other seed\)",
        ),
        (
            {"format": "rratag-checkpoint", "version": 1, "run": {**RUN, 3: 4, "\x1b" * 99: 5}, "state": {}},
            r"belongs to another run \(other settings\)",
        ),
    ],
)
def test_content_of_any_type_is_one_line(content: Any, words: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "c")
    with pytest.raises(ModelError, match=words) as caught:
        read_checkpoint(tmp_path / "c", RUN)
    assert len(str(caught.value)) < len(str(tmp_path)) + 200


def test_what_asks_for_memory_is_refused_before_torch_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": torch.zeros(1).expand(10**10)}, tmp_path / "c")
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(ModelError, match=r"or damaged \(a tensor of shape .* share memory\); delete it"):
        read_checkpoint(tmp_path / "c", RUN)
    assert read_checkpoint(tmp_path / "none", RUN) is None
    with pytest.raises(ModelError, match="cannot be read"):
        read_checkpoint(tmp_path, RUN)
