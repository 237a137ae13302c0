"""The command line as a whole: help, light imports, settings from file and environment, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import rratag
from tests.conftest import CommandLine, ToyCache

COMMANDS = ["extract", "labels", "train", "predict", "evaluate", "cache", "demo", "bench", "doctor"]
HEAVY = ("torch", "torchvision", "timm", "sklearn", "h5py", "av")


def test_help_of_every_command_loads_nothing_heavy() -> None:
    """In a fresh interpreter, one command after the other: what is never loaded was never needed."""
    code = f"""
import sys
from rratag.cli.app import app
for command in ([], *([name] for name in {COMMANDS}), ["cache", "ls"]):
    try:
        app([*command, "--help"])
    except SystemExit as stop:
        assert stop.code == 0, (command, stop.code)
    print(sorted({HEAVY} & sys.modules.keys()), file=sys.stderr)
""".replace(str(HEAVY), repr(set(HEAVY)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines() == ["[]"] * (len(COMMANDS) + 2)
    for name in COMMANDS:
        assert f"  {name} " in done.stdout


def test_version_and_the_module_as_a_program(cli: CommandLine) -> None:
    assert cli("--version").out == f"rratag {rratag.__version__}\n"
    done = subprocess.run([sys.executable, "-m", "rratag", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"rratag {rratag.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["extrct"], "No such command"),
        (["extract"], "Missing argument"),
        (["extract", "x", "--batch-size", "0"], "--batch-size"),
        (["extract", "x", "--workers", "many"], "--workers"),
        (["train", "--glimpses", "0"], "--glimpses"),
        (["train", "--no-such-option"], "No such option"),
        (["predict", "x", "--top", "0"], "--top"),
        (["cache", "rm"], "No such command"),
        (["demo", "--seed", str(2**63)], "9223372036854775807"),
        (["train", "--seed", str(2**63)], "9223372036854775807"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_says_where(cli: CommandLine, arguments: list[str], words: str) -> None:
    ran = cli(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("option", "value", "accepted"),
    [
        ("--crops", "7", "1, 3, 5, 10, full, squash"),
        ("--decoder", "vlc", "auto, pyav, decord"),
        ("--device", "tpu", "auto, cpu, cuda"),
        ("--precision", "int8", "auto, fp32, fp16, bf16"),
        ("--compress", "rar", "zstd, gzip, none"),
        ("--input-size", "31", "32 to 2048"),
        ("--frames", "0", "1 or more"),
        ("--fps", "0", "above 0"),
        ("--fps", "nan", "above 0"),
        ("--max-frames", "3", "frames per second"),
        ("--backbone", "resnet9000", "efficientnet_lite0"),
        ("--backbone", "tv:resnet9000", "tv:resnet50"),
        ("--backbone", "tv:vit_b_16", "tv:resnet50"),
    ],
)
def test_values_of_extract_name_the_accepted_ones(
    cli: CommandLine, clip_folder: Path, option: str, value: str, accepted: str
) -> None:
    cli("extract", "videos", option, value).says_one_line(2, accepted)
    assert not Path(".rratag").exists()


@pytest.mark.parametrize(
    ("arguments", "accepted"),
    [
        (["train", "--loss", "Lx"], "Lc"),
        (["train", "--head", "big"], "rra"),
        (["train", "--variant", "cube"], "no-relu"),
        (["train", "--variant", "zero", "--head", "mean"], "--head mean"),
        (["train", "--glimpse-weights", "1,2"], "4 numbers"),
        (["train", "--glimpse-weights", "learned", "--loss", "Li"], "add Le"),
        (["train", "--preset", "best"], "default, accurate, paper"),
        (["train", "--decay-every", "100"], "only --preset paper"),
        (["train", "--class-balance", "all"], "none, balanced"),
        (["train", "--device", "tpu"], "auto, cpu, cuda"),
        (["train", "--dropout", "1.5"], "dropout"),
        (["train", "--learning-rate", "-1"], "learning_rate"),
        (["train", "--columns", "file=video"], "video, label, start_s"),
        (["train", "--group-by", "("], "regular expression"),
        (["predict", "videos", "--score", "best"], "ensemble, concat"),
        (["predict", "videos", "--out", "tags.xlsx"], ".csv, .json, .jsonl"),
        (["evaluate", "--on", "monday"], "test, validation, train, all"),
        (["evaluate", "--columns", "file"], "video, label"),
        (["predict", "videos", "--max-frames", "3"], "frames per second"),
        (["train", "--columns", "video=file"], "--labels"),
        (["evaluate", "--labels", "tags.csv"], "TAGS or --root"),
        (["evaluate", "--columns", "video=file"], "TAGS or --root"),
        (["evaluate", "--columns", "video=file", "--root", "videos"], "--labels"),
        (["evaluate", "tags.csv", "--columns", "video=file"], "--labels"),
        (["evaluate", "--on", "test", "--root", "videos"], "--on changes nothing"),
        (["evaluate", "tags.csv", "--crops", "3"], "--crops changes nothing"),
        (["evaluate", "tags.csv", "--model", "m"], "--model changes nothing"),
        (["evaluate", "tags.csv", "--root", "videos"], "--root changes nothing"),
    ],
    ids=" ".join,
)
def test_values_of_the_other_commands_name_the_accepted_ones(
    cli: CommandLine, toy_cache: ToyCache, clip_folder: Path, arguments: list[str], accepted: str
) -> None:
    toy_cache.fill_classes()
    cli(*arguments, "--cache", toy_cache.cache).says_one_line(2, accepted)
    assert not Path(".rratag").exists()


def test_a_setting_for_every_call_is_not_refused_where_it_changes_nothing(cli: CommandLine) -> None:
    """Only what stands on the command line itself was meant for this very call."""
    Path("rratag.toml").write_text('columns = "video=file"\n[evaluate]\non = "test"\n')
    cli("evaluate", "none.csv", env={"RRATAG_MODEL": "m"}).says_one_line(2, "none.csv", "cannot be read")
    cli("train").says_one_line(1, "no extracted videos")


def test_frames_and_fps_exclude_each_other(cli: CommandLine, clip_folder: Path) -> None:
    cli("extract", "videos", "--frames", 3, "--fps", 2).says_one_line(2, "--frames and --fps exclude each other")


# --- settings ---


def seen_cache(cli: CommandLine, *arguments: object, env: dict[str, str] | None = None) -> str:
    """Name of the cache folder that `train` looks for."""
    ran = cli("train", *arguments, env=env)
    ran.says_one_line(1, "no extracted videos")
    return Path(ran.err.removeprefix("error: ").partition(":")[0]).name


def test_flags_stand_above_variables_above_the_file_above_defaults(cli: CommandLine) -> None:
    assert seen_cache(cli) == "features"
    Path("rratag.toml").write_text('cache = "shared"\n')
    assert seen_cache(cli) == "shared"
    Path("rratag.toml").write_text('cache = "shared"\n[train]\ncache = "own"\n[extract]\ncache = "others"\n')
    assert seen_cache(cli) == "own"
    env = {"RRATAG_CACHE": "variable"}
    assert seen_cache(cli, env=env) == "variable"
    assert seen_cache(cli, "--cache", "flag", env=env) == "flag"


def test_the_file_is_for_every_command(cli: CommandLine) -> None:
    Path("rratag.toml").write_text('cache = "elsewhere"\nbatch-size = 8\n')
    assert Path(cli("cache", "ls", "--json").json["cache"]).name == "elsewhere"
    assert seen_cache(cli) == "elsewhere"
    Path("rratag.toml").write_text('[cache]\ncache = "mine"\n[train]\nout = "model"\n')
    assert Path(cli("cache", "ls", "--json").json["cache"]).name == "mine"


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        ("cache = ", 2, "rratag.toml"),
        ("colour = 1\n", 2, "'colour'"),
        ("[paint]\n", 2, "[paint]"),
        ("[train]\nframes = 3\n", 2, "'frames'"),
        ("\udcff", 2, "rratag.toml"),
        ("[train]\nloss = 'Lx'\n", 2, "Lx"),
    ],
)
def test_a_bad_settings_file_is_one_clear_line(
    cli: CommandLine, toy_cache: ToyCache, content: str, code: int, words: str
) -> None:
    toy_cache.fill_classes()
    Path("rratag.toml").write_bytes(content.encode("utf-8", "surrogateescape"))
    cli("train", "--cache", toy_cache.cache).says_one_line(code, words)


def test_a_setting_of_the_wrong_type_is_wrong_usage(cli: CommandLine) -> None:
    Path("rratag.toml").write_text('[train]\nglimpses = "many"\n')
    ran = cli("train")
    assert ran.code == 2
    assert "glimpses" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("RRATAG_DEVICE", "tpu", "auto, cpu, cuda"), ("RRATAG_BACKBONE", "resnet9000", "efficientnet_lite0")],
)
def test_variables_are_read(cli: CommandLine, clip_folder: Path, name: str, value: str, words: str) -> None:
    cli("extract", "videos", env={name: value}).says_one_line(2, words)


# --- cache, doctor ---


def test_cache_ls_lists_specs_and_roots(cli: CommandLine, toy_cache: ToyCache) -> None:
    store = toy_cache.fill_classes(3)
    toy_cache.fill(["red/9.mp4"], root=toy_cache.root.with_name("clips"), command="predict")
    found = cli("cache", "ls", "--json", "--cache", toy_cache.cache)
    assert (found.code, found.err) == (0, "")
    (spec,) = found.json["specs"]
    assert (spec["spec"], spec["videos"], spec["backbone"]) == (store.folder.name, 10, "toy")
    assert spec["bytes"] == sum(store.path(key).stat().st_size for key in store.keys())  # noqa: SIM118 - a store is no dict
    assert [(Path(one["root"]).name, one["command"], one["usable"], one["videos"]) for one in found.json["roots"]] == [
        ("clips", "predict", 1, 1),
        ("videos", "extract", 9, 9),
    ]
    table = cli("cache", "ls", "--cache", toy_cache.cache)
    assert (table.code, table.err) == (0, "")
    assert store.folder.name in table.out
    assert "9 of 9" in table.out


def test_cache_ls_of_nothing_makes_nothing(cli: CommandLine, tmp_path: Path) -> None:
    ran = cli("cache", "ls", "--json")
    assert ran.json == {"cache": str(tmp_path / ".rratag/features"), "specs": [], "roots": []}
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_is_not_ours_is_one_clear_line(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cli("cache", "ls", "--cache", "file").says_one_line(1, "not a folder")
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer/rratag-cache.json").write_text('{"format": "rratag-feature-cache", "version": 2}')
    cli("cache", "ls", "--cache", "newer").says_one_line(1, "version 2", "upgrade")


def test_doctor_finds_this_machine_well_and_a_damaged_cache_ill(cli: CommandLine, toy_cache: ToyCache) -> None:
    store = toy_cache.fill_classes(1)
    ran = cli("doctor", "--json", "--cache", toy_cache.cache)
    findings = {one["what"]: one for one in ran.json}
    assert ran.code == 0, ran.out
    assert all(one["ok"] for one in ran.json)
    assert findings["cache"]["found"].startswith("3 videos in 1 specs")
    for key in store.keys():  # noqa: SIM118 - a store is no dict
        store.path(key).write_bytes(b"no")
    ran = cli("doctor", "--cache", toy_cache.cache)
    assert ran.code == 1
    lines = ran.out.splitlines()
    (place,) = (place for place, line in enumerate(lines) if line.startswith("FAIL"))
    assert lines[place].split()[1] == "cache"
    assert "-> choose another --cache" in lines[place + 1]
    assert json.loads(cli("doctor", "--json").out)


def test_the_highest_seed_does_not_overflow_in_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seed of the demo's unseen videos stays a seed that can be given."""
    from rratag.cli import demo

    seen = []
    monkeypatch.setattr("rratag.data.rendered.render_set", lambda *_, seed, **__: seen.append(seed) or [])
    demo._render(demo.Places(tmp_path), 2**63 - 1, 1)
    assert seen == [2**63 - 1, 999_999]
