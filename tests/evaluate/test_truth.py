"""Whose labels count: no video of the ground truth is lost on the way, and none is taken for another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from rratag.data.labels import from_file
from rratag.errors import LabelError
from rratag.evaluate.official import official
from rratag.evaluate.saved import fuse_saved, read_all, read_saved
from rratag.evaluate.truth import labels_of, read_truth
from tests.evaluate.test_official import submit
from tests.evaluate.test_saved import SCORES, write

SEGMENTS: dict[str, list[tuple[str, list[float]]]] = {
    "v1": [("ant", [0, 5]), ("ant", [6, 8])],
    "v2": [("bee", [0, 50])],
    "v3": [("bee", [5, 3])],
    "v4": [("bee", [5, 5]), ("ant", [1, 2])],
}


def activitynet_file(path: Path) -> Path:
    entries = {
        name: {"subset": "validation", "annotations": [{"label": label, "segment": segment} for label, segment in own]}
        for name, own in SEGMENTS.items()
    }
    path.write_text(json.dumps({"version": "VERSION 1.3", "taxonomy": [], "database": entries}))
    return path


def test_segments_that_hold_no_time_are_labels_of_the_video(tmp_path: Path) -> None:
    """The official script reads no segments."""
    path = activitynet_file(tmp_path / "net.json")
    truth = read_truth(list(SEGMENTS), path, part="validation")
    assert labels_of(truth) == {"v1": ["ant"], "v2": ["bee"], "v3": ["bee"], "v4": ["ant", "bee"]}
    saved = read_saved(submit(tmp_path / "a.json", {"v3": [("bee", 0.9)], "v2": [("ant", 0.8)]}))
    found = official("activitynet", saved.pool, truth)
    assert (found.num_videos, found.num_outside) == (4, 0)
    assert found.figures["hit@1"].value == 0.25
    assert found.figures["mAP"].value == pytest.approx((1 / 3 + 0) / 2)  # bee: one of three; ant: v2 alone, wrong
    # for training they stay left out: there is no frame in them
    timed = from_file(path, dict.fromkeys(SEGMENTS, ""))
    assert [one.video for one in timed.instances if one.label == "bee"] == ["v2"]
    assert len(timed.left_out) == 2


def test_failed_videos_belong_to_the_truth_of_folders(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", SCORES)  # and red/broken.mp4, without tags
    again = "red/again.mp4,skipped,duplicate_path,,,,,,,,0,\n"
    path.write_text(path.read_text() + again)
    saved = read_saved(path)
    assert saved.untagged == ("red/broken.mp4",)
    found = official("kinetics", saved.pool, read_truth(saved.videos))
    assert (found.num_videos, found.num_without) == (5, 1)
    assert found.figures["error@1"].value == pytest.approx(2 / 5)  # blue/2 is taken for green


def test_videos_that_not_all_files_have_stay_in_the_truth(tmp_path: Path) -> None:
    names = list(SCORES)
    first = write(tmp_path / "a.csv", {name: SCORES[name] for name in names[:3]})
    second = write(tmp_path / "b.csv", {name: SCORES[name] for name in names[1:]})
    together, _ = read_all([(first, 1.0), (second, 1.0)])
    assert list(together.pool.videos) == sorted(names[1:3])
    assert together.untagged == (names[0], "red/1.mp4", "red/broken.mp4")
    found = official("kinetics", together.pool, read_truth(together.videos))
    assert (found.num_videos, found.num_without) == (5, 3)
    # in ActivityNet's form too, by its ids
    theirs = submit(tmp_path / "c.json", {"v1": [("ant", 1.0)], "v2": [("ant", 1.0)]})
    shorter = write(tmp_path / "d1.csv", {"ant/v1.mp4": [[1.0, 0, 0]] * 2}, top=1, names=["ant", "bee", "cat"])
    both, _ = read_all([(theirs, 1.0), (shorter, 1.0)])
    assert (list(both.pool.videos), both.untagged) == (["v1"], ("broken", "v2"))


def test_what_a_label_file_leaves_in_doubt_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "labels.csv").write_text("video,label\na/1.mp4,ant\nb/1.mp4,bee\n2.mp4,bee\n")
    found = read_truth(["1.mp4", "2.mp4"], tmp_path / "labels.csv")
    assert labels_of(found) == {"2.mp4": ["bee"]}
    assert "names of the label file are ambiguous and not used" in caplog.text
    assert "1.mp4: a/1.mp4 or b/1.mp4" in caplog.text


@pytest.mark.parametrize("label", ["ant", "bee"])
def test_two_files_of_one_name_are_not_one_video(tmp_path: Path, label: str) -> None:
    saved = read_saved(submit(tmp_path / "a.json", {"2": [("ant", 0.9)]}))
    (tmp_path / "labels.csv").write_text(f"video,label\na/1.mp4,ant\nb/1.mp4,{label}\n2.mp4,bee\n")
    with pytest.raises(LabelError, match=r"'a/1\.mp4' and 'b/1\.mp4' are both video '1' in ActivityNet's form") as said:
        read_truth(saved.videos, tmp_path / "labels.csv", called=saved.called)
    assert "\n" not in str(said.value)
    (tmp_path / "labels.csv").write_text("video,label,split\na/1.mp4,ant,train\nb/1.mp4,bee,test\n")
    assert labels_of(read_truth(saved.videos, tmp_path / "labels.csv", part="test", called=saved.called)) == {
        "1": ["bee"]
    }


@pytest.mark.parametrize("predicted", [[], [("ant", 0.9)]])
def test_clips_of_one_video_are_its_labels_as_segments_are(
    tmp_path: Path, predicted: Sequence[tuple[str, float]]
) -> None:
    """With a prediction and without: the script's ground truth has one entry for each video id."""
    (tmp_path / "kinetics.csv").write_text(
        "label,youtube_id,time_start,time_end,split\n"
        "ant,QOlSCBRmfWY,1,11,val\nbee,QOlSCBRmfWY,40,50,val\nbee,QOlSCBRmfWY,70,80,val\nbee,-0a1b2C3d4E,3,13,val\n"
    )
    rows = {"QOlSCBRmfWY": predicted} if predicted else {}
    saved = read_saved(submit(tmp_path / "a.json", rows))
    found = read_truth(saved.videos, tmp_path / "kinetics.csv", called=saved.called)
    assert labels_of(found) == {"-0a1b2C3d4E": ["bee"], "QOlSCBRmfWY": ["ant", "bee"]}


def test_weights_of_any_size_are_proportions(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a.csv", SCORES),
        write(tmp_path / "b.csv", {name: own[::-1] for name, own in SCORES.items()}),
    ]
    plain = fuse_saved(read_all([(paths[0], 1.0), (paths[1], 1.5)])[1])
    for scale in (2.0**1023, 2.0**-1000):
        huge = fuse_saved(read_all([(paths[0], scale), (paths[1], 1.5 * scale)])[1])
        assert huge.pool.score.tolist() == plain.pool.score.tolist()
