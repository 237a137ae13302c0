"""Training end to end: the backbone learns when it should, exactly; a broken run goes on to the same weights."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rratag.errors import ModelError, StoppedError, UsageError
from rratag.head.losses import parse_loss
from rratag.head.rra import HeadConfig
from rratag.head.variants import build_head
from rratag.presets import PRESETS
from rratag.train import finetune as finetune_module
from rratag.train.finetune import FinetuneConfig, Unfrozen
from rratag.train.fit import FitResult, TrainConfig, fit
from rratag.train.history import EpochRecord
from rratag.train.validate import validate
from rratag.video.plan import Sampling
from tests.train.made_frames import MadeFrames, tiny

HEAD = HeadConfig(256, 2, num_glimpses=2, dropout=0.3)
SHORT = TrainConfig(epochs=3, batch_size=4, frames=3)
AFTER_ONE = FinetuneConfig(1)


def phase(config: FinetuneConfig = AFTER_ONE, num_train: int = 9) -> Unfrozen:
    train, validation = MadeFrames(num_train, 1), MadeFrames(5, 2)
    return Unfrozen(config, tiny(folded=False), train, validation, Sampling(), "cpu")  # type: ignore[arg-type]


def run(
    tuning: FinetuneConfig | None = AFTER_ONE,
    config: TrainConfig = SHORT,
    unfrozen: Unfrozen | None = None,
    **options: Any,
) -> FitResult:
    if tuning is not None:
        unfrozen = unfrozen or phase(tuning)
    return fit(HEAD, MadeFrames(9, 1).cached(), MadeFrames(5, 2).cached(), config, unfrozen=unfrozen, **options)


def equal(one: dict[str, torch.Tensor] | None, other: dict[str, torch.Tensor] | None) -> bool:
    assert one is not None
    assert other is not None
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def untimed(history: list[EpochRecord]) -> list[EpochRecord]:
    return [dataclasses.replace(record, seconds=0) for record in history]


def copied(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def test_the_backbone_changes_after_the_switch_and_not_before() -> None:
    unfrozen = phase(FinetuneConfig(2))
    before, states = copied(unfrozen.network), []
    found = run(
        FinetuneConfig(2),
        dataclasses.replace(SHORT, epochs=4),
        unfrozen,
        on_epoch=lambda _: states.append(copied(unfrozen.network)),
    )
    assert [equal(state, before) for state in states] == [True, True, False, False]
    plain = run(None, dataclasses.replace(SHORT, epochs=4))
    assert untimed(found.history[:2]) == untimed(plain.history[:2])
    assert [record.gap is None for record in found.history] == [True, True, False, True]
    weights = [name for name, _ in unfrozen.network.named_parameters() if "conv" in name]
    assert weights
    assert not any(torch.equal(states[-1][name], before[name]) for name in weights)


def test_the_gap_is_what_frames_and_cache_say_of_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    gap = run().history[1].gap
    assert gap is not None
    assert gap[0] == 0
    assert abs(gap[1]) < 1e-3
    unfrozen = phase()
    with torch.no_grad():
        unfrozen.network.conv_head.weight.mul_(3)  # not the backbone of the cache
    other = run(unfrozen=unfrozen).history[1].gap
    assert other is not None
    assert abs(other[1]) > 1e-2


def test_statistics_at_the_end_are_those_of_the_base() -> None:
    unfrozen = phase(FinetuneConfig(0))
    run(FinetuneConfig(0), dataclasses.replace(SHORT, epochs=2), unfrozen)
    assert unfrozen.train_videos.base_only == [False, False, True]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("mode", "learning"), [("frozen", 0), ("partial", 1), ("train", None)])
def test_batch_norm_learns_as_told(mode: str, learning: int | None) -> None:
    unfrozen = phase(FinetuneConfig(0, mode))
    norms = [one for one in unfrozen.network.modules() if isinstance(one, nn.BatchNorm2d)]
    before = [copied(norm) for norm in norms]
    run(FinetuneConfig(0, mode), dataclasses.replace(SHORT, epochs=1), unfrozen)
    same = [
        all(
            torch.equal(old[name], norm.state_dict()[name])
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        for old, norm in zip(before, norms, strict=True)
    ]
    assert same == [place >= (len(norms) if learning is None else learning) for place in range(len(norms))]


def gradients(unfrozen: Unfrozen, head: nn.Module, indices: list[int]) -> dict[str, torch.Tensor]:
    """Of one step on a batch of three frames each, by the phase under test."""
    unfrozen.train(True)
    batch = next(unfrozen.batches([indices], 3, 7, 1))
    logits = head(batch.features, batch.mask).logits
    parse_loss("Li+Le")(logits, batch.labels).backward()
    unfrozen.backward(batch, head)  # type: ignore[arg-type]
    return {name: one.grad for name, one in unfrozen.network.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("images_at_once", [4, 5, 100])
def test_a_batch_in_parts_has_the_gradients_of_the_whole(images_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune_module, "IMAGES_AT_ONCE", {"cpu": images_at_once})
    indices = [4, 0, 3, 7]
    torch.manual_seed(0)
    head = build_head(HEAD).train()
    head.dropout.eval()
    found = gradients(phase(), head, indices)
    # the same by autograd through everything at once
    made, whole = MadeFrames(9, 1), tiny(folded=False)
    whole.network.requires_grad_(True)
    pictures = torch.from_numpy(np.concatenate(list(made.drawn(indices, 3, 7, 1, 0))))
    maps = whole.features(pictures).permute(0, 2, 3, 1).unflatten(0, (4, 3))
    head.zero_grad()
    labels = torch.from_numpy(made.labels[indices])
    parse_loss("Li+Le")(head(maps).logits, labels).backward()
    wanted = dict(whole.network.named_parameters())
    assert len(found) > 10
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name].grad, rtol=1e-4, atol=1e-5 * gradient.abs().max().item())


def test_pictures_of_other_sizes_share_a_batch() -> None:
    unfrozen = phase()
    small = np.random.default_rng(0).integers(0, 256, (3, 32, 64, 3), dtype=np.uint8)
    large = unfrozen.train_videos.pictures[0][:3]  # type: ignore[attr-defined]
    features, mask = unfrozen._batch([large, small])
    assert mask is not None
    with torch.no_grad():
        alone = unfrozen.backbone.features(torch.from_numpy(small)).permute(0, 2, 3, 1)
    h, w = alone.shape[1:3]
    torch.testing.assert_close(features[1, :, :h, :w], alone, rtol=1e-4, atol=1e-4)
    assert mask[0].all()
    assert mask[1, :, :h, :w].all()
    assert mask[1].sum() == 3 * h * w
    assert not features[1][~mask[1]].any()
    head = build_head(HEAD)
    head(features, mask).logits.sum().backward()
    unfrozen.backward(finetune_module.Batch(features, mask, torch.zeros(2)), head)
    assert unfrozen.network.conv_stem.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("images_at_once", [6, 100])
def test_statistics_count_each_image_once(images_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune_module, "IMAGES_AT_ONCE", {"cpu": images_at_once})
    unfrozen = phase(FinetuneConfig(0, "train"))
    torch.manual_seed(0)
    gradients(unfrozen, build_head(HEAD).train(), [0, 1, 2, 3])
    other = tiny(folded=False)
    for norm in (one for one in other.network.modules() if isinstance(one, nn.BatchNorm2d)):
        norm.train()
    pictures = torch.from_numpy(np.concatenate(list(MadeFrames(9, 1).drawn([0, 1, 2, 3], 3, 7, 1, 0))))
    with torch.no_grad():
        for part in reversed(torch.split(pictures, images_at_once)):
            other.features(part)
    for name, value in other.network.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(unfrozen.network.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_rates_and_the_bound_of_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[float], float]] = []
    step = torch.optim.Adam.step

    def watched(self: torch.optim.Adam, *arguments: Any) -> Any:
        norms = [one.grad.norm() for group in self.param_groups for one in group["params"] if one.grad is not None]
        seen.append(([group["lr"] for group in self.param_groups], torch.stack(norms).norm().item()))
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    run(FinetuneConfig(1, rate_scale=0.25, clip=0.01))
    frozen, tuned = seen[:2], seen[2:]
    assert all(len(rates) == 1 and norm > 0.01 for rates, norm in frozen)
    assert len(tuned) == 4
    for rates, norm in tuned:
        assert rates[1] == 0.25 * rates[0]
        assert norm == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_run_broken_off_in_either_phase_goes_on_to_the_same_weights(epoch: int, tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.ckpt"

    def interrupt(record: EpochRecord) -> None:
        if record.epoch == epoch:
            raise KeyboardInterrupt

    config = dataclasses.replace(SHORT, epochs=4)
    tuning = FinetuneConfig(1, "train")
    with pytest.raises(KeyboardInterrupt):
        run(tuning, config, checkpoint=checkpoint, on_epoch=interrupt)
    resumed, whole = run(tuning, config, checkpoint=checkpoint), run(tuning, config)
    assert equal(whole.head.state_dict(), resumed.head.state_dict())
    assert untimed(whole.history) == untimed(resumed.history)
    assert (whole.backbone is None) == (resumed.backbone is None)
    if whole.backbone is not None:
        assert equal(whole.backbone, resumed.backbone)
    # the last epoch's too, whichever was the best
    state, other = (
        torch.load(checkpoint, weights_only=True)["state"]
        for checkpoint in (checkpoint, _to_the_end(tuning, config, tmp_path))
    )
    assert equal(state["backbone"], other["backbone"])
    assert equal(state["head"], other["head"])


def _to_the_end(tuning: FinetuneConfig, config: TrainConfig, folder: Path) -> Path:
    run(tuning, config, checkpoint=folder / "other.ckpt")
    return folder / "other.ckpt"


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_run_killed_while_the_backbone_learns_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.ckpt"
    script = (
        "import os, signal\nfrom pathlib import Path\nimport torch\nimport tests.train.test_finetune as t\n"
        "torch.set_num_threads(1)\n"
        "steps = []\nstep = torch.optim.Adam.step\n"
        "def dying(self, *arguments):\n"
        "    steps.append(1)\n"
        "    if len(steps) == 6: os.kill(os.getpid(), signal.SIGKILL)\n"  # within the third epoch
        "    return step(self, *arguments)\n"
        "torch.optim.Adam.step = dying\n"
        f"t.run(checkpoint=Path({str(checkpoint)!r}))\n"
    )
    root = Path(__file__).parents[2]
    died = subprocess.run(
        [sys.executable, "-c", script], cwd=root, check=False, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert died.returncode == -signal.SIGKILL
    assert len(torch.load(checkpoint, weights_only=True)["state"]["history"]) == 2
    resumed, whole = run(checkpoint=checkpoint), run()
    assert equal(whole.head.state_dict(), resumed.head.state_dict())
    assert untimed(whole.history) == untimed(resumed.history)


@pytest.mark.parametrize(("best", "own"), [(1, False), (2, True), (3, True)])
def test_the_kept_epoch_decides_which_backbone_is_returned(
    best: int, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rratag.train.fit._Run._is_best", lambda self, record: record.epoch <= best)
    tuning = FinetuneConfig(1, "train")
    unfrozen, states = phase(tuning), []
    found = run(tuning, unfrozen=unfrozen, on_epoch=lambda _: states.append(copied(unfrozen.network)))
    assert found.best_epoch == best
    assert (found.backbone is not None) == own
    loss = parse_loss("Li+Le")
    if found.backbone is None:
        assert found.validation == validate(found.head, MadeFrames(5, 2).cached(), loss, torch.device("cpu"))
    else:
        assert equal(found.backbone, states[best - 1])
        again = phase()
        again.network.load_state_dict(found.backbone)
        assert found.validation == again.validate(found.head, loss)


def test_judging_changes_nothing() -> None:
    unfrozen, head = phase(FinetuneConfig(0, "train")), build_head(HEAD).train()
    unfrozen.train(True)
    before = copied(unfrozen.network)
    unfrozen.validate(head, parse_loss("Li"))
    assert equal(copied(unfrozen.network), before)
    assert head.training
    assert all(norm.training for norm in unfrozen.network.modules() if isinstance(norm, nn.BatchNorm2d))


def test_judging_by_hand() -> None:
    unfrozen, head = phase(), build_head(HEAD).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    found = unfrozen.validate(head, parse_loss("Li+Le"))
    made, backbone, losses, right = MadeFrames(5, 2), tiny(), [], []
    for pictures, label in zip(made.pictures, made.labels, strict=True):
        with torch.no_grad():
            maps = backbone.features(torch.from_numpy(pictures[[0, 2, 4]])).permute(0, 2, 3, 1)
            logits = head(maps[None]).logits
        losses.append(parse_loss("Li+Le")(logits, torch.tensor([label])).item())
        right.append(logits.softmax(-1)[0].mean(0).argmax().item() == label)
    assert found.accuracy == pytest.approx(np.mean(right))
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-2)


def test_mixed_precision_passes_the_gradient_on(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head = build_head(HEAD).train()
    head.dropout.eval()
    exact = gradients(phase(), head, [4, 0, 3, 7])

    def mixed(self: Unfrozen, images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):  # as on a GPU
            return self.backbone.features(images)

    monkeypatch.setattr(Unfrozen, "_features", mixed)
    head.zero_grad()
    for name, found in gradients(phase(), head, [4, 0, 3, 7]).items():
        assert found.dtype == torch.float32
        assert (found - exact[name]).norm() < 0.2 * exact[name].norm()


def test_the_papers_recipe() -> None:
    paper = PRESETS["paper"]
    config = TrainConfig(**{**paper.train, **paper.finetuned})
    assert (config.epochs, config.batch_size, config.learning_rate, config.schedule) == (120, 256, 2e-4, "step")
    assert (paper.lr_scale, PRESETS["default"].lr_scale) == (1, 0.1)


def test_weights_that_are_not_finite_stop_the_run_and_keep_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, backward = tmp_path / "run.ckpt", Unfrozen.backward
    steps: list[int] = []

    def poisoned(self: Unfrozen, *arguments: Any) -> None:
        backward(self, *arguments)
        steps.append(1)
        if len(steps) == 4:  # the last one of the third epoch, after the loss was looked at
            next(iter(self.parameters())).grad.fill_(float("nan"))  # type: ignore[union-attr]

    monkeypatch.setattr(Unfrozen, "backward", poisoned)
    with pytest.raises(StoppedError, match=f"not finite in epoch 3; .*{checkpoint} keeps epoch 2"):
        run(checkpoint=checkpoint)
    state = torch.load(checkpoint, weights_only=True)["state"]
    assert len(state["history"]) == 2
    assert all(value.isfinite().all() for value in state["backbone"].values())


def test_frozen_epochs_do_not_use_up_patience() -> None:
    config = dataclasses.replace(SHORT, epochs=9, patience=1, learning_rate=1e-9)
    found = run(FinetuneConfig(4), config)
    assert found.best_epoch == 1  # nothing gets better at such a rate
    assert len(found.history) == 5
    assert found.stopped_early


def test_a_run_that_never_unfreezes_is_refused() -> None:
    with pytest.raises(UsageError, match="3 epochs, 3 of them frozen: give more --epochs"):
        run(FinetuneConfig(3))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"backbone_bn": "thawed"}, "unknown --backbone-bn 'thawed'; choose from frozen, partial, train"),
        ({"rate_scale": 0.0}, "--backbone-lr-scale 0.0: it must be a number above 0"),
        ({"clip": float("nan")}, "--clip nan"),
        ({"after": -1}, "--finetune-after -1"),
    ],
)
def test_settings_out_of_range_are_one_line(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        FinetuneConfig(**fields)


@pytest.mark.parametrize("mode", ["partial", "train"])
def test_folded_weights_have_no_batch_norm_to_train(mode: str) -> None:
    backbone = tiny(folded=False)
    backbone.is_random = False  # fresh BatchNorm is what folding leaves behind, and what random weights begin with
    nothing = MadeFrames(1, 1)
    with pytest.raises(UsageError, match=f"--backbone-bn {mode}: the weights of .* folded into the convolutions"):
        Unfrozen(FinetuneConfig(0, mode), backbone, nothing, nothing, Sampling(), "cpu")  # type: ignore[arg-type]


CHANGES = {
    "no backbone": (lambda s: s.pop("backbone"), "its parts"),
    "no tensor": (lambda s: s["backbone"].pop("conv_stem.weight"), "names of backbone"),
    "not finite": (lambda s: s["backbone"]["conv_stem.weight"].fill_(float("nan")), "backbone conv_stem.weight is not"),
    "best of another shape": (
        lambda s: s["best_backbone"].update({"conv_stem.weight": torch.zeros(3)}),
        "best_backbone",
    ),
    "no best": (lambda s: s.update(best_backbone=None), "best_backbone"),
    "best before": (lambda s: s.update(best_epoch=1), "best_backbone"),
    "gap": (lambda s: s["history"][1].update(gap=3), "the history"),
    "too short for its phase": (lambda s: s.update(history=s["history"][:1], best_epoch=1), "its phase"),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a finished run whose last epoch is its best. Read only."""
    path = tmp_path_factory.mktemp("kept") / "run.ckpt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rratag.train.fit._Run._is_best", lambda self, record: True)
        run(checkpoint=path)
    return path


@pytest.mark.parametrize("name", CHANGES)
def test_a_state_that_does_not_fit_is_one_line(name: str, kept: Path, tmp_path: Path) -> None:
    change, words = CHANGES[name]
    found = torch.load(kept, weights_only=True)
    change(found["state"])
    torch.save(found, tmp_path / "run.ckpt")
    with pytest.raises(ModelError, match=rf"damaged \(unexpected: {words}.*; delete it to start afresh"):
        run(checkpoint=tmp_path / "run.ckpt")


def test_another_way_of_fine_tuning_is_another_run(kept: Path) -> None:
    with pytest.raises(ModelError, match=r"belongs to another run \(other fine-tuning\)"):
        run(FinetuneConfig(1, rate_scale=0.5), checkpoint=kept)
    with pytest.raises(ModelError, match="belongs to another run"):
        run(None, checkpoint=kept)
