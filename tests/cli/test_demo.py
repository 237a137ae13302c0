"""The demo with few videos: it makes what it says, goes on with its own folder and refuses another's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rratag.data.rendered import CLASSES
from rratag.tag.writers import read_tags
from tests.conftest import CommandLine


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LABELLED_PER_CLASS", 2), ("UNSEEN_PER_CLASS", 1), ("FRAMES", 2), ("EPOCHS", 2)):
        monkeypatch.setattr(f"rratag.cli.demo.{name}", value)


def test_a_folder_of_something_else_is_left_alone(cli: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    cli("demo", "--out", folder).says_one_line(2, "mine", "choose another --out")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_the_demo_makes_what_it_says(cli: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    ran = cli("demo", "--out", folder, "--json", "--workers", 1)
    assert ran.code == 0
    result = json.loads(ran.out)
    assert result == json.loads((folder / "results.json").read_text())
    heads = {row["head"]: row for row in result["heads"]}
    assert len(heads) == 3
    assert all(row["videos"] == result["unseen_videos"] == len(CLASSES) for row in heads.values())
    assert all(0 <= row["accuracy"] <= 1 for row in heads.values())
    rows = read_tags(folder / "tags.csv")
    assert {row.video for row in rows} == {f"{name}/{name}_000.mp4" for name in CLASSES}
    best = [row for row in rows if row.rank == 1]
    right = sum(row.label == row.video.split("/")[0] for row in best)
    # the table and the file are of the same predictions
    assert right / len(best) == pytest.approx(heads["RRA, 4 glimpses"]["accuracy"])
    assert len((folder / "clips/truth.csv").read_text().splitlines()) > len(CLASSES)
    assert (folder / ".rratag/models/latest/config.json").is_file()
    page = (folder / "report.html").read_text()
    assert f"{right} of {len(best)}<" in page
    assert "trained on" not in page.partition("<main>")[0]
    cli("demo", "--out", folder, "--seed", 5).says_one_line(2, "not this demo's")
