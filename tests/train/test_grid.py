"""Many heads on one split: what is shared, what is kept, and when a difference is more than noise."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from rratag.errors import StoppedError
from rratag.head.rra import HeadConfig
from rratag.head.variants import HEADS, VARIANTS, build_head
from rratag.train import grid as grid_module
from rratag.train import side_by_side
from rratag.train.fit import TrainConfig
from rratag.train.grid import BASE, LOGISTIC, TABLES, Contender, Grid, Result, distinct, paired_difference, rows
from rratag.train.linear import fit_logistic
from rratag.train.run import LabelOptions
from rratag.train.side_by_side import run_side_by_side

FEW = (Contender("mean pooling", {"kind": "mean"}), Contender("logistic regression", {"kind": LOGISTIC}), BASE)


def make_grid(toy_cache: Any, folder: Path, **changes: Any) -> Grid:
    toy_cache.fill_classes()
    labels = LabelOptions(group_by=r"(\w+/\d)", **changes)
    return Grid(toy_cache.store, [], labels, folder, TrainConfig(epochs=2, learning_rate=0.01))


def result(right: Sequence[int], groups: Sequence[str] | None = None, seed: int = 0, name: str = "x") -> Result:
    """One test video for each of `right`: whether its first tag is the true one."""
    videos = [f"{number}.mp4" for number in range(len(right))]
    ranks = [0 if one else 2 for one in right]
    return Result(name, seed, videos, list(groups or [""] * len(right)), ranks, ranks, [0.5], 0.5, 1, [])


# --- the tables ---


@pytest.mark.parametrize("name", TABLES)
def test_every_row_can_be_built_and_every_table_holds_the_base(name: str) -> None:
    names = [one.name for one in TABLES[name]]
    assert len(set(names)) == len(names)
    assert BASE in TABLES[name]
    for one in TABLES[name]:
        if one.head.get("kind") != LOGISTIC:
            build_head(HeadConfig(3, 2, **one.head))


def test_the_tables_are_the_papers() -> None:
    assert {one.loss for one in TABLES["losses"]} == {"Lc", "Le", "Li", "Lc+Le", "Lc+Li", "Li+Le", "Lc+Li+Le"}
    assert sorted(one.head["num_glimpses"] for one in TABLES["glimpses"]) == [1, 2, 3, 4, 5]
    fields = [{**one.head} for one in TABLES["variants"]]
    for change in VARIANTS.values():
        assert {"num_glimpses": 4, **change} in fields
    kinds = {one.head.get("kind", "rra") for table in TABLES.values() for one in table}
    assert kinds == {*HEADS, LOGISTIC}


def test_a_row_of_several_tables_is_trained_once() -> None:
    names = [one.name for one in distinct(list(TABLES))]
    trainings = {(one.loss, *sorted(one.head.items())) for table in TABLES.values() for one in table}
    assert len(names) == len(set(names)) == len(trainings)


def test_the_controls_are_rows_of_the_papers_tables() -> None:
    papers = [one for name in ("losses", "glimpses", "variants", "baselines") for one in TABLES[name]]
    assert [one for one in TABLES["controls"] if one not in papers] == []
    heads = [{"kind": "rra", **one.head} for one in TABLES["controls"]]
    for wanted in (
        {"kind": "mean"},
        {"kind": "rra", "num_glimpses": 1},
        {"kind": "rra", "num_glimpses": 4, "reduction": "zero"},
        {"kind": "parallel", "num_glimpses": 4},
    ):
        assert wanted in heads


# --- runs ---


def test_all_heads_of_a_seed_see_the_same_videos_and_seeds_others(toy_cache: Any, tmp_path: Path) -> None:
    found = list(make_grid(toy_cache, tmp_path / "runs").run(FEW, [0, 1]))
    assert [(one.name, one.seed) for one in found] == [(c.name, seed) for seed in (0, 1) for c in FEW]
    by_seed = [{tuple(one.videos) for one in found if one.seed == seed} for seed in (0, 1)]
    assert len(by_seed[0]) == len(by_seed[1]) == 1
    assert by_seed[0] != by_seed[1]
    for one in found:
        assert len(one.videos) == len(one.groups) == len(one.ranks) == len(one.ranks_concatenation) == 3
        assert set(one.ranks) <= {0, 1, 2}
        assert len(one.glimpse_accuracy) == (4 if one.name == BASE.name else 1)
        assert one.groups == [video.removesuffix(".mp4") for video in one.videos]
    assert all(one.top1 == 1 for one in found if one.name == "logistic regression")  # raised channels are linear


def test_what_is_there_is_not_computed_again_and_a_killed_run_goes_on(
    toy_cache: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = make_grid(toy_cache, tmp_path / "runs")
    run = grid.run(FEW, [0, 1])
    first = [next(run) for _ in range(4)]
    run.close()  # type: ignore[attr-defined]
    trained = []
    real = grid_module._trained
    monkeypatch.setattr(
        grid_module, "_trained", lambda one, split, config: trained.append(one.name) or real(one, split, config)
    )
    found = list(grid.run(FEW, [0, 1]))
    assert found[:4] == first
    assert trained == [FEW[1].name, FEW[2].name]
    trained.clear()
    assert list(grid.run(FEW, [0, 1])) == found
    assert trained == []
    damaged = sorted((tmp_path / "runs").iterdir())[0]
    damaged.write_text("{}")
    assert list(grid.run(FEW, [0, 1])) == found
    assert len(trained) == 1


@pytest.mark.parametrize("kept", [0, 2])
def test_side_by_side_is_what_one_after_the_other_is(toy_cache: Any, tmp_path: Path, kept: int) -> None:
    wanted = list(make_grid(toy_cache, tmp_path / "alone").run(FEW, [0, 1]))
    grid = make_grid(toy_cache, tmp_path / "runs")
    for seed, one in [(0, FEW[1]), (1, FEW[2])][:kept]:
        list(grid.run([one], [seed]))
    assert list(run_side_by_side(grid, FEW, [0, 1], 2)) == wanted
    names = {path.name: path.read_bytes() for path in (tmp_path / "alone").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "runs").iterdir()} == names
    assert multiprocessing.active_children() == []


def test_a_training_that_fails_side_by_side_is_told_and_nothing_goes_on(toy_cache: Any, tmp_path: Path) -> None:
    grid = make_grid(toy_cache, tmp_path / "runs")
    wild = Grid(grid.store, [], grid.labels, grid.folder, replace(grid.config, learning_rate=1e30, epochs=30))
    with pytest.raises(StoppedError, match="not finite"):
        list(run_side_by_side(wild, FEW, [0, 1], 2))
    assert multiprocessing.active_children() == []


def test_memory_bounds_how_many_train_at_a_time(
    toy_cache: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = make_grid(toy_cache, tmp_path / "runs").split(0)
    size = sum(one.num_bytes for one in (split.train, split.validation, split.test))
    assert size == 24 * 2 * np.prod(toy_cache.shape)
    for share, wanted in ((1, 1), (2, 1), (4, 2), (100, 50)):
        monkeypatch.setattr(side_by_side, "physical_memory", lambda share=share: size * share)
        assert side_by_side._by_memory(split) == wanted


def test_other_settings_are_other_results(toy_cache: Any, tmp_path: Path) -> None:
    grid = make_grid(toy_cache, tmp_path / "runs")
    list(grid.run(FEW[:1], [0]))
    for other in (
        Grid(grid.store, [], grid.labels, grid.folder, replace(grid.config, epochs=1)),
        Grid(grid.store, [], LabelOptions(), grid.folder, grid.config),
    ):
        before = len(list(grid.folder.iterdir()))
        list(other.run(FEW[:1], [0]))
        assert len(list(grid.folder.iterdir())) == before + 1
    list(grid.run([Contender("a new name", {"kind": "mean"})], [0]))
    assert len(list(grid.folder.iterdir())) == 3


def test_a_full_disk_is_one_line(toy_cache: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    grid = make_grid(toy_cache, tmp_path / "runs")
    monkeypatch.setattr(grid_module.files, "write_atomically", refuse)
    with pytest.raises(StoppedError, match="No space left on device"):
        list(grid.run(FEW[:1], [0]))


# --- figures ---


def test_figures_of_a_row() -> None:
    base = [result([1, 1, 0, 0], seed=seed, name=BASE.name) for seed in (0, 1)]
    other = [result([1, 1, 1, 0], seed=0), result([1, 1, 1, 1], seed=1)]
    first, second = rows([Contender("x", {}, paper=80.0), BASE], [*base, *other])
    assert (first.name, first.paper, first.num_seeds, first.num_videos) == ("x", 80.0, 2, 8)
    assert first.top1 == pytest.approx(0.875)
    assert first.top1_spread == pytest.approx(np.std([0.75, 1.0], ddof=1))
    assert first.difference == pytest.approx(0.375)
    assert (second.difference, second.low, second.high) == (None, None, None)


def test_no_difference_is_none_and_a_certain_one_is_certain() -> None:
    worse, better = [result([0] * 20)], [result([1] * 20)]
    assert paired_difference(better, better) == (0.0, 0.0, 0.0)
    assert paired_difference(better, worse) == (1.0, 1.0, 1.0)
    assert paired_difference(worse, better) == (-1.0, -1.0, -1.0)


def test_the_interval_is_that_of_a_normal_mean_of_groups() -> None:
    rng = np.random.default_rng(0)
    gain = rng.integers(0, 2, 2000), rng.integers(0, 2, 2000)
    mean, low, high = paired_difference([result(gain[0])], [result(gain[1])])
    each = gain[0].astype(float) - gain[1]
    assert mean == pytest.approx(each.mean())
    half = 1.96 * each.std() / np.sqrt(2000)
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.1 * half)


def test_videos_of_one_group_count_as_one() -> None:
    right, wrong = [1] * 10 + [0] * 10, [0] * 10 + [1] * 10
    alone = paired_difference([result(right)], [result(wrong)])
    grouped = ["a"] * 10 + ["b"] * 10
    together = paired_difference([result(right, grouped)], [result(wrong, grouped)])
    assert together[2] - together[1] > 1.5 * (alone[2] - alone[1])


def test_results_of_other_videos_are_not_compared() -> None:
    with pytest.raises(ValueError, match="other videos"):
        paired_difference([result([1, 0])], [result([1, 0, 1])])


@pytest.mark.parametrize("num_classes", [2, 3])
def test_logistic_logits_decide_as_scikit_learn_does(num_classes: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % num_classes
    vectors = rng.normal(size=(60, 4)) + labels[:, None]
    found = fit_logistic(vectors, labels, vectors, labels)
    assert isinstance(found.pipeline[-1], LogisticRegression)
    logits = found.decide(vectors, num_classes + 1)
    assert logits.shape == (60, num_classes + 1)
    assert (logits.argmax(1) == found.pipeline.predict(vectors)).all()
    scores = np.exp(logits[:, :num_classes]) / np.exp(logits[:, :num_classes]).sum(1, keepdims=True)
    assert np.allclose(scores, found.pipeline.predict_proba(vectors))


# --- the command ---


def test_the_command_prints_the_tables(toy_cache: Any, cli: Any, tmp_path: Path) -> None:
    toy_cache.fill_classes()
    arguments = ("--cache", toy_cache.cache, "--seeds", 1, "--epochs", 1, "--table", "baselines", "--table", "glimpses")
    ran = cli("compare", "--workers", 1, *arguments)
    assert ran.code == 0
    assert "baselines: 1 seeds, 3 test videos in all" in ran.out
    for one in (*TABLES["baselines"], *TABLES["glimpses"]):
        assert one.name in ran.out
    assert len(list((tmp_path / ".rratag/compare/runs").iterdir())) == 11
    found = cli("compare", "--workers", 1, *arguments, "--json").json
    assert [row["name"] for row in found["glimpses"]] == [one.name for one in TABLES["glimpses"]]
    assert found["glimpses"][-1]["difference"] is None


def test_an_unknown_table_names_the_known_ones(cli: Any) -> None:
    cli("compare", "--table", "5").says_one_line(2, "losses, glimpses, variants, baselines")
