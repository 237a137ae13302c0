"""Whole commands killed at random moments: a few of the soak's 200, and that it would see what is to be seen."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from tests.soak import kills
from tests.soak.kills import Broken, Reference, Server, trials

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs fork and /proc")


def test_ten_kills(tmp_path: Path) -> None:
    with closing(trials(0, tmp_path)) as found:
        assert list(islice(found, 10)) == [""] * 10


def slowly_in_place(path: Path, content: bytes) -> None:
    with path.open("wb", buffering=0) as handle:
        for part in (content[:50], content[50:]):
            handle.write(part)
            time.sleep(0.02)


def test_a_command_that_writes_in_place_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change = "import rratag.files, tests.faults.test_kills as t; rratag.files.write_atomically = t.slowly_in_place; "
    monkeypatch.setattr(kills, "SERVE", change + kills.SERVE)
    rng = random.Random(0)

    def kill_often(server: Server) -> None:
        command = replace(next(kills.commands(server, tmp_path)), aims={kills.H5: 10})
        reference = Reference.of(command, server, tmp_path / "undisturbed")
        for number in range(20):
            reference.trial(server, tmp_path / str(number), rng)

    with (
        closing(Server(tmp_path / "server.log")) as server,
        pytest.raises(Broken, match=r"DamagedError|CacheError|JSONDecodeError"),
    ):
        kill_often(server)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with closing(Server(tmp_path_factory.mktemp("server") / "log")) as server:
        yield server


@pytest.fixture(scope="module")
def extract(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The command ``extract`` on ten clips."""
    folder = tmp_path_factory.mktemp("extract")
    return Reference.of(next(kills.commands(server, folder)), server, folder / "undisturbed")


def test_a_polite_end_keeps_what_is_finished_and_leaves_no_process(
    server: Server, extract: Reference, tmp_path: Path
) -> None:
    """SIGTERM, as a scheduler sends it."""
    command, place = extract.command, tmp_path
    server.start(command.arguments(place), place / "log")
    while len(list(place.glob(kills.H5))) < 2:
        assert not server.ended(0.001), (place / "log").read_text()
    assert server.kill(signal.SIGTERM) in (-signal.SIGTERM, 128 + signal.SIGTERM)
    kept = command.kept(place)
    server.start(command.arguments(place), place / "log")
    assert server.finish() == 0
    after = command.kept(place)
    assert {key: after[key] for key in kept} == kept
    assert command.result(place) == extract.expected


def test_two_runs_at_once_on_one_cache_and_a_third_that_is_closed(
    server: Server, extract: Reference, tmp_path: Path
) -> None:
    with closing(Server(tmp_path / "other.log")) as other:
        for one, log in ((server, "log"), (other, "log2")):
            one.start(extract.command.arguments(tmp_path), tmp_path / log)
        assert [one.finish() for one in (server, other)] == [0, 0]
        assert extract.command.result(tmp_path) == extract.expected
        assert list(tmp_path.rglob(".tmp-*")) == []
        (tmp_path / "third").mkdir()
        other.start(extract.command.arguments(tmp_path / "third"), tmp_path / "log3")
        while len(kills.living(other.child)) < 2:  # the command and its decode worker
            assert not other.ended(0.001), (tmp_path / "log3").read_text()
    until = time.monotonic() + 60
    while kills.living(other.child):
        assert time.monotonic() < until
        time.sleep(0.01)
