"""``rratag evaluate FILE...``: official figures, fused and compared files, pictures, as a user runs them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import CommandLine
from tests.evaluate.test_official import LABELS, RESULTS, submit
from tests.evaluate.test_saved import NAMES, SCORES, write


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs on 40 videos, the second worse, and ActivityNet's form with its labels, in the working folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, gain in (("a.csv", 2.0), ("b.csv", 0.5)):
        scores = {}
        for place in range(40):
            logits = rng.normal(size=(2, 3))
            logits[:, place % 3] += gain
            odds = np.exp(logits)
            scores[f"{NAMES[place % 3]}/{place:02}.mp4"] = (odds / odds.sum(axis=1, keepdims=True)).tolist()
        write(Path(name), scores)
    others = {f"{name}/0{place}.mp4": [[0.2, 0.2, 0.6]] * 2 for place, name in enumerate(NAMES)}
    write(Path("other.csv"), others, names=["blue", "violet", "red"])
    submit(Path("net.json"), RESULTS)
    Path("labels.csv").write_text(LABELS)
    return tmp_path


def test_official_figures_and_their_intervals(files: Path, cli: CommandLine) -> None:
    arguments = ("evaluate", "net.json", "--labels", "labels.csv", "--on", "validation", "--metrics", "activitynet")
    ran = cli(*arguments, "--per-class")
    assert ran.code == 0, ran.err
    assert "net.json, activitynet: 4 videos, 3 tags, 7 predictions" in ran.out
    rows = {line.split("  ")[0]: line.split() for line in ran.out.splitlines()}
    value, low, _, high = rows["hit@1"][1:]
    assert (value, float(low), float(high)) == ("0.5000", pytest.approx(0, abs=0.02), pytest.approx(1, abs=0.02))
    assert rows["red"] == ["red", "1", "0.0000"]
    assert "without a prediction, which counts as wrong: 2" in ran.err
    assert "which count as wrong, as in the script: 1" in ran.err
    found = cli(*arguments, "--json", "--keep-top", 1).json
    assert (found["judged"], found["metrics"], found["keep_top"]) == ("net.json", "activitynet", 1)
    assert found["figures"]["hit@1"]["value"] == 0.5
    assert [one["label"] for one in found["per_class"]] == NAMES
    quiet = cli(*arguments, "--quiet")
    assert "without a prediction, which counts as wrong: 2" in quiet.err
    assert "which count as wrong, as in the script: 1" in quiet.err
    eight = cli(*arguments[:-1], "youtube8m", "--keep-top", 2)
    assert "the 2 highest of each video" in eight.out
    assert "which are left out: 1" in eight.err


def test_plain_figures_have_intervals_and_classes(files: Path, cli: CommandLine) -> None:
    ran = cli("evaluate", "a.csv", "--per-class")
    assert ran.code == 0, ran.err
    assert "  95 %" in ran.out
    assert "confused with" in ran.out
    found = cli("evaluate", "a.csv", "--json").json
    assert found["num_draws"] == 1000
    for name, one in found["intervals"].items():
        assert one["low"] <= found["ensemble"][name] <= one["high"]
    assert [one["label"] for one in found["per_class"]] == NAMES
    assert sum(one["num_right"] for one in found["per_class"]) == found["ensemble"]["top1"] * 40
    assert "confusion" not in found


def test_files_are_fused_by_their_weights(files: Path, cli: CommandLine) -> None:
    ran = cli("evaluate", "a.csv", "b.csv:0.25")
    assert ran.code == 0, ran.err
    assert "a.csv and b.csv: 40 videos" in ran.out
    assert "b.csv alone, weight 0.25" in ran.out
    assert "labelled videos that not all files tagged, which are not judged: 1" in ran.err
    assert "ensemble (Eq. 6)" in ran.out
    submit(Path("few.json"), {"va": [("red", 2.0), ("blue", 1.0)], "vb": [("red", 2.0), ("blue", 1.0)]})
    Path("few.csv").write_text("video,label\nva,red\nvb,blue\n")
    assert "scores of the file" in cli("evaluate", "few.json", "--labels", "few.csv").out
    heavy = cli("evaluate", "a.csv", "b.csv:1e9", "--json").json
    assert heavy["ensemble"]["top1"] == cli("evaluate", "b.csv", "--json").json["ensemble"]["top1"]
    assert [one["weight"] for one in heavy["models"]] == [1, 1e9]


def test_two_runs_are_compared(files: Path, cli: CommandLine) -> None:
    ran = cli("evaluate", "a.csv", "--against", "b.csv")
    assert ran.code == 0, ran.err
    assert "a.csv against b.csv: 40 labelled videos" in ran.out
    assert "McNemar's exact p = " in ran.out
    found = cli("evaluate", "a.csv", "--against", "b.csv", "--json").json
    (top1,) = [line.split() for line in ran.out.splitlines() if line.startswith("top-1")]
    assert float(top1[3]) == pytest.approx(found["figures"]["top1"]["difference"], abs=1e-4)
    assert found["figures"]["top1"]["difference"] > 0
    assert f"first tag changed: {len(found['changed'])} of 40 videos" in ran.out
    net = cli("evaluate", "a.csv", "--against", "b.csv", "--metrics", "kinetics", "--json").json
    # of 41 videos, since both failed on one, and not of 40
    assert net["figures"]["error@1"]["difference"] == pytest.approx(-found["figures"]["top1"]["difference"] * 40 / 41)
    # of a fusion against one of its parts
    assert cli("evaluate", "a.csv", "b.csv", "--against", "b.csv", "--json").json["first"] == "a.csv and b.csv"


def test_pictures_are_drawn(files: Path, cli: CommandLine) -> None:
    assert cli("evaluate", "a.csv", "--figures", "out/figures").code == 0
    assert sorted(one.name for one in Path("out/figures").iterdir()) == ["confidences.svg", "confusion.svg"]
    ran = cli("evaluate", "a.csv", "--against", "b.csv", "--figures", "out")
    assert ran.code == 0, ran.err
    assert "wrote" in ran.err
    for name in ("confidences.svg", "confusion.svg", "confusion-against.svg"):
        ElementTree.parse(Path("out") / name)


def test_pictures_of_two_runs_are_of_the_videos_of_both(files: Path, cli: CommandLine) -> None:
    lines = Path("b.csv").read_text().splitlines(keepends=True)
    Path("part.csv").write_text("".join(line for line in lines if not line.startswith("blue/0")))
    num = 40 - len({line.split(",")[0] for line in lines if line.startswith("blue/0")})
    ran = cli("evaluate", "a.csv", "--against", "part.csv", "--figures", "out")
    assert ran.code == 0, ran.err
    assert f"a.csv against part.csv: {num} labelled videos" in ran.out
    assert f"labelled videos that a.csv alone tagged, which are not compared: {40 - num}" in ran.err
    assert "labelled videos that neither tagged, which are not compared: 1" in ran.err
    for name in ("confusion.svg", "confusion-against.svg"):
        assert f"csv: {num} videos" in (Path("out") / name).read_text()


def test_without_all_tags_there_is_a_comparison_and_no_picture(files: Path, cli: CommandLine) -> None:
    lines = Path("b.csv").read_text().splitlines(keepends=True)
    Path("top1.csv").write_text("".join(line for line in lines if ",ok,,2," not in line and ",ok,,3," not in line))
    ran = cli("evaluate", "a.csv", "--against", "top1.csv", "--figures", "out")
    assert ran.code == 1
    assert "a.csv against top1.csv: 40 labelled videos" in ran.out
    assert "top-1 alone, for the other figures need the score of every tag (top1.csv: video 'blue/00.mp4'" in ran.err
    assert "error: no pictures: top1.csv: video 'blue/00.mp4' has no score of tag" in ran.err


def test_official_figures_of_two_runs_say_what_each_lacks(files: Path, cli: CommandLine) -> None:
    submit(Path("less.json"), {name: own for name, own in RESULTS.items() if name == "QOlSCBRmfWY"})
    arguments = ("--labels", "labels.csv", "--on", "validation", "--metrics", "activitynet")
    ran = cli("evaluate", "net.json", "--against", "less.json", *arguments, "--quiet")
    assert ran.code == 0, ran.err
    assert "net.json against less.json: 4 labelled videos by activitynet, 1 of them tagged by both" in ran.out
    assert "net.json: videos of the ground truth without a prediction, which counts as wrong: 2" in ran.err
    assert "net.json: predicted videos that the ground truth does not have, which count as wrong" in ran.err
    assert "less.json: videos of the ground truth without a prediction, which counts as wrong: 3" in ran.err
    assert "less.json: predicted" not in ran.err
    found = cli("evaluate", "net.json", "--against", "less.json", *arguments, "--json").json
    assert found["second_coverage"] == {"without": 3, "alone": 0, "outside": 0}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["a.csv", "--metrics", "voc"], 2, "choose from activitynet, kinetics, youtube8m"),
        (["a.csv", "--keep-top", "3"], 2, "--keep-top changes nothing here"),
        (["--metrics", "kinetics"], 2, "--metrics changes nothing here: it is about saved predictions"),
        (["--against", "a.csv"], 2, "--against changes nothing here"),
        (["a.csv", "--metrics", "kinetics", "--figures", "x"], 2, "--figures changes nothing here"),
        (["a.csv", "--against", "b.csv", "--per-class"], 2, "--per-class changes nothing here"),
        (["a.csv", "--on", "monday"], 2, "unknown --on 'monday'"),
        (["a.csv", "--on", "test"], 2, "folders divide no videos"),
        (["a.csv", "--model", "x"], 2, "--model changes nothing here"),
        (["a.csv", "--columns", "video=file"], 2, "--columns changes nothing here"),
        (["a.csv", "b.csv:0"], 2, "the weight is 0; give a number above 0"),
        (["a.csv", "b.csv:heavy"], 2, "TAGS b.csv:heavy: 'heavy' is no weight"),
        (["a.csv", "--against", "none.csv"], 2, "none.csv: cannot be read"),
        (["a.csv", "net.json"], 1, "no tagged video in common"),
        (["net.json", "--metrics", "activitynet"], 1, "no tagged video has a label"),
        (["net.json", "--labels", "labels.csv", "--metrics", "kinetics", "--on", "train"], 1, "'blue' is predicted"),
        (["net.json", "--labels", "labels.csv"], 1, "has no score of tag 'blue'"),
        (["-"], 2, "standard input is not read"),
        (["a.csv", "--figures", "b.csv"], 2, "b.csv: cannot be made (File exists); --figures takes a folder"),
        (["a.csv", "--against", "other.csv"], 1, "label 'green' is not a tag of other.csv (blue, red, violet)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_judged_is_one_line(
    files: Path, cli: CommandLine, arguments: list[str], code: int, words: str
) -> None:
    cli("evaluate", *arguments).says_one_line(code, words)


def test_labelled_videos_without_tags_are_counted(files: Path, cli: CommandLine) -> None:
    Path("some.csv").write_text("video,label\nblue/00.mp4,blue\nred/02.mp4,red\nnowhere.mp4,red\n")
    ran = cli("evaluate", "a.csv", "--labels", "some.csv")
    assert "a.csv: 2 videos" in ran.out
    assert "labelled videos without tags, which are not judged: 1" in ran.err
    quiet = cli("evaluate", "a.csv", "--labels", "some.csv", "--quiet").err
    assert "labelled videos without tags, which are not judged: 1" in quiet
    assert "tagged videos without a label, which are not judged: 38" in quiet
    # a split that the settings name for models is none of folders
    Path("rratag.toml").write_text('[evaluate]\non = "test"\n')
    assert cli("evaluate", "a.csv").code == 0


def test_nothing_handed_in_is_all_wrong(files: Path, cli: CommandLine) -> None:
    submit(Path("none.json"), {})
    found = cli("evaluate", "none.json", "--labels", "labels.csv", "--metrics", "activitynet", "--json").json
    assert {one["value"] for one in found["figures"].values()} == {0.0}
    cli("evaluate", "none.json", "--labels", "labels.csv").says_one_line(
        1, "no tagged video has a label; labels are of"
    )


def test_few_scores_say_so(files: Path, cli: CommandLine) -> None:
    write(Path("few.csv"), SCORES)
    assert "4 videos say little" in cli("evaluate", "few.csv").err
