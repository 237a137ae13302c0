"""`rratag labels`, and training on annotations of other data sets, as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rratag.features.catalog import Catalog
from tests.conftest import CommandLine, ToyCache

CSV = """video,label,start_s,end_s,split
a/1.mp4,it's a cat,0,8,train
a/1.mp4,it's a cat,0,8,train
a/1.mp4,dog,8,9,train
2.mp4,dog,,,val
3.mp4,,,,
x,dog,,,
gone.mp4,cow,,,
"""
VIDEOS = ("a/1.mp4", "v_2.mp4", "3.mp4", "b/x.mp4", "c/x.mkv", "new.mov", "notes.txt")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Files that no decoder could read: only their names count."""
    folder = tmp_path / "videos"
    for name in VIDEOS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (tmp_path / "labels.csv").write_text(CSV)
    return folder


def annotations(cache: ToyCache, names: dict[str, str]) -> Path:
    """ActivityNet's form for a toy cache: blue for a second and a half, red for the rest of each of its videos."""
    database = {
        name: {
            "subset": subset,
            "duration": 5.0,
            "annotations": [{"segment": [0, 1.5], "label": "blue"}, {"segment": [1.5, 5], "label": "red"}],
        }
        for name, subset in names.items()
    }
    path = cache.cache.parent / "net.json"
    path.write_text(json.dumps({"version": "1.3", "taxonomy": [], "database": database}))
    return path


def test_what_a_file_says_is_shown(cli: CommandLine, root: Path) -> None:
    ran = cli("labels", "labels.csv", root)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "kind            csv: CSV (video,label[,start_s,end_s,split,group])",
        "files           1: labels.csv",
        "tags            2",
        "",
        "            train  validation",
        "videos      1      1",
        "instances   2      1",
        "",
        "dog         1      1",
        "it's a cat  1      0",
        "",
        "intervals       2, the shortest 1 s; --fps 4 puts 4 frames into all",
        "duplicates      1",
        "missing         1: gone.mp4",
        "unlabelled      1: 3.mp4",
        "other videos    3: b/x.mp4, c/x.mkv, new.mov",
        "ambiguous       1: x: b/x.mp4 or c/x.mkv",
    ]
    assert cli("labels", "labels.csv", root, "--quiet").out == ran.out


def test_json_holds_all_of_it(cli: CommandLine, root: Path) -> None:
    found = cli("labels", "labels.csv", root, "--json", "--train-frames", 2).json
    assert found["tags"] == {"dog": {"train": 1, "validation": 1}, "it's a cat": {"train": 1}}
    assert (found["videos"], found["instances"]) == ({"train": 1, "validation": 1}, {"train": 2, "validation": 1})
    assert found["intervals"] == {"num": 2, "shortest_s": 1.0, "num_frames": 2, "fps_all": 2.0, "fps_most": 2.0}
    assert (found["duplicates"], found["missing"], found["conflicts"]) == (1, ["gone.mp4"], [])
    assert found["unnamed"] == ["b/x.mp4", "c/x.mkv", "new.mov"]
    assert found["short"] is None
    alone = cli("labels", "labels.csv", "--json").json
    assert (alone["missing"], alone["unnamed"], alone["unlabelled"]) == ([], [], ["3.mp4"])
    assert alone["instances"] == {"train": 2, "validation": 1, "open": 2}


def test_what_is_written_says_the_same_in_our_own_form(cli: CommandLine, root: Path, toy_cache: ToyCache) -> None:
    path = annotations(toy_cache, {"1": "training", "2": "validation", "lost": "training"})
    ran = cli("labels", path, root, "--write", "ours.csv")
    assert (ran.code, ran.err) == (0, "wrote ours.csv\n")
    assert Path("ours.csv").read_text().splitlines() == [
        "video,label,start_s,end_s,split,group",
        "a/1.mp4,blue,0.0,1.5,train,",
        "a/1.mp4,red,1.5,5.0,train,",
        "v_2.mp4,blue,0.0,1.5,validation,",
        "v_2.mp4,red,1.5,5.0,validation,",
    ]
    first, second = (cli("labels", one, root, "--json").json for one in (path, "ours.csv"))
    different = {"kind", "files", "missing"}
    assert {name: value for name, value in first.items() if name not in different} == {
        name: value for name, value in second.items() if name not in different
    }
    assert (first["kind"], first["missing"], second["kind"], second["missing"]) == ("activitynet", ["lost"], "csv", [])


def test_conflicts_are_all_shown_and_nothing_is_written(cli: CommandLine, root: Path) -> None:
    Path("labels.csv").write_text("video,label\n3.mp4,cat\n3.mp4,dog\nnew.mov,dog\n3.mp4,cow\n")
    ran = cli("labels", "labels.csv", root, "--write", "ours.csv", "--json")
    assert (ran.code, ran.err) == (1, "warning: ours.csv: not written, since labels contradict each other\n")
    assert [line[:20] for line in ran.json["conflicts"]] == ["labels.csv:3:7: vide", "labels.csv:5:7: vide"]
    assert not Path("ours.csv").exists()
    assert "conflicts       2: labels.csv:3:7: video '3.mp4' has label 'dog'" in cli("labels", "labels.csv").out


def test_the_videos_of_a_part_are_a_list_for_predict(cli: CommandLine, root: Path) -> None:
    (root / "-4abc_defgh, 2.mp4").touch()
    (root / os.fsdecode(b"caf\xe9.mp4")).touch()
    rows = [
        "2,dog,test",
        "a/1,cat,test",
        "-4abc_defgh, 2.mp4,cat,test",
        "3.mp4,,test",
        "caf\\xe9.mp4,dog,test",
        "gone,cat,test",
    ]
    rows[2] = '"-4abc_defgh, 2.mp4",cat,test'
    Path("labels.csv").write_text("\n".join(["video,label,split", *rows, "new.mov,dog,train"]))
    ran = subprocess.run(
        [sys.executable, "-m", "rratag", "labels", "labels.csv", root, "--list", "test"],
        capture_output=True,
        check=True,
    )
    listed = [Path(os.fsdecode(line)) for line in ran.stdout.splitlines()]
    names = ("-4abc_defgh, 2.mp4", "a/1.mp4", os.fsdecode(b"caf\xe9.mp4"), "v_2.mp4")
    assert listed == [root / name for name in names]
    assert all(path.is_absolute() and path.is_file() for path in listed)
    cli("labels", "labels.csv", root, "--list", "validation").says_one_line(1, "in the validation part")


def test_names_that_are_no_ids_are_not_written(cli: CommandLine, root: Path) -> None:
    Path("train.txt").write_text("/data/of/others/a/1.mp4 0\n")
    assert (
        "not written, since '/data/of/others/a/1.mp4' is no path below"
        in cli("labels", "train.txt", "--write", "ours.csv").err
    )
    assert not Path("ours.csv").exists()
    assert cli("labels", "train.txt", root, "--write", "ours.csv").code == 0
    assert "a/1.mp4,0,,,train," in Path("ours.csv").read_text()


def test_without_labels_nothing_is_replaced(cli: CommandLine, root: Path) -> None:
    Path("ours.csv").write_text("precious")
    Path("labels.csv").write_text("video,label\n3.mp4,\n")
    assert cli("labels", "labels.csv", root, "--write", "ours.csv").code == 1
    assert Path("ours.csv").read_text() == "precious"


def test_what_cannot_be_looked_at_below_the_root_is_told(cli: CommandLine, root: Path) -> None:
    (root / "link.mp4").symlink_to(root / "nowhere.mp4")
    assert "warning: link.mp4: " in cli("labels", "labels.csv", root).err


def test_an_interval_that_is_next_to_nothing_asks_for_no_frame_rate(cli: CommandLine, root: Path) -> None:
    Path("labels.csv").write_text("video,label,start_s,end_s\n3.mp4,cat,0,1e-310\n")
    ran = cli("labels", "labels.csv")
    assert ran.code == 0
    assert "intervals       1, the shortest 1e-310 s\n" in ran.out


def test_a_file_without_labels_ends_with_1(cli: CommandLine, root: Path) -> None:
    Path("test.csv").write_text("youtube_id,time_start,time_end,split\nabc,0,10,test\n")
    ran = cli("labels", "test.csv")
    assert (ran.code, ran.err) == (1, "warning: test.csv: no video is labelled\n")
    assert "unlabelled      1: abc_000000_000010" in ran.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.csv"], ["none.csv", "no such label file"]),
        (["labels.csv", "nowhere"], ["nowhere", "does not exist"]),
        (["labels.csv", "--cache", "c"], ["--cache changes nothing"]),
        (["labels.csv", "--write", "labels.csv"], ["labels.csv", "is the label file itself"]),
        (["labels.csv", "--write", "nowhere/x.csv"], ["nowhere", "--write"]),
        (["labels.csv", "--write", "classes.txt"], ["classes.txt", "ends in .csv"]),
        (["labels.csv", "videos", "--list", "dev"], ["--list 'dev'", "train, validation, test"]),
        (["labels.csv", "--list", "test"], ["--list test", "ROOT"]),
        (["labels.csv", "videos", "--list", "test", "--json"], ["--json changes nothing"]),
        (["labels.csv", "--columns", "name=x"], ["--columns", "video, label"]),
    ],
)
def test_wrong_usage_is_one_line(cli: CommandLine, root: Path, arguments: list[str], words: list[str]) -> None:
    cli("labels", *arguments).says_one_line(2, *words)
    assert Path("labels.csv").read_text() == CSV


def test_of_many_tags_the_largest_and_the_smallest_are_shown(cli: CommandLine, root: Path) -> None:
    rows = [f"{tag}_{number},tag {tag:02}" for tag in range(40) for number in range(tag + 1)]
    Path("labels.csv").write_text("\n".join(["video,label", *rows]))
    table = cli("labels", "labels.csv").out.splitlines()[8:39]
    assert table[0].split() == ["tag", "39", "40"]
    assert table[15].strip() == "... 10 more tags"
    assert table[-1].split() == ["tag", "00", "1"]


def test_intervals_with_too_few_cached_frames_are_counted(cli: CommandLine, toy_cache: ToyCache) -> None:
    """Frames are at 0.25, 1.25, ..., 4.25 s; `labels` takes them to be at 0.5, 1.5, ..., 4.5 s."""
    names = {f"v_{number}.mp4": number for number in range(6)}
    toy_cache.fill(list(names))
    catalog = Catalog(toy_cache.cache)
    listing = catalog.latest()
    known = [replace(one, receipt=replace(one.receipt, duration_s=5.0)) for one in listing.entries]
    catalog.write(replace(listing, entries=known))
    toy_cache.root.mkdir()
    for name in names:
        (toy_cache.root / name).touch()
    path = annotations(toy_cache, {str(one): "validation" if one == 0 else "training" for one in names.values()})
    options = ("--cache", toy_cache.cache)
    ran = cli("labels", path, toy_cache.root, *options, "--train-frames", 3)
    said = "6 of 12 instances have fewer than 3 cached frames, so that training repeats some; extract --fps 2 gives all"
    assert ran.err.startswith(f"warning: {said}")
    assert cli("labels", path, toy_cache.root, *options, "--train-frames", 1).err == ""
    ran = cli("train", *options, "--labels", path, "--epochs", 1, "--train-frames", 3, "--out", "m")
    assert ran.code == 0
    assert "warning: 5 of 10 instances have fewer than 3 cached frames" in ran.err  # those that train


def test_annotations_train_a_model_that_is_judged_on_whole_videos(cli: CommandLine, toy_cache: ToyCache) -> None:
    toy_cache.fill([f"blue/v_{number}.mp4" for number in range(8)])
    names = {str(number): "validation" if number < 3 else "training" for number in range(8)}
    path = annotations(toy_cache, names)
    content = json.loads(path.read_text())
    content["database"]["7"]["annotations"].append({"segment": [0, 1.5], "label": "green"})
    path.write_text(json.dumps(content))
    options = ("--cache", toy_cache.cache)
    assert cli("train", *options, "--labels", path, "--epochs", 2, "--out", "m").code == 0
    rows = Path("m/labels.csv").read_text().splitlines()
    assert rows[0] == "video,label,start_s,end_s,split,group,several"
    assert "blue/v_7.mp4,green,0.0,1.5,train,,1" in rows
    judged = cli("evaluate", *options, "--model", "m", "--json")
    # three videos, each with two labels, of which either is right
    assert (judged.json["num_videos"], judged.json["num_several"], judged.json["ensemble"]["top1"]) == (3, 3, 1.0)
    assert "6 labelled intervals are judged as whole videos" in judged.err
    parts = cli("evaluate", *options, "--model", "m", "--json", "--test-on", "instance")
    assert (parts.json["num_videos"], parts.err) == (6, "")
    elsewhere = cli("evaluate", *options, "--model", "m", "--root", toy_cache.root, "--labels", path, "--json")
    assert elsewhere.json["num_videos"] == 8
    cli("evaluate", *options, "--model", "m", "--test-on", "clip").says_one_line(2, "video, instance")
    cli("evaluate", "tags.csv", "--test-on", "instance").says_one_line(2, "--test-on changes nothing")


def test_extract_knows_no_label_file(cli: CommandLine) -> None:
    assert "--labels" not in cli("extract", "--help").out


def test_train_says_which_files_of_a_set_it_reads(cli: CommandLine, toy_cache: ToyCache) -> None:
    toy_cache.fill([f"{name}/{name}{number}.mp4" for name in ("blue", "red") for number in range(4)])
    for part, numbers in (("train", range(3)), ("test", range(3, 4))):
        pairs = [[f"{name}{number}", place] for place, name in enumerate(("blue", "red")) for number in numbers]
        Path(f"{part}_list.json").write_text(json.dumps(pairs))
    Path("label2name.json").write_text('{"0": "Blue Jay", "1": "Red Kite"}')
    options = ("train", "--cache", toy_cache.cache, "--epochs", 1, "--out", "m", "--validation-split", 0)
    ran = cli(*options, "--labels", "train_list.json")
    assert ran.code == 0
    assert "labels of train_list.json, test_list.json\n2 tags; 6 train, 2 test\n" in ran.err
    judged = cli("evaluate", "--cache", toy_cache.cache, "--model", "m", "--json")
    assert (judged.json["num_videos"], judged.json["judged"]) == (2, "test part of m")
