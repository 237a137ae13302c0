"""extract, train, predict and evaluate as a user runs them, on real clips: results, exit codes, one clear line."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import COLOURS, TINY_OPTIONS, CommandLine, ToyCache, coloured, encode

TRAIN = ("--epochs", 12, "--glimpses", 2, "--learning-rate", 0.01, "--batch-size", 4)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, encoded_clips: Path) -> Path:
    """A folder in which the clips were extracted and a model trained, made once. Read only."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(encoded_clips, folder / "videos")
    cli = CommandLine()
    cache, model = ("--cache", folder / ".rratag/features"), folder / ".rratag/models/latest"
    assert cli("extract", folder / "videos", *cache, *TINY_OPTIONS).code == 0
    assert cli("train", *cache, *TRAIN, "--out", model).code == 0
    return folder


@pytest.fixture
def done(finished: Path, tmp_path: Path, cli: CommandLine) -> Path:
    """A copy of it as the working folder; its cache still knows the original's videos."""
    shutil.copytree(finished / ".rratag", tmp_path / ".rratag")
    return tmp_path


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def clips(folder: Path, num_each: int = 2, seed: int = 500) -> Path:
    for place, colour in enumerate(COLOURS):
        (folder / colour).mkdir(parents=True)
        for number in range(num_each):
            encode(folder / colour / f"{number}.mp4", coloured(colour, seed + 10 * place + number))
    return folder


# --- extract ---


def test_extract_says_what_became_of_every_video(cli: CommandLine, clip_folder: Path) -> None:
    (clip_folder / "red/empty.mp4").write_bytes(b"")
    (clip_folder / "red/notes.md").write_text("no video")
    ran = cli("extract", "videos/red", *TINY_OPTIONS, "--report", "report.csv")
    assert (ran.code, ran.out) == (3, "")
    lines = ran.err.splitlines()
    assert lines[0] == "6 videos to extract, 0 known"
    assert lines[1].startswith("empty.mp4: unreadable: empty")
    assert lines[2] == "6 videos: 5 ok, 1 unreadable"
    assert "random" in lines[3]
    rows = rows_of(Path("report.csv").read_text())
    assert [(row["video"], row["status"], row["frames_decoded"]) for row in rows] == [
        *((f"{number}.mp4", "ok", "3") for number in range(5)),
        ("empty.mp4", "unreadable", "0"),
    ]
    again = cli("extract", "videos/red", *TINY_OPTIONS, "--quiet")
    assert (again.code, again.out, again.err) == (3, "", "")


def test_extract_where_nothing_is_usable_ends_with_1(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").write_bytes(b"")
    ran = cli("extract", "videos", *TINY_OPTIONS)
    assert ran.code == 1
    assert "1 videos: 1 unreadable" in ran.err


def test_strict_counts_partial_as_failed(cli: CommandLine, tmp_path: Path) -> None:
    clips(tmp_path / "videos", 1)
    content = (tmp_path / "videos/red/0.mp4").read_bytes()
    damaged = bytearray(content)
    middle = content.index(b"mdat") + 5000
    damaged[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    (tmp_path / "videos/red/0.mp4").write_bytes(bytes(damaged))
    options = ("extract", "videos", *TINY_OPTIONS, "--frames", 8)
    ran = cli(*options)
    assert "1 ok, 1 partial" in ran.err, ran.err
    assert ran.code == 0
    assert cli(*options, "--strict").code == 3


def test_dry_run_is_data_on_stdout_and_changes_nothing(cli: CommandLine, clip_folder: Path, tmp_path: Path) -> None:
    ran = cli("extract", "videos", *TINY_OPTIONS, "--dry-run")
    assert ran.code == 0
    cells = dict(line.split(None, 1) for line in ran.out.replace("to extract", "to_extract").splitlines())
    assert (cells["videos"], cells["known"], cells["to_extract"]) == ("10", "0", "10")
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]


def test_extract_without_videos(cli: CommandLine, tmp_path: Path) -> None:
    cli("extract", "nowhere").says_one_line(2, "nowhere")
    (tmp_path / "empty").mkdir()
    cli("extract", "empty").says_one_line(2, "empty", ".mp4")
    (tmp_path / "empty/notes.md").write_text("no video")
    cli("extract", "empty").says_one_line(2, "1 other")
    cli("extract", "-", stdin="").says_one_line(2)


def test_extract_takes_a_list_from_stdin(cli: CommandLine, clip_folder: Path) -> None:
    ran = cli("extract", "-", *TINY_OPTIONS, stdin="videos/red/1.mp4\n\n# a remark\nvideos/blue/2.mp4\n")
    assert ran.code == 0
    assert "2 videos: 2 ok" in ran.err
    listing = cli("cache", "ls", "--json").json["roots"]
    assert [(Path(one["root"]).name, one["usable"]) for one in listing] == [("videos", 2)]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--weights", "nothing.pth"], 1, "no such file"),
        (["--weights", "notes.txt"], 1, "not a state dict"),
        (["--backbone", "tv:resnet18", "--weights", "notes.txt"], 1, "not a state dict"),
        (["--backbone", "resnet18.a1_in1k"], 1, "--weights FILE"),
        (["--cache", "notes.txt"], 1, "not a folder"),
        (["--cache", "notes.txt/below"], 1, "notes.txt/below"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_extract_with_what_does_not_exist_or_fit(
    cli: CommandLine,
    clip_folder: Path,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "notes.txt").write_text("nothing of use\n")
    options = dict(zip(TINY_OPTIONS[::2], TINY_OPTIONS[1::2], strict=True)) | dict(
        zip(arguments[::2], arguments[1::2], strict=True)
    )
    if "--backbone" in arguments and "--weights" not in arguments:
        del options["--weights"]
    ran = cli("extract", "videos", *(part for pair in options.items() for part in pair))
    assert (ran.code, ran.out) == (code, ""), ran.err
    assert "Traceback" not in ran.err
    (line,) = (line for line in ran.err.splitlines() if line.startswith("error: "))
    assert words in line


def test_a_report_that_cannot_be_written_is_refused_before_the_work(cli: CommandLine, clip_folder: Path) -> None:
    ran = cli("extract", "videos/red", *TINY_OPTIONS, "--report", "nowhere/report.csv")
    assert ran.code == 2
    assert ran.err.splitlines()[-1].startswith("error: nowhere/report.csv")
    assert "known       0\n" in cli("extract", "videos/red", *TINY_OPTIONS, "--dry-run").out


# --- train ---


def test_train_before_extract(cli: CommandLine) -> None:
    cli("train").says_one_line(1, "no extracted videos", "rratag extract")
    cli("train", "videos").says_one_line(1, "videos: not extracted", "rratag extract videos")


def test_train_writes_a_model_that_says_where_it_comes_from(done: Path, cli: CommandLine) -> None:
    ran = cli("train", *TRAIN, "--json", "--out", "models/mine")
    assert ran.code == 0
    metrics = ran.json
    assert metrics["videos"] == {"train": 8, "validation": 2, "test": 0}
    assert metrics["chosen_by"].startswith("validation")
    assert (metrics["training"]["learning_rate"], metrics["training"]["epochs"]) == (0.01, 12)
    assert {path.name for path in (done / "models/mine").iterdir()} == {
        "model.safetensors",
        "config.json",
        "metrics.json",
        "history.csv",
        "README.md",
        "labels.csv",
    }
    assert json.loads(Path("models/mine/metrics.json").read_text()) == metrics
    history = rows_of(Path("models/mine/history.csv").read_text())
    assert [row["epoch"] for row in history] == [str(epoch) for epoch in range(1, 13)]
    assert "random" in ran.err
    labels = rows_of(Path("models/mine/labels.csv").read_text())
    assert {(row["video"].split("/")[0], row["label"]) for row in labels} == {("blue", "blue"), ("red", "red")}
    assert [path.name for path in (done / "models").iterdir()] == ["mine"]  # no checkpoint is left


def test_train_is_the_same_again_by_seed(done: Path, cli: CommandLine) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert cli("train", *TRAIN, "--seed", seed, "--out", name, "--quiet").err.count("\n") == 1
    weights = {name: Path(name, "model.safetensors").read_bytes() for name in "abc"}
    assert weights["a"] == weights["b"] != weights["c"]


def test_one_class_only(cli: CommandLine, toy_cache: ToyCache) -> None:
    toy_cache.fill([f"red/{number}.mp4" for number in range(4)])
    ran = cli("train", "--cache", toy_cache.cache)
    ran.says_one_line(1, "red")


def test_videos_without_folders(cli: CommandLine, toy_cache: ToyCache) -> None:
    toy_cache.fill([f"{number}.mp4" for number in range(4)])
    cli("train", "--cache", toy_cache.cache).says_one_line(1, "--labels")


def test_a_class_with_one_video_only_trains_and_is_named(cli: CommandLine, toy_cache: ToyCache) -> None:
    toy_cache.fill([*(f"{name}/{number}.mp4" for name in ("blue", "red") for number in range(5)), "green/0.mp4"])
    ran = cli("train", "--cache", toy_cache.cache, "--epochs", 1, "--out", "m", "--json")
    assert ran.code == 0
    assert any("green" in line and line.startswith("warning: ") for line in ran.err.splitlines())
    labels = {row["video"]: row["split"] for row in rows_of(Path("m/labels.csv").read_text())}
    assert labels["green/0.mp4"] == "train"


def test_the_highest_seed_trains(cli: CommandLine, toy_cache: ToyCache) -> None:
    toy_cache.fill_classes(4)
    train = ("train", "--cache", toy_cache.cache, "--epochs", 1, "--out", "m", "--seed", 2**63 - 1)
    assert cli(*train).code == 0


def test_train_says_what_it_trains_on(cli: CommandLine, toy_cache: ToyCache) -> None:
    toy_cache.fill_classes(4)
    ran = cli("train", "--cache", toy_cache.cache, "--epochs", 1, "--out", "m")
    first = ran.err.splitlines()[0]
    assert first == f"{toy_cache.root}: features of toy, frames=12 crops=1 input_size=64"


def test_json_of_train_holds_no_number_that_json_does_not_know(
    cli: CommandLine, toy_cache: ToyCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_cache.fill_classes(4)
    monkeypatch.setattr("rratag.train.run.metrics_of", lambda *_: {"loss": [float("nan"), float("inf"), 0.5]})
    ran = cli("train", "--cache", toy_cache.cache, "--epochs", 1, "--out", "m", "--json")
    assert ran.out == '{"loss": [null, null, 0.5]}\n'


def test_evaluate_names_labelled_videos_that_are_gone(cli: CommandLine, toy_cache: ToyCache) -> None:
    toy_cache.fill_classes(4)
    assert cli("train", "--cache", toy_cache.cache, "--epochs", 1, "--out", "m").code == 0
    toy_cache.fill(["blue/0.mp4", "green/0.mp4", "red/0.mp4", "red/1.mp4"])
    ran = cli("evaluate", "--on", "all", "--cache", toy_cache.cache, "--model", "m", "--json", "--quiet")
    assert (ran.code, ran.json["num_videos"]) == (0, 4)
    assert ran.err == "warning: 8 labelled videos are not in the cache and not judged, e.g. blue/1.mp4\n"


def test_labels_from_a_file_with_other_column_names(cli: CommandLine, toy_cache: ToyCache) -> None:
    toy_cache.fill([f"{name}/{number}.mp4" for name in ("blue", "red") for number in range(6)])
    rows = [f"{name}/{number}.mp4;{'odd' if number % 2 else 'even'}" for name in ("blue", "red") for number in range(6)]
    Path("tags.csv").write_text("file;kind\n" + "\n".join([*rows, "gone/1.mp4;odd"]) + "\n")
    options = ("train", "--cache", toy_cache.cache, "--epochs", 1, "--out", "m", "--labels", "tags.csv")
    ran = cli(*options, "--columns", "video=file,label=kind")
    assert ran.code == 0
    assert "2 tags; " in ran.err
    assert "1 videos of the label file are not in the cache, e.g. gone/1.mp4" in ran.err
    cli(*options).says_one_line(1, "tags.csv")
    cli(*options[:-1], "none.csv").says_one_line(2, "none.csv")


@pytest.mark.parametrize("out", ["notes.txt", "folder", "notes.txt/below"])
def test_train_never_writes_over_what_is_no_model(cli: CommandLine, toy_cache: ToyCache, out: str) -> None:
    toy_cache.fill_classes(4)
    Path("notes.txt").write_text("mine")
    Path("folder").mkdir()
    Path("folder/mine.txt").write_text("mine")
    ran = cli("train", "--cache", toy_cache.cache, "--epochs", 1, "--out", out)
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert ran.err.splitlines()[-1].startswith("error: ")
    assert out.split("/")[0] in ran.err.splitlines()[-1]
    assert Path("notes.txt").read_text() == "mine"
    assert [path.name for path in Path("folder").iterdir()] == ["mine.txt"]


def test_a_checkpoint_that_is_not_ours_is_refused_in_one_line(
    cli: CommandLine, toy_cache: ToyCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_cache.fill_classes(4)
    Path("models").mkdir()
    foreign = Path("models/.mine.checkpoint")
    foreign.write_bytes(b"not a checkpoint")
    monkeypatch.setattr("rratag.train.run.checkpoint_path", lambda *_: foreign)
    ran = cli("train", "--cache", toy_cache.cache, "--epochs", 1, "--out", "models/mine")
    assert "Traceback" not in ran.err
    assert ran.code == 1
    assert ".mine.checkpoint" in ran.err.splitlines()[-1]


def test_a_run_that_cannot_be_saved_does_not_stand_in_the_way_of_the_next(
    cli: CommandLine, toy_cache: ToyCache
) -> None:
    toy_cache.fill_classes(4)
    train = ("train", "--cache", toy_cache.cache, "--epochs", 1, "--out", "models/mine")
    assert cli(*train, "--learning-rate", 1e30).code == 1
    assert cli(*train).code == 0
    assert cli("train", "--cache", toy_cache.cache, "--epochs", 2, "--out", "models/mine").code == 0


def test_two_roots_of_different_settings_are_refused(cli: CommandLine, toy_cache: ToyCache) -> None:
    from rratag.features.spec import Spec

    toy_cache.fill_classes(2)
    other = toy_cache.root.with_name("others")
    toy_cache.fill(["red/0.mp4"], root=other, spec=Spec({**toy_cache.spec.meaning, "input_size": 96}, {}))
    cli("train", toy_cache.root, other, "--cache", toy_cache.cache).says_one_line(1, "different settings")


def test_the_same_id_below_two_roots_is_refused(cli: CommandLine, toy_cache: ToyCache) -> None:
    toy_cache.fill_classes(2)
    other = toy_cache.root.with_name("others")
    toy_cache.fill(["red/0.mp4"], root=other)
    cli("train", toy_cache.root, other, "--cache", toy_cache.cache).says_one_line(1, "red/0.mp4", "more than one")


# --- predict ---


def test_predict_before_train(cli: CommandLine, clip_folder: Path) -> None:
    cli("predict", "videos").says_one_line(1, "rratag train")
    assert not Path(".rratag").exists()


def test_predict_tags_unseen_videos_right(done: Path, cli: CommandLine) -> None:
    folder = clips(done / "clips", 3)
    (folder / "red/0.mp4").rename(folder / "ä,\nb.mp4")
    (folder / "broken.mp4").write_bytes(b"")
    ran = cli("predict", "clips", "--out", "tags.csv", "--workers", 1)
    assert (ran.code, ran.out) == (3, "")
    rows = rows_of(Path("tags.csv").read_bytes().decode())
    header = "video,status,reason,rank,label,score,glimpse_1,glimpse_2,time_s,box,frames_used,message"
    assert list(rows[0]) == header.split(",")
    assert [row["video"] for row in rows if row["rank"] in ("", "1")] == [
        "blue/0.mp4",
        "blue/1.mp4",
        "blue/2.mp4",
        "broken.mp4",
        "red/1.mp4",
        "red/2.mp4",
        "ä,\nb.mp4",
    ]
    best = {row["video"]: row["label"] for row in rows if row["rank"] == "1"}
    assert {video: label for video, label in best.items() if "/" in video} == {
        video: video.split("/")[0] for video in best if "/" in video
    }
    assert best["ä,\nb.mp4"] == "red"
    for row in rows:
        if row["rank"]:
            glimpses = [float(row[name]) for name in ("glimpse_1", "glimpse_2")]
            assert float(row["score"]) == pytest.approx(np.mean(glimpses), abs=2e-6)
            assert float(row["time_s"]) in (0.1, 0.4, 0.6)
            x0, y0, x1, y1 = map(float, row["box"].split(","))
            assert 0 <= x0 < x1 <= 1
            assert 0 <= y0 < y1 <= 1
        else:
            assert (row["video"], row["status"], row["reason"]) == ("broken.mp4", "unreadable", "empty")


def test_predict_does_not_become_training_data(done: Path, cli: CommandLine) -> None:
    clips(done / "clips", 2)
    assert cli("predict", "clips", "--workers", 1).code == 0
    ran = cli("train", "--epochs", 1, "--out", "again", "--json")
    assert sum(ran.json["videos"].values()) == 10
    assert "not extracted" in cli("train", "clips").err


def test_predict_to_stdout_writes_nothing_else_there(done: Path, cli: CommandLine, finished: Path) -> None:
    ran = cli("predict", finished / "videos/red", "--out", "-", "--top", 1)
    assert ran.code == 0
    rows = rows_of(ran.out)
    assert [(row["video"], row["label"]) for row in rows] == [(f"{number}.mp4", "red") for number in range(5)]


def test_all_formats_hold_the_same(done: Path, cli: CommandLine, finished: Path) -> None:
    from rratag.tag.writers import read_tags

    for suffix in ("csv", "json", "jsonl"):
        assert cli("predict", finished / "videos", "--out", f"tags.{suffix}").code == 0
    rows, others, lines = (read_tags(f"tags.{suffix}") for suffix in ("csv", "json", "jsonl"))
    key = [(row.video, row.rank, row.label, row.frames_used) for row in rows]
    assert len(key) == 20
    for other in (others, lines):
        assert [(row.video, row.rank, row.label, row.frames_used) for row in other] == key
        assert [row.score for row in other] == pytest.approx([row.score for row in rows], abs=1e-6)
    assert json.loads(Path("tags.json").read_text())["model"]["info"]["random_backbone"] is True


def test_concatenation_scores_on_request(done: Path, cli: CommandLine, finished: Path) -> None:
    one, other = (
        rows_of(cli("predict", finished / "videos", "--out", "-", "--score", score).out)
        for score in ("ensemble", "concat")
    )
    assert [row["glimpse_1"] for row in one if row["label"] == "red"] == [
        row["glimpse_1"] for row in other if row["label"] == "red"
    ]
    assert {row["score"] for row in one} != {row["score"] for row in other}


def test_predict_after_everything_moved_decodes_nothing(
    done: Path, cli: CommandLine, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished / "videos", done / "renamed")
    first = rows_of(cli("predict", finished / "videos", "--out", "-").out)

    def forbidden(self: object, images: object) -> None:
        raise AssertionError("nothing is to be computed")

    monkeypatch.setattr("rratag.features.extract.Network.maps", forbidden)
    assert rows_of(cli("predict", "renamed", "--out", "-", "--workers", 1).out) == first


def test_features_of_other_precision_serve_and_it_is_said_once(done: Path, cli: CommandLine) -> None:
    clips(done / "clips", 1)
    ran = cli("predict", "clips", "--out", "-", "--precision", "bf16", "--workers", 1)
    assert ran.code == 0
    (line,) = (line for line in ran.err.splitlines() if "bf16" in line)
    assert "fp32" in line
    assert [row["label"] for row in rows_of(ran.out) if row["rank"] == "1"] == ["blue", "red"]
    compute = {spec["compute"] for spec in cli("cache", "ls", "--json").json["specs"]}
    assert {"bf16" in one for one in compute} == {True, False}


def test_other_views_and_sampling_are_used_on_request_and_said(done: Path, cli: CommandLine) -> None:
    clips(done / "clips", 1)
    options = ("predict", "clips", "--out", "-", "--workers", 1)
    usual = rows_of(cli(*options).out)
    ran = cli(*options, "--crops", "3", "--frames", 2)
    assert ran.code == 0
    assert "crops=3" in ran.err
    rows = rows_of(ran.out)
    assert {row["frames_used"] for row in rows} == {"2"}
    assert {row["frames_used"] for row in usual} == {"3"}
    assert {spec["crops"] for spec in cli("cache", "ls", "--json").json["specs"]} == {"full"}  # used once, not kept


def test_some_of_the_cached_frames_are_scored_on_request(done: Path, cli: CommandLine, finished: Path) -> None:
    everything = ("predict", finished / "videos", "--workers", 1)
    assert cli(*everything, "--out", "all.json").code == 0
    ran = cli(*everything, "--out", "two.json", "--test-frames", 2)
    assert "using 2 of the cached frames of each video, all where there are no more" in ran.err
    usual, two = (json.loads((done / name).read_text()) for name in ("all.json", "two.json"))
    assert ("test_frames" in usual, two["test_frames"], two["spec"]) == (False, 2, usual["spec"])
    for one, other in zip(two["videos"], usual["videos"], strict=True):
        assert (one["frames_used"], other["frames_used"]) == (2, 3)
        assert one["time_s"] == [other["time_s"][place] for place in (0, 2)]
    ran = cli(*everything, "--out", "-", "--test-frames", 2, "--crops", "3")
    assert (ran.code, ran.out) == (2, "")
    assert "features of --crops 3 are not cached; give --frames 2" in ran.err


def test_other_weights_are_refused(done: Path, cli: CommandLine, tmp_path: Path) -> None:
    import timm
    import torch

    from tests.conftest import TINY

    torch.manual_seed(5)
    torch.save(timm.create_model(TINY).state_dict(), "other.pth")
    clips(done / "clips", 1)
    # a cache that holds no features of the model's meaning: the request leads to another one
    ran = cli("predict", "clips", "--weights", "other.pth", "--cache", "fresh", "--workers", 1)
    ran.says_one_line(1, "weights: model", "train again")
    assert not Path("tags.csv").exists()
    ran = cli("predict", "clips", "--weights", "other.pth", "--workers", 1)
    ran.says_one_line(1, "weights: model", "train again")
    assert not Path("tags.csv").exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("no config", "not a model of rratag"),
        ("foreign config", "not a model of rratag"),
        ("newer", "version 2"),
        ("weights", "damaged"),
        ("no weights", "cannot be read"),
        ("meaning", "train"),
    ],
)
def test_a_damaged_or_foreign_model_is_one_clear_line(
    done: Path, cli: CommandLine, finished: Path, damage: str, words: str
) -> None:
    model = done / ".rratag/models/latest"
    config = model / "config.json"
    data = json.loads(config.read_text())
    if damage == "no config":
        config.unlink()
    elif damage == "foreign config":
        config.write_text('{"architectures": ["BERT"]}')
    elif damage == "newer":
        config.write_text(json.dumps({**data, "version": 2}))
    elif damage == "weights":
        content = bytearray((model / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (model / "model.safetensors").write_bytes(content)
    elif damage == "no weights":
        (model / "model.safetensors").unlink()
    else:
        config.write_text(json.dumps({**data, "meaning": {}, "spec_request": {}}))
    cli("predict", finished / "videos").says_one_line(1, words)
    cli("predict", finished / "videos", "--model", finished / "videos").says_one_line(1, "not a model of rratag")


@pytest.mark.parametrize("out", ["nowhere/tags.csv", ".", "tags"])
def test_an_out_that_cannot_be_written_is_refused_before_the_work(done: Path, cli: CommandLine, out: str) -> None:
    clips(done / "clips", 1)
    cli("predict", "clips", "--out", out).says_one_line(2, out)
    assert len(cli("cache", "ls", "--json").json["roots"]) == 1


# --- evaluate ---


def test_evaluate_by_model_and_by_file_agree(done: Path, cli: CommandLine, finished: Path) -> None:
    ran = cli("evaluate", "--on", "all", "--json")
    assert ran.code == 0
    by_model = ran.json
    assert by_model["num_videos"] == 10
    assert by_model["ensemble"]["top1"] == 1.0
    assert cli("predict", finished / "videos", "--out", "tags.csv").code == 0
    by_file = cli("evaluate", "tags.csv", "--json").json
    assert by_file["concatenation"] is None
    for name in ("num_videos", "num_classes", "ensemble", "glimpse_accuracy", "confused_pairs"):
        assert by_file[name] == pytest.approx(by_model[name], abs=1e-6), name  # a file holds six digits
    assert cli("evaluate", "--json").json["num_videos"] == 2
    assert cli("evaluate", "--on", "train", "--json").json["num_videos"] == 8
    table = cli("evaluate", "--on", "all")
    assert table.code == 0
    assert "10 videos" in table.out
    assert "1.000" in table.out


def test_a_run_is_handed_in_and_judged(done: Path, cli: CommandLine, finished: Path) -> None:
    """From videos to the form of the challenge, and from there to the same figures as from our own file."""
    cli("predict", finished / "videos", "--out", "x.activitynet.json").says_one_line(2, "are both video '0'")
    (done / "net").mkdir()
    truth = ["video,label\n"]
    for place, video in enumerate(sorted((finished / "videos").rglob("*.mp4"))):
        shutil.copy(video, done / f"net/v_{place:011}.mp4")
        truth.append(f"{place:011},{video.parent.name}\n")
    Path("truth.csv").write_text("".join(truth))
    ran = cli("predict", "net", "--out", "run.activitynet.json", "--top", 1)
    assert ran.code == 0, ran.err
    assert "the 1 highest tags of each video are written" in ran.err
    results = json.loads(Path("run.activitynet.json").read_text())["results"]
    assert list(results) == [f"{place:011}" for place in range(10)]
    ran = cli("predict", "net", "--out", "run.activitynet.json")
    assert "highest tags" not in ran.err
    arguments = ("--labels", "truth.csv", "--metrics", "activitynet", "--json")
    judged = cli("evaluate", "run.activitynet.json", *arguments).json
    assert (judged["num_videos"], judged["num_without"], judged["num_predictions"]) == (10, 0, 20)
    assert {figure["value"] for figure in judged["figures"].values()} == {1.0}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--model", "nothing"], 1, "nothing"),
        (["tags.xlsx"], 2, ".csv"),
        (["none.csv"], 2, "none.csv"),
        (["--root", "elsewhere"], 1, "not extracted"),
        (["--on", "test"], 1, "no labelled video"),
        (["--cache", "fresh"], 1, "no features"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_evaluate_without_what_it_needs(
    done: Path, cli: CommandLine, arguments: list[str], code: int, words: str
) -> None:
    cli("evaluate", *arguments).says_one_line(code, words)
