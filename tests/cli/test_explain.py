"""explain, as a user runs it: the account adds up, and the pictures show the frames that the account speaks of."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import TINY_OPTIONS, CommandLine, ToyCache


@pytest.fixture
def model(cli: CommandLine, clip_folder: Path) -> Path:
    """A model of the clips in the working folder; its backbone's weights are random."""
    assert cli("extract", "videos", *TINY_OPTIONS).code == 0
    train = ("train", "--epochs", 3, "--glimpses", 3, "--batch-size", 4, "--glimpse-weights", "1,2,5")
    assert cli(*train).code == 0
    return clip_folder


def test_the_account_adds_up_and_agrees_with_the_tags(cli: CommandLine, model: Path) -> None:
    assert cli("predict", "videos", "--out", "tags.csv").code == 0
    with open("tags.csv", newline="") as file:
        tags = {row["video"]: row for row in csv.DictReader(file) if row["rank"] == "1"}
    found = cli("explain", "videos", "--json").json
    assert [one["video"] for one in found] == sorted(tags)
    for one in found:
        row = tags[one["video"]]
        assert (one["tag"], one["first"]) == (row["label"], row["label"])
        assert one["score"] == pytest.approx(float(row["score"]), abs=1e-5)
        glimpses = one["glimpses"]
        for k, glimpse in enumerate(glimpses, start=1):
            assert glimpse["score"] == pytest.approx(float(row[f"glimpse_{k}"]), abs=1e-5)
            assert sum(glimpse["attention"]) == pytest.approx(1, abs=1e-5)
            assert one["time_s"][int(np.argmax(glimpse["attention"]))] == pytest.approx(glimpse["time_s"], abs=1e-3)
        assert sum(glimpse["gain"] for glimpse in glimpses) == pytest.approx(one["score"], abs=1e-5)
        assert glimpses[-1]["together"] == pytest.approx(one["score"], abs=1e-5)
        assert one["agreeing"] == sum(glimpse["first"] == one["first"] for glimpse in glimpses)
        best = max(glimpses, key=lambda glimpse: glimpse["score"])
        assert f"{best['time_s']:.3f}".startswith(row["time_s"][:4])


def test_people_read_the_same(cli: CommandLine, model: Path) -> None:
    name = sorted(Path("videos/red").iterdir())[0]
    ran = cli("explain", name, "--tag", "blue")
    assert ran.code == 0, ran.err
    first, second, *table = ran.out.splitlines()
    assert first.startswith(f"{name.name}: blue 0.")
    assert " of 3 glimpses put " in second
    assert [line.split()[0] for line in table] == ["glimpse", "1", "2", "3"]
    cli("explain", name, "--tag", "green").says_one_line(2, "green", "blue, red")


def test_strips_are_written_beside_each_other(cli: CommandLine, model: Path) -> None:
    shutil.copy("videos/red/0.mp4", "videos/red/0.mkv")  # the same but for its suffix
    shutil.copy("videos/red/0.mp4", os.fsdecode(b"videos/red/\xff.mp4"))
    ran = cli("explain", "videos", "--pictures", "why")
    assert ran.code == 0, ran.err
    written = sorted(path.relative_to("why").as_posix() for path in Path("why").rglob("*.png"))
    videos = [path.relative_to("videos").as_posix() for path in Path("videos").rglob("*.m*")]
    assert written == sorted(f"{one}.{kind}.png" for one in videos for kind in ("attention", "influence", "suppressed"))
    with Image.open(Path("why") / written[0]) as picture:  # 3 frames of 96x64, above those of 3 glimpses
        assert picture.width > 3 * 96
        assert picture.height > 4 * 64


def test_failed_videos_are_told_and_the_others_explained(cli: CommandLine, model: Path) -> None:
    Path("videos/red/empty.mp4").write_bytes(b"")
    ran = cli("explain", "videos/red", "--json")
    assert ran.code == 3
    assert "empty.mp4: unreadable: empty" in ran.err
    assert len(ran.json) == 5


def test_without_a_model_it_says_what_to_do(cli: CommandLine, toy_cache: ToyCache, clip_folder: Path) -> None:
    cli("explain", "videos").says_one_line(1, "rratag train")
