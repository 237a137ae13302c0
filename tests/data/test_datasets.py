"""Batches from a store: which frames, which view, which padding."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rratag.data.datasets import CachedDataset, collate, draw_generator
from rratag.records import Instance

SHAPES = {"a": (8, 2, 2, 3, 4), "b": (3, 2, 3, 2, 4), "c": (8, 2, 2, 3, 4)}
"""(T, V, h, w, C) of each key."""


class FakeStore:
    """Maps in which every value says where it is: key, frame, view, row, column, channel."""

    def __init__(self) -> None:
        self.reads: list[tuple[str, list[int] | None]] = []

    def maps(self, key: str) -> np.ndarray:
        shape = SHAPES[key]
        return (np.arange(np.prod(shape)).reshape(shape) + 500 * "abc".index(key)).astype(np.float16)

    def header(self, key: str) -> Any:
        T, V, h, w, C = SHAPES[key]
        return SimpleNamespace(
            num_frames=T, num_views=V, height=h, width=w, channels=C, time_s=np.arange(T) * 2.0 + 1.0
        )

    def read(self, key: str, frames: Sequence[int] | None = None) -> Any:
        self.reads.append((key, None if frames is None else list(frames)))
        maps = self.maps(key)
        return SimpleNamespace(maps=maps if frames is None else maps[list(frames)])


def make(*instances: Instance) -> CachedDataset:
    chosen = instances or tuple(Instance(f"{key}.mp4", key, label) for key, label in zip("abc", "xyx", strict=True))
    return CachedDataset(FakeStore(), chosen, ["w", "x", "y"])


def test_labels_are_positions_of_the_class_names() -> None:
    assert make().labels.tolist() == [1, 2, 1]
    assert len(make()) == 3


@pytest.mark.parametrize("label", [None, "z"])
def test_a_label_without_a_class_is_refused(label: str | None) -> None:
    with pytest.raises(ValueError, match=r"no class for the label of 'v\.mp4' \(1 such videos\)"):
        make(Instance("v.mp4", "a", label))


@pytest.mark.parametrize("view", [None, 0, 1])
def test_evaluation_takes_all_frames_of_one_view(view: int | None) -> None:
    data = make()
    batch = data.eval_batch([2, 0], view)
    assert batch.mask is None
    assert batch.features.dtype == torch.float16
    assert batch.labels.tolist() == [1, 1]
    for row, key in enumerate("ca"):
        assert np.array_equal(batch.features[row].numpy(), data.store.maps(key)[:, view or 0])


def test_different_sizes_are_padded_at_the_end() -> None:
    data = make()
    batch = data.eval_batch([0, 1])
    assert batch.features.shape == (2, 8, 3, 3, 4)
    for row, key in enumerate("ab"):
        T, _, h, w, _ = SHAPES[key]
        assert np.array_equal(batch.features[row, :T, :h, :w].numpy(), data.store.maps(key)[:, 0])
        expected = torch.zeros(8, 3, 3, dtype=torch.bool)
        expected[:T, :h, :w] = True
        assert torch.equal(batch.mask[row], expected)
        assert batch.features[row][~expected].abs().sum() == 0


def test_training_draws_one_frame_of_each_slice_and_one_view() -> None:
    data = make()
    seen: set[tuple[int, ...]] = set()
    views = set()
    for epoch in range(60):
        batch = data.train_batch([0], 4, lambda index, epoch=epoch: draw_generator(3, epoch, f"video {index}"))
        maps = data.store.maps("a")
        drawn = batch.features[0].numpy()
        found = [(t, v) for row in drawn for t in range(8) for v in range(2) if np.array_equal(row, maps[t, v])]
        assert [t // 2 for t, _ in found] == [0, 1, 2, 3]
        assert len({v for _, v in found}) == 1
        seen |= {(place, t % 2) for place, (t, _) in enumerate(found)}
        views |= {v for _, v in found}
    assert len(seen) == 8
    assert views == {0, 1}


def test_a_video_with_fewer_frames_than_slices_repeats_and_reads_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rratag.data.datasets.memory_budget", lambda: 0)
    data = make()
    batch = data.train_batch([1], 6, lambda index: np.random.default_rng(index))
    assert batch.features.shape[:2] == (1, 6)
    assert data.store.reads == [("b", [0, 1, 2])]
    firsts = batch.features[0, :, 0, 0, 0].tolist()
    assert firsts == sorted(firsts)
    assert len(set(firsts)) == 3


def test_draws_do_not_depend_on_the_batch() -> None:
    data = make()

    def generator(index: int) -> np.random.Generator:
        return draw_generator(0, 5, data.instances[index].video)

    together = data.train_batch([2, 0], 4, generator)
    assert torch.equal(together.features[1], data.train_batch([0], 4, generator).features[0])
    assert torch.equal(together.features[0], data.train_batch([2], 4, generator).features[0])


def test_draws_depend_on_seed_epoch_and_video() -> None:
    base = draw_generator(1, 2, "a/b.mp4").integers(1 << 60)
    assert draw_generator(1, 2, "a/b.mp4").integers(1 << 60) == base
    others = [(0, 2, "a/b.mp4"), (1, 3, "a/b.mp4"), (2, 1, "a/b.mp4"), (1, 2, "a/c.mp4"), (1, 2, "a/\udcff.mp4")]
    assert base not in [draw_generator(*other).integers(1 << 60) for other in others]


@pytest.mark.parametrize(
    ("start", "end", "frames"),
    [
        (None, None, range(8)),
        (3.0, 7.0, [1, 2]),  # times are 1, 3, 5, ..., 15; the end is not inside
        (3.5, None, range(2, 8)),
        (None, 3.5, [0, 1]),
        (5.2, 6.4, [2]),  # between two frames: 5.8 is nearer to 5
        (6.2, 6.9, [3]),
        (99.0, None, [7]),
        (99.0, 120.0, [7]),
        (None, 0.5, [0]),
    ],
)
def test_bounds_keep_the_frames_inside(start: float | None, end: float | None, frames: Sequence[int]) -> None:
    data = make(Instance("a.mp4", "a", "x", start_s=start, end_s=end))
    assert data.frames(0).tolist() == list(frames)
    assert np.array_equal(data.eval_batch([0]).features[0].numpy(), data.store.maps("a")[list(frames), 0])
    drawn = data.train_batch([0], 4, lambda index: np.random.default_rng(0)).features[0]
    allowed = data.store.maps("a")[list(frames)].reshape(-1, 2, 3, 4)
    assert all(any(np.array_equal(row, one) for one in allowed) for row in drawn.numpy())


def test_channels_must_agree() -> None:
    with pytest.raises(ValueError, match=r"different channels in one batch: \[3, 4\]"):
        collate([np.zeros((1, 2, 2, 3), np.float16), np.zeros((1, 2, 2, 4), np.float16)])


def test_views_of_an_empty_dataset() -> None:
    assert CachedDataset(FakeStore(), [], ["x", "y"]).num_views == 1
    assert make().num_views == 2


def test_a_set_that_fits_memory_is_read_once_and_gives_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = make()
    kept.eval_batch([0])  # decides now
    monkeypatch.setattr("rratag.data.datasets.memory_budget", lambda: 0)
    straight = make()
    for epoch in range(3):
        for data in (kept, straight):
            data.train_batch([0, 1, 2], 4, lambda index: draw_generator(0, 0, str(index)))
        ours, theirs = (data.eval_batch([2, 1], view=1) for data in (kept, straight))
        assert torch.equal(ours.features, theirs.features), epoch
    ours, theirs = (
        data.train_batch([1, 0], 4, lambda index: draw_generator(1, 2, str(index))) for data in (kept, straight)
    )
    assert torch.equal(ours.features, theirs.features)
    assert len(kept.store.reads) == 3  # type: ignore[attr-defined]
    assert len(straight.store.reads) > 9  # type: ignore[attr-defined]
