"""Two runs on the same videos: figures of each, chance, and the list of what changed."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from rratag.errors import LabelError
from rratag.evaluate.official import official
from rratag.evaluate.paired import Coverage, compare, first_tags, mcnemar
from rratag.evaluate.saved import read_saved
from rratag.evaluate.truth import read_truth
from rratag.records import Instance
from tests.evaluate.test_official import submit
from tests.evaluate.test_saved import NAMES, SCORES, evaluate_tags, write

OTHER = {
    "blue/1.mp4": [[0.1, 0.8, 0.1], [0.3, 0.6, 0.1]],  # green, where the first says blue
    "blue/2.mp4": [[0.2, 0.7, 0.1], [0.2, 0.7, 0.1]],  # green, as the first says
    "green/1.mp4": [[0.1, 0.7, 0.2], [0.1, 0.8, 0.1]],
    "loose.mp4": [[0.1, 0.7, 0.2], [0.1, 0.8, 0.1]],
    "alone.mp4": [[0.1, 0.7, 0.2], [0.1, 0.8, 0.1]],
}
MINE = {**SCORES, "loose.mp4": [[0.1, 0.2, 0.7], [0.5, 0.1, 0.4]]}


def slow_mcnemar(only_first: int, only_second: int) -> float:
    """Count, over all ways in which coins could fall, those that are as uneven or more."""
    total = only_first + only_second
    uneven = abs(only_first - only_second)
    falls = list(itertools.product((0, 1), repeat=total))
    return sum(abs(2 * sum(fall) - total) >= uneven for fall in falls) / len(falls)


def test_mcnemar_equals_a_count_of_all_cases() -> None:
    for only_first, only_second in itertools.product(range(6), range(6)):
        assert mcnemar(only_first, only_second) == pytest.approx(slow_mcnemar(only_first, only_second))


def test_mcnemar_of_thousands_and_of_none() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(5000, 5000) == 1
    assert 0 < mcnemar(5200, 4800) < 1e-4
    assert mcnemar(0, 2000) == 0  # 2 ** -1999
    assert mcnemar(4800, 5200) == mcnemar(5200, 4800)


def test_runs_by_hand(tmp_path: Path) -> None:
    first, second = (read_saved(write(tmp_path / name, own)) for name, own in (("a.csv", MINE), ("b.csv", OTHER)))
    truth = read_truth([*first.pool.videos, *second.pool.videos])
    found = compare(first, second, truth)
    assert (found.num_videos, found.num_common) == (3, 4)
    top1 = found.figures["top1"]
    assert (top1.first, top1.second) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert top1.difference == pytest.approx(1 / 3)
    assert (found.only_first_right, found.only_second_right, found.p_value) == (1, 0, 1.0)
    blue, loose = found.changed
    assert (blue.video, blue.labels, blue.first, blue.second) == ("blue/1.mp4", ["blue"], "blue", "green")
    assert (blue.first_right, blue.second_right) == (True, False)
    assert (blue.first_score, blue.second_score) == (0.6, 0.7)
    assert (loose.video, loose.labels, loose.first, loose.second) == ("loose.mp4", [], "red", "green")
    assert (loose.first_right, loose.second_right) == (None, None)
    assert json.loads(json.dumps(found.to_json())) == found.to_json()
    assert (found.num_truth, found.top1_because) == (4, "")
    assert (found.first_coverage, found.second_coverage) == (Coverage(0, 1, 1), Coverage(1, 0, 2))
    turned = compare(second, first, truth)
    assert turned.figures["top1"].difference == -top1.difference
    assert (turned.figures["top1"].low, turned.figures["top1"].high) == (-(top1.high or 0), -(top1.low or 0))
    assert (turned.only_first_right, turned.only_second_right) == (0, 1)


def test_figures_are_those_of_each_file_on_the_videos_of_both(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, own) for name, own in (("a.csv", SCORES), ("b.csv", OTHER))]
    first, second = map(read_saved, paths)
    (tmp_path / "truth.csv").write_text("video,label\nblue/1.mp4,blue\nblue/2.mp4,blue\ngreen/1.mp4,green\n")
    found = compare(first, second, read_truth(first.pool.videos, tmp_path / "truth.csv"))
    each = [evaluate_tags(path, tmp_path / "truth.csv").ensemble for path in paths]
    for name in ("top1", "top3", "top5", "mean_per_class_accuracy", "mean_average_precision"):
        one = found.figures[name]
        assert (one.first, one.second) == tuple(pytest.approx(getattr(own, name)) for own in each)


def test_official_figures_are_compared_over_the_whole_truth(tmp_path: Path) -> None:
    first, second = (read_saved(write(tmp_path / name, own)) for name, own in (("a.csv", SCORES), ("b.csv", OTHER)))
    truth = read_truth([*first.pool.videos, *second.pool.videos])
    found = compare(first, second, truth, "activitynet", keep_top=1)
    for name, one in found.figures.items():
        assert one.first == official("activitynet", first.pool, truth, 1).figures[name].value
        assert one.second == official("activitynet", second.pool, truth, 1).figures[name].value
    assert found.figures["hit@1"].first == 0.75
    assert found.figures["hit@1"].second == 0.25  # it says nothing of red/1
    assert (found.metrics, found.num_truth, found.num_videos) == ("activitynet", 4, 3)
    # the second has no red/1, and two videos in no folder
    assert (found.first_coverage, found.second_coverage) == (Coverage(0, 1, 0), Coverage(1, 0, 2))


def test_without_all_tags_of_a_video_there_is_top1(tmp_path: Path) -> None:
    first, second = (read_saved(write(tmp_path / name, SCORES, top=top)) for name, top in (("a.csv", 2), ("b.csv", 3)))
    found = compare(first, second, read_truth(first.pool.videos))
    assert {name: (one.first, one.second) for name, one in found.figures.items()} == {"top1": (0.75, 0.75)}
    assert found.changed == []
    assert found.top1_because == f"{first.name}: video 'blue/1.mp4' has no score of tag 'red'"


def test_any_of_several_labels_is_right(tmp_path: Path) -> None:
    truth = [Instance("va", "0", "ant"), Instance("va", "0", "bee"), Instance("vb", "1", "ant")]
    names = {"va": [("bee", 0.9)], "vb": [("ant", 0.5)]}
    first, second = (
        read_saved(submit(tmp_path / name, own))
        for name, own in (("a.json", names), ("b.json", {"va": [("ant", 1), ("cat", 0)], "vb": [("bee", 1)]}))
    )
    found = compare(first, second, truth)
    assert (found.figures["top1"].first, found.figures["top1"].second) == (1.0, 0.5)
    assert (found.only_first_right, found.only_second_right) == (1, 0)
    assert [(one.video, one.first_right, one.second_right) for one in found.changed] == [
        ("va", True, True),
        ("vb", True, False),
    ]


def test_several_labels_count_alike_with_all_tags_and_without(tmp_path: Path) -> None:
    """Top-1 and McNemar's counts are of videos, whichever of their labels is first."""
    both = [[0.5, 0.4, 0.1]] * 2
    (tmp_path / "truth.csv").write_text("video,label,several\nv.mp4,blue,1\nv.mp4,green,1\nw.mp4,red,1\n")
    runs = {"a": {"v.mp4": both, "w.mp4": [[0.1, 0.1, 0.8]] * 2}, "b": {"v.mp4": [[0.4, 0.5, 0.1]] * 2, "w.mp4": both}}
    for top in (3, 1):
        first, second = (read_saved(write(tmp_path / f"{name}.csv", own, top=top)) for name, own in runs.items())
        found = compare(first, second, read_truth(first.videos, tmp_path / "truth.csv"))
        assert (found.num_videos, found.only_first_right, found.only_second_right) == (2, 1, 0)
        assert (found.figures["top1"].first, found.figures["top1"].second) == (1, 0.5)
        assert len(found.figures) == (5 if top == 3 else 1)


def test_no_labelled_video_of_both_is_one_line(tmp_path: Path) -> None:
    first = read_saved(write(tmp_path / "a.csv", {"blue/1.mp4": SCORES["blue/1.mp4"]}))
    second = read_saved(write(tmp_path / "b.csv", {"red/1.mp4": SCORES["red/1.mp4"]}))
    with pytest.raises(LabelError, match=r"a\.csv and .*b\.csv: no labelled video that both tagged"):
        compare(first, second, read_truth(first.pool.videos))


def test_the_first_tag_of_equal_scores_is_the_earlier_name(tmp_path: Path) -> None:
    rows = {"va": [("cat", 0.5), ("bee", 0.5), ("ant", 0.1)], "vb": [("cat", 0.2)], "vc": []}
    assert first_tags(read_saved(submit(tmp_path / "a.json", rows))) == {"va": ("bee", 0.5), "vb": ("cat", 0.2)}


def test_what_is_paired_is_surer_than_two_intervals(tmp_path: Path) -> None:
    """Right on the same videos but for a few: the difference is known far better than either figure."""
    rng = np.random.default_rng(2)
    runs = []
    right = rng.random(200) < 0.5
    for name, also in (("a.csv", 12), ("b.csv", 0)):
        own = right.copy()
        own[np.flatnonzero(~right)[:also]] = True
        scores = {}
        for place, good in enumerate(own):
            label = place % 3
            row = np.full(3, 0.1)
            row[label if good else (label + 1) % 3] = 0.8
            scores[f"{NAMES[label]}/{place:03}.mp4"] = [row.tolist()] * 2
        runs.append(read_saved(write(tmp_path / name, scores)))
    one = compare(*runs, read_truth(runs[0].pool.videos)).figures["top1"]
    assert one.difference == pytest.approx(0.06)
    assert one.low is not None
    assert one.high is not None
    assert 0.02 < one.low < 0.05 < 0.07 < one.high < 0.11
