"""Overlap, reductions and gains against loops straight from their definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rratag.evaluate.bootstrap import group_names, paired_gain
from rratag.evaluate.cached import evaluate_model
from rratag.evaluate.redundancy import applies_to, attention_overlap, first_right, measure
from rratag.head.rra import HeadConfig, MaskedBatchNorm
from rratag.head.variants import build_head
from rratag.model import load_model
from rratag.train.fit import TrainConfig
from rratag.train.run import LabelOptions, load_training_data, metrics_of, save_run, train_model
from tests.conftest import ToyCache
from tests.head import reference

T, V, H, W, C, K = 3, 2, 2, 2, 5, 3


def tiny(**fields: Any) -> Any:
    """A head in evaluation mode whose BatchNorms have statistics of their own."""
    torch.manual_seed(0)
    head = build_head(HeadConfig(C, 4, **{"num_glimpses": K, **fields})).double().eval()
    for module in head.modules():
        if isinstance(module, MaskedBatchNorm):
            module.running_mean.uniform_(-0.3, 0.6)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.2, 0.4)
    for name, parameter in head.named_parameters():
        if "queries" in name:
            torch.nn.init.normal_(parameter)
    return head


def made_up(num_videos: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, list[str]]:
    """Maps, glimpse scores, labels and groups."""
    rng = np.random.default_rng(1)
    maps = [np.maximum(rng.normal(0.3, 1, (T, V, H, W, C)), 0).astype(np.float16) for _ in range(num_videos)]
    scores = rng.dirichlet(np.ones(4), (num_videos, K))
    return maps, scores, rng.integers(0, 4, num_videos), [str(number // 2) for number in range(num_videos)]


def slow(head: Any, maps: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Overlap (K, K) and reductions (K-1, 2) by loops over videos, views, positions and channels."""
    state = {name: value.detach().numpy() for name, value in head.state_dict().items()}
    overlaps, reductions = [], []
    for video in maps:
        for view in range(V):
            features = video[:, view].astype(np.float64)
            _, weights, summaries, _ = reference.head(
                head.config, state, features[None], np.ones((1, T, H, W), bool), training=False
            )
            a = weights[0].reshape(K, -1)
            overlaps.append(
                [[sum(min(p, q) for p, q in zip(a[i], a[j], strict=True)) for j in range(K)] for i in range(K)]
            )
            x = [{place: features[place] for place in reference.positions(np.ones((T, H, W), bool))}]
            options = {"relu": head.config.relu, "norm": head.config.norm, "training": False}
            if head.config.input_bn:
                x = reference.block(x, [np.zeros(C)], state, "first", norm=True, relu=True, training=False)
            steps, first = [], x
            for k in range(K - 1 if head.config.kind == "rra" else 0):
                tilde = reference.reduction(head.config, state, k, summaries[0, k])
                source = x if head.config.map == "chained" else first
                after = reference.block(source, [tilde], state, f"later.{k}", **options)
                active = gone = 0
                for place, vector in source[0].items():
                    for c in range(C):
                        active += vector[c] > 0
                        gone += vector[c] > 0 and after[0][place][c] <= 0
                steps.append([sum(tilde < 0) / C, gone / active])
                x = after
            reductions.append(steps)
    return np.mean(overlaps, axis=0), np.mean(reductions, axis=0)


@pytest.mark.parametrize(
    "fields",
    [{}, {"input_bn": False}, {"map": "original"}, {"norm": False}, {"relu": False}, {"reduction": "neg-relu"}],
    ids=str,
)
def test_measures_of_rra_are_those_of_the_loops(fields: dict[str, Any]) -> None:
    head = tiny(**fields)
    maps, scores, labels, groups = made_up(4)
    found = measure(head, maps, scores, labels, groups)
    overlap, reductions = slow(head, maps)
    np.testing.assert_allclose(found.overlap, overlap, atol=1e-12)
    assert found.reductions is not None
    np.testing.assert_allclose([[one.negative, one.silenced] for one in found.reductions], reductions, atol=1e-12)
    assert all(not one._forward_hooks for one in head.later)


def test_parallel_glimpses_have_overlap_and_no_reduction() -> None:
    head = tiny(kind="parallel")
    maps, scores, labels, groups = made_up(3)
    found = measure(head, maps, scores, labels, groups)
    np.testing.assert_allclose(found.overlap, slow(head, maps)[0], atol=1e-12)
    assert found.reductions is None


@pytest.mark.parametrize(("kind", "glimpses", "wanted"), [("rra", 1, False), ("mean", 4, False), ("clusters", 2, True)])
def test_one_glimpse_is_not_compared(kind: str, glimpses: int, wanted: bool) -> None:
    assert applies_to(build_head(HeadConfig(C, 4, kind=kind, num_glimpses=glimpses))) == wanted


def test_overlap_of_equal_and_of_disjoint_attention() -> None:
    a = torch.zeros(1, 3, 1, 1, 4)
    a[0, 0, 0, 0], a[0, 1, 0, 0], a[0, 2, 0, 0] = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0, 0.25, 0.75, 0]])
    wanted = [[1, 0, 0.25], [0, 1, 0.5], [0.25, 0.5, 1]]
    np.testing.assert_allclose(attention_overlap(a)[0], wanted)


def test_ensembles_of_the_first_glimpses_keep_the_proportions_of_the_weights() -> None:
    _, scores, labels, _ = made_up(40)
    weights = np.array([0.2, 0.5, 0.3])
    found = first_right(scores, weights, labels)
    for k in range(K):
        for video in range(40):
            mean = sum(weights[j] * scores[video, j] for j in range(k + 1))
            assert found[k, video] == (np.argmax(mean) == labels[video])
    assert 0 < found.mean() < 1


def test_gains_belong_to_the_glimpse_that_makes_them() -> None:
    """The second glimpse sets right what the first has wrong, the third changes nothing."""
    head = tiny()
    maps, *_ = made_up(1)
    labels = np.zeros(20, np.int64)
    scores = np.zeros((20, K, 4))
    scores[:, 0] = [0.3, 0.4, 0.2, 0.1]
    scores[:, 1] = scores[:, 2] = [0.9, 0.1, 0, 0]
    found = measure(head, maps * 20, scores, labels, [str(one) for one in range(20)])
    assert found.first_accuracy == [0, 1, 1]
    assert [(one.difference, one.low, one.high) for one in found.gains] == [(1, 1, 1), (0, 0, 0)]


def test_the_interval_counts_groups_and_knows_the_sign() -> None:
    gain = np.array([1.0] * 6 + [-1.0] * 2)
    alone = paired_gain([gain], [[str(one) for one in range(8)]])
    assert alone[0] == 0.5
    assert alone[1] < 0.5 < alone[2] <= 1
    together = paired_gain([gain], [["a"] * 6 + ["b"] * 2])
    assert together[1:] == (-1, 1)
    gain = np.repeat([1.0, 0.0], [40, 360])  # 40 groups of one video gain, 40 groups of nine do not
    mean, low, high = paired_gain([gain], [[f"a{one}" for one in range(40)] + [f"b{one % 40}" for one in range(360)]])
    assert 0.05 < low < mean < high < 0.2
    assert mean == pytest.approx(0.1)
    assert group_names(["g", "", ""], ["a", "a", "b"]) == ["g", "\0a", "\0b"]


def save(toy: ToyCache, folder: Path, **head: Any) -> Path:
    config = TrainConfig(epochs=4, learning_rate=0.02, batch_size=8)
    data = load_training_data(toy.store, [], LabelOptions(group_by=r"(\w+/\d)", test_split=0.2))
    model, result = train_model(data, head, config)
    save_run(folder, data, model, result, metrics_of(data, model, result, config))
    return folder


def test_the_command_shows_every_glimpse(toy_cache: ToyCache, cli: Any, tmp_path: Path) -> None:
    toy_cache.fill_classes(10)
    arguments = ("evaluate", "--cache", toy_cache.cache, "--on", "all", "--model")
    folder = save(toy_cache, tmp_path / "rra", num_glimpses=3)
    said = cli(*arguments, folder, "--json").json
    measured = said["redundancy"]
    assert np.shape(measured["overlap"]) == (3, 3)
    assert np.diag(measured["overlap"]) == pytest.approx(1)
    assert len(measured["gains"]) == len(measured["reductions"]) == 2
    assert measured["first_accuracy"][0] == said["glimpse_accuracy"][0]
    assert measured["first_accuracy"][-1] == pytest.approx(said["ensemble"]["top1"])
    shown = cli(*arguments, folder).out
    rows = [line.split() for line in shown.splitlines() if line.split()[:1] in (["1"], ["2"], ["3"])]
    assert [row[2] for row in rows] == [f"{one:.3f}" for one in measured["first_accuracy"]]
    assert rows[2][-2:] == [f"{one:.2f}" for one in measured["overlap"][2][:2]]
    folder = save(toy_cache, tmp_path / "mean", kind="mean")
    assert cli(*arguments, folder, "--json").json["redundancy"] is None
    assert "glimpses alone" in cli(*arguments, folder).out


def test_intervals_are_measured_by_their_own_frames(toy_cache: ToyCache, tmp_path: Path) -> None:
    store = toy_cache.fill_classes(10)
    folder = save(toy_cache, tmp_path / "rra", num_glimpses=2)
    rows = [f"{name}/0.mp4,{name},1,3,train" for name in toy_cache.class_names]
    (folder / "labels.csv").write_text("\n".join(["video,label,start_s,end_s,split", *rows]) + "\n")
    found = evaluate_model(folder, toy_cache.cache, part="all", test_on="instance")[0].redundancy
    assert found is not None
    maps = [store.read(toy_cache.key(f"{name}/0.mp4")).maps[1:3] for name in toy_cache.class_names]
    head = load_model(folder).head
    wanted = measure(head, maps, np.ones((3, 2, 3)), np.zeros(3, np.int64), ["a", "b", "c"])
    np.testing.assert_allclose(found.overlap, wanted.overlap, rtol=1e-6)
