"""`rratag bench`: the naive ways give what ours give, and costs are medians of turns; no times are tested."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from rratag.bench import measure, naive
from rratag.bench.measure import OURS, Line, interleaved
from rratag.bench.stages import STAGES, Settings
from rratag.head.losses import parse_loss
from rratag.head.rra import HeadConfig, RRAHead
from tests.conftest import TINY, CommandLine

SMALL = Settings(TINY, "random", channels=8, rounds=1, seconds=(2,))


def test_ways_take_turns_and_the_median_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(measure, "processor_seconds", lambda: clock[0])
    turns: list[str] = []
    costs: dict[str, Iterator[float]] = {"a": iter([9, 3, 1, 2]), "b": iter([9, 30, 10, 40])}

    def way(name: str) -> None:
        turns.append(name)
        clock[0] += next(costs[name])

    found = interleaved({"a": lambda: way("a"), "b": lambda: way("b")}, units=4, rounds=3)
    assert turns == ["a", "b"] * 4
    assert found == {"a": 500.0, "b": 7500.0}
    line = Line("s", "frame", {OURS: 2.0, "b": 7.0})
    assert line.speedup == {"b": 3.5}
    assert line.to_json()["speedup"] == {"b": 3.5}


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_is_measured_and_all_ways_agree(name: str, tmp_path: Path) -> None:
    lines = list(STAGES[name](SMALL, tmp_path))
    assert lines
    for line in lines:
        assert len(line.cost_ms) > 1
        assert all(cost >= 0 for cost in line.cost_ms.values())
        assert all(error < 0.01 for way, error in line.error.items() if "bf16" not in way)


def test_the_naive_head_is_ours_in_training_too() -> None:
    torch.manual_seed(0)
    head = RRAHead(HeadConfig(6, 3, dropout=0.0)).double().train()
    plain = naive.NaiveRRA(head).double().train()
    maps = torch.rand(5, 2, 3, 4, 6, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0, 1])
    loss = parse_loss("Li+Le")
    ours, theirs = head(maps).logits, plain(maps.flatten(1, 3).transpose(1, 2))
    torch.testing.assert_close(theirs, ours)
    for logits in (ours, theirs):
        loss.total(loss.parts(logits, labels)).backward()
    for k in range(3):
        torch.testing.assert_close(plain.fc[k].weight.grad, head.fc[k].weight.grad)
    torch.testing.assert_close(plain.queries[0].grad, head.first.queries.grad[0])
    torch.testing.assert_close(plain.norms[2].weight.grad, head.later[1].norm.weight.grad)


def test_naive_pictures_are_those_asked_for(tmp_path: Path) -> None:
    from rratag.data.rendered.encode import write_video

    path = tmp_path / "a.mp4"
    write_video(path, (np.full((48, 64, 3), 8 * number, np.uint8) for number in range(30)), fps=10, size=(64, 48))
    levels = [round(float(one.mean()) / 8) for one in naive.every_frame(path, [3, 17, 29])]
    assert levels == [3, 17, 29]
    assert [round(float(one.mean()) / 8) for one in naive.seek_per_frame(path, [0.3, 1.7, 2.9])] == [3, 17, 29]


def test_the_command(cli: CommandLine) -> None:
    small = ("--channels", 8, "--rounds", 1, "--only", "read", "--only", "evaluate")
    ran = cli("bench", *small)
    assert ran.code == 0
    assert "CPUs" in ran.out.splitlines()[0]
    assert "cache read, 4 of 25 frames  ms a video  of rratag's" in ran.out
    assert "medians of 1 rounds say little" in ran.err
    found = cli("bench", *small, "--json").json
    assert [line["stage"] for line in found["lines"]] == ["cache read, 4 of 25 frames", "evaluation, 25 frames"]
    cli("bench", "--only", "dance").says_one_line(2, "--only 'dance'", "start, decode, preprocess, forward")
