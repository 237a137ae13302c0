"""Splits: no group on both sides, every class in every part where possible, the same for every order of the input."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rratag.data.splits import folds, split
from rratag.errors import LabelError, UsageError
from rratag.records import Instance


def make(label: str | None, number: int, group: str = "", key: str = "", part: str = "") -> Instance:
    return Instance(f"{label}/{number}.mp4", key or f"{label}-{number:04x}", label, group, part)


@st.composite
def collections(draw: st.DrawFn) -> list[Instance]:
    """Up to four classes; groups that hold one class, and some contents that occur twice within a class."""
    instances = []
    for label in ["a", "b", "c", "d"][: draw(st.integers(2, 4))]:
        for number in range(draw(st.integers(1, 12))):
            group = draw(st.sampled_from(["", f"{label}1", f"{label}2", f"{label}3"]))
            twin = draw(st.booleans()) and number > 0
            instances.append(make(label, number, group, instances[-1].key if twin else ""))
    return instances


def units(instances: Sequence[Instance]) -> list[set[str]]:
    """Videos that must stay together, by merging until nothing changes."""
    sets = [{one.video} for one in instances]
    by_video = {one.video: one for one in instances}
    merged = True
    while merged:
        merged = False
        for i, left in enumerate(sets):
            for right in sets[i + 1 :]:
                pairs = ((by_video[x], by_video[y]) for x in left for y in right)
                if any(x.key == y.key or (x.group and x.group == y.group) for x, y in pairs):
                    left |= right
                    sets.remove(right)
                    merged = True
                    break
            if merged:
                break
    return sets


@settings(deadline=None, max_examples=80)
@given(collections(), st.integers(0, 5), st.booleans(), st.randoms(use_true_random=False))
def test_split_properties(instances: list[Instance], seed: int, three: bool, shuffler: random.Random) -> None:
    fractions = {"train": 0.6, "validation": 0.2, "test": 0.2} if three else {"train": 0.8, "validation": 0.2}
    result = split(instances, fractions, seed).instances
    part = {one.video: one.split for one in result}
    assert [one.video for one in result] == [one.video for one in instances]
    together = units(instances)
    for unit in together:
        assert len({part[video] for video in unit}) == 1
    count = Counter(next(iter(unit)).split("/")[0] for unit in together)
    for label, num_units in count.items():
        present = {part[one.video] for one in instances if one.label == label}
        assert present >= set(list(fractions)[:num_units])
    shuffled = list(instances)
    shuffler.shuffle(shuffled)
    again = split(shuffled, fractions, seed)
    assert {one.video: one.split for one in again.instances} == part
    assert again.warnings == split(instances, fractions, seed).warnings


def test_shares_are_met_class_by_class() -> None:
    instances = [make(label, number) for label, count in (("a", 50), ("b", 10)) for number in range(count)]
    for seed in range(3):
        counts = Counter((one.label, one.split) for one in split(instances, seed=seed).instances)
        assert counts == {("a", "train"): 40, ("a", "validation"): 10, ("b", "train"): 8, ("b", "validation"): 2}


def test_seed_changes_the_split_and_names_do_not() -> None:
    instances = [make(label, number) for label in "ab" for number in range(10)]
    parts = [tuple(one.split for one in split(instances, seed=seed).instances) for seed in range(4)]
    assert len(set(parts)) > 1
    renamed = [Instance("moved/" + one.video, one.key, one.label) for one in instances]
    assert tuple(one.split for one in split(renamed, seed=0).instances) == parts[0]


def test_uneven_groups_of_two_classes_are_balanced() -> None:
    sizes = [(8, 6), (12, 5), (1, 10), (7, 4), (6, 3), (5, 4), (4, 4), (4, 3), (4, 2), (3, 3), (2, 2), (0, 15)]
    instances = [
        make(label, 100 * group + number, f"g{group}")
        for group, counts in enumerate(sizes)
        for label, count in zip("ab", counts, strict=True)
        for number in range(count)
    ]
    totals = Counter(one.label for one in instances)
    for seed in range(5):
        result = split(instances, seed=seed).instances
        counts = Counter(one.label for one in result if one.split == "validation")
        assert all(0.1 <= counts[label] / totals[label] <= 0.3 for label in "ab")


def test_class_with_one_group_only_trains_and_is_named() -> None:
    instances = [make("a", number) for number in range(5)] + [make("b", number, "one") for number in range(4)]
    result, warnings = split(instances)
    assert {one.split for one in result if one.label == "b"} == {"train"}
    assert warnings == ["class 'b' has a single group: it only trains, nothing judges it"]


def test_unlabelled_videos_get_no_split() -> None:
    instances = [make("a", 0), make(None, 1), make("b", 2)]
    assert [one.split for one in split(instances).instances] == ["train", "", "train"]


@pytest.mark.parametrize(("labels", "found"), [([], "no labelled video"), (["a", "a"], "only the class 'a'")])
def test_fewer_than_two_classes_are_refused(labels: list[str], found: str) -> None:
    with pytest.raises(LabelError, match=found):
        split([make(label, number) for number, label in enumerate(labels)])


def test_split_of_the_label_file_stays_and_the_rest_follows_it() -> None:
    instances = [
        make(label, number, part=part)
        for label in "ab"
        for number, part in enumerate(["validation", "train", "", "", "", "", "", "", "", ""])
    ]
    result = split(instances).instances
    assert all(one.split == asked.split for one, asked in zip(result, instances, strict=True) if asked.split)
    # the file's own rows count towards the shares
    assert Counter(one.split for one in result) == {"train": 16, "validation": 4}


def test_validation_is_taken_from_train_where_the_file_names_none() -> None:
    instances = [make(label, n, part="test" if n < 4 else "train") for label in "ab" for n in range(16)]
    instances.append(make("a", 99, key=instances[0].key, part="train"))  # a twin of a test video still trains
    result, warnings = split(instances, {"train": 0.6, "validation": 0.2, "test": 0.2})
    assert Counter(one.split for one in result[:-1]) == {"test": 8, "train": 18, "validation": 6}
    assert result[-1].split in ("train", "validation")
    assert len(warnings) == 1
    assert all(one.split == "test" for one in result[:4])


def test_group_that_the_label_file_separates_is_refused() -> None:
    instances = [make("a", 0, "g", part="train"), make("b", 1, "g", part="test")]
    with pytest.raises(LabelError, match=r"group 'g' is in train \('a/0.mp4'\) and in test \('b/1.mp4'\)"):
        split(instances)


def test_content_that_the_label_file_separates_is_told() -> None:
    instances = [make("a", 0, key="k", part="train"), make("a", 1, key="k", part="test"), make("b", 2, part="train")]
    result, warnings = split(instances)
    assert [one.split for one in result] == ["train", "test", "train"]
    assert any("'a/0.mp4' (train) and 'a/1.mp4' (test)" in line for line in warnings)


def test_class_that_never_trains_is_told() -> None:
    parts = ["train", "train", "validation"]
    instances = [make(label, number, part=part) for number, (label, part) in enumerate(zip("abc", parts, strict=True))]
    assert "class 'c' has no video in train: it cannot be learnt" in split(instances).warnings


@pytest.mark.parametrize(
    "fractions",
    [{"train": 0.8}, {"train": 0.5, "dev": 0.5}, {"validation": 1.0}, {"train": 1.2, "test": -0.2}],
)
def test_fractions_that_are_no_shares_are_refused(fractions: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        split([make("a", 0), make("b", 1)], fractions)


@settings(deadline=None, max_examples=50)
@given(collections(), st.integers(2, 4), st.randoms(use_true_random=False))
def test_folds_test_each_unit_once_and_never_split_one(
    instances: list[Instance], num_folds: int, shuffler: random.Random
) -> None:
    together = units(instances)
    count = Counter(next(iter(unit)).split("/")[0] for unit in together)
    if sum(number for number in count.values() if number > 1) < num_folds:
        with pytest.raises(LabelError, match="ask for fewer folds"):
            folds(instances, num_folds)
        return
    result = folds(instances, num_folds, seed=3)
    tested: dict[str, list[int]] = defaultdict(list)
    for number, fold in enumerate(result):
        for one in fold:
            if one.split == "test":
                tested[one.video].append(number)
    for unit in together:
        assert len({tuple(tested[video]) for video in unit}) == 1
        label = next(iter(unit)).split("/")[0]
        assert len(tested[next(iter(unit))]) == (0 if count[label] == 1 else 1)
    shuffled = list(instances)
    shuffler.shuffle(shuffled)
    again = folds(shuffled, num_folds, seed=3)
    assert [{one.video: one.split for one in fold} for fold in again] == [
        {one.video: one.split for one in fold} for fold in result
    ]


def test_folds_are_even() -> None:
    instances = [make(label, number) for label in "ab" for number in range(20)]
    for fold in folds(instances, 5):
        assert Counter((one.label, one.split) for one in fold) == {
            ("a", "train"): 16,
            ("a", "test"): 4,
            ("b", "train"): 16,
            ("b", "test"): 4,
        }


def test_one_fold_is_refused() -> None:
    with pytest.raises(UsageError, match="1 folds"):
        folds([make("a", 0), make("b", 1)], 1)


def test_contents_with_two_labels_are_named_once_each() -> None:
    instances = [make(label, number) for label in ("blue", "red") for number in range(6)]
    twins = [make("red", 7, key="blue-0000"), make("red", 8, key="blue-0001"), make("red", 9, key="red-0000")]
    found = split([*instances, *twins]).warnings
    assert found == ["2 contents carry two labels, e.g. 'blue/0.mp4' (blue) and 'red/7.mp4' (red)"]
    intervals = [
        replace(make(label, 1, key="one"), start_s=start)
        for label, start in (("blue", 0.0), ("red", 5.0), ("red", 9.0))
    ]
    assert split([*instances, *intervals]).warnings == []


@pytest.mark.parametrize("train", [0.0, 1 - 0.7 - 0.3, -0.1, 1e-9])
def test_a_train_share_of_nothing_is_refused(train: float) -> None:
    instances = [make(label, number) for label in ("blue", "red") for number in range(6)]
    shares = {"train": train, "validation": 0.7, "test": 0.3 - train}
    for fractions in (shares, {"validation": 0.7, "test": 0.3}):
        with pytest.raises(UsageError, match="nothing is left to train on"):
            split(instances, fractions)
