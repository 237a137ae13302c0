"""The long tests, scaled down; and that their checks can fail."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from rratag.features.store import FeatureStore
from rratag.records import Receipt
from tests.soak import __main__ as soak
from tests.soak import bad_files, links, mutations, tool
from tests.soak.mutate import damaged
from tests.soak.tool import Ended, apart, fault_of, row_faults, run_process


def faults(trials: Iterator[str]) -> list[str]:
    """What was wrong; there must have been trials."""
    answers = list(trials)
    assert answers
    return [answer for answer in answers if answer]


# --- the parts, small ---


@pytest.mark.slow
def test_damaged_files(tmp_path: Path) -> None:
    numbers = [*range(16), *range(mutations.BATCH, mutations.BATCH + 24)]
    assert faults(mutations.trials(0, tmp_path, numbers)) == []


@pytest.mark.slow
def test_bad_files(tmp_path: Path) -> None:
    assert faults(bad_files.trials(0, tmp_path, files=300)) == []


def test_links(tmp_path: Path) -> None:
    looks = links.trials(0, tmp_path, links=2000)
    assert faults(itertools.islice(looks, links.PLANNED - 1)) == []  # the last one loads a network


# --- the damage ---


def test_damage_is_decided_by_the_seed() -> None:
    content = b'{"a": [1, 2.5, {"b": "text"}], "c": null}\n'
    for text in (False, True):
        made = [damaged(content, b"other", random.Random(f"0/{number}"), text=text) for number in range(200)]
        assert made == [damaged(content, b"other", random.Random(f"0/{number}"), text=text) for number in range(200)]
        assert content not in made
        assert len(set(made)) > 100


@pytest.mark.parametrize("content", ["", "x", "a,b\n1,2\n", "[t]\nx = 1\n", "[]", "{}"])
def test_anything_can_be_damaged(content: str) -> None:
    for number in range(300):
        assert isinstance(damaged(content.encode(), b"", random.Random(number), text=True), bytes)


# --- the runner ---


def part(*answers: str | Exception, planned: int = 9) -> SimpleNamespace:
    """A part with these trials; ``closed`` says whether they were ended in order."""

    def trials(seed: int, folder: Path) -> Iterator[str]:
        assert folder.is_dir()
        try:
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
                yield answer and f"{answer} {seed}"
        finally:
            made.closed = True

    made = SimpleNamespace(PLANNED=planned, trials=trials, closed=False)
    return made


@pytest.mark.parametrize(
    ("answers", "good", "lines"),
    [
        (["", ""], True, ["links: 2 of 9 trials, 0 failures"]),
        (["", "broken"], False, ["links: broken 7", "links: 2 of 9 trials, 1 failures"]),
        ([], False, ["links: 0 of 9 trials, 0 failures"]),
        (["", OSError("disk")], False, ["links: stopped by OSError: disk", "links: 1 of 9 trials, 1 failures"]),
    ],
)
def test_a_part_is_told(answers, good, lines, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.run_part("links", 7, tmp_path / "x", None, lambda name: part(*answers)) is good
    told = capsys.readouterr().out.splitlines()
    assert [line.split(", 0 s")[0] for line in told] == lines


def test_a_part_ends_with_its_time(tmp_path: Path) -> None:
    made = part("", "", "")
    assert soak.run_part("links", 0, tmp_path / "x", 0.0, lambda name: made)
    assert made.closed


def test_one_failure_fails_the_soak(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    parts = {"mutations": part("", ""), "links": part("")}
    monkeypatch.setattr(soak.run_part, "__defaults__", (None, parts.__getitem__))
    assert soak.main(["--only", "links,mutations", "--budget", "0", "--seed", "3"]) == 0
    parts["mutations"] = part("bad", "worse")
    assert soak.main(["--only", "links,mutations"]) == 1
    told = capsys.readouterr().out
    assert [line.split(":")[0] for line in told.splitlines()] == [*["mutations", "links"], *["mutations"] * 3, "links"]
    assert "mutations: 1 of 9 trials, 0 failures, 0 s, seed 3" in told
    with pytest.raises(SystemExit):
        soak.main(["--only", "nothing"])


def test_every_part_is_there() -> None:
    for name in soak.SHARES:
        assert soak.load(name).PLANNED > 0
    assert sum(soak.SHARES.values()) == pytest.approx(1)


# --- the checks ---


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (Ended(0, "", ""), ""),
        (Ended(1, "", "error: no model\n"), ""),
        (Ended(2, "", "error: no such file"), ""),
        (Ended(3, "", "a.mp4: unreadable\n2 videos: 1 ok, 1 unreadable\n"), ""),
        (Ended(None, "", "", 12), "still running after 12 s"),
        (Ended(-11, "", ""), "ended with -11"),
        (Ended(130, "", "interrupted\n"), "ended with 130 (interrupted)"),
        (Ended(1, "", "Traceback (most recent call last):\nKeyError: 1\n"), "traceback (KeyError: 1)"),
        (Ended(1, "", "error: a\nerror: b\n"), "more than one error line"),
        (Ended(2, "", "something\n"), "without an error line"),
        (Ended(0, "", "x\n" * 41), "41 lines"),
        (Ended(1, "", "error: " + "x" * 6000), "the longest of 6007"),
    ],
)
def test_how_a_command_ended_is_judged(ended: Ended, words: str) -> None:
    assert words in fault_of(ended)
    assert bool(words) == bool(fault_of(ended))


def row(video: str, status: str = "ok", reason: str = "", message: str = "") -> dict[str, str]:
    return {"video": video, "status": status, "reason": reason, "message": message}


def test_rows_are_judged() -> None:
    good = [row("a"), row("b", "unreadable", "empty")]
    assert row_faults(good, ["a", "b"]) == {}
    assert row_faults(good, ["a", "b", "c"]) == {"c": "0 rows"}
    assert row_faults([*good, row("a")], ["a", "b"]) == {"a": "2 rows"}
    assert list(row_faults(good, ["a"])) == ["b"]
    assert "'fine'" in row_faults([row("a", "fine")], ["a"])["a"]
    assert "'empty'" in row_faults([row("a", "ok", "empty")], ["a"])["a"]
    assert "one line" in row_faults([row("a", "unreadable", "corrupt", "x\ny")], ["a"])["a"]


def test_a_process_that_hangs_or_dies_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RRATAG_CACHE", "elsewhere")
    ended = run_process([sys.executable, "-c", "import signal; signal.pause()"], tmp_path, limit_s=0.5)
    assert (ended.code, "still running" in fault_of(ended)) == (None, True)
    ended = run_process([sys.executable, "-c", "import os; os.abort()"], tmp_path, limit_s=60)
    assert ended.code == -signal.SIGABRT
    program = (
        "import os, sys; print(os.getcwd(), os.environ.get('RRATAG_CACHE')); sys.stderr.write('e'); x = b'x' * 2**28"
    )
    ended = run_process([sys.executable, "-c", program], tmp_path, limit_s=60)
    assert (ended.code, ended.out, ended.err) == (0, f"{tmp_path} None\n", "e")
    assert 256 < ended.peak_mib < 400


def test_what_happens_apart_is_seen() -> None:
    assert apart(str, "answer", limit_s=60) == "answer"
    assert apart(os.abort, limit_s=60) == f"the process died ({-signal.SIGABRT})"
    assert apart(signal.pause, limit_s=0.5) == "still running after 0 s"
    assert apart(int, "x", limit_s=60).startswith("unhandled ValueError: invalid literal")
    assert apart(bytearray, tool.SPARE_BYTES + 2**30, limit_s=60).startswith("unhandled MemoryError")


class Fake:
    """A tool that writes these rows to its report and ends with `code`."""

    def __init__(self, *rows: dict[str, str], code: int = 3, err: str = "") -> None:
        self.rows, self.code, self.err, self.calls = rows, code, err, 0

    def __call__(self, *arguments: object, folder: Path, limit_s: float = 0) -> Ended:
        self.calls += 1
        if "--report" in arguments:
            lines = [f"{one['video']},{one['status']},{one['reason']},,3" for one in self.rows]
            report = Path(folder, str(arguments[arguments.index("--report") + 1]))
            report.write_text("\n".join(["video,status,reason,message,frames_decoded", *lines]))
        return Ended(self.code, "", self.err)


def test_faults_of_a_run_over_clips_are_seen(tmp_path: Path) -> None:
    def found(fake: Fake) -> dict[str, str]:
        return mutations.extract_faults(fake, tmp_path / "videos", ["a.mp4", "b.mp4"])

    (tmp_path / "videos").mkdir()
    empty = row("b.mp4", "unreadable", "empty")
    assert found(Fake(row("a.mp4", "unreadable", "corrupt"), empty)) == {}
    assert found(Fake(empty)) == {"a.mp4": "0 rows"}
    assert found(Fake(empty, code=2, err="error: x")) == {"": "ended with 2 (error: x)", "a.mp4": "0 rows"}
    assert "it is there" in found(Fake(row("a.mp4", "permission_denied"), empty))["a.mp4"]
    assert "died" in found(Fake(empty, code=-6, err="it died"))[""]
    # said to be fine, and no features anywhere
    (tmp_path / "videos/a.mp4").write_bytes(b"x")
    assert "cannot be read" in found(Fake(row("a.mp4"), empty))["a.mp4"]

    class Forgetful(Fake):
        def __call__(self, *arguments: object, folder: Path, limit_s: float = 0) -> Ended:
            self.rows = (row("a.mp4", "unreadable", ("truncated", "corrupt")[self.calls]), empty)
            return super().__call__(*arguments, folder=folder)

    assert "in the second" in found(Forgetful())["a.mp4"]


def test_faults_of_damaged_files_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    right = [*(row(video) for video in mutations.VIDEOS)]
    wrong = [*right[:-1], row(right[-1]["video"], "partial", "frames")]
    broken = row(mutations.BROKEN, "unreadable", "not_media")
    assert "is None" in mutations.check_listing(Fake(*right), tmp_path)
    assert "'partial'" in mutations.check_listing(Fake(*wrong, broken), tmp_path)
    assert "ended with 1" in mutations.check_listing(Fake(code=1, err="error: x"), tmp_path)
    assert mutations.check_cache(Fake(code=1, err="error: x"), tmp_path) == ""
    assert "traceback" in mutations.check_tags(Fake(code=1, err="Traceback"), tmp_path / "pristine/tags.csv")

    mutations.AGAIN.mkdir(parents=True)
    (mutations.AGAIN / "model.safetensors").write_bytes(b"1")
    Path("expected.safetensors").write_bytes(b"2")
    assert "another model" in mutations.check_checkpoint(Fake(code=0), tmp_path)
    assert mutations.check_checkpoint(Fake(code=1, err="error: x"), tmp_path) == ""


def test_features_with_other_values_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_cache) -> None:
    pristine = tmp_path / "pristine/.rratag/features"
    store = toy_cache.fill(["red/0.mp4"])
    key = toy_cache.key("red/0.mp4")
    shutil.copytree(toy_cache.cache, pristine)
    monkeypatch.chdir(tmp_path)
    place = Path(".rratag/features")
    shutil.copytree(toy_cache.cache, place)
    original = pristine / store.path(key).relative_to(toy_cache.cache)
    refused = Fake(code=1, err="error: x")
    assert mutations.check_features(refused, original) == ""
    source = {"name": "0.mp4", "size": 1000, "mtime_ns": 5, "sha256": toy_cache.sha256("red/0.mp4")}
    other = FeatureStore(place).open_spec(store.folder.name)
    other.write(key, toy_cache.features("blue/0.mp4"), Receipt("red/0.mp4", "ok"), source)
    assert "maps are read" in mutations.check_features(refused, original)


def test_faults_of_bad_files_are_seen(tmp_path: Path) -> None:
    kinds = {"a.mp4": "empty", "b.mp4": "pipe", "c.mp4": "folder"}
    good = [row("a.mp4", "unreadable", "empty"), row("b.mp4", "skipped", "not_a_regular_file")]
    assert bad_files.kind_faults(good, kinds) == {}
    assert "0 rows" in bad_files.kind_faults(good[:1], kinds)["pipe"]
    assert "not ('unreadable', 'empty')" in bad_files.kind_faults([row("a.mp4"), good[1]], kinds)["empty"]
    assert "2 rows" in bad_files.kind_faults([*good, good[0]], kinds)["empty"]
    assert "not there" in bad_files.kind_faults([*good, row("c.mp4", "unreadable", "empty")], kinds)["folder"]
    assert bad_files.run_fault(Ended(1, "", "", 1.0, 100), 1) == ""
    assert "MiB" in bad_files.run_fault(Ended(1, "", "", 1.0, 10_000), 1)
    assert "ended with 0" in bad_files.run_fault(Ended(0, "", "", 1.0, 100), 1)


def test_faults_of_a_walk_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    assert links.walk_fault(tmp_path, ["."], [1, {}, 0]) == ""
    assert "instead of [2, {}, 0]" in links.walk_fault(tmp_path, ["."], [2, {}, 0])
    assert "UsageError" in links.walk_fault(tmp_path, ["missing"], [1, {}, 0])
    monkeypatch.setattr(links, "MOST_MIB", 1)
    assert "MiB were taken" in links.walk_fault(tmp_path, ["."], [1, {}, 0])
