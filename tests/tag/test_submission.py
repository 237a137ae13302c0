"""ActivityNet's form: written as the challenges take it, read back whoever wrote it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rratag.errors import UsageError
from rratag.tag import submission
from rratag.tag.rows import About
from rratag.tag.submission import check_ids, is_submission, video_id
from rratag.tag.writers import read_tags, write_tags, writer_for
from tests.tag.test_writers import FAILED, by_hand, make_prediction

ABOUT = About({"info": {}}, {"backbone": "tv:resnet152", "weights": "ab" * 32}, {}, num_glimpses=2, top=3)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("validation/v_QOlSCBRmfWY.mp4", "QOlSCBRmfWY"),
        ("v_v_lSCBRmfWY.mkv", "v_lSCBRmfWY"),
        ("v_lSCBRmfWY.mp4", "v_lSCBRmfWY"),  # eleven letters: an id that begins so
        ("eating cake/-0a1b2C3d4E_000012_000022.mp4", "-0a1b2C3d4E"),
        ("a.b/birds.of.prey.mp4", "birds.of.prey"),
        ("plain", "plain"),
        ("v_short.mp4", "v_short"),
    ],
)
def test_ids_are_those_of_the_sets(name: str, wanted: str) -> None:
    assert video_id(name) == wanted


def test_two_videos_of_one_id_are_one_line() -> None:
    check_ids(["a/v_QOlSCBRmfWY.mp4", "b/other.mp4"])
    with pytest.raises(UsageError, match=r"^b/x.mkv and a/x.mp4 are both video 'x' in ActivityNet's form"):
        check_ids(["a/x.mp4", "b/x.mkv"])


def test_a_file_is_what_the_challenge_takes(tmp_path: Path) -> None:
    out = tmp_path / "Run.ActivityNet.json"
    assert is_submission(out)
    write_tags([by_hand("val/v_QOlSCBRmfWY.mp4"), FAILED, by_hand("val/b.mp4")], out, ABOUT)
    content = json.loads(out.read_text())
    assert content.keys() == {"version", "external_data", "results"}
    assert content["version"] == "VERSION 1.3"
    assert content["external_data"] == {"used": True, "details": "CNN tv:resnet152, weights abababababababab"}
    wanted = [{"label": "cat", "score": 0.4}, {"label": "fox", "score": 0.35}, {"label": "dog", "score": 0.25}]
    assert content["results"] == {"QOlSCBRmfWY": wanted, "b": wanted}  # the failed one is not there
    found = submission.parse(out.read_text())
    assert (found.videos, found.video) == (["b", "QOlSCBRmfWY"], [0, 0, 0, 1, 1, 1])
    assert found.labels[:3] == ["cat", "fox", "dog"]
    assert found.scores[3:] == [0.4, 0.35, 0.25]


def test_nothing_usable_is_still_the_form(tmp_path: Path) -> None:
    write_tags([FAILED], tmp_path / "x.activitynet.json", ABOUT)
    assert json.loads((tmp_path / "x.activitynet.json").read_text())["results"] == {}
    assert submission.parse((tmp_path / "x.activitynet.json").read_text()).videos == []


def test_random_weights_are_no_external_data(tmp_path: Path) -> None:
    about = About({"info": {"random_backbone": True}}, {}, {}, num_glimpses=2, top=1)
    write_tags([by_hand()], tmp_path / "x.activitynet.json", about)
    assert json.loads((tmp_path / "x.activitynet.json").read_text())["external_data"] == {"used": False, "details": ""}


def test_names_come_back_as_they_were(tmp_path: Path) -> None:
    names = ["caf\udce9", 'a"b\\xff', "dog"]
    write_tags([make_prediction("cl\udcffip.mp4", names)], tmp_path / "x.activitynet.json", ABOUT)
    found = submission.parse((tmp_path / "x.activitynet.json").read_text())
    assert found.videos == ["cl\udcffip"]
    assert sorted(found.labels) == sorted(names)


def test_scores_of_others_are_of_any_size_and_may_repeat() -> None:
    rows = [{"label": "ant", "score": -3}, {"label": "ant", "score": 1e9, "more": []}]
    found = submission.parse(json.dumps({"results": {"va": rows, "vb": []}, "version": "1", "anything": {"a": 1}}))
    assert (found.videos, found.labels, found.scores) == (["va", "vb"], ["ant", "ant"], [-3, 1e9])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", 'no object "results"'),
        ('{"results": []}', 'no object "results"'),
        ('{"results": {"va": {"label": "ant"}}}', "video 'va': not a list of objects"),
        ('{"results": {"va": {"label": "ant", "score": 1}}}', "video 'va': not a list of objects"),
        ('{"results": {"va": [{"label": "ant"}]}}', "video 'va': not a list of objects"),
        ('{"results": {"va": [["ant", 1]]}}', "video 'va': not a list of objects"),
        ('{"results": {"va": [{"label": "ant", "score": "1"}]}}', "a score that is no number"),
        ('{"results": {"va": [{"label": "ant", "score": true}]}}', "a score that is no number"),
        ('{"results": {"va": [{"label": "ant", "score": NaN}]}}', "NaN"),
        ('{"results": {"va": [{"label": 3, "score": 1}]}}', "a label that is no text"),
        ('{"results": {"va": [], "va": []}}', "'va' is there twice"),
        ('{"results": ', "line 1"),
    ],
)
def test_what_is_not_in_the_form_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        submission.parse(text)


def test_it_is_no_file_of_tags(tmp_path: Path) -> None:
    write_tags([by_hand()], tmp_path / "x.activitynet.json", ABOUT)
    with pytest.raises(UsageError, match="holds labels and scores alone"):
        read_tags(tmp_path / "x.activitynet.json")
    writer_for(tmp_path / "y.activitynet.json")
