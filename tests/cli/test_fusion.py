"""``--model`` given several times, ``--crops`` and ``--crop-fusion``, as a user runs them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rratag.model import load_model, save_model
from tests.cli.test_commands import clips, done, finished, rows_of
from tests.conftest import CommandLine

__all__ = ["done", "finished"]

LATEST = ".rratag/models/latest"


@pytest.fixture
def two(done: Path, cli: CommandLine) -> Path:
    """A second model of the same labels, with one glimpse, beside the first; its folder's name has a space."""
    ran = cli("train", "--labels", f"{LATEST}/labels.csv", "--epochs", 2, "--glimpses", 1, "--out", "my other")
    assert ran.code == 0, ran.err
    clips(done / "clips", 1)
    return done


def test_two_models_tag_together_and_are_named(two: Path, cli: CommandLine) -> None:
    models = ("--model", LATEST, "--model", "my other:3")
    ran = cli("predict", "clips", "--workers", 1, *models, "--out", "t.json")
    assert ran.code == 0, ran.err
    content = json.loads((two / "t.json").read_text())
    assert [(one["name"], one["weight"], one["num_glimpses"]) for one in content["models"]] == [
        (LATEST, 1.0, 2),
        ("my other", 3.0, 1),
    ]
    assert all(one["spec"]["crops"] == "full" and "roots" not in one["info"] for one in content["models"])
    assert content["num_glimpses"] == 3
    each = []
    for model in (LATEST, "my other"):
        rows = rows_of(cli("predict", "clips", "--workers", 1, "--model", model, "--out", "-").out)
        each.append({(row["video"], row["label"]): row for row in rows})
    fused = rows_of(cli("predict", "clips", "--workers", 1, *models, "--out", "-").out)
    assert len(fused) == 4
    for row in fused:
        left, right = (rows[row["video"], row["label"]] for rows in each)
        assert float(row["score"]) == pytest.approx((float(left["score"]) + 3 * float(right["score"])) / 4, abs=2e-6)
        assert [row["glimpse_1"], row["glimpse_2"], row["glimpse_3"]] == [
            left["glimpse_1"],
            left["glimpse_2"],
            right["glimpse_1"],
        ]


def test_one_model_gives_the_same_bytes_however_it_is_named(two: Path, cli: CommandLine) -> None:
    for suffix in ("json", "csv"):
        written = []
        for model in ((), ("--model", LATEST), ("--model", f"{LATEST}:7")):
            assert cli("predict", "clips", "--workers", 1, *model, "--out", f"t.{suffix}").code == 0
            written.append((two / f"t.{suffix}").read_bytes())
        assert written[0] == written[1] == written[2]
    one = cli("evaluate", "--json")
    assert one.json == cli("evaluate", "--json", "--model", f"{LATEST}:0.5").json
    assert one.code == 0


def test_evaluate_tells_each_model_and_both(two: Path, cli: CommandLine) -> None:
    ran = cli("evaluate", "--on", "all", "--model", LATEST, "--model", "my other:3")
    assert ran.code == 0, ran.err
    assert f"all part of {LATEST} and my other: 10 videos" in ran.out
    assert f"{LATEST} alone, weight 1 " in ran.out
    assert "my other alone, weight 3 " in ran.out
    found = cli("evaluate", "--on", "all", "--model", LATEST, "--model", "my other:3", "--json").json
    assert [one["name"] for one in found["models"]] == [LATEST, "my other"]


def test_a_variable_names_one_model_and_the_settings_file_several(two: Path, cli: CommandLine) -> None:
    both = cli("evaluate", "--on", "all", "--json", "--model", LATEST, "--model", "my other:2").json
    other = cli("evaluate", "--on", "all", "--json", "--model", "my other").json
    assert cli("evaluate", "--on", "all", "--json", env={"RRATAG_MODEL": "my other:2"}).json == other
    Path("rratag.toml").write_text('model = "my other"\n')
    assert cli("evaluate", "--on", "all", "--json").json == other
    Path("rratag.toml").write_text(f'model = ["{LATEST}", "my other:2"]\n')
    assert cli("evaluate", "--on", "all", "--json").json == both


def test_what_cannot_be_fused_is_one_line(two: Path, cli: CommandLine) -> None:
    model = load_model(two / LATEST)
    model.class_names = ["blue", "violet"]
    save_model(two / "third", model)
    for command in (("predict", "clips"), ("evaluate",)):
        ran = cli(*command, "--model", LATEST, "--model", "third")
        ran.says_one_line(1, f"{LATEST} and third have different tags", "'red' is one of")
        cli(*command, "--model", f"{LATEST}:0").says_one_line(2, f"--model {LATEST}:0", "above 0")
        cli(*command, "--model", f"{LATEST}:1,5").says_one_line(2, "'1,5' is no weight")
        cli(*command, "--model", LATEST, "--model", "none:2").says_one_line(1, "none: no such model folder")
        cli(*command, "--crop-fusion", "max").says_one_line(2, "unknown --crop-fusion 'max'", "mean, joint")
        cli(*command, "--crop-fusion", "joint").says_one_line(2, "changes nothing here", "--crops 3, 5 or 10")
    cli("evaluate", "tags.csv", "--crops", "3").says_one_line(2, "--crops changes nothing here")
    cli("evaluate", "tags.csv", "--crop-fusion", "mean").says_one_line(2, "--crop-fusion changes nothing here")


def test_streamed_views_leave_the_cache_as_it_is_and_cached_ones_are_judged(
    done: Path, cli: CommandLine, finished: Path
) -> None:
    options = ("predict", finished / "videos", "--workers", 1, "--crops", "3")
    streamed = {}
    before = sorted(path for path in (done / ".rratag").rglob("*") if path.is_file())
    for crop_fusion in ("mean", "joint"):
        ran = cli(*options, "--crop-fusion", crop_fusion, "--out", f"{crop_fusion}.json")
        assert ran.code == 0, ran.err
        assert "features of crops=3 are used once and not cached: a run that is stopped begins anew" in ran.err
        assert sorted(path for path in (done / ".rratag").rglob("*") if path.is_file()) == before
        streamed[crop_fusion] = json.loads((done / f"{crop_fusion}.json").read_text())
    assert "crop_fusion" not in streamed["mean"]
    assert streamed["joint"]["crop_fusion"] == "joint"
    shown = [[tag["score"] for video in one["videos"] for tag in video["tags"]] for one in streamed.values()]
    assert shown[0] != shown[1]
    tiny = ("--backbone", "test_efficientnet.r160_in1k", "--weights", "random", "--input-size", "64", "--frames", "3")
    shutil.copytree(finished / "videos", done / "videos")
    assert cli("extract", "videos", *tiny, "--workers", 1, "--crops", "3").code == 0
    for crop_fusion in ("mean", "joint"):
        found = cli("evaluate", "--root", "videos", "--crops", "3", "--crop-fusion", crop_fusion, "--json").json
        tagged = cli("evaluate", f"{crop_fusion}.json", "--json").json
        assert found["num_videos"] == 10
        assert found["ensemble"] == pytest.approx(tagged["ensemble"], abs=1e-6)
