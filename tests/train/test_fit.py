"""The training loop: it learns, repeats itself, survives kills, keeps the right epoch, and stops in time."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rratag.data.datasets import CachedDataset, draw_generator
from rratag.errors import ModelError, StoppedError, UsageError
from rratag.head.losses import parse_loss
from rratag.head.rra import GlimpseHead, HeadConfig
from rratag.head.variants import build_head
from rratag.presets import PRESETS
from rratag.records import Instance
from rratag.train import fit as fit_module
from rratag.train.fit import FitResult, TrainConfig, fit
from rratag.train.history import EpochRecord
from rratag.train.validate import Evaluation, validate
from tests.train.synthetic import CHANNELS, CLASSES, SyntheticStore, make_dataset

HEAD = HeadConfig(CHANNELS, len(CLASSES), num_glimpses=2, dropout=0.3)
SHORT = TrainConfig(epochs=4, batch_size=8, learning_rate=5e-3)


def run(config: TrainConfig = SHORT, head: HeadConfig = HEAD, **options: Any) -> FitResult:
    return fit(head, make_dataset(21, 1), make_dataset(9, 2), config, **options)


def same_weights(one: FitResult, other: FitResult) -> bool:
    first, second = one.head.state_dict(), other.head.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def untimed(history: list[EpochRecord]) -> list[EpochRecord]:
    return [dataclasses.replace(record, seconds=0) for record in history]


@pytest.mark.parametrize("kind", ["rra", "parallel", "mean"])
def test_it_learns(kind: str) -> None:
    result = fit(
        HeadConfig(CHANNELS, 3, kind=kind, num_glimpses=2, dropout=0.1),
        make_dataset(60, 1),
        make_dataset(30, 2),
        TrainConfig(epochs=25, batch_size=16, learning_rate=1e-2),
    )
    assert result.validation.accuracy >= (0.6 if kind == "mean" else 0.9)
    assert result.history[-1].train_losses["Li"] < 0.9 * result.history[0].train_losses["Li"]
    for record in result.history:
        assert sum(record.glimpse_losses) == pytest.approx(record.train_losses["Li"], rel=1e-5)
    assert not result.head.training
    assert len(result.validation.glimpse_accuracy) == result.head.config.num_glimpses


def test_equal_seeds_give_equal_weights_whatever_the_global_state() -> None:
    torch.manual_seed(1)
    first = run()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = run()
    assert torch.equal(torch.get_rng_state(), state)
    assert same_weights(first, second)
    assert untimed(first.history) == untimed(second.history)
    assert not same_weights(first, run(dataclasses.replace(SHORT, seed=1)))


@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_a_run_broken_off_after_any_epoch_goes_on_to_the_same_weights(epoch: int, tmp_path: Path) -> None:
    checkpoint = tmp_path / "new" / "run.ckpt"

    def interrupt(record: EpochRecord) -> None:
        if record.epoch == epoch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=checkpoint, on_epoch=interrupt)
    seen: list[int] = []
    resumed = run(checkpoint=checkpoint, on_epoch=lambda record: seen.append(record.epoch))
    whole = run()
    assert same_weights(whole, resumed)
    assert untimed(whole.history) == untimed(resumed.history)
    assert seen == [1, 2, 3, 4]


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.ckpt"
    script = (
        "import os, signal\nfrom pathlib import Path\nimport torch\nimport tests.train.test_fit as t\n"
        "torch.set_num_threads(1)\n"
        "def kill(record):\n    if record.epoch == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"t.run(checkpoint=Path({str(checkpoint)!r}), on_epoch=kill)\n"
    )
    root = Path(__file__).parents[2]
    died = subprocess.run(
        [sys.executable, "-c", script], cwd=root, check=False, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert died.returncode == -signal.SIGKILL
    resumed = run(checkpoint=checkpoint)
    assert [record.epoch for record in resumed.history] == [1, 2, 3, 4]
    assert same_weights(run(), resumed)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a checkpoint of rratag, or damaged"),
        (b"some text that is no checkpoint", "not a checkpoint of rratag, or damaged"),
        ("list", "not a checkpoint of rratag; delete it"),
        ("other", "not a checkpoint of rratag; delete it"),
        ("code", "not a checkpoint of rratag, or damaged"),
        ("version", "checkpoint version 99, this program reads 1"),
        ("half", "not a checkpoint of rratag, or damaged"),
        ("empty state", r"damaged \(unexpected: its parts\); delete it to start afresh"),
        ("no run", "damaged; delete it to start afresh"),
    ],
)
def test_a_checkpoint_that_is_not_ours_is_one_line(content: bytes | str, message: str, tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.ckpt"
    if isinstance(content, bytes):
        checkpoint.write_bytes(content)
    else:
        run(dataclasses.replace(SHORT, epochs=1), checkpoint=checkpoint)
        found = torch.load(checkpoint, weights_only=True)
        changed: dict[str, Any] = {
            "list": [1, 2],
            "other": {"state_dict": {}},
            "code": Path("x"),  # pickled as a call: weights_only refuses it
            "version": {**found, "version": 99},
            "empty state": {**found, "state": {}},
            "no run": {name: value for name, value in found.items() if name != "run"},
        }
        if content == "half":
            checkpoint.write_bytes(checkpoint.read_bytes()[: checkpoint.stat().st_size // 2])
        else:
            torch.save(changed[content], checkpoint)
    with pytest.raises(ModelError, match=message) as caught:
        run(dataclasses.replace(SHORT, epochs=1), checkpoint=checkpoint)
    assert str(checkpoint) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "head", "named"),
    [
        (dataclasses.replace(SHORT, learning_rate=1e-3), HEAD, "other learning_rate"),
        (dataclasses.replace(SHORT, epochs=5, seed=3), HEAD, "other epochs, seed"),
        (SHORT, dataclasses.replace(HEAD, num_glimpses=3), "other num_glimpses"),
    ],
)
def test_a_checkpoint_of_another_run_names_the_difference(
    config: TrainConfig, head: HeadConfig, named: str, tmp_path: Path
) -> None:
    run(checkpoint=tmp_path / "run.ckpt")
    with pytest.raises(ModelError, match=f"belongs to another run \\({named}\\)"):
        run(config, head, checkpoint=tmp_path / "run.ckpt")


def test_a_checkpoint_of_other_videos_is_refused(tmp_path: Path) -> None:
    run(checkpoint=tmp_path / "run.ckpt")
    with pytest.raises(ModelError, match=r"other validation videos"):
        fit(HEAD, make_dataset(21, 1), make_dataset(9, 3), SHORT, checkpoint=tmp_path / "run.ckpt")


def test_patience_may_change_between_runs(tmp_path: Path) -> None:
    run(checkpoint=tmp_path / "run.ckpt")
    run(dataclasses.replace(SHORT, patience=9), checkpoint=tmp_path / "run.ckpt")


def scripted(monkeypatch: pytest.MonkeyPatch, scores: list[tuple[float, float]]) -> None:
    """Let validation report these (accuracy, loss), one pair an epoch, then the last again."""
    remaining = list(scores)

    def report(*_: Any) -> Evaluation:
        accuracy, loss = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        return Evaluation(loss, accuracy, (accuracy, accuracy))

    monkeypatch.setattr(fit_module, "validate", report)


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(0.2, 1), (0.8, 1), (0.5, 0.1), (0.6, 0.1)], 2),
        ([(0.5, 1), (0.8, 0.9), (0.8, 0.7), (0.8, 0.8)], 3),
        ([(0.5, 1), (0.5, 1), (0.5, 1), (0.5, 1)], 1),
    ],
)
def test_the_best_epoch_is_kept(scores: list[tuple[float, float]], best: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, scores)
    kept: dict[int, torch.Tensor] = {}
    original = fit_module._Run.epoch

    def epoch(self: Any) -> EpochRecord:
        record = original(self)
        kept[record.epoch] = self.head.classifiers[0].weight.detach().clone()
        return record

    monkeypatch.setattr(fit_module._Run, "epoch", epoch)
    result = run()
    assert result.best_epoch == best
    assert result.chosen_by == "validation accuracy"
    assert torch.equal(result.head.classifiers[0].weight, kept[best])
    assert not result.stopped_early


def test_patience_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [(0.2, 1), (0.8, 1), (0.5, 1)])
    result = run(dataclasses.replace(SHORT, epochs=20, patience=3))
    assert len(result.history) == 5
    assert result.best_epoch == 2
    assert result.stopped_early


def test_without_validation_videos_the_last_epoch_is_kept() -> None:
    result = fit(HEAD, make_dataset(12, 1), make_dataset(0, 2), dataclasses.replace(SHORT, patience=1))
    assert (result.best_epoch, result.chosen_by, result.validation) == (4, "last epoch", None)
    assert [record.validation for record in result.history] == [None] * 4
    assert not result.stopped_early


def test_steps_take_half_the_bytes_of_maps_and_judge_whole_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    original = GlimpseHead.forward

    def spying(self: GlimpseHead, features: torch.Tensor, mask: torch.Tensor | None = None) -> Any:
        seen[torch.is_grad_enabled()].add(features.dtype)
        return original(self, features, mask)

    monkeypatch.setattr(GlimpseHead, "forward", spying)
    result = fit(HEAD, make_dataset(21, 1), make_dataset(9, 2), SHORT)
    # judged as they are cached, of which the head makes float32; the statistics that are kept are of float32 maps too
    assert seen == {True: {torch.bfloat16}, False: {torch.float16, torch.float32}}
    assert {value.dtype for value in result.head.parameters()} == {torch.float32}


def test_statistics_are_those_of_one_pass_over_the_training_set() -> None:
    train = make_dataset(21, 1)
    result = fit(HEAD, train, make_dataset(9, 2), SHORT)
    drawn = train.train_batch(range(21), 4, lambda index: draw_generator(0, 0, train.instances[index].video)).features
    flat = drawn.flatten(0, 3).double()
    norm = result.head.first.norm
    torch.testing.assert_close(norm.running_mean.double(), flat.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm.running_var.double(), flat.var(0, correction=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    epoch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "run.ckpt"
    original = CachedDataset.train_batch
    steps = 3 * (epoch - 1)  # 21 videos by 8

    def poisoned(self: CachedDataset, *arguments: Any, **named: Any) -> Any:
        nonlocal steps
        steps -= 1
        batch = original(self, *arguments, **named)
        return batch if steps >= 0 else dataclasses.replace(batch, features=batch.features * float("nan"))

    monkeypatch.setattr(CachedDataset, "train_batch", poisoned)
    with pytest.raises(StoppedError, match=f"not finite in epoch {epoch}; train with a lower learning rate") as caught:
        run(checkpoint=checkpoint)
    assert checkpoint.exists() == (epoch > 1)
    if epoch > 1:
        assert f"{checkpoint} keeps epoch 2" in str(caught.value)
        assert len(torch.load(checkpoint, weights_only=True)["state"]["history"]) == 2


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rratag.files.write_atomically", full)
    with pytest.raises(StoppedError, match="cannot be written \\(No space left on device\\)"):
        run(checkpoint=tmp_path / "run.ckpt")


def test_a_class_may_appear_in_training_only() -> None:
    validation = make_dataset(9, 2)
    validation = CachedDataset(validation.store, [i for i in validation.instances if i.label != "finch"], CLASSES)
    assert fit(HEAD, make_dataset(21, 1), validation, SHORT).validation is not None


def test_class_weights_balance() -> None:
    store = SyntheticStore(8, 1)
    labels = ["finch"] * 6 + ["siskin"] * 2
    instances = [Instance(one.video, one.key, label) for one, label in zip(store.instances, labels, strict=True)]
    train = CachedDataset(store, instances, CLASSES)
    weights = fit_module._class_weights(train, "balanced", torch.device("cpu"))
    torch.testing.assert_close(weights, torch.tensor([0, 8 / 12, 8 / 4]))
    assert fit_module._class_weights(train, "none", torch.device("cpu")) is None
    balanced = fit(HEAD, train, make_dataset(0, 2), dataclasses.replace(SHORT, class_balance="balanced"))
    assert not same_weights(balanced, fit(HEAD, train, make_dataset(0, 2), SHORT))


def test_the_history_is_json_and_its_rows_are_flat() -> None:
    result = run(dataclasses.replace(SHORT, loss="Lc+0.5Le", epochs=1))
    row = result.history[0].to_json()
    assert list(row) == [
        "epoch",
        "train_Lc",
        "train_Le",
        "train_glimpse_1",
        "train_glimpse_2",
        "validation_loss",
        "validation_accuracy",
        "validation_glimpse_1",
        "validation_glimpse_2",
        "learning_rate",
        "seconds",
    ]
    assert json.loads(json.dumps(row)) == row


@pytest.mark.parametrize("num_views", [1, 2])
def test_validation_by_hand(num_views: int) -> None:
    torch.manual_seed(0)
    head = build_head(HEAD).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn_like(parameter))
    data = make_dataset(19, 4, num_views)
    found = validate(head.train(), data, parse_loss("Li+Le"), torch.device("cpu"))
    assert head.training
    head.eval()
    right, losses = np.zeros(3), []
    for index in range(19):
        scores = []
        for view in range(num_views):
            batch = data.eval_batch([index], view)
            with torch.no_grad():
                logits = head(batch.features).logits
            losses.append(parse_loss("Li+Le")(logits, batch.labels).item())
            scores.append(logits.softmax(-1)[0].numpy())
        glimpses = np.mean(scores, 0)
        right += [one.argmax() == data.labels[index] for one in (glimpses.mean(0), *glimpses)]
    assert (found.accuracy, *found.glimpse_accuracy) == pytest.approx(tuple(right / 19))
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "Lz"}, "accepted: a sum of Lc, Li, Le"),
        ({"schedule": "linear"}, "unknown schedule 'linear'; choose from cosine, step"),
        ({"class_balance": "yes"}, "unknown class_balance 'yes'; choose from none, balanced"),
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"batch_size": 1}, "batch_size is 1; it must be at least 2"),
        ({"patience": 0}, "patience is 0"),
        ({"schedule": "step", "decay_every": 0}, "decay_every is 0; it must be at least 1"),
        ({"decay_every": 10}, "decay_every changes nothing in the schedule cosine"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
    ],
)
def test_settings_out_of_range_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainConfig(**change)


def test_one_video_is_not_enough() -> None:
    with pytest.raises(ValueError, match="at least 2 videos, got 1"):
        fit(HEAD, make_dataset(1, 1), make_dataset(3, 2), SHORT)


def test_the_paper_preset() -> None:
    preset = PRESETS["paper"]
    config, head = TrainConfig(**preset.train), HeadConfig(8, 3, **preset.head)
    assert (config.learning_rate, config.schedule, config.epochs, config.batch_size) == (2e-4, "step", 30, 256)
    assert (head.dropout, head.input_bn) == (0.7, False)
