"""Which kind a label file is, which videos its names mean, and what any damage of it leads to."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from rratag.data.label_file import labels_csv
from rratag.data.labels import from_csv, from_file
from rratag.data.readers import table
from rratag.data.readers.opened import parts_beside, split_in_name
from rratag.data.readers.table import READERS
from rratag.errors import LabelError, RratagError, UsageError
from tests.data.annotation_files import ACTIVITYNET, KINETICS, SOMETHING, read, rows, save, ucf


def kind_of(path: Path) -> str:
    return table.read(path).kind


# --- all kinds ---


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", "it is empty"),
        (" \n\n", "it is empty"),
        ("{}", "it is other JSON"),
        ("[]", "it is other JSON"),
        ('{"0": "house wren"}', "it is other JSON"),
        ("name,tag\na,b\n", r"the first line has the columns name, tag \(--columns video=\.\.\."),
        (
            "a.mp4,cat\nb.mp4,dog\n",
            r"the first line names a video and no columns \(put a line such as video,label above",
        ),
        ("100218;Something falling\n", "the first line names a video and no columns"),
        ("v\0i\0d\0e\0o\0,\0l\0", "it holds NUL characters, as UTF-16 without its mark does"),
        ("1 ApplyEyeMakeup\n2 Archery\n", "it begins with '1 ApplyEyeMakeup'"),
        ("x" * 100_000, r"it begins with 'x{60}'\.\.\."),
    ],
)
def test_what_is_not_recognised_names_the_kinds(tmp_path: Path, content: str, found: str) -> None:
    with pytest.raises(LabelError, match=rf"f\.txt: not a label file of a known kind, {found}") as caught:
        read(save(tmp_path / "f.txt", content))
    assert all(reader.says in str(caught.value) for reader in READERS.values())
    assert "\n" not in str(caught.value)


def test_a_csv_without_a_column_is_told_as_ever(tmp_path: Path) -> None:
    with pytest.raises(
        LabelError, match=r"l\.csv:1: no column 'label'; columns present: video, tag; .*--columns label="
    ):
        read(save(tmp_path / "l.csv", "video,tag\na,b\n"))
    path = save(tmp_path / "l.csv", "youtube_id,label,time_start,time_end\na,b,1,2\n")
    assert kind_of(path) == "kinetics"
    assert table.read(path, {"video": "youtube_id"}).kind == "csv"
    with pytest.raises(UsageError, match="no such label file"):
        read(tmp_path / "none.json")
    with pytest.raises(LabelError, match="cannot be read"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "split", "beside"),
    [
        ("trainlist01.txt", "train", ["testlist01.txt", "vallist01.txt"]),
        ("test_list.json", "test", ["train_list.json"]),
        ("kinetics400_val.csv", "validation", ["kinetics400_train.csv"]),
        ("Training.csv", "train", []),
        ("trains.csv", "", []),
        ("Train_list.json", "train", ["Test_list.json"]),
        ("k_TRAIN.csv", "train", ["k_VAL.csv"]),
        ("train_val.csv", "", []),
        ("latest.csv", "", []),
        ("labels.csv", "", []),
    ],
)
def test_parts_of_a_set_differ_in_the_split_alone(tmp_path: Path, name: str, split: str, beside: list[str]) -> None:
    for one in [name, *beside, "trainlist02.txt", "test_list2.json", "kinetics600_train.csv"]:
        save(tmp_path / one, "")
    assert split_in_name(tmp_path / name) == split
    assert [path.name for path in parts_beside(tmp_path / name)] == beside


def test_a_file_of_another_kind_beside_is_not_read_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "test.csv", "id;template\n")
    path = save(tmp_path / "train.csv", "label,youtube_id,time_start,time_end,split\n")
    assert read(path).files == [path]
    assert f"{tmp_path / 'test.csv'} lies beside train.csv, but is not of its kind (kinetics): not read" in caplog.text


def test_blank_lines_and_a_cut_end_do_not_change_the_kind(tmp_path: Path) -> None:
    """The kind is told by the first characters, the last line of which may be half a line."""
    path = save(tmp_path / "list.txt", "\n" * 4 + "".join(f"cat/a{number:05} 5 1\n" for number in range(8000)))
    assert read(path, "cat/a07999").instances[0].label == "1"
    path = save(tmp_path / "train.txt", "\n" + "".join(f"A/v_A_g01_c{number:05}.avi 1\n" for number in range(5000)))
    assert kind_of(path) == "ucf101"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "video,label,Start_s\na.mp4,x,1\n",
            "l.csv:1:13: column 'Start_s' is not 'start_s'; write it so, or --columns",
        ),
        ("video,label\n,cat\n", "l.csv:2:1: no video in this row"),
        ("video,label,end_s\na.mp4,cat,0\n", "l.csv:2:11: start_s 0 is not before end_s 0"),
        ('video,label\na.mp4, "cat"\n', "l.csv:2:7: a blank before a quote, which then means nothing"),
    ],
)
def test_what_would_be_half_read_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(LabelError, match=re.escape(message)):
        read(save(tmp_path / "l.csv", content), "a.mp4")


# --- names and videos ---


def test_a_name_that_is_an_id_comes_before_one_that_is_like_it(tmp_path: Path) -> None:
    """``1.mp4`` has gone; that of another folder, which has a row of its own, does not take its place."""
    path = save(tmp_path / "l.csv", "video,label\n1.mp4,cat\na/1.mp4,dog\n")
    found = read(path, "a/1.mp4")
    assert rows(found) == [("a/1.mp4", "dog", None, None, "")]
    assert found.missing == ["1.mp4"]


def test_ambiguous_names_label_nothing_and_are_told(tmp_path: Path) -> None:
    found = read(save(tmp_path / "l.csv", "video,label\nx,cat\ny,dog\n"), "a/x.mp4", "b/x.mp4", "a/y.mp4")
    assert [(one.video, one.label) for one in found.instances] == [
        ("a/x.mp4", None),
        ("a/y.mp4", "dog"),
        ("b/x.mp4", None),
    ]
    assert found.ambiguous == ["x: a/x.mp4 or b/x.mp4"]
    found = read(save(tmp_path / "list.txt", "a/1 3\nb/1 4\n"), "1.mp4")
    assert [one.label for one in found.instances] == [None]
    assert found.ambiguous == ["1.mp4: a/1 or b/1"]
    assert found.doubts == ["1 names of the label file are ambiguous and not used, e.g. 1.mp4: a/1 or b/1"]


def test_contradictions_can_be_told_together(tmp_path: Path) -> None:
    path = save(tmp_path / "l.csv", "video,label,split\na,x,\na,y,\na,x,train\nb,x,\n\nb,x,\n")
    found = read(path, "a.mp4", "b.mp4", tell_conflicts=True)
    assert [(one.video, one.label) for one in found.instances] == [("a.mp4", "x"), ("b.mp4", "x")]
    assert found.duplicates == 1
    assert found.conflicts == [
        f"{path}:3:3: video 'a.mp4' has label 'y' here and 'x' on line 2; keep one of the two",
        f"{path}:4:5: video 'a.mp4' has split 'train' here and '' on line 2; keep one of the two",
    ]


def test_several_labels_of_a_video_are_meant_where_the_file_says_so(tmp_path: Path) -> None:
    text = "video,label,several\na.mp4,x,1\na.mp4,y,yes\na.mp4,y,1\nb.mp4,x,\n"
    path = save(tmp_path / "l.csv", text)
    found = read(path, "a.mp4", "b.mp4")
    assert [(one.video, one.label) for one in found.instances] == [("a.mp4", "x"), ("a.mp4", "y"), ("b.mp4", "x")]
    again = save(tmp_path / "again.csv", labels_csv(found.instances))
    assert from_csv(again, {"a.mp4": "key of a.mp4", "b.mp4": "key of b.mp4"}).instances == found.instances
    path.write_text("video,label,split,several\na.mp4,x,train,1\na.mp4,y,test,1\n")
    with pytest.raises(LabelError, match=r":3:9: video 'a\.mp4' has split 'test' here and 'train' on line 2"):
        read(path, "a.mp4")
    for wrong, message in (("y,\n", r":3:7: video .* has label 'y' here and 'x'"), ("y,maybe\n", r":3:9: several is")):
        with pytest.raises(LabelError, match=message):
            read(save(path, f"video,label,several\na.mp4,x,1\na.mp4,{wrong}"), "a.mp4")


def test_without_videos_every_name_is_one(tmp_path: Path) -> None:
    found = from_file(save(tmp_path / "k.csv", KINETICS), None)
    assert [one.video for one in found.instances][:2] == ["---QUuC4vJs_000084_000094", "--3ouPhoy2A_000020_000030"]
    assert {one.start_s for one in found.instances} == {None}
    found = from_file(ucf(tmp_path), None)
    assert found.instances[0].video == "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi"
    assert found.missing == found.unnamed == []
    found = from_file(save(tmp_path / "l.csv", "video,label\nb\\ud800.mp4,x\na\\xff.mp4,y\n"), None)
    assert [one.video for one in found.instances] == ["a\udcff.mp4", "b\ud800.mp4"]


def test_videos_that_are_not_there_keep_their_labels_where_asked(tmp_path: Path) -> None:
    path = save(tmp_path / "net.json", ACTIVITYNET)
    found = read(path, "v_QOlSCBRmfWY.mp4", keep_missing=True)
    assert [(one.video, one.label, one.key) for one in found.instances if one.start_s == 0] == [
        ("blockedVid_", "Surfing", ""),
        ("v_v8IbzVjGr", "Surfing", ""),
    ]
    assert found.missing == ["v_v8IbzVjGr", "blockedVid_", "-estingVid0"]
    path = save(tmp_path / "l.csv", "video,label\nx,cat\na/x.mp4,dog\n")  # the one that x is like is another's
    found = read(path, "a/x.mp4", keep_missing=True)
    assert [(one.video, one.label) for one in found.instances] == [("a/x.mp4", "dog"), ("x", "cat")]
    assert found.missing == ["x"]


SHAPES: dict[str, str] = {
    "net.json": json.dumps(ACTIVITYNET, indent=1),
    "k_train.csv": KINETICS,
    "train_list.json": '[["a", 0], ["b", 1], ["c", "2"]]',
    "ss_train.json": json.dumps(SOMETHING, indent=1),
    "trainlist01.txt": "A/v_A_g08_c01.avi 1\r\nB/v_B_g25_c07.avi 2\r\n",
    "a_test_split1.txt": "x.avi 1 \ny.avi 2\nz.avi 0\n",
    "list.txt": "cat/1.mp4 120 0\nmy dog/2 b.mp4 64 1\n",
    "l.csv": "video,label,start_s,end_s,split,group,several\na.mp4,x,1,2,val,g,1\na.mp4,y,1,2,val,g,1\n",
    "label2name.json": '{"0": "x", "1": "y", "2": "z"}',
    "classInd.txt": "1 A\n2 B\n",
    "classes.txt": "q\nr\n",
}
READ_BY = {"label2name.json": "train_list.json", "classInd.txt": "trainlist01.txt", "classes.txt": "list.txt"}
JUNK = [*'",{}[]\n\r\0 1-:/;\t', "NaN", "null", "\\ud800", "9" * 5000, "..", "\ufeff", "é", "\u0661", "\udcff"]


@pytest.mark.parametrize("name", SHAPES)
def test_damage_anywhere_is_one_line_or_labels_that_can_be_written(tmp_path: Path, name: str) -> None:
    """Each file with a few random pieces put in or taken out: never another error than ours."""
    rng = random.Random(name)
    files = {"v_QOlSCBRmfWY.mp4", "a.mp4", "b.mkv", "A/v_A_g08_c01.avi", "x.avi", "cat/1.mp4", "whole000000.mp4"}
    outcomes = set()
    for other, content in SHAPES.items():
        save(tmp_path / other, content)
    for _ in range(60):
        text = SHAPES[name]
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + (rng.choice(JUNK) if rng.random() < 0.6 else "") + text[at + rng.choice([0, 1, 9]) :]
        save(tmp_path / name, text.encode("utf-8", "surrogateescape"))
        message = ""
        try:
            found = read(tmp_path / READ_BY.get(name, name), *files)
        except RratagError as error:
            message = str(error)
        else:
            again = from_csv(save(tmp_path / "out.csv", labels_csv(found.instances)), dict.fromkeys(files, "k"))
            assert [row for row in rows(again) if row[1]] == [row for row in rows(found) if row[1]]
        assert "\n" not in message
        outcomes.add(bool(message))
    assert outcomes == {True, False}
