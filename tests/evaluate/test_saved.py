"""A file of tags judged without model or cache."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from rratag.errors import LabelError, RratagError
from rratag.evaluate.report import Evaluation
from rratag.evaluate.saved import evaluate_saved, read_all
from rratag.evaluate.truth import read_truth

NAMES = ["blue", "green", "red"]
HEADER = "video,status,reason,rank,label,score,glimpse_1,glimpse_2,time_s,box,frames_used,message\n"


def write(
    path: Path, scores: Mapping[str, Sequence[Sequence[float]]], top: int = 3, names: Sequence[str] = NAMES
) -> Path:
    """Tags of videos with these glimpse scores (K, classes), as `predict` writes them, and one failed video."""
    lines = [HEADER]
    for video, glimpses in scores.items():
        mean = np.mean(glimpses, axis=0)
        for rank, label in enumerate(np.argsort(-mean, kind="stable")[:top], 1):
            each = ",".join(f"{glimpse[label]:.6f}" for glimpse in glimpses)
            lines.append(f'{video},ok,,{rank},{names[label]},{mean[label]:.6f},{each},0.100,"0.0,0.0,1.0,1.0",5,\n')
    lines.append("red/broken.mp4,unreadable,empty,,,,,,,,0,no bytes\n")
    path.write_text("".join(lines))
    return path


def evaluate_tags(
    files: Path | Sequence[tuple[Path, float]], labels: Path | None = None, columns: dict[str, str] | None = None
) -> Evaluation:
    """The plain figures, as the command makes them."""
    together, each = read_all([(files, 1.0)] if isinstance(files, Path) else files)
    return evaluate_saved(together, each, read_truth(together.videos, labels, columns, None, together.called))


SCORES = {
    "blue/1.mp4": [[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]],  # right by both
    "blue/2.mp4": [[0.3, 0.6, 0.1], [0.4, 0.5, 0.1]],  # taken for green
    "green/1.mp4": [[0.6, 0.3, 0.1], [0.1, 0.8, 0.1]],  # right by the second glimpse and together
    "red/1.mp4": [[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]],  # right by the first glimpse and together
}


def test_figures_are_those_of_the_scores(tmp_path: Path) -> None:
    found = evaluate_tags(write(tmp_path / "tags.csv", SCORES))
    assert (found.num_videos, found.num_classes, found.num_classes_seen) == (4, 3, 3)
    assert found.ensemble.top1 == 0.75
    assert found.ensemble.top3 == 1
    assert found.ensemble.mean_per_class_accuracy == pytest.approx((0.5 + 1 + 1) / 3)
    assert found.glimpse_accuracy == [0.5, 0.5]
    assert found.concatenation is None
    (pair,) = found.confused_pairs
    assert (pair.label, pair.predicted, pair.count) == ("blue", "green", 1)


def test_labels_from_a_file_are_taken_instead_of_folders(tmp_path: Path) -> None:
    tags = write(tmp_path / "tags.csv", SCORES)
    (tmp_path / "truth.csv").write_text("file;kind\nblue/2.mp4;green\nred/1.mp4;red\nnowhere.mp4;red\n")
    found = evaluate_tags(tags, tmp_path / "truth.csv", {"video": "file", "label": "kind"})
    assert (found.num_videos, found.num_classes_seen, found.ensemble.top1) == (2, 2, 1.0)


def test_several_labels_of_a_video_are_one_video(tmp_path: Path) -> None:
    """All ranked perfectly: nothing is wrong in the list of a tag that the video also has."""
    rows = {"v.mp4": [[0.5, 0.5, 0.0]] * 2, "w.mp4": [[0.0, 1.0, 0.0]] * 2, "x.mp4": [[0.5, 0.0, 0.5]] * 2}
    (tmp_path / "truth.csv").write_text(
        "video,label,several\nv.mp4,blue,1\nv.mp4,green,1\nw.mp4,green,1\nx.mp4,blue,1\nx.mp4,red,1\n"
    )
    found = evaluate_tags(write(tmp_path / "tags.csv", rows), tmp_path / "truth.csv")
    assert (found.num_videos, found.num_several, found.num_classes_seen) == (3, 2, 3)
    assert (found.ensemble.top1, found.ensemble.mean_average_precision) == (1, 1)
    assert found.glimpse_accuracy == [1, 1]
    assert found.confused_pairs == []


def test_a_file_with_the_highest_tags_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"video 'blue/1\.mp4' has no score of tag 'red', and .*--top 1000"):
        evaluate_tags(write(tmp_path / "tags.csv", SCORES, top=2))
    # one tag each, and every class occurs somewhere
    with pytest.raises(LabelError, match=r"video 'blue/1\.mp4' has no score of tag 'green'"):
        evaluate_tags(write(tmp_path / "one.csv", SCORES, top=1))
    # all but one video have all
    whole = write(tmp_path / "all.csv", SCORES).read_text().splitlines(keepends=True)
    (tmp_path / "but.csv").write_text("".join(line for line in whole if not line.startswith("green/1.mp4,ok,,3,")))
    with pytest.raises(LabelError, match=r"but\.csv: video 'green/1\.mp4' has no score of tag 'red'"):
        evaluate_tags(tmp_path / "but.csv")


def test_scores_that_do_not_sum_to_1_are_refused_with_their_sum(tmp_path: Path) -> None:
    """Each video holds the same two of three tags: only their scores tell that one is missing."""
    scores = {f"blue/{number}.mp4": [[0.5, 0.1, 0.4]] * 2 for number in range(3)}
    with pytest.raises(LabelError, match=r"scores of video 'blue/0\.mp4' sum to 0\.9, not 1"):
        evaluate_tags(write(tmp_path / "tags.csv", scores, top=2))
    scores["blue/1.mp4"] = [[0.5, 0.2, 0.4]] * 2
    with pytest.raises(LabelError, match=r"scores of video 'blue/1\.mp4' sum to 1\.1, not 1"):
        evaluate_tags(write(tmp_path / "more.csv", {"blue/1.mp4": scores["blue/1.mp4"]}))


def test_no_label_or_no_tagged_video_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="no tagged video has a label"):
        evaluate_tags(write(tmp_path / "flat.csv", {"a.mp4": SCORES["blue/1.mp4"]}))
    with pytest.raises(LabelError, match="no tagged video"):
        evaluate_tags(write(tmp_path / "none.csv", {}))


def test_a_label_that_no_video_was_tagged_with_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="'violet'"):
        evaluate_tags(write(tmp_path / "tags.csv", {**SCORES, "violet/1.mp4": SCORES["blue/1.mp4"]}))


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RratagError, match="not a tags file"):
        evaluate_tags(tmp_path / "tags.csv")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("0.600000,0.700000", "nan,0.700000", "scores that are not 3 numbers from 0 to 1"),
        ("0.600000,0.700000", "0.600000,inf", "scores that are not 3 numbers from 0 to 1"),
        ("blue/1.mp4,ok,,2", "blue/1.mp4,ok,,3", "rank 3 where 2 is expected"),
        ("blue/2.mp4", "blue/1.mp4", "rank 1 where 4 is expected"),
        ("green/1.mp4,ok", "green/1.mp4,eaten", "unknown status 'eaten'"),
        ("blue/1.mp4,ok,,2,green", "blue/1.mp4,ok,,2,blue", "a label that is there twice"),
    ],
)
def test_rows_that_would_judge_wrongly_are_one_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = write(tmp_path / "tags.csv", SCORES)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(RratagError, match=rf"tags\.csv: not a tags file of rratag \(video .*{words}") as caught:
        evaluate_tags(path)
    assert "\n" not in str(caught.value)


def with_scores(path: Path, scores: Mapping[str, Sequence[float]]) -> Path:
    """The file of SCORES with other final scores, as weights of the glimpses or ``--score concat`` give them."""
    lines = [HEADER]
    for video, glimpses in SCORES.items():
        for rank, label in enumerate(np.argsort(-np.array(scores[video]), kind="stable"), 1):
            each = ",".join(f"{glimpse[label]:.6f}" for glimpse in glimpses)
            lines.append(f"{video},ok,,{rank},{NAMES[label]},{scores[video][label]:.6f},{each},0.1,,5,\n")
    path.write_text("".join(lines))
    return path


def test_scores_that_are_a_weighted_mean_of_the_glimpses_are_ensemble_scores(tmp_path: Path) -> None:
    weighted = {video: np.average(glimpses, axis=0, weights=[0.9, 0.1]) for video, glimpses in SCORES.items()}
    found = evaluate_tags(with_scores(tmp_path / "tags.csv", weighted))
    assert found.concatenation is None
    assert found.ensemble.top1 == 0.5  # as the first glimpse alone; 0.75 by the plain mean


def test_scores_that_are_none_are_concatenation_scores(tmp_path: Path) -> None:
    products = {video: np.prod(glimpses, axis=0) for video, glimpses in SCORES.items()}
    found = evaluate_tags(with_scores(tmp_path / "tags.csv", {one: row / row.sum() for one, row in products.items()}))
    assert found.concatenation is not None
    assert found.ensemble.top1 == 0.75


# --- what the scores of a file are ---


def tags_json(path: Path, scores: Mapping[str, tuple[list[float], list[list[float]]]], **head: object) -> Path:
    """Tags as `predict --out tags.json` writes them: of each video its scores and those of the glimpses."""
    videos = []
    for video, (own, glimpses) in scores.items():
        order = np.argsort(-np.array(own), kind="stable")
        tags = [
            {"rank": rank, "label": NAMES[label], "score": own[label], "glimpses": [one[label] for one in glimpses]}
            for rank, label in enumerate(order.tolist(), 1)
        ]
        tags = [{**tag, "time_s": 0.0, "box": None} for tag in tags]
        videos.append({"video": video, "status": "ok", "reason": "", "message": "", "frames_used": 5, "tags": tags})
    path.write_text(json.dumps({"format": "rratag-tags", "version": 1, **head, "videos": videos}))
    return path


FEW = {
    "blue/1.mp4": ([0.7, 0.2, 0.1], [[0.1, 0.8, 0.1], [0.3, 0.4, 0.3]]),
    "green/1.mp4": ([0.2, 0.6, 0.2], [[0.8, 0.1, 0.1], [0.3, 0.4, 0.3]]),
}
"""Right by the scores, wrong by the plain mean of the glimpses; too few to tell how one follows from the other."""


def test_the_head_of_a_file_says_what_its_scores_are(tmp_path: Path) -> None:
    both = ({"name": "a"}, {"name": "b"})
    for name, head in (("one", {}), ("several", {"models": both})):
        found = evaluate_tags(tags_json(tmp_path / f"{name}.json", FEW, score="ensemble", **head))
        assert (found.score, found.ensemble.top1, found.concatenation) == ("ensemble", 1, None)
    found = evaluate_tags(tags_json(tmp_path / "concat.json", FEW, score="concat"))
    assert found.concatenation is not None
    assert (found.score, found.ensemble.top1, found.concatenation.top1) == ("ensemble", 0, 1)
    # the plain mean of glimpses of several models, or of weighted ones, is not Eq. 6
    for name, more in (("models", {"models": both}), ("weights", {"model": {"head": {"glimpse_weights": "learned"}}})):
        found = evaluate_tags(tags_json(tmp_path / f"{name}.json", FEW, score="concat", **more))
        assert (found.score, found.ensemble.top1, found.concatenation) == ("concat", 1, None)
    with pytest.raises(RratagError, match="'best' instead of ensemble or concat"):
        evaluate_tags(tags_json(tmp_path / "best.json", FEW, score="best"))


def test_few_scores_that_tell_nothing_are_judged_as_they_are(tmp_path: Path) -> None:
    found = evaluate_tags(tags_json(tmp_path / "old.json", {"blue/1.mp4": FEW["blue/1.mp4"]}))
    assert (found.score, found.ensemble.top1, found.concatenation) == ("", 1, None)


def test_files_of_one_kind_of_score_are_fused_to_that_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = {kind: tags_json(tmp_path / f"{kind}.json", FEW, score=kind) for kind in ("ensemble", "concat")}
    for kind in ("ensemble", "concat"):
        found = evaluate_tags([(paths[kind], 1.0), (paths[kind], 2.0)])
        assert (found.score, found.ensemble.top1, found.concatenation) == (kind, 1, None)
        assert [one.ensemble.top1 for one in found.models] == [1, 1]
        assert caplog.text == ""
    mixed = evaluate_tags([(paths["concat"], 1.0), (paths["ensemble"], 1.0)])
    assert mixed.score == ""
    assert "ensemble.json holds ensemble scores and " in caplog.text
    caplog.clear()
    old = tags_json(tmp_path / "old.json", {"blue/1.mp4": FEW["blue/1.mp4"]})
    unknown = evaluate_tags([(paths["concat"], 1.0), (old, 1.0)])
    assert (unknown.score, caplog.text) == ("", "")
