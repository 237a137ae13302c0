"""Predictions from cached maps: order, batches, views, scores against numpy, and the evidence rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rratag.errors import ModelError
from rratag.features.catalog import Entry
from rratag.features.spec import Spec
from rratag.features.store import Features
from rratag.head.rra import HeadConfig, HeadOutput
from rratag.head.variants import build_head
from rratag.model import Model
from rratag.records import Receipt
from rratag.tag import predict
from rratag.tag.predict import Prediction, predict_cached, view_rule
from rratag.video.views import ViewRule

CHANNELS = 6
NAMES = ["cat", "dog", "fox"]


@dataclass
class FakeStore:
    """Features in memory, as a `SpecStore` hands them out."""

    crops: str = "1"
    kept: dict[str, Features] = field(default_factory=dict)

    @property
    def spec(self) -> Spec:
        return Spec(dict(ViewRule(self.crops, 224, 256, "bilinear").describe()), {})

    def has(self, key: str) -> bool:
        return key in self.kept

    def read(self, key: str, frames: None = None) -> Features:
        return self.kept[key]

    def add(self, name: str, shape: tuple[int, int, int, int], seed: int, scale: float = 1.0) -> Entry:
        """Keep random maps of T, V, h, w for a video and return its entry."""
        rng = np.random.default_rng(seed)
        sha256 = f"{seed:064x}"[::-1]
        maps = (scale * rng.normal(size=(*shape, CHANNELS))).astype(np.float16)
        self.kept[sha256[:32]] = Features(maps, np.arange(shape[0]) + 0.5, np.arange(shape[0]) * 10)
        return Entry(1, 1, sha256, Receipt(name, "ok", width=1920, height=1080))


def make_model(head: Any = None) -> Model:
    config = HeadConfig(kind="rra", channels=CHANNELS, num_classes=len(NAMES), num_glimpses=2)
    if head is None:
        torch.manual_seed(0)
        head = build_head(config)
        for module in head.modules():  # running statistics other than 0 and 1, as after training
            if hasattr(module, "running_mean"):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
        for parameter in head.parameters():
            parameter.data.normal_(0, 1)
    return Model(head.eval(), config, NAMES, {}, {})


def predict_all(model: Model, store: Any, entries: list[Entry]) -> list[Prediction | Receipt]:
    return list(predict_cached(model, store, entries))


def one(model: Model, store: Any, entry: Entry) -> Prediction:
    (result,) = predict_all(model, store, [entry])
    assert isinstance(result, Prediction)
    return result


class Counting(nn.Module):
    """Passes on to a head and notes the size of every batch."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        self.sizes: list[int] = []

    def forward(self, features: torch.Tensor) -> Any:
        self.sizes.append(len(features))
        return self.head(features)


def softmax(values: np.ndarray) -> np.ndarray:
    odds = np.exp(values - values.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def test_results_come_in_order_and_videos_of_equal_shape_share_a_batch() -> None:
    store, model = FakeStore(), make_model()
    entries = [
        store.add("e", (4, 1, 3, 3), 1),
        store.add("d", (2, 1, 3, 3), 2),
        Entry(0, 0, "", Receipt("c", "unreadable", "empty")),
        store.add("b", (4, 1, 3, 3), 3),
        store.add("a", (4, 1, 2, 5), 4),
    ]
    model.head = Counting(model.head)  # type: ignore[assignment]
    results = predict_all(model, store, entries)
    assert [result.video for result in results] == ["e", "d", "c", "b", "a"]
    assert results[2] is entries[2].receipt
    assert model.head.sizes == [2, 1, 1]  # type: ignore[attr-defined]


@pytest.mark.parametrize("budget", [1, 2 * 4 * 9 * CHANNELS * 4, 2**30])
def test_batches_of_any_size_say_what_one_by_one_says(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    store, model = FakeStore(), make_model()
    entries = [store.add(f"{seed}", (4, 1, 3, 3), seed) for seed in range(5)]
    entries.insert(1, Entry(0, 0, "", Receipt("x", "vanished")))
    alone = [predict_all(model, store, [entry])[0] for entry in entries]
    monkeypatch.setattr(predict, "GROUP_BYTES", budget)
    model.head = Counting(model.head)  # type: ignore[assignment]
    together = predict_all(model, store, entries)
    assert max(model.head.sizes) == {1: 1, 2**30: 5}.get(budget, 2)  # type: ignore[attr-defined]
    for left, right in zip(alone, together, strict=True):
        assert left.video == right.video
        if isinstance(left, Prediction):
            assert isinstance(right, Prediction)
            np.testing.assert_allclose(left.scores, right.scores, atol=1e-6)
            np.testing.assert_array_equal(left.peak_frames, right.peak_frames)


def test_scores_and_attention_of_one_view_against_numpy() -> None:
    store, model = FakeStore(), make_model()
    entry = store.add("a", (4, 1, 3, 3), 7)
    found = one(model, store, entry)
    maps = torch.from_numpy(store.kept[entry.key].maps[:, 0].astype(np.float32))
    with torch.no_grad():
        output = model.head(maps[None])
    logits = output.logits[0].double().numpy()
    np.testing.assert_allclose(found.logits[0], logits, atol=1e-5)
    np.testing.assert_allclose(found.glimpse_scores, softmax(logits), atol=1e-5)
    np.testing.assert_allclose(found.scores, softmax(logits).mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found.concatenation_scores, softmax(logits.sum(axis=0)), atol=1e-5)
    np.testing.assert_allclose(found.attention, output.attention[0].sum(dim=(2, 3)), atol=1e-5)
    np.testing.assert_allclose(found.attention.sum(axis=1), 1, atol=1e-5)
    assert found.frames_used == 4
    assert found.time_s.tolist() == [0.5, 1.5, 2.5, 3.5]


def test_views_are_passes_of_their_own_whose_probabilities_are_averaged() -> None:
    store, model = FakeStore("3"), make_model()
    entry = store.add("a", (4, 3, 2, 3), 8, scale=2)
    found = one(model, store, entry)
    features = store.kept[entry.key]
    single = []
    for view in range(3):
        alone = FakeStore(
            "1", {entry.key: Features(features.maps[:, view : view + 1], features.time_s, features.frame_index)}
        )
        single.append(one(model, alone, entry))
    for name in ("glimpse_scores", "scores", "concatenation_scores", "attention"):
        np.testing.assert_allclose(getattr(found, name), np.mean([getattr(x, name) for x in single], axis=0), atol=1e-5)
    np.testing.assert_array_equal(found.peak_frames, np.concatenate([x.peak_frames for x in single]))


class Scripted(nn.Module):
    """A head that answers what it is told, for B*V rows."""

    def __init__(self, logits: np.ndarray, attention: np.ndarray) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        weights = torch.full((len(logits[0]),), 1 / len(logits[0]))
        self.output = HeadOutput(torch.tensor(logits).float(), torch.tensor(attention).float(), torch.zeros(1), weights)

    def forward(self, features: torch.Tensor) -> HeadOutput:
        assert features.shape[0] == len(self.output.logits)
        return self.output


def test_evidence_is_of_the_glimpse_then_the_view_that_speak_most_for_the_label() -> None:
    # three views, two glimpses, three classes
    logits = np.zeros((3, 2, 3))
    logits[:, 0, 0] = 3  # glimpse 0 speaks for the cat
    logits[:, 1, 1] = 2  # glimpse 1 for the dog
    logits[2, 1] += [100, 101, 100]  # most of all in view 2, however large the logits of all its classes are
    logits[0, 1, 1] = 2.5
    attention = np.full((3, 2, 4, 7, 7), 1e-4)
    attention[0, 0, 3, 0, 0] = 0.9
    attention[2, 1, 1, 6, 6] = 0.9
    attention[0, 1, 2, 6, 0] = 0.9
    attention[1, :, 0, 3, 3] = 0.9
    store = FakeStore("3")
    found = one(make_model(Scripted(logits, attention)), store, store.add("a", (4, 3, 7, 7), 1))
    # 1920 x 1080 to 455 x 256; views of 224 start at 0, 116, 231 across, 16 down
    dog = found.evidence("dog")
    assert (dog.glimpse, dog.view, dog.frame, dog.time_s) == (1, 2, 1, 1.5)
    assert dog.box == pytest.approx(((231 + 192) / 455, (16 + 192) / 256, 1.0, 240 / 256))
    cat = found.evidence(0)
    assert (cat.glimpse, cat.view, cat.frame, cat.time_s) == (0, 0, 3, 3.5)
    assert cat.box == pytest.approx((0.0, 16 / 256, 32 / 455, 48 / 256))


def test_ranking_of_equal_scores_goes_by_class_number() -> None:
    logits = np.zeros((1, 2, 3))
    logits[0, :, 2] = [1, -3]  # by Eq. 4 the fox comes last, by Eq. 6 it still comes first
    store = FakeStore()
    found = one(make_model(Scripted(logits, np.full((1, 2, 4, 3, 3), 1 / 36))), store, store.add("a", (4, 1, 3, 3), 1))
    assert found.ranking("concat") == [0, 1, 2]
    glimpses = softmax(logits[0])
    assert found.ranking() == sorted(range(3), key=lambda label: (-glimpses.mean(axis=0)[label], label))


def test_second_store_of_equal_meaning_is_asked() -> None:
    first, second = FakeStore(), FakeStore()
    entries = [first.add("a", (2, 1, 3, 3), 1), second.add("b", (2, 1, 3, 3), 2)]
    assert [result.video for result in predict_cached(make_model(), [first, second], entries)] == ["a", "b"]  # type: ignore[list-item]


def test_channels_that_the_head_was_not_made_for_are_refused() -> None:
    store, model = FakeStore(), make_model()
    entry = store.add("a", (2, 1, 3, 3), 1)
    model.head_config = HeadConfig(kind="rra", channels=9, num_classes=3, num_glimpses=2)
    with pytest.raises(ModelError, match="a: features have 6 channels, the model takes 9"):
        predict_all(model, store, [entry])


def test_scores_that_are_not_finite_are_refused() -> None:
    store, model = FakeStore(), make_model()
    entry = store.add("a", (2, 1, 3, 3), 1)
    store.kept[entry.key].maps[0, 0, 0, 0, 0] = np.nan
    with pytest.raises(ModelError, match="a: the model's scores are not finite"):
        predict_all(model, store, [entry])


@pytest.mark.parametrize("crops", ["1", "3", "5", "10", "full", "squash"])
def test_rule_of_the_views_comes_back_from_the_meaning(crops: str) -> None:
    rule = ViewRule(crops, 224, 248, "bicubic")
    again = view_rule(dict(rule.describe()))
    np.testing.assert_array_equal(again.rectangles(1920, 1080), rule.rectangles(1920, 1080))
    assert again.num_views == rule.num_views


def test_nothing_to_predict() -> None:
    assert predict_all(make_model(), FakeStore(), []) == []


@pytest.mark.parametrize("crops", ["1", "3"])
def test_cells_are_the_attention_itself(crops: str) -> None:
    store, model = FakeStore(crops), make_model()
    views = int(crops)
    entries = [
        store.add("a", (4, views, 3, 5), 1),
        store.add("b", (4, views, 3, 5), 2),
        store.add("c", (2, views, 2, 3), 3),
    ]
    plain = predict_all(model, store, entries)
    for without, found in zip(plain, predict_cached(model, store, entries, keep_cells=True), strict=True):  # type: ignore[arg-type]
        assert isinstance(without, Prediction)
        assert isinstance(found, Prediction)
        assert without.cells is None
        assert found.cells is not None
        np.testing.assert_allclose(found.cells.sum((3, 4)).mean(0), without.attention, atol=1e-6)
        np.testing.assert_array_equal(found.cells.sum((3, 4)).argmax(-1), without.peak_frames)
        np.testing.assert_array_equal(found.scores, without.scores)
