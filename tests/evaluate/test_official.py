"""Saved predictions read, fused, and judged by what a label file says: official figures end to end, from files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from rratag.errors import LabelError, UsageError
from rratag.evaluate.official import METRICS, official
from rratag.evaluate.saved import fuse_saved, gap, read_all, read_saved
from rratag.evaluate.truth import groups_of, labels_of, read_truth
from tests.evaluate import slow
from tests.evaluate.test_saved import NAMES, SCORES, evaluate_tags, write


def submit(path: Path, results: Mapping[str, Sequence[tuple[str, float]]]) -> Path:
    rows = {video: [{"label": label, "score": score} for label, score in own] for video, own in results.items()}
    path.write_text(json.dumps({"version": "VERSION 1.3", "external_data": {}, "results": rows}))
    return path


RESULTS = {
    "QOlSCBRmfWY": [("blue", 0.9), ("red", 0.3), ("green", 0.2)],
    "-0a1b2C3d4E": [("green", 0.5), ("blue", 0.5), ("red", 0.1)],
    "vx": [("red", 2.0)],
}
LABELS = """video,label,split,start_s,end_s,group
val/v_QOlSCBRmfWY.mp4,blue,validation,0,2,one
val/v_QOlSCBRmfWY.mp4,blue,validation,3,4,one
val/v_QOlSCBRmfWY.mp4,green,validation,5,9,one
-0a1b2C3d4E,blue,val,,,two
gone.mp4,red,validation,,,
"'=odd.mp4",green,validation,,,
vx,red,training,,,two
"""


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    (tmp_path / "labels.csv").write_text(LABELS)
    return tmp_path / "labels.csv"


# --- truth ---


def test_truth_has_every_label_once_and_videos_without_predictions(tmp_path: Path, labels: Path) -> None:
    saved = read_saved(submit(tmp_path / "a.json", RESULTS))
    found = read_truth(saved.pool.videos, labels, part="validation", called=saved.called)
    assert labels_of(found) == {
        "-0a1b2C3d4E": ["blue"],
        "=odd": ["green"],
        "QOlSCBRmfWY": ["blue", "green"],
        "gone": ["red"],
    }
    groups = groups_of(found)
    assert groups[0] == "two"
    assert groups[2] == "one"
    assert groups[1] != groups[3]
    assert set(labels_of(read_truth(saved.pool.videos, labels, called=saved.called))) == {
        *labels_of(found),
        "vx",
    }
    assert labels_of(read_truth(saved.pool.videos, labels, part="TRAIN", called=saved.called)) == {"vx": ["red"]}


def test_truth_without_what_it_needs_is_one_line(tmp_path: Path, labels: Path) -> None:
    with pytest.raises(UsageError, match="unknown --on 'monday'; choose from train, training, validation"):
        read_truth(["a/b.mp4"], labels, part="monday")
    with pytest.raises(UsageError, match="--on test: folders divide no videos"):
        read_truth(["a/b.mp4"], None, part="test")
    with pytest.raises(LabelError, match=r"labels\.csv: no video of split 'test'; there are train, validation"):
        read_truth(["a/b.mp4"], labels, part="test")
    with pytest.raises(LabelError, match="no tagged video has a label; give --labels FILE"):
        read_truth(["b.mp4"])
    labels.write_text("video,label\n")
    with pytest.raises(LabelError, match=r"labels\.csv: labels no video"):
        read_truth(["a/b.mp4"], labels)
    assert labels_of(read_truth(["a/b.mp4", "c.mp4"], part="all")) == {"a/b.mp4": ["a"]}


# --- official figures from files ---


@pytest.mark.parametrize("keep_top", [None, 1])
def test_official_figures_from_files_are_those_of_slow_loops(
    tmp_path: Path, labels: Path, keep_top: int | None
) -> None:
    saved = read_saved(submit(tmp_path / "a.json", RESULTS))
    truth = read_truth(saved.pool.videos, labels, part="validation", called=saved.called)
    rows = [(video, label, score) for video, own in RESULTS.items() for label, score in own]
    kept = rows if keep_top is None else slow.top(rows, keep_top)
    wanted = labels_of(truth)
    found = official("activitynet", saved.pool, truth, keep_top)
    assert (found.num_videos, found.num_classes, found.num_without, found.num_outside) == (4, 3, 2, 1)
    assert (found.num_predictions, found.keep_top) == (len(kept), keep_top)
    assert found.figures["mAP"].value == pytest.approx(slow.mean_average_precision(kept, wanted))
    assert found.figures["hit@1"].value == slow.hit(kept, wanted, 1)
    assert found.figures["average hit@3"].value == pytest.approx(slow.average_hit(kept, wanted, 3))
    for one in found.per_class:
        assert one.num_videos == sum(one.label in own for own in wanted.values())
        assert one.average_precision == pytest.approx(slow.average_precision(kept, one.label, wanted))
    assert official("kinetics", saved.pool, truth, keep_top).figures["error@5"].value == 1 - slow.hit(kept, wanted, 5)
    gap = official("youtube8m", saved.pool, truth, keep_top)
    assert gap.figures["GAP"].value == pytest.approx(slow.global_precision(kept, wanted, 20))
    assert gap.per_class == []


@pytest.mark.parametrize("name", METRICS)
def test_intervals_hold_the_figure_and_come_out_the_same(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    scores = {f"{NAMES[place % 3]}/{place}.mp4": rng.dirichlet(np.ones(3), 2).tolist() for place in range(60)}
    saved = read_saved(write(tmp_path / "tags.csv", scores))
    truth = read_truth(saved.pool.videos)
    found = official(name, saved.pool, truth)
    assert found.num_draws == 1000
    for one in found.figures.values():
        assert one.low is not None
        assert one.high is not None
        assert one.low <= one.value <= one.high
    assert any(one.low < one.high for one in found.figures.values() if one.low is not None and one.high is not None)
    assert official(name, saved.pool, truth) == found
    assert json.loads(json.dumps(found.to_json())) == found.to_json()


def test_one_video_has_no_interval(tmp_path: Path) -> None:
    saved = read_saved(write(tmp_path / "tags.csv", {"blue/1.mp4": SCORES["blue/1.mp4"]}, top=1))
    found = official("activitynet", saved.pool, read_truth(saved.pool.videos))
    assert found.figures["mAP"].value == 1
    assert (found.figures["mAP"].low, found.num_draws) == (None, 0)


# --- reading ---


@pytest.mark.parametrize("name", ["a.json", "a.ACTIVITYNET.json"])
def test_the_form_is_known_by_name_or_content(tmp_path: Path, name: str) -> None:
    saved = read_saved(submit(tmp_path / name, RESULTS))
    assert saved.is_submission
    assert list(saved.pool.videos) == list(RESULTS)
    assert saved.pool.labels == ["blue", "green", "red"]
    assert saved.pool.score.tolist() == [score for own in RESULTS.values() for _, score in own]


def test_a_file_that_is_neither_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"results": 3}')
    with pytest.raises(UsageError, match=r"a\.json: not in ActivityNet's form \(no object"):
        read_saved(tmp_path / "a.json")
    (tmp_path / "b.json").write_text('{"boxes": 3}')
    with pytest.raises(UsageError, match=r"b\.json: not a tags file of rratag"):
        read_saved(tmp_path / "b.json")
    with pytest.raises(UsageError, match=r"none\.json: cannot be read"):
        read_saved(tmp_path / "none.json")
    with pytest.raises(UsageError, match=r"is a folder; give a file that predict wrote"):
        read_saved(tmp_path)
    with pytest.raises(UsageError, match=r"-: standard input is not read; give a file"):
        read_saved(Path("-"))
    with pytest.raises(UsageError, match=r"choose from \.csv, \.json, \.jsonl, \.activitynet\.json$"):
        read_saved(tmp_path / "tags.txt")
    twice = read_saved(submit(tmp_path / "c.json", {"va": [("blue", 0.5), ("blue", 0.4)]}))
    assert gap(twice) == "video 'va' has tag 'blue' twice"


def test_whole_scores_in_the_form_give_the_plain_figures(tmp_path: Path) -> None:
    results = {
        video: [(label, 10 * float(np.mean([row[place] for row in rows]))) for place, label in enumerate(NAMES)]
        for video, rows in SCORES.items()
    }
    path = submit(tmp_path / "a.json", {video.split("/")[0] + video[-5]: own for video, own in results.items()})
    (tmp_path / "truth.csv").write_text(
        "".join(["video,label\n", *(f"{v.split('/')[0]}{v[-5]}.mp4,{v.split('/')[0]}\n" for v in SCORES)])
    )
    found = evaluate_tags(path, tmp_path / "truth.csv")
    wanted = evaluate_tags(write(tmp_path / "tags.csv", SCORES))
    assert found.ensemble.top1 == wanted.ensemble.top1
    assert found.ensemble.mean_average_precision == wanted.ensemble.mean_average_precision
    assert found.ensemble.calibration_error is None
    assert found.glimpse_accuracy == []
    with pytest.raises(LabelError, match=r"video 'red1' has no score of tag 'blue'.*--metrics activitynet"):
        evaluate_tags(
            submit(tmp_path / "b.json", {"blue1": [("blue", 1), ("red", 0)], "red1": [("red", 1)]}),
            tmp_path / "truth.csv",
        )


# --- fusing ---

OTHER = {
    "red/1.mp4": [[0.2, 0.2, 0.6], [0.2, 0.2, 0.6]],
    "blue/1.mp4": [[0.1, 0.8, 0.1], [0.3, 0.6, 0.1]],
    "blue/2.mp4": [[0.9, 0.05, 0.05], [0.7, 0.2, 0.1]],
    "blue/9.mp4": [[0.9, 0.05, 0.05], [0.7, 0.2, 0.1]],
}


def test_scores_are_the_weighted_mean_over_videos_that_all_have(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.csv", SCORES), write(tmp_path / "b.csv", OTHER)]
    together, each = read_all([(paths[0], 1.0), (paths[1], 3.0)])
    assert together.pool.videos == ["blue/1.mp4", "blue/2.mp4", "red/1.mp4"]
    assert [one.weight for one in each] == [1.0, 3.0]
    assert together.glimpses.shape[1] == 4
    for place in range(len(together.pool.score)):
        video = together.pool.videos[together.pool.video[place]]
        label = NAMES.index(together.pool.labels[together.pool.label[place]])
        first, second = (np.mean([row[label] for row in scores[video]]) for scores in (SCORES, OTHER))
        assert together.pool.score[place] == pytest.approx((first + 3 * second) / 4, abs=1e-6)
        glimpses = [row[label] for scores in (SCORES, OTHER) for row in scores[video]]
        assert together.glimpses[place] == pytest.approx(glimpses)
    found = evaluate_tags([(paths[0], 1.0), (paths[1], 3.0)])
    assert found.num_videos == 3
    assert found.ensemble.top1 == pytest.approx(2 / 3)  # blue/1 is taken for green by the heavier one
    assert [(one.name, one.weight) for one in found.models] == [(str(paths[0]), 1.0), (str(paths[1]), 3.0)]
    assert [one.ensemble.top1 for one in found.models] == [pytest.approx(2 / 3)] * 2
    assert found.concatenation is None
    assert len(found.glimpse_accuracy) == 4


def test_a_file_in_the_form_and_one_of_ours_are_fused_by_the_forms_ids(tmp_path: Path) -> None:
    ours = write(tmp_path / "a.csv", {"blue/v_QOlSCBRmfWY.mp4": SCORES["blue/1.mp4"]})
    theirs = submit(tmp_path / "b.json", {"QOlSCBRmfWY": [("green", 0.5), ("red", 0.25), ("blue", 0.25)]})
    for files in ([(ours, 1.0), (theirs, 1.0)], [(theirs, 1.0), (ours, 1.0)]):
        together, _ = read_all(files)
        assert together.pool.videos == ["QOlSCBRmfWY"]
        assert together.pool.labels == NAMES
        assert together.pool.score == pytest.approx([(0.6 + 0.25) / 2, (0.25 + 0.5) / 2, (0.15 + 0.25) / 2])


def test_what_cannot_be_fused_is_one_line(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.csv", SCORES)
    with pytest.raises(LabelError, match=r"a\.csv and .*b\.csv do not score the same labels of each video"):
        read_all([(whole, 1.0), (write(tmp_path / "b.csv", SCORES, top=2), 1.0)])
    with pytest.raises(LabelError, match="do not score the same labels"):
        read_all([(whole, 1.0), (write(tmp_path / "c.csv", SCORES, names=["blue", "green", "violet"]), 1.0)])
    with pytest.raises(LabelError, match="no tagged video in common"):
        read_all([(whole, 1.0), (write(tmp_path / "d.csv", {"e.mp4": SCORES["blue/1.mp4"]}), 1.0)])
    twice = submit(tmp_path / "e.json", {"va": [("blue", 0.5), ("blue", 0.4)]})
    with pytest.raises(LabelError, match=r"e\.json: video va has label blue twice"):
        read_all([(twice, 1.0), (twice, 1.0)])
    same = write(tmp_path / "f.csv", {"a/1.mp4": SCORES["blue/1.mp4"], "b/1.mp4": SCORES["blue/1.mp4"]})
    with pytest.raises(UsageError, match="are both video '1'"):
        read_all([(same, 1.0), (twice, 1.0)])


def test_order_of_files_and_rows_means_nothing(tmp_path: Path) -> None:
    first = read_saved(write(tmp_path / "a.csv", SCORES))
    second = read_saved(write(tmp_path / "b.csv", dict(reversed(SCORES.items()))))
    for one in (fuse_saved([first, second]), fuse_saved([second, first])):
        assert one.pool.score == pytest.approx(fuse_saved([first, first]).pool.score)
