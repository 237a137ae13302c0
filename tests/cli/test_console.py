"""Talk and data: nothing in a name changes a line, and readers that go away change no exit code."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from rratag.cli.console import lines, one_line_errors, printable, say, set_verbosity, warn
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


HOSTILE = "a\x1b[2J\x1b]0;x\x07\n\r\t\x00\x7f\x9b\u061c\u200b\u200e\u202e\u2066\u2028\ufeff\U000e0041\udcff\ud800.mp4"
"""What moves the cursor, changes the title, the direction or the line, is invisible, or is no text."""


def is_plain(text: str) -> bool:
    return all(letter.isprintable() for letter in text)


def test_nothing_in_a_name_reaches_the_terminal_as_it_is() -> None:
    assert is_plain(printable(HOSTILE))
    printable(HOSTILE).encode()
    assert printable("Zaunkönig 鳥 👍 \\x1b.mp4") == "Zaunkönig 鳥 👍 \\x1b.mp4"


def test_a_logged_name_stays_on_one_line_as_it_is(cli: CommandLine, capsys: pytest.CaptureFixture[str]) -> None:
    set_verbosity(verbose=True)
    logging.getLogger("rratag.anything").warning("%s: [red]%s", HOSTILE, ":smile:")
    seen = capsys.readouterr().err
    assert r"a\x1b[2J" in seen
    assert ": [red]:smile:" in " ".join(seen.split())
    assert is_plain("".join(seen.splitlines()))  # rich breaks long lines


@pytest.mark.parametrize(
    "arguments",
    [
        [HOSTILE],
        ["--" + HOSTILE],
        ["extract", HOSTILE],
        ["extract", ".", "--" + HOSTILE],
        ["extract", ".", "--workers", HOSTILE],
        ["extract", ".", "--crops", HOSTILE],
        ["extract", ".", "--weights", HOSTILE],
        ["predict", ".", "--out", HOSTILE],
        ["predict", ".", "--out", "tags.csv", "--model", HOSTILE],
        ["train", "--loss", HOSTILE],
        ["train", "--group-by", HOSTILE + "("],
        ["train", HOSTILE],
        ["evaluate", HOSTILE],
        ["evaluate", "--on", HOSTILE],
        ["cache", HOSTILE],
        ["cache", "ls", HOSTILE],
    ],
    ids=lambda arguments: " ".join(arguments).replace(HOSTILE, "X"),
)
def test_a_wrong_argument_is_told_without_its_control_characters(cli: CommandLine, arguments: list[str]) -> None:
    possible = (argument.replace("\0", "").replace("\ud800", "") for argument in arguments)
    ran = cli(*possible)
    assert ran.code in (1, 2)
    assert ran.out == ""
    if ran.err.startswith("error: "):
        assert is_plain(ran.err.removesuffix("\n"))
    else:  # typer's own words on several lines; it leaves format characters
        assert not [letter for letter in ran.err if unicodedata.category(letter) in ("Cc", "Cs") and letter != "\n"]
        assert ran.err.count("\n") <= 5


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


def test_trouble_of_the_system_is_one_line(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("rratag.cli.cache.lines", refuse)
    ran = cli("cache", "ls")
    assert ran.code == 1
    assert ran.err == "error: No space left on device\n"


@pytest.mark.parametrize("cache", ["~nobody-of-this-name/x", "x" * 5000])
def test_a_cache_that_can_be_no_folder_is_one_line(cli: Any, cache: str) -> None:
    ran = cli("cache", "ls", "--cache", cache)
    assert ran.code in (1, 2)
    assert ran.err.count("\n") == 1
    assert ran.err.startswith("error: ")
