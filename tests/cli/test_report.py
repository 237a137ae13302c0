"""report, as a user runs it: the page's numbers are those of the tags, in one file and in a folder."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from PIL import Image

from rratag.explain import build
from tests.conftest import TINY_OPTIONS, CommandLine, coloured, encode


@pytest.fixture
def model(cli: CommandLine, clip_folder: Path) -> Path:
    """A model of the clips in the working folder; its backbone's weights are random."""
    assert cli("extract", "videos", *TINY_OPTIONS).code == 0
    assert cli("train", "--epochs", 2, "--glimpses", 3, "--batch-size", 4, "--glimpse-weights", "1,2,5").code == 0
    return clip_folder


def data_of(page: Path) -> dict[str, Any]:
    """What the script of a page shows."""
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def pictures(video: dict[str, Any], source: bytes) -> np.ndarray:
    """Frames of a card, (n, h, w, 3)."""
    _, width, height, positions = video["picture"]
    picture = np.asarray(Image.open(io.BytesIO(source)))
    return picture.reshape(len(positions), height, width, 3)


def test_the_page_says_what_predict_says(cli: CommandLine, model: Path) -> None:
    assert cli("predict", "videos", "--out", "tags.csv").code == 0
    with open("tags.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    ran = cli("report", "videos", "--out", "why.html", "--gradient", 2)
    assert ran.code == 0, ran.err
    assert "wrote" in ran.err
    data = data_of(Path("why.html"))
    names = [tag["name"] for tag in data["tags"]]
    assert [video["id"] for video in data["videos"]] == [row["video"] for row in rows if row["rank"] == "1"]
    for row in rows:
        (video,) = (one for one in data["videos"] if one["id"] == row["video"])
        tag, score, *glimpses = video["rows"][int(row["rank"]) - 1]
        assert names[tag] == row["label"]
        assert score == pytest.approx(float(row["score"]), abs=6e-5)
        assert glimpses == pytest.approx([float(row[f"glimpse_{k}"]) for k in (1, 2, 3)], abs=6e-5)
        if row["rank"] == "1":
            peak, *box = video["peaks"][video["speaking"]]
            assert f"{video['times'][peak]:.3f}" == row["time_s"]
            assert box == [float(side) for side in row["box"].split(",")]
        assert [one["name"] for one in video["truth"]] == [row["video"].split("/")[0]]
    least = sorted(data["videos"], key=lambda video: video["rows"][0][1])[:2]
    assert {one["id"] for one in data["videos"] if "influence" in one} == {one["id"] for one in least}
    with open(".rratag/models/latest/labels.csv", newline="") as file:
        trained = {row["video"] for row in csv.DictReader(file) if row["split"] == "train"}
    assert {video["id"] for video in data["videos"] if video["trained"]} == trained
    judged = [video for video in data["videos"] if not video["trained"]]
    right = sum(names[video["rows"][0][0]] == video["truth"][0]["name"] for video in judged)
    text = Path("why.html").read_text()
    assert f"{right} of {len(judged)}<" in text
    assert f"trained on {len(trained)} of these videos" in text


def test_frames_and_links_are_those_of_the_video(cli: CommandLine, model: Path) -> None:
    odd = os.fsdecode(b"videos/red/\xff <b>#1?.mp4")
    shutil.copy("videos/red/3.mp4", odd)
    Path("out").mkdir()
    assert cli("report", "videos", "--out", "out/why.html").code == 0
    data = data_of(Path("out/why.html"))
    by_id = {video["id"]: video for video in data["videos"]}
    for video in data["videos"]:
        way = os.path.normpath(os.path.join(b"out", unquote_to_bytes(video["href"])))
        assert way == os.fsencode(f"videos/{video['id']}")
        address = video["picture"][0]
        assert address.startswith("data:image/jpeg;base64,")
        frames = pictures(video, base64.b64decode(address.partition(",")[2]))
        assert len(frames) == len(video["shown"]) == 3
        # the white square of the clip moves right: frames of rising time
        squares = [int((frame[:, :, :].min(2) > 200).sum(0).argmax()) for frame in frames]
        assert squares == sorted(set(squares))
        assert len(json.dumps(video)) < 60_000
    assert by_id["red/3.mp4"]["picture"] == by_id[odd.removeprefix("videos/")]["picture"]


def test_many_videos_become_a_folder(cli: CommandLine, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "LARGEST_FILE", 9)
    assert cli("report", "videos/red", "--out", "few.html").code == 0
    assert Path("few.html").is_file()
    for _ in range(2):  # a report replaces a report
        ran = cli("report", "videos", "--out", "many.html")
        assert ran.code == 0, ran.err
    assert not Path("many.html").exists()
    assert sorted(one.name for one in Path("many").iterdir()) == ["index.html", "pictures"]
    data = data_of(Path("many/index.html"))
    assert len({video["picture"][0] for video in data["videos"]}) == 10
    for video in data["videos"]:
        frames = pictures(video, (Path("many") / video["picture"][0]).read_bytes())
        tag = video["id"].split("/")[0]
        assert frames[..., 0 if tag == "red" else 2].mean() > frames[..., 2 if tag == "red" else 0].mean()
        assert (Path("many") / video["href"]).resolve() == Path("videos", video["id"]).resolve()
    assert cli("report", "videos/red", "--out", "plain").code == 0
    assert (Path("plain") / "index.html").is_file()
    cli("report", "videos", "--out", "videos.html").says_one_line(2, "is no report", "--out")
    assert not [one for one in Path().iterdir() if one.name.startswith(".tmp")]


def test_failures_stand_in_it_with_their_reason(cli: CommandLine, model: Path) -> None:
    Path("videos/red/<i>empty.mp4").write_bytes(b"")
    ran = cli("report", "videos/red")
    assert ran.code == 3
    data = data_of(Path("report.html"))
    (failed,) = (video for video in data["videos"] if not video["rows"])
    assert (failed["status"], failed["reason"]) == ("unreadable", "empty")
    text = Path("report.html").read_text()
    assert "5 of 6 videos tagged" in text
    assert str(Path.cwd()) not in text
    assert "&lt;i&gt;empty.mp4" in text
    assert "<i>empty" not in text
    assert 'class="tiles"' not in text  # a single folder is no tag


def test_a_label_file_is_the_truth(cli: CommandLine, model: Path) -> None:
    # copies of other content: on the clips themselves the model was trained
    for name in ("red/a.mp4", "blue/b.mp4"):
        encode(Path("videos", name), coloured("red", 1000 + len(name)))
    Path("labels.csv").write_text("file,label\nred/a.mp4,blue\nblue/b.mp4,green\nblue/9.mp4,blue\n")
    ran = cli("report", "videos", "--labels", "labels.csv", "--columns", "video=file")
    assert ran.code == 0, ran.err
    data = data_of(Path("report.html"))
    known = {video["id"]: [one["name"] for one in video["truth"]] for video in data["videos"] if video["truth"]}
    assert known == {"red/a.mp4": ["blue"], "blue/b.mp4": ["green"]}
    text = Path("report.html").read_text()
    assert re.search(r"[01] of 1<", text)
    assert "Labels that are no tag of the model, and count nowhere: 1." in text
    assert "Names in the label file that are no video here: 1." in text


def test_what_cannot_be_is_refused_in_one_line(cli: CommandLine, model: Path) -> None:
    cli("report", "videos", "--columns", "video=file").says_one_line(2, "--columns", "--labels")
    cli("report", "videos", "--out", "gone/why.html").says_one_line(2, "gone", "--out")
    Path("taken").mkdir()
    Path("taken/notes.txt").write_text("mine")
    cli("report", "videos", "--out", "taken").says_one_line(2, "taken", "is no report")
    Path("labels.csv").write_text("video,label\nred/0.mp4,red\nred/0.mp4,blue\n")
    cli("report", "videos", "--labels", "labels.csv").says_one_line(1, "labels.csv", "keep one of the two")
    cli("report", "videos", "--model", "nowhere").says_one_line(1, "rratag train")
