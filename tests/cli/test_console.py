"""Talk and data: nothing in a name changes a line, and readers that go away change no exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from rratag.cli.console import lines, one_line_errors, printable, say, warn
from tests.conftest import CommandLine, ToyCache


@pytest.fixture
def nobody() -> Iterator[int]:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


def test_a_name_stays_on_one_line_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\nb :smile: [red]\u202e\udcff")
    warn(":warning: [b]")
    lines([["name"], [":smile: [red]\n"]])
    seen = capsys.readouterr()
    assert seen.err.splitlines() == [r"a\nb :smile: [red]\u202e\xff", "warning: :warning: [b]"]
    assert seen.out.splitlines() == ["name", r":smile: [red]\n"]
    assert printable("a\r\n\tb") == r"a\r\n\tb"


def run(*arguments: object, **streams: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rratag", *(str(argument) for argument in arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.run(command, text=True, check=False, **{**pipes, **streams})


@pytest.mark.parametrize("arguments", [["cache", "ls"], ["cache", "ls", "--json"]], ids=" ".join)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_data_without_a_reader_is_no_failure(
    toy_cache: ToyCache, nobody: int, arguments: list[str], unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_cache.fill_classes(1)
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    done = run(*arguments, "--cache", toy_cache.cache, stdout=nobody)
    assert (done.returncode, done.stderr) == (0, "")


def test_work_goes_on_when_nobody_listens(cli: CommandLine, toy_cache: ToyCache, nobody: int) -> None:
    toy_cache.fill_classes(4)
    train = ("train", "--cache", toy_cache.cache, "--epochs", 2, "--out")
    assert run(*train, "a", "--json", stdout=nobody, stderr=nobody).returncode == 0
    assert Path("a/model.safetensors").is_file()
    assert run("train", "--cache", "none", stderr=nobody).returncode == 1  # a failure stays one


def test_a_broken_pipe_to_somebody_else_is_no_success(nobody: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(descriptor: int) -> None:
        os.write(descriptor, b"work")

    with pytest.raises(BrokenPipeError):
        one_line_errors(write)(nobody)
    with open(os.dup(nobody), "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        with pytest.raises(typer.Exit) as stop:
            one_line_errors(write)(nobody)
    assert stop.value.exit_code == 0
