"""Files of tags: exact columns and bytes, nothing half-written, and every name back as it was."""

from __future__ import annotations

import csv
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rratag.errors import RratagError, UsageError
from rratag.records import Receipt
from rratag.tag import writers
from rratag.tag.predict import Prediction
from rratag.tag.rows import About, TagRow, tagged
from rratag.tag.writers import WRITERS, read_tags, write_report, write_tags, writer_for

ABOUT = About({"name": "latest"}, {"crops": "1"}, {"precision": "fp32"}, num_glimpses=2, top=2)
PIECES = st.sampled_from(
    [*"'=-+@\",\n\r\t\x1b\x7f\x85\u2028\u202e\u200b\ufeff", "\\xff", "\\ud800", "\udcff", "é", "a"]
)
NAMES = st.one_of(
    st.lists(PIECES, min_size=1, max_size=6).map("".join),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8),
)


def make_prediction(video: str, class_names: list[str], seed: int = 0, num_glimpses: int = 2) -> Prediction:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(1, num_glimpses, len(class_names))).astype(np.float32)
    odds = np.exp(logits[0].astype(float))
    glimpses = odds / odds.sum(axis=1, keepdims=True)
    together = np.exp(logits[0].sum(axis=0))
    attention = rng.random((num_glimpses, 3))
    corners = np.sort(rng.random((1, num_glimpses, 2, 2)), axis=2)  # lower, upper of x and y
    return Prediction(
        receipt=Receipt(video, "partial", "damaged", "2 of 3 frames", frames_wanted=3),
        class_names=class_names,
        logits=logits,
        glimpse_scores=glimpses,
        scores=glimpses.mean(axis=0),
        concatenation_scores=together / together.sum(),
        attention=attention / attention.sum(axis=1, keepdims=True),
        time_s=np.array([0.5, 1.25, 2.0006]),
        peak_frames=rng.integers(0, 3, (1, num_glimpses)),
        peak_boxes=corners.reshape(1, num_glimpses, 4),
    )


def by_hand(video: str = "a/1.mp4") -> Prediction:
    glimpses = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    return Prediction(
        receipt=Receipt(video, "ok"),
        class_names=["cat", "dog", "fox"],
        logits=np.log(glimpses)[None].astype(np.float32),
        glimpse_scores=glimpses,
        scores=np.array([0.4, 0.25, 0.35]),
        concatenation_scores=np.array([0.2, 0.5, 0.3]),
        attention=np.array([[0.9, 0.1], [0.25, 0.75]]),
        time_s=np.array([1.0, 3.00049]),
        peak_frames=np.array([[0, 1]]),
        peak_boxes=np.array([[[0.0, 0.1, 0.5, 1.0], [0.25, 0.33336, 0.5, 0.75]]]),
    )


FAILED = Receipt("a/0.mp4", "unreadable", "empty", "the file is empty")


def test_csv_to_the_byte(tmp_path: Path) -> None:
    write_tags([by_hand(), FAILED], tmp_path / "tags.csv", ABOUT)
    assert (tmp_path / "tags.csv").read_bytes().decode() == (
        "video,status,reason,rank,label,score,glimpse_1,glimpse_2,time_s,box,frames_used,message\n"
        "a/0.mp4,unreadable,empty,,,,,,,,0,the file is empty\n"
        'a/1.mp4,ok,,1,cat,0.400000,0.700000,0.100000,1.000,"0.0000,0.1000,0.5000,1.0000",2,\n'
        'a/1.mp4,ok,,2,fox,0.350000,0.100000,0.600000,3.000,"0.2500,0.3334,0.5000,0.7500",2,\n'
    )


def test_concatenation_scores_rank_when_asked(tmp_path: Path) -> None:
    about = About({}, {}, {}, num_glimpses=2, top=1, score="concat")
    write_tags([by_hand()], tmp_path / "tags.csv", about)
    (row,) = read_tags(tmp_path / "tags.csv")
    assert (row.label, row.score, row.glimpses) == ("dog", 0.5, (0.2, 0.3))


def test_json_holds_every_glimpse_and_the_run(tmp_path: Path) -> None:
    write_tags([by_hand(), FAILED], tmp_path / "tags.json", ABOUT)
    content = json.loads((tmp_path / "tags.json").read_text())
    assert {name: content[name] for name in ("model", "spec", "compute", "score", "version")} == {
        "model": {"name": "latest"},
        "spec": {"crops": "1"},
        "compute": {"precision": "fp32"},
        "score": "ensemble",
        "version": 1,
    }
    failed, video = content["videos"]
    assert (failed["status"], failed["tags"], failed["glimpses"]) == ("unreadable", [], [])
    assert video["time_s"] == [1.0, 3.0]
    assert video["glimpses"] == [
        {"tags": [{"label": "cat", "score": 0.7}, {"label": "dog", "score": 0.2}], "attention": [0.9, 0.1]},
        {"tags": [{"label": "fox", "score": 0.6}, {"label": "dog", "score": 0.3}], "attention": [0.25, 0.75]},
    ]


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_class_whose_name_is_not_utf8(tmp_path: Path, suffix: str) -> None:
    names = ["caf\udce9", "dog"]
    about = About({"class_names": names, "info": {"na\udcffme": ("\udcff",)}}, {"a": "\udcff"}, {}, 2, 2)
    path = tmp_path / f"tags{suffix}"
    write_tags([make_prediction("a/1.mp4", names)], path, about)
    assert {row.label for row in read_tags(path)} == set(names)
    if suffix != ".csv":
        head = json.loads(path.read_text().partition("\n")[0] + ("]}" if suffix == ".json" else ""))
        assert head["model"] == {"class_names": ["caf\\xe9", "dog"], "info": {"na\\xffme": ["\\xff"]}}
        assert head["spec"] == {"a": "\\xff"}


def test_jsonl_is_a_head_and_one_line_per_video(tmp_path: Path) -> None:
    write_tags([by_hand(), FAILED], tmp_path / "tags.jsonl", ABOUT)
    write_tags([by_hand(), FAILED], tmp_path / "tags.json", ABOUT)
    head, *records = map(json.loads, (tmp_path / "tags.jsonl").read_bytes().splitlines())
    whole = json.loads((tmp_path / "tags.json").read_bytes())
    assert records == whole.pop("videos")
    assert head == whole


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(NAMES, st.booleans(), max_size=4),
    st.lists(NAMES, min_size=1, max_size=4, unique=True),
    NAMES,
    st.integers(1, 3),
)
@example({"=1": True, "+1": True, "-1": False, "@a": True, "\ta": True, "\ra": False, '"a': True}, ["'=", "="], "=", 2)
@example({"'=1": True, "''": False, "=1": True, "\\x5cxff\udcff": True}, ["-1", "'-1"], "-", 1)
def test_every_format_gives_the_same_rows_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, videos: dict[str, bool], class_names: list[str], message: str, top: int
) -> None:
    folder = tmp_path_factory.mktemp("tags")
    about = About({}, {}, {}, num_glimpses=2, top=top)
    results = [
        make_prediction(video, class_names, seed) if good else Receipt(video, "timed_out", "limit", message)
        for seed, (video, good) in enumerate(videos.items())
    ]
    expected = [
        row for result in sorted(results, key=lambda one: os.fsencode(one.video)) for row in tagged(result, about).rows
    ]
    for suffix in WRITERS:
        write_tags(iter(results), folder / f"tags{suffix}", about)
        assert read_tags(folder / f"tags{suffix}") == expected


def test_rows_are_sorted_by_the_bytes_of_the_name(tmp_path: Path) -> None:
    names = ["b", "a/z", "a b", "é", "Z", "\udcff", "a"]
    write_tags((by_hand(name) for name in names), tmp_path / "t.csv", About({}, {}, {}, 2, 1))
    assert [row.video for row in read_tags(tmp_path / "t.csv")] == ["Z", "a", "a b", "a/z", "b", "é", "\udcff"]


def test_dash_is_csv_on_stdout(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    write_tags([by_hand()], "-", ABOUT)
    write_tags([by_hand()], tmp_path / "t.csv", ABOUT)
    assert capsysbinary.readouterr().out == (tmp_path / "t.csv").read_bytes()


@pytest.mark.parametrize("name", ["tags.xlsx", "tags", "tags.csv.gz"])
def test_unknown_suffix_names_the_accepted_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"choose from \.csv, \.json, \.jsonl, \.activitynet\.json, or -"):
        writer_for(tmp_path / name)


def test_places_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        writer_for(tmp_path / "none" / "tags.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        writer_for(tmp_path / "folder.csv")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests may run as root, who may write anywhere
    with pytest.raises(UsageError, match="cannot be written"):
        writer_for(tmp_path / "tags.csv")


def test_a_failure_on_the_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_tags([by_hand()], tmp_path / "t.csv", ABOUT)
    before = (tmp_path / "t.csv").read_bytes()

    def results():  # type: ignore[no-untyped-def]
        yield by_hand("other")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tags(results(), tmp_path / "t.csv", ABOUT)
    assert (tmp_path / "t.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writers.files, "write_atomically", full)
    with pytest.raises(RratagError, match=r"t\.csv: cannot be written \(No space left on device\)"):
        write_tags([by_hand()], tmp_path / "t.csv", ABOUT)


def test_glimpses_that_were_not_announced_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 glimpses in the prediction, 4 announced"):
        write_tags([by_hand()], tmp_path / "t.csv", About({}, {}, {}, 4, 1))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"video,label\n", "not a tags file of rratag"),
        ("t.csv", b"", "not a tags file of rratag"),
        ("t.csv", b"\xff", "not UTF-8 at byte 0"),
        ("t.json", b"{}", "not a tags file"),
        ("t.json", b"[1", "not a tags file"),
        ("t.jsonl", b"", "not a tags file"),
        ("t.jsonl", b'{"format": "rratag-tags", "version": 2}\n', "version 2, this program reads 1"),
        ("t.jsonl", b'{"format": "rratag-tags", "version": 1}\n[]\n', "not a tags file"),
        ("t.txt", b"", "unknown suffix '.txt'"),
    ],
)
def test_files_that_are_not_ours_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_tags(tmp_path / name)


def test_csv_with_a_broken_row_names_the_line(tmp_path: Path) -> None:
    write_tags([by_hand()], tmp_path / "t.csv", ABOUT)
    with open(tmp_path / "t.csv", "a") as file:
        file.write("a,b\n")
    with pytest.raises(UsageError, match="line 4: 2 cells instead of 12"):
        read_tags(tmp_path / "t.csv")


ROWS: dict[str, tuple[dict[str, str], str]] = {
    "score is none": ({"score": "nan"}, "row 1: scores that are not 3 numbers from 0 to 1"),
    "score is endless": ({"score": "inf"}, "row 1: scores that are not"),
    "score is above 1": ({"score": "1.5"}, "row 1: scores that are not"),
    "no score": ({"score": ""}, "row 1: scores that are not"),
    "score is text": ({"score": "high"}, "could not convert"),
    "glimpse is negative": ({"glimpse_2": "-0.1"}, "row 1: scores that are not"),
    "no glimpse": ({"glimpse_2": ""}, "could not convert"),
    "rank 0": ({"rank": "0"}, "row 1: rank 0 where 1 is expected"),
    "rank 2 first": ({"rank": "2"}, "row 1: rank 2 where 1 is expected"),
    "rank is text": ({"rank": "first"}, "invalid literal"),
    "rank of thousands of digits": ({"rank": "9" * 9000}, "digits"),
    "no rank": ({"rank": ""}, "row 1: rank None where 1 is expected"),
    "unknown status": ({"status": "eaten"}, "row 1: unknown status 'eaten'; accepted: ok, partial"),
    "failed with tags": ({"status": "vanished"}, "row 1: rank 1 where none is expected"),
    "reason of another status": ({"reason": "empty"}, "row 1: status 'ok' has no reason 'empty'"),
    "label twice": ({"label": "fox"}, "row 2: a label that is there twice"),
    "a name that no disk can hold": ({"video": "\\ud800"}, "can't encode"),
    "video twice": ({"video": "a/0.mp4"}, "row 2: rank 1 where 2 is expected|a/0.mp4.*row 2"),
    "time is none": ({"time_s": "nan"}, "row 1: a time or box that is none"),
    "box outside": ({"box": "0,0,1,2"}, "row 1: a time or box"),
    "box of three": ({"box": "0,0,1"}, "not enough values"),
    "negative frames": ({"frames_used": "-2"}, "row 1: frames_used is no count"),
    "half frames": ({"frames_used": "1.5"}, "invalid literal"),
    "a huge cell": ({"message": "x" * 200_000}, "field larger than field limit"),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_we_would_not_write_are_refused(tmp_path: Path, name: str) -> None:
    changes, words = ROWS[name]
    path = tmp_path / "t.csv"
    write_tags([by_hand(), FAILED], path, ABOUT)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[1] |= changes
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(UsageError, match=rf"t\.csv: not a tags file of rratag \(.*({words})") as caught:
        read_tags(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 400


def test_a_video_in_two_places_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_tags([by_hand(), FAILED], path, ABOUT)
    header, failed, *tagged_rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join([header, failed, *tagged_rows, failed]))
    with pytest.raises(UsageError, match=r"video 'a/0\.mp4' is there twice"):
        read_tags(path)


def test_columns_in_another_order_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_tags([by_hand()], path, ABOUT)
    path.write_text(path.read_text().replace("glimpse_1,glimpse_2", "glimpse_2,glimpse_1"))
    with pytest.raises(
        UsageError, match=r"columns 'video,.* instead of 'video,status,reason,rank,label,score,glimpse_1"
    ):
        read_tags(path)


VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "rank of True": ({"rank": True}, "rank True where 1 is expected"),
    "rank of text": ({"rank": "1"}, "rank '1' where 1 is expected"),
    "score of text": ({"score": "0.5"}, "scores that are not 3 numbers"),
    "score of True": ({"score": True}, "scores that are not"),
    "score is none": ({"score": float("nan")}, "NaN is no number of JSON"),
    "glimpses of another number": ({"glimpses": [0.5]}, "row 1: scores|row 2: scores"),
    "glimpses of text": ({"glimpses": "ab"}, "scores that are not"),
    "glimpses of a number": ({"glimpses": 3}, "not iterable"),
    "label of a list": ({"label": ["cat"]}, "expected string"),
    "time of text": ({"time_s": "1"}, "a time or box that is none"),
    "box of texts": ({"box": ["0", "0", "1", "1"]}, "a time or box"),
    "deep": ({"label": json.loads("[" * 40 + "]" * 40)}, "levels deep"),
}


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("name", VALUES)
def test_values_of_other_types_are_refused(tmp_path: Path, name: str, suffix: str) -> None:
    changes, words = VALUES[name]
    write_tags([by_hand()], tmp_path / "t.json", ABOUT)
    head = json.loads((tmp_path / "t.json").read_text())
    (video,) = head.pop("videos")
    video["tags"][0] |= changes
    whole = json.dumps({**head, "videos": [video]})
    (tmp_path / f"t{suffix}").write_text(whole if suffix == ".json" else f"{json.dumps(head)}\n{json.dumps(video)}\n")
    with pytest.raises(UsageError, match=rf"not a tags file of rratag \(.*({words})"):
        read_tags(tmp_path / f"t{suffix}")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UsageError, match=r"cannot be read \(not a regular file\)"):
        read_tags(tmp_path / "pipe.csv")


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_tags(tmp_path / "t.csv")


def test_failed_video_without_rank_is_one_row() -> None:
    assert tagged(FAILED, ABOUT).rows == [
        TagRow("a/0.mp4", "unreadable", "empty", message="the file is empty", frames_used=0)
    ]


def test_report_has_the_columns_of_a_receipt(tmp_path: Path) -> None:
    good = Receipt("=a.mp4", "ok", decoder="pyav", frames_wanted=25, duration_s=1.5, width=640, seconds=0.125)
    write_report(tmp_path / "r.csv", [good, Receipt("b\udcff.mp4", "unreadable", "empty", "the file, it is empty")])
    assert (tmp_path / "r.csv").read_text() == (
        "video,status,reason,message,decoder,fallback_from,frames_wanted,frames_decoded,frames_distinct,"
        "frames_damaged,duration_s,width,height,rotation,seconds\n"
        "'=a.mp4,ok,,,pyav,,25,0,0,0,1.5,640,0,0,0.125\n"
        'b\\xff.mp4,unreadable,empty,"the file, it is empty",,,0,0,0,0,,0,0,0,0\n'
    )


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("first", [by_hand("a/0.mp4"), FAILED], ids=["usable", "failed"])
def test_a_video_reached_twice_comes_back_with_both_rows(tmp_path: Path, suffix: str, first: Any) -> None:
    again = Receipt("a/0.mp4", "skipped", "duplicate_path", "reached twice by overlapping inputs; read once")
    write_tags([again, by_hand("b.mp4"), first], tmp_path / f"tags{suffix}", ABOUT)
    rows = read_tags(tmp_path / f"tags{suffix}")
    wanted = [*tagged(first, ABOUT).rows, *tagged(again, ABOUT).rows, *tagged(by_hand("b.mp4"), ABOUT).rows]
    assert sorted(map(repr, rows)) == sorted(map(repr, wanted))


def test_pipes_are_not_replaced_and_links_stay_links(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for write in (lambda path: write_tags([FAILED], path, ABOUT), lambda path: write_report(path, [FAILED])):
        with pytest.raises(UsageError, match="a device or pipe, which is not replaced"):
            write(tmp_path / "pipe.csv")
        (tmp_path / "there").mkdir(exist_ok=True)
        link = tmp_path / "link.csv"
        if not link.is_symlink():
            link.symlink_to("there/tags.csv")
        write(link)
        assert link.is_symlink()
        assert (tmp_path / "there/tags.csv").read_text().startswith("video,status")
    assert stat.S_ISFIFO((tmp_path / "pipe.csv").stat().st_mode)


def test_a_closed_stdout_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(RratagError, match="stdout is closed"):
        write_tags([FAILED], "-", ABOUT)
