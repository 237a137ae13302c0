"""Label files in the shape of the originals, with their oddities, and broken ones: one line with file and place."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rratag.data.labels import whole_videos
from rratag.errors import LabelError
from rratag.records import Instance
from tests.data.annotation_files import ACTIVITYNET, CLIPS, KINETICS, SOMETHING, read, rows, save, ucf

# --- ActivityNet ---


def test_activitynet(tmp_path: Path) -> None:
    path = save(tmp_path / "activity_net.v1-3.min.json", ACTIVITYNET)
    files = ("v_QOlSCBRmfWY.mp4", "val/v_v_v8IbzVjGr.mkv", "test/v_-estingVid0.mp4", "v_reversed_id.mp4", "other.mp4")
    found = read(path, *files)
    assert (found.kind, found.files) == ("activitynet", [path])
    start = 6.195294851794072
    assert rows(found) == [
        ("other.mp4", None, None, None, ""),
        ("test/v_-estingVid0.mp4", None, None, None, "test"),
        ("v_QOlSCBRmfWY.mp4", "Baton twirling", start, 40.0, "train"),
        ("v_QOlSCBRmfWY.mp4", "Surfing", start, 40.0, "train"),
        ("v_QOlSCBRmfWY.mp4", "Putting in contact lenses", 55.5, 70.25, "train"),
        ("v_reversed_id.mp4", None, None, None, ""),
        ("val/v_v_v8IbzVjGr.mkv", "Surfing", 0.0, 3.5, "validation"),
    ]
    assert found.instances[2].key == "key of v_QOlSCBRmfWY.mp4"
    assert (found.missing, found.duplicates, found.unnamed) == (["blockedVid_"], 1, ["other.mp4", "v_reversed_id.mp4"])
    assert found.left_out == ["database/reversed_id/annotations/0: segment [9.5, 9.5] holds no time"]
    assert found.doubts == [f"1 labels of the label file are left out, e.g. {found.left_out[0]}"]


def test_labels_of_whole_videos_are_each_label_once() -> None:
    instances = [
        Instance("a", "k", "x", start_s=1.0, end_s=2.0),
        Instance("a", "k", "y", start_s=1.0, end_s=2.0),
        Instance("a", "k", "x", start_s=5.0),
        Instance("b", "l", "x"),
    ]
    whole = [("a", "x"), ("a", "y"), ("b", "x")]
    found = whole_videos(instances)
    assert [(one.video, one.label) for one in found] == whole
    assert {(one.start_s, one.end_s) for one in found} == {(None, None)}


def broken_activitynet(**change: Any) -> str:
    """The same, one value a line, one of the second video changed."""
    entry = {"subset": "training", "annotations": [{"segment": [1, 2], "label": "a"}]} | change
    return json.dumps({"version": "1", "database": {"first": {"subset": "training"}, "second": entry}}, indent=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subset": "dev"}, r":8:14: database/second/subset: unknown subset 'dev'; choose from training"),
        ({"subset": 3}, r":8:14: database/second/subset: unknown subset 3"),
        ({"annotations": {}}, r":9:19: database/second/annotations: expected a list, found a dict"),
        ({"annotations": [7]}, r":10:5: database/second/annotations/0: expected an object with label and segment"),
        ({"annotations": [{"label": "a"}, {"label": 5}]}, r":14:15: database/second/annotations/1/label: expected a n"),
        ({"annotations": [{"label": "a"}, {"label": " "}]}, r":14:15: .*/1/label: expected a name, found ' '"),
        ({"annotations": [{"segment": [0, 1]}]}, r":10:5: .*/0/label: expected a name, found None"),
        ({"annotations": [{"label": "\ud800"}]}, r":11:15: .*/0/label: .* holds half a character"),
        ({"annotations": [{"label": "a", "segment": [1]}]}, r":12:17: .*/0/segment: expected \[start, end\]"),
        ({"annotations": [{"label": "a", "segment": [1, "2"]}]}, r":12:17: .*/0/segment: expected"),
        ({"annotations": [{"label": "a", "segment": [-1, 2]}]}, r":12:17: .*/0/segment: expected"),
        ({"annotations": [{"label": "a", "segment": [True, 2]}]}, r":12:17: .*/0/segment: expected"),
    ],
)
def test_a_wrong_value_of_activitynet_has_its_way_and_place(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = save(tmp_path / "a.json", broken_activitynet(**change))
    with pytest.raises(LabelError, match=rf"a\.json{message}") as caught:
        read(path, "second.mp4")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"database": {\n  "a": {"subset": "training",}}}', r"a\.json:2:(29|30): not JSON"),
        ('{"database": {\n  "a": ', r"a\.json:2:8: not JSON"),
        ('{"database": {}} x', r"a\.json:1:18: not JSON \(Extra data\)"),
        ('{"database": {\n "a": {}, "b": {},\n "a": {}}}', r"a\.json:3:2: .*'a' is there twice"),
        (
            '{"v": {"x": 1},\n "database": {"a": {"b": [0, {}, {"c": 1, "c": 2}]}}}',
            r"a\.json:2:43: .*'c' is there twice",
        ),
        ('{"database":\n {"a": {"duration": NaN}}}', r"a\.json:2:21: .*NaN is no number"),
        ('{"database":\n {"a": {"duration": 1e999}}}', r"a\.json:2:21: .*too large"),
        ('{"database":\n {"a": [[' + "[" * 40 + "]" * 40 + "]]}}", r"a\.json:\d+:\d+: .*levels deep"),
        ('{"database":\n {"a": NaN, "b": }}', r"a\.json:2:18: not JSON"),
        ('{"database":\n {"a": ' + "9" * 5000 + "}}", r"a\.json:2:8: .*too large"),
        ("[" * 100_000, r"a\.json:1:1: .*levels deep"),
        (b'{"database":\n {"\xe9": {}}}', r"a\.json:2:4: not UTF-8"),
        ('{"database": []}', r"a\.json:1:14: database: expected an object"),
    ],
)
def test_what_is_not_json_has_line_and_column(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(LabelError, match=message) as caught:
        read(save(tmp_path / "a.json", content))
    assert "\n" not in str(caught.value)


def test_json_with_a_byte_order_mark_and_dos_line_ends(tmp_path: Path) -> None:
    text = "\ufeff" + json.dumps(ACTIVITYNET, indent=1).replace("\n", "\r\n")
    found = read(save(tmp_path / "a.json", text), "v_QOlSCBRmfWY.mp4")
    assert len(found.instances) == 3
    with pytest.raises(LabelError, match=r"a\.json:2:19: not JSON"):
        read(save(tmp_path / "a.json", '\ufeff{\r\n "database": {"a" 1}}'))


# --- Kinetics ---


@pytest.mark.parametrize("content", [KINETICS, KINETICS.replace("\n", "\r\n"), "\ufeff" + KINETICS])
def test_kinetics(tmp_path: Path, content: str) -> None:
    found = read(save(tmp_path / "kinetics.csv", content), *CLIPS)
    assert found.kind == "kinetics"
    assert rows(found) == [
        ("_ab-cdEFgh1_000005_000015.webm", "massaging person's head", None, None, "validation"),
        ("eating_spaghetti/--3ouPhoy2A_000020_000030.mp4", "eating spaghetti, fast", None, None, "train"),
        ("gone0000000_000004_000014.mp4", None, None, None, ""),
        ("raw/whole000000.mkv", "testifying", 12.0, 22.0, "train"),  # the whole video: the interval counts
        ("raw/whole000000.mkv", "abseiling", 300.0, 310.0, "train"),
        ("testifying/---QUuC4vJs_000084_000094.mp4", "testifying", None, None, "train"),
    ]
    assert found.missing == ["gone0000000_000003_000013"]


def test_kinetics_test_files_have_no_labels(tmp_path: Path) -> None:
    path = save(tmp_path / "test.csv", "youtube_id,time_start,time_end,split\nabc,1,11,test\n")
    assert rows(read(path, "abc_000001_000011.mp4")) == [("abc_000001_000011.mp4", None, None, None, "test")]


def test_kinetics_without_a_column_of_splits_goes_by_the_name(tmp_path: Path) -> None:
    for name, split in (("train", "train"), ("validate", "validation")):
        save(tmp_path / f"{name}.csv", f"label,youtube_id,time_start,time_end\na,{name},1,11\n")
        one = read(tmp_path / f"{name}.csv", f"{name}.mp4", alone=True).instances
        assert [(each.video, each.split) for each in one] == [(f"{name}.mp4", split)]
    both = read(tmp_path / "validate.csv", "train.mp4", "validate.mp4")
    assert [(one.video, one.split) for one in both.instances] == [
        ("train.mp4", "train"),
        ("validate.mp4", "validation"),
    ]
    assert [path.name for path in both.files] == ["validate.csv", "train.csv"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,,1,2,train", r"k\.csv:2:3: no youtube_id"),
        ("a,b,soon,2,train", r"k\.csv:2:5: time_start is 'soon'"),
        ("a,b,,2,train", r"k\.csv:2:5: time_start is empty"),
        ("a,b,3,2,train", r"k\.csv:2:7: time_start 3 is not before time_end 2"),
        ("a,b,1,2,dev", r"k\.csv:2:9: unknown split 'dev'"),
        ("a,b,1,2", r"k\.csv:2: 4 cells, the header has 5"),
        ("a,b,1,11,train\nc,b,1,11,train", r"k\.csv:3: video 'b\.mp4' has label 'c' here and 'a' on line 2 of k\.csv"),
    ],
)
def test_broken_kinetics(tmp_path: Path, row: str, message: str) -> None:
    path = save(tmp_path / "k.csv", f"label,youtube_id,time_start,time_end,split\n{row}\n")
    with pytest.raises(LabelError, match=message):
        read(path, "b.mp4")


# --- YouTube-Birds and YouTube-Cars ---


def test_youtube_lists(tmp_path: Path) -> None:
    train = save(tmp_path / "train_list.json", [["xGCVzTgsdjE", 0], ["-4abc_defgh", 10], ["gone", 0]])
    test = save(tmp_path / "test_list.json", [["0123456789a", 1]])
    save(tmp_path / "label2name.json", {"10": "Anna's Hummingbird", "0": "house wren", "1": "Bewick's  wren"})
    ids = ("house wren/xGCVzTgsdjE.mp4", "-4abc_defgh.mp4", "x/0123456789a.mkv")
    found = read(train, *ids)
    assert (found.kind, found.files, found.missing) == ("youtube", [train, test], ["gone"])
    assert rows(found) == [
        ("-4abc_defgh.mp4", "Anna's Hummingbird", None, None, "train"),
        ("house wren/xGCVzTgsdjE.mp4", "house wren", None, None, "train"),
        ("x/0123456789a.mkv", "Bewick's  wren", None, None, "test"),
    ]
    assert [one.split for one in read(test, *ids, alone=True).instances if one.label] == ["test"]


def test_youtube_lists_without_names_keep_the_numbers(tmp_path: Path) -> None:
    path = save(tmp_path / "list.json", [["a", 7], ["b", "12"]])
    assert [(one.label, one.split) for one in read(path, "a.mp4", "b.mp4").instances] == [("7", ""), ("12", "")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[["a", 0],\n ["b"]]', r"train_list\.json:2:2: 1: expected \[id, number\]"),
        ('[["a", 0],\n {}]', r"train_list\.json:2:2: 1: expected \[id, number\]"),
        ('[["a", 0],\n [5, 0]]', r"train_list\.json:2:3: 1/0: expected a name, found 5"),
        ('[["a", 0],\n ["b", -1]]', r"train_list\.json:2:8: 1/1: expected the number of a class, found -1"),
        ('[["a", 0],\n ["b", true]]', r"train_list\.json:2:8: 1/1: expected the number of a class, found True"),
        ('[["a", 0],\n ["b", 3]]', r"train_list\.json:2:8: 1/1: label2name\.json has no name for 3"),
        (
            '[["a", 0], ["a", 1]]',
            r"train_list\.json:1:12: 1: video 'a\.mp4' has label 'y' here and 'x' on entry 0 of train",
        ),
    ],
)
def test_broken_youtube_lists(tmp_path: Path, content: str, message: str) -> None:
    save(tmp_path / "label2name.json", {"0": "x", "1": "y"})
    with pytest.raises(LabelError, match=message):
        read(save(tmp_path / "train_list.json", content), "a.mp4", "b.mp4")


def test_broken_names_are_told_of_their_own_file(tmp_path: Path) -> None:
    path = save(tmp_path / "train_list.json", [["a", 0]])
    for content, message in (
        ([], "expected an object"),
        ({"0": 4}, "1:7: 0: expected a name"),
        ({"0": "crane", "7": "crane"}, "1:21: 7: class 7 has the name of class 0"),
    ):
        save(tmp_path / "label2name.json", content)
        with pytest.raises(LabelError, match=rf"label2name\.json:.*{message}"):
            read(path)


# --- Something-Something ---


def test_something_something(tmp_path: Path) -> None:
    path = save(tmp_path / "something-something-v2-train.json", SOMETHING)
    names = {"Holding something next to something": "0", "Showing that something is empty": "1"}
    save(tmp_path / "something-something-v2-labels.json", names)
    test = save(tmp_path / "something-something-v2-test.json", [{"id": "1420"}])
    found = read(path, "20bn/78687.webm", "42326.webm", "1420.webm")
    assert (found.kind, found.files) == ("something", [path, test])
    assert rows(found) == [
        ("1420.webm", None, None, None, "test"),
        ("20bn/78687.webm", "Holding something next to something", None, None, "train"),
        ("42326.webm", "Showing that something is empty", None, None, "train"),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": None}, r"train\.json:1:\d+: 1/id: expected a name"),
        ({"template": 3}, r"train\.json:1:\d+: 1/template: expected a name, found 3"),
        (
            {"template": "Eating [something]"},
            r"1/template: the file of label names beside it has no 'Eating something'",
        ),
    ],
)
def test_broken_something_something(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    save(tmp_path / "labels.json", {"Holding something next to something": "0"})
    with pytest.raises(LabelError, match=message):
        read(save(tmp_path / "train.json", [SOMETHING[0], SOMETHING[1] | change]))


def test_something_something_needs_templates(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"train\.json:2:1: 1: no template"):
        read(save(tmp_path / "train.json", '[{"id": "1", "template": "a"},\n{"id": "2", "label": "a"}]'))


# --- UCF101 and HMDB51 ---


@pytest.mark.parametrize("where", ["{}/", "UCF-101/{}/", "", "elsewhere/"])
def test_ucf101(tmp_path: Path, where: str) -> None:
    path = ucf(tmp_path / "ucfTrainTestlist")
    names = {
        "v_ApplyEyeMakeup_g01_c01.avi": "ApplyEyeMakeup",
        "v_ApplyEyeMakeup_g08_c01.avi": "ApplyEyeMakeup",
        "v_HandStandPushups_g25_c07.avi": "HandstandPushups",
    }
    ids = [where.format(label) + name for name, label in names.items()]
    found = read(path, *ids)
    assert (found.kind, [file.name for file in found.files]) == ("ucf101", ["trainlist01.txt", "testlist01.txt"])
    assert found.missing == []
    assert [(one.video, one.label, one.split, one.group) for one in found.instances] == [
        (ids[0], "ApplyEyeMakeup", "test", "ApplyEyeMakeup_g01"),
        (ids[1], "ApplyEyeMakeup", "train", "ApplyEyeMakeup_g08"),
        (ids[2], "HandstandPushups", "train", "HandStandPushups_g25"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 37", r"list01\.txt:3: 37 is 'HandstandPushups' in classInd\.txt"),
        (
            "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 2",
            r"list01\.txt:3: 2 is None in classInd\.txt, the folder 'App",
        ),
    ],
)
def test_broken_ucf101(tmp_path: Path, line: str, message: str) -> None:
    path = ucf(tmp_path)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(LabelError, match=message):
        read(path)


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("v_Archery_g08_c01.avi", "Archery"),
        ("./v_Archery_g08_c01.avi", "Archery"),
        ("/v_Archery_g08_c01.avi", "Archery"),
        ("UCF-101/ Archery /v_Archery_g08_c01.avi", "Archery"),
        ("My Cats/v_MyCats_g08_c01.avi", "My Cats"),
    ],
)
def test_the_label_of_ucf101_is_the_folder_of_the_class(tmp_path: Path, path: str, label: str) -> None:
    assert [one.label for one in read(save(tmp_path / "train.txt", f"{path} 1\n"), Path(path).name).instances] == [
        label
    ]


def test_one_bad_line_makes_no_other_kind_of_a_list(tmp_path: Path) -> None:
    """Classes would be numbers then, and the split that in the file's name."""
    path = ucf(tmp_path)
    path.write_text(path.read_text() + "Biking/extra.avi 2\n")
    with pytest.raises(LabelError, match=r"trainlist01\.txt:3: expected Class/v_Class_g01_c01\.avi"):
        read(path)
    path = save(tmp_path / "dog_test_split1.txt", "c.avi 1 \nd.avi 3 \n")
    with pytest.raises(LabelError, match=r"dog_test_split1\.txt:2: expected name\.avi and 0, 1 or 2"):
        read(path)
    save(tmp_path / "cat_test_split1.txt", "a.avi 1\n")
    with pytest.raises(LabelError, match=r"dog_test_split1\.txt:2: expected name\.avi"):
        read(tmp_path / "cat_test_split1.txt")


def test_a_folder_that_is_no_class_of_ucf101_is_told(tmp_path: Path) -> None:
    lines = "Archery/v_Archery_g08_c01.avi 1\nvideos/v_Biking_g08_c01.avi 2\n"
    with pytest.raises(LabelError, match=r"train\.txt:2: the folder is 'videos', the clip's class 'Biking'"):
        read(save(tmp_path / "train.txt", lines))


def test_clips_of_two_hmdb51_classes_may_have_one_name(tmp_path: Path) -> None:
    path = save(tmp_path / "cat_test_split1.txt", "1.avi 1\n2.avi 2\n")
    assert read(path, "dog/1.avi").missing == ["cat/1.avi", "cat/2.avi"]
    save(tmp_path / "dog_test_split1.txt", "1.avi 2\n")
    (tmp_path / "hen_test_split1.txt").mkdir()
    assert rows(read(path, "cat/1.avi", "dog/1.avi", "2.avi")) == [
        ("2.avi", "cat", None, None, "test"),
        ("cat/1.avi", "cat", None, None, "train"),
        ("dog/1.avi", "dog", None, None, "test"),
    ]


def test_a_line_far_down_that_is_no_clip_is_told(tmp_path: Path) -> None:
    lines = [f"A/v_A_g01_c{number:05}.avi 1" for number in range(5000)]
    path = save(tmp_path / "trainlist01.txt", "\n".join([*lines, "A/b.avi 1"]))
    with pytest.raises(LabelError, match=r"trainlist01\.txt:5001: expected Class/v_Class_g01_c01\.avi"):
        read(path)


def test_hmdb51(tmp_path: Path) -> None:
    for part, trained in ((1, "1"), (2, "0")):
        save(
            tmp_path / f"brush_hair_test_split{part}.txt",
            f"April_09_brush_hair_u_nm_np1_ba_goo_0.avi {trained} \n#20_hair_h_cm_np1_ri_bad_1.avi 0 \n",
        )
        save(tmp_path / f"wave_test_split{part}.txt", "winKen_wave_u_cm_np1_ri_bad_1.avi 2 \n")
    path = tmp_path / "brush_hair_test_split1.txt"
    ids = ("brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "#20_hair_h_cm_np1_ri_bad_1.avi")
    found = read(path, *ids, "wave/winKen_wave_u_cm_np1_ri_bad_1.avi", alone=True)
    assert (found.kind, [file.name for file in found.files]) == (
        "hmdb51",
        ["brush_hair_test_split1.txt", "wave_test_split1.txt"],
    )
    assert rows(found) == [
        (ids[1], None, None, None, ""),
        (ids[0], "brush_hair", None, None, "train"),
        ("wave/winKen_wave_u_cm_np1_ri_bad_1.avi", "wave", None, None, "test"),
    ]
    path.write_text("a.avi 1\n" * 9000 + "a.avi 3\n")
    with pytest.raises(LabelError, match=r"brush_hair_test_split1\.txt:9001: expected name\.avi and 0, 1 or 2"):
        read(path)


# --- text lists ---


@pytest.mark.parametrize(
    "content",
    [
        "cat/1.mp4 0\nmy dog/2 b.mp4 1\n",
        "cat/1.mp4 120 0\nmy dog/2 b.mp4 64 1\n",
        "/home/them/frames/cat/1 120 0\r\n/home/them/frames/my dog/2 b 64 1\r\n",
        "\ufeffcat/1.mp4\t00\nmy dog/2 b.mp4\t01",
    ],
)
@pytest.mark.parametrize(
    ("file", "names"),
    [("", ("0", "1")), ("tabby cat\nit's a dog\n", ("tabby cat", "it's a dog")), ("1 b\n0 a\n", ("a", "b"))],
)
def test_text_lists(tmp_path: Path, content: str, file: str, names: tuple[str, str]) -> None:
    if file:
        save(tmp_path / "label_map_pets.txt", file)
    save(tmp_path / "classInd.txt", "1 one\n2 two\n")  # counts from 1: not the names of such a list
    found = read(save(tmp_path / "pets_val_list.txt", content), "cat/1.mp4", "my dog/2 b.mp4")
    assert found.kind == "list"
    assert rows(found) == [
        ("cat/1.mp4", names[0], None, None, "validation"),
        ("my dog/2 b.mp4", names[1], None, None, "validation"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.mp4 1\nb.mp4 1 2\n", r"list\.txt:2: expected path and class, as in the other lines"),
        ("a 12 163 3\n", r"list\.txt:1: expected path, frames and class"),
        ("a.mp4 1\n" * 9000 + "b.mp4\n", r"list\.txt:9001: expected path and class"),
        ("a 5 1\n" * 12000 + "b 1\n", r"list\.txt:12001: expected path, frames and class"),
        ("a.mp4 0\nb.mp4 7\n", r"list\.txt:2: class '7' has no name"),
        ("a.mp4 0\nb.mp4\n", r"list\.txt:2: expected path and class"),
    ],
)
def test_broken_text_lists(tmp_path: Path, content: str, message: str) -> None:
    save(tmp_path / "classes.txt", "zero\none\ntwo\nthree\n")
    with pytest.raises(LabelError, match=message):
        read(save(tmp_path / "list.txt", content), "a.mp4")


def test_two_files_of_class_names_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "classes.txt", "a\n")
    save(tmp_path / "label_map.txt", "b\n")
    with pytest.raises(LabelError, match=r"classes\.txt and label_map\.txt both name classes"):
        read(save(tmp_path / "list.txt", "a.mp4 0\n"))
    (tmp_path / "label_map.txt").unlink()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("0 a\n0 b\n", "classes.txt:2: expected a class name in UTF-8, and each number and name once"),
        ("a\na\n", "classes.txt:2: expected a class name in UTF-8, and each number and name once"),
        ("cat\n\ndog\n", "classes.txt:2: an empty line, which would count as a class"),
        ("0 cat\n1 dog\nhen\n", "classes.txt:3: expected number and name, as in the other lines"),
    ],
)
def test_broken_class_names(tmp_path: Path, names: str, message: str) -> None:
    save(tmp_path / "classes.txt", names)
    with pytest.raises(LabelError, match=re.escape(message)):
        read(save(tmp_path / "list.txt", "a.mp4 0\n"))


def test_class_names_may_begin_with_a_number(tmp_path: Path) -> None:
    save(tmp_path / "classes.txt", "archery\n50 m dash\nyoga\n\n")
    found = read(save(tmp_path / "list.txt", "a.mp4 1\nb.mp4 2\n"), "a.mp4", "b.mp4")
    assert [one.label for one in found.instances] == ["50 m dash", "yoga"]
