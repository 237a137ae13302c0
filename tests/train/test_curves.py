"""Histories become the right curves: terms with their weights, means over seeds, glimpses in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rratag.train import curves as curves_module
from rratag.train.curves import figures
from rratag.train.grid import BASE, TABLES, Result
from tests.evaluate.test_figures import curves_in


def result(name: str, seed: int, history: list[dict[str, float]]) -> Result:
    return Result(name, seed, ["a"], [""], [0], [0], [0.5], 0.5, 1, history)


def row(epoch: int, **values: float) -> dict[str, float]:
    glimpses = {f"validation_glimpse_{k}": 0.1 * k + 0.01 * epoch for k in (1, 2, 3, 4)}
    glimpses |= {f"train_glimpse_{k}": 3 - 0.1 * k - epoch for k in (1, 2, 3, 4)}
    return {"epoch": epoch, "validation_accuracy": 0.5 + 0.02 * epoch, **glimpses, **values}


def values(text: str, name: str) -> list[float]:
    return [value for _, value in curves_in(text)[name][0]]


def test_the_loss_is_the_sum_that_was_minimised_and_the_mean_over_seeds() -> None:
    found = [
        result("Lc+Li", 0, [row(1, train_Lc=1, train_Li=8), row(2, train_Lc=0.5, train_Li=4)]),
        result(
            "Lc+Li",
            1,
            [row(1, train_Lc=2, train_Li=8), row(2, train_Lc=0.5, train_Li=2), row(3, train_Lc=9, train_Li=9)],
        ),
        result("Le", 0, [row(1, train_Le=2)]),
    ]
    text = figures(found, ["losses"])["losses.svg"]
    assert list(curves_in(text)) == ["Le", "Lc+Li"]  # in the table's order
    assert values(text, "Lc+Li") == pytest.approx([9.5, 3.5], abs=0.05)  # to the last epoch that both have
    band = curves_in(text)["Lc+Li"][1]
    assert band[0][1] - values(text, "Lc+Li")[0] == pytest.approx(np.std([9, 10], ddof=1), abs=0.05)


def test_weights_of_a_sum_count() -> None:
    assert curves_module._training_loss(BASE, row(1, train_Li=3, train_Le=2)) == 5
    weighted = curves_module.Contender("x", {}, "Li+0.5Le")
    assert curves_module._training_loss(weighted, row(1, train_Li=3, train_Le=2)) == 4


def test_glimpses_are_drawn_in_order_and_each_with_its_own_accuracy() -> None:
    names = [one.name for one in TABLES["glimpses"]]
    found = [
        result(name, 0, [row(1, train_Li=9, train_Le=place), row(2, train_Li=9, train_Le=0)])
        for place, name in enumerate(names)
    ]
    drawn = figures(found, ["glimpses"])
    assert sorted(drawn) == ["each-glimpse-validation.svg", "each-glimpse.svg", "glimpses.svg"]
    in_order = ["RRA, 1 glimpse", "RRA, 2 glimpses", "RRA, 3 glimpses", BASE.name, "RRA, 5 glimpses"]
    assert list(curves_in(drawn["glimpses.svg"])) == in_order
    for place, name in enumerate(names):
        assert values(drawn["glimpses.svg"], name) == pytest.approx([place, 0], abs=0.02)
    place = names.index(BASE.name)
    each = drawn["each-glimpse.svg"]
    assert list(curves_in(each)) == ["glimpse 1", "glimpse 2", "glimpse 3", "glimpse 4", "ensemble"]
    assert values(each, "glimpse 3") == pytest.approx([1.7, 0.7], abs=0.02)
    assert values(each, "ensemble") == pytest.approx([place, 0], abs=0.02)
    each = drawn["each-glimpse-validation.svg"]
    assert list(curves_in(each)) == ["glimpse 1", "glimpse 2", "glimpse 3", "glimpse 4", "ensemble"]
    assert values(each, "glimpse 3") == pytest.approx([0.31, 0.32], abs=0.004)
    assert values(each, "ensemble") == pytest.approx([0.52, 0.54], abs=0.004)


def test_without_a_history_there_is_no_figure() -> None:
    assert figures([result(BASE.name, 0, []), result("Le", 0, [])], ["losses", "glimpses"]) == {}


def test_the_command_draws_and_damaged_results_are_made_anew(toy_cache: Any, cli: Any, tmp_path: Path) -> None:
    toy_cache.fill_classes()
    arguments = ("--cache", toy_cache.cache, "--seeds", 2, "--epochs", 2, "--table", "glimpses", "--figures", "drawn")
    ran = cli("compare", "--workers", 1, *arguments)
    assert ran.code == 0, ran.err
    drawn = sorted(one.name for one in (tmp_path / "drawn").iterdir())
    assert drawn == ["each-glimpse-validation.svg", "each-glimpse.svg", "glimpses.svg"]
    runs = sorted((tmp_path / ".rratag/compare/runs").iterdir())
    kept = [json.loads(path.read_text()) for path in runs]
    base = [one for one in kept if one["name"] == BASE.name]
    wanted = np.mean([[epoch["train_Le"] for epoch in one["history"]] for one in base], axis=0)
    assert values((tmp_path / "drawn/glimpses.svg").read_text(), BASE.name) == pytest.approx(wanted, abs=0.02)
    assert "seconds" not in kept[0]["history"][0]
    whole = runs[0].read_text()
    runs[0].write_text(whole.replace('"ranks": [', '"ranks": [1', 1))
    again = cli("compare", "--workers", 1, *arguments)
    assert again.code == 0
    assert again.out == ran.out
    assert runs[0].read_text() == whole


def test_a_folder_that_cannot_be_made_is_one_line_before_any_training(toy_cache: Any, cli: Any, tmp_path: Path) -> None:
    toy_cache.fill_classes()
    (tmp_path / "drawn").write_text("a file")
    cli("compare", "--cache", toy_cache.cache, "--figures", "drawn/here").says_one_line(1, "drawn")
    assert not (tmp_path / ".rratag").exists()
