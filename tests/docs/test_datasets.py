"""docs/datasets.md: the commands of each section, on a tiny set of the same shape, through to the figure.

The commands are read from the page, so that neither can change without the other. Only what makes them small is added:
a toy network, small pictures, a training of seconds. Figures are held against loops over the written predictions and
the truth that the set was made with.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import TINY, CommandLine
from tests.docs import small_sets
from tests.evaluate import slow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "datasets.md"
SMALL = {
    "extract": ("--backbone", TINY, "--weights", "random", "--input-size", "64", "--workers", "1"),
    "train": ("--epochs", "15", "--learning-rate", "0.01", "--batch-size", "8"),
    "predict": ("--workers", "1"),
}
BIRDS = ("001.Black_footed_Albatross", "059.California_Gull", "200.Common_Yellowthroat")
CARS = ("Acura RL Sedan 2012", "AM General Hummer SUV 2000", "smart fortwo Convertible 2012")


def commands(heading: str) -> list[list[str]]:
    """Lines of the shell blocks of a section, by block."""
    section = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (own,) = [text for text in section if text.startswith(f"{heading}\n")]
    return [block.splitlines() for block in re.findall(r"^```sh\n(.*?)^```$", own, re.DOTALL | re.MULTILINE)]


class Example:
    """Runs commands of the page in a folder; keeps what the last of each name said, and the figures of `evaluate`."""

    def __init__(self, cli: CommandLine) -> None:
        self.cli = cli
        self.said: dict[str, str] = {}
        self.figures: list[dict[str, Any]] = []

    def run(self, lines: list[str]) -> None:
        for line in lines:
            command, _, out = line.partition(" > ")
            words = shlex.split(command)
            assert words[0] == "rratag"
            name = words[1]
            ran = self.cli(*words[1:], *SMALL.get(name, ()))
            assert ran.code == 0, (line, ran.err)
            if out:
                Path(out).write_text(ran.out)
                continue
            self.said[name] = ran.out + ran.err
            if name == "evaluate":
                plain = [word for word in words[1:] if word != "--per-class"]
                self.figures.append(self.cli(*plain, "--json").json)

    def official(self, number: int, name: str) -> float:
        return float(self.figures[number]["figures"][name]["value"])


@pytest.fixture
def example(cli: CommandLine) -> Example:
    return Example(cli)


def rows_of(path: str) -> list[slow.Row]:
    results = json.loads(Path(path).read_text())["results"]
    return [(video, one["label"], one["score"]) for video, scored in results.items() for one in scored]


def videos_by_sampling(cli: CommandLine) -> dict[str, int]:
    """Of each spec in the cache the number of its videos."""
    return {one["sampling"]: one["videos"] for one in cli("cache", "ls", "--json").json["specs"]}


@pytest.mark.parametrize(
    ("heading", "names", "out", "fps"),
    [
        ("YouTube-Birds", BIRDS, "birds.activitynet.json", 2.0),
        ("YouTube-Cars", CARS, "cars.activitynet.json", 4.0),
    ],
)
def test_youtube(example: Example, heading: str, names: tuple[str, ...], out: str, fps: float) -> None:
    truth = small_sets.youtube(Path(), names)
    (lines,) = commands(heading)
    example.run(lines)
    assert "11     8" in example.said["labels"]
    assert "missing         2: " in example.said["labels"]
    assert videos_by_sampling(example.cli) == {f"fps={fps}": 19}  # the test decodes nothing more
    rows = rows_of(out)
    assert {row[0] for row in rows} == truth.keys()
    assert len(rows) == 8 * 3
    right = {video: slow.ranked(rows, video)[0][1] == labels[0] for video, labels in truth.items()}
    (figures,) = example.figures
    assert figures["num_videos"] == 8
    assert figures["ensemble"]["top1"] == pytest.approx(sum(right.values()) / 8)
    by_class = [np.mean([right[video] for video, labels in truth.items() if labels == [name]]) for name in names]
    assert figures["ensemble"]["mean_per_class_accuracy"] == pytest.approx(np.mean(by_class))
    assert figures["ensemble"]["top1"] >= 0.75  # the colours are learnt: lists, folders and names go together
    assert "labelled videos without tags, which are not judged: 1" in example.said["evaluate"]


def test_activitynet(example: Example) -> None:
    truth = small_sets.activitynet(Path())
    (lines,) = commands("ActivityNet v1.3")
    example.run(lines)
    for line in ("videos                     15     11", "instances                  19     16", "missing         3: "):
        assert line in example.said["labels"]
    assert "4 tags; 19 train, 16 validation; 3 unlabelled" in example.said["train"]
    assert videos_by_sampling(example.cli) == {"fps=4.0": 29}
    rows = rows_of("run.activitynet.json")
    assert len(rows) == 11 * 4
    for number, kept in ((0, slow.top(rows, 3)), (1, rows)):
        found = example.figures[number]
        assert (found["num_videos"], found["num_without"], found["num_predictions"]) == (12, 1, len(kept))
        assert example.official(number, "mAP") == pytest.approx(slow.mean_average_precision(kept, truth))
        for k in (1, 3):
            assert example.official(number, f"hit@{k}") == pytest.approx(slow.hit(kept, truth, k))
            assert example.official(number, f"average hit@{k}") == pytest.approx(slow.average_hit(kept, truth, k))
    assert example.official(0, "hit@1") >= 0.7
    assert f"mAP            {example.official(1, 'mAP'):.4f}" in example.said["evaluate"]
    present = {video: labels for video, labels in truth.items() if video in {row[0] for row in rows}}
    ours = ("evaluate", "run.activitynet.json", "--labels", "labels.csv", "--on", "validation", "--json")
    without_missing = example.cli(*ours, "--metrics", "activitynet").json
    assert (len(present), without_missing["num_videos"]) == (11, 11)
    assert without_missing["figures"]["hit@1"]["value"] == pytest.approx(slow.hit(rows, present, 1))


def test_kinetics(example: Example) -> None:
    truth = small_sets.kinetics(Path())
    first, fused = commands("Kinetics-400")
    example.run(first)
    assert "missing         2: " in example.said["labels"]
    assert videos_by_sampling(example.cli) == {"frames=25": 40}  # the test decodes nothing more
    # in place of the second stream, which needs OpenCV: another head on the same features
    second = ("train", "videos", "--preset", "kinetics", "--labels", "train.csv", *SMALL["train"], "--seed", 1)
    assert example.cli(*second, "--out", "flow-model").code == 0
    example.run(fused)
    rgb, flow = rows_of("kinetics.activitynet.json"), rows_of("flow.activitynet.json")
    other = {(video, label): score for video, label, score in flow}
    both = [(video, label, (score + 1.5 * other[video, label]) / 2.5) for video, label, score in rgb]
    for number, rows in ((0, rgb), (1, both)):
        assert len(rows) == 17 * 6
        assert example.official(number, "error@1") == pytest.approx(1 - slow.hit(rows, truth, 1))
        assert example.official(number, "error@5") == pytest.approx(1 - slow.hit(rows, truth, 5))
        assert example.official(number, "mAP") == pytest.approx(slow.mean_average_precision(rows, truth))
        assert example.figures[number]["num_without"] == 1
    assert example.official(0, "error@1") <= 0.3
    ours = ("evaluate", "kinetics.activitynet.json", "--labels", "labels.csv", "--on", "validation", "--json")
    there = {video: labels for video, labels in truth.items() if video in {row[0] for row in rgb}}
    without_missing = example.cli(*ours, "--metrics", "kinetics").json
    assert (len(there), without_missing["num_videos"]) == (17, 17)
    assert without_missing["figures"]["error@1"]["value"] == pytest.approx(1 - slow.hit(rgb, there, 1))


def test_mean_length_in_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small_sets.activitynet(tmp_path)
    ((line,),) = commands("Disk and time")
    words = shlex.split(line)
    assert words[0] == "python"
    printed = subprocess.run([sys.executable, *words[1:]], check=True, capture_output=True, text=True).stdout
    assert float(printed) == pytest.approx(small_sets.NUM_FRAMES / small_sets.RATE / 60)


def test_a_network_that_takes_no_small_pictures_is_estimated(cli: CommandLine) -> None:
    """Inception-V3, the paper's network for birds and cars, refuses pictures below 75 pixels."""
    small_sets.film(Path("videos/a.mp4"), [0])
    network = ("--backbone", "tv:inception_v3", "--weights", "random", "--input-size", "128", "--crops", "1")
    ran = cli("extract", "videos", *network, "--frames", "1", "--workers", "1", "--dry-run")
    assert (ran.code, ran.out.splitlines()[2]) == (0, "to extract  1")
