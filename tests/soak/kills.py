"""Whole commands killed by SIGKILL at random moments, then given again until they end: nothing lost, nothing different.

Every command runs in a process of its own, forked from a server that has imported everything and run nothing, so that
a start costs milliseconds.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rratag.features.store import FeatureStore
from rratag.files import TEMPORARY_PREFIX
from tests.conftest import COLOURS, TINY_OPTIONS, coloured, encode

PLANNED = 200
"""Kills of a full soak."""

LIMIT_S = 120.0
"""After so long a command or an orphan is taken to hang."""

TRAIN = ("--epochs", "10", "--glimpses", "2", "--learning-rate", "0.01", "--batch-size", "4")
# as rratag.model has them, which imports torch
WEIGHTS_FILE, CONFIG_FILE, METRICS_FILE, HISTORY_FILE = (
    "model.safetensors",
    "config.json",
    "metrics.json",
    "history.csv",
)
H5, CHECKPOINT, MODEL = "cache/*/??/*.h5", "models/.m.*.checkpoint", "models/m"
SERVE = "from tests.soak.kills import serve; serve()"

Content = dict[str, Any]


def trials(seed: int, folder: Path) -> Iterator[str]:
    """Kill one command after another: "" if every promise held, else one line that says what was wrong.

    Parameters
    ----------
    seed : decides commands and moments
    folder : an empty folder to work in
    """
    rng = random.Random(seed)
    with contextlib.closing(Server(folder / "server.log")) as server:
        references = [Reference.of(command, server, folder / command.name) for command in commands(server, folder)]
        for number in range(PLANNED):
            reference = references[number % len(references)]
            place = folder / f"trial-{number}"
            try:
                reference.trial(server, place, rng)
            except Broken as problem:  # its folder is left to be looked at
                yield f"trial {number} of seed {seed}, {reference.command.name}: {problem}"
            else:
                yield ""
                shutil.rmtree(place)


class Broken(Exception):  # noqa: N818 - a promise, not an error of the caller
    """One promise was not kept."""


# --- processes ---


class Server:
    """Forks commands; one at a time."""

    def __init__(self, log: Path) -> None:
        self.log = log.open("w")
        self.child = 0
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            bufsize=0,
        )

    def start(self, arguments: list[str], log: Path) -> None:
        """Begin ``rratag ARGUMENTS``; what it says goes to `log`."""
        assert self.process.stdin is not None
        self.abandon()
        self.process.stdin.write(json.dumps({"arguments": arguments, "log": str(log)}).encode() + b"\n")
        self.child = self._answer()

    def ended(self, wait_s: float) -> bool:
        """Whether the command has ended, waiting for that so long at most."""
        return bool(select.select([self.process.stdout], [], [], wait_s)[0])

    def finish(self) -> int:
        """Exit code of the command, negative for a signal, once it and all it started are gone."""
        if not self.ended(LIMIT_S):
            self.abandon()
            raise Broken(f"no end after {LIMIT_S:.0f} s")
        code, child = self._answer(), self.child
        self.child = 0
        until = time.monotonic() + LIMIT_S
        while orphans := living(child):
            if time.monotonic() > until:
                raise Broken(f"processes {orphans} outlive the command that started them")
            time.sleep(0.005)
        return code

    def abandon(self) -> None:
        """Kill a command that nobody waited for, with all it started."""
        if self.child:
            self._kill_group()
            self._answer()
            self.child = 0

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child, signal.SIGKILL)

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send a signal to the command itself, and to nothing that it started; as `finish`."""
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            os.kill(self.child, number)
        return self.finish()

    def close(self) -> None:
        """End everything."""
        if self.child:
            self._kill_group()
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.log):
            if stream is not None:
                stream.close()

    def _answer(self) -> int:
        assert self.process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            if not (byte := self.process.stdout.read(1)):
                raise RuntimeError(f"the server has died; see {self.log.name}")
            line += byte
        return int(line)


def serve() -> None:
    """Fork a command for each line of the standard input; answer with its process id, and its exit code at the end."""
    import timm
    import torch

    import rratag.cli.app
    import rratag.evaluate.cached
    import rratag.features.backbones
    import rratag.tag.predict
    import rratag.tag.run
    import rratag.train.run
    from rratag.features import extract

    assert timm
    extract.PART_SECONDS = 0.05  # in a run of seconds, too, its listing is kept on the way
    for line in sys.stdin:
        job = json.loads(line)
        if (pid := os.fork()) == 0:
            os.setsid()
            log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for stream, place in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
                os.dup2(stream, place)
            torch.set_num_threads(1)
            code = 70
            try:
                rratag.cli.app.app(job["arguments"], prog_name="rratag")
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 70
            finally:
                sys.stderr.flush()
                os._exit(code)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        sys.stdout.flush()


def living(number: int) -> list[int]:
    """Living processes of a process group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == number and fields[0] not in "ZX":
                found.append(int(path.parent.name))
    return found


# --- one trial ---


@dataclass(frozen=True)
class Command:
    """A command in a folder of its own.

    Attributes
    ----------
    begin : puts there what was there before
    result : all that the command has to produce
    kept : what is finished at any moment and must never be lost or change; `Broken` if a final name is not whole
    aims : patterns of files at whose appearance kills are aimed, with how many of them there are
    """

    name: str
    arguments: Callable[[Path], list[str]]
    begin: Callable[[Path], None]
    result: Callable[[Path], Content]
    kept: Callable[[Path], Content]
    aims: dict[str, int]


@dataclass(frozen=True)
class Reference:
    """A command with what it produces undisturbed, and how long that takes."""

    command: Command
    expected: Content
    seconds: float

    @classmethod
    def of(cls, command: Command, server: Server, place: Path) -> Reference:
        """By running it in the folder `place`."""
        seconds = _run(server, command, place)
        return cls(command, command.result(place), seconds)

    def trial(self, server: Server, place: Path, rng: random.Random) -> None:
        """Begin in the folder `place`, kill, look, run to the end, compare; `Broken` if a promise was."""
        command, killed = self.command, False
        while not killed:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            command.begin(place)
            server.start(command.arguments(place), place / "log")
            when = _await_moment(server, self, place, rng)
            killed = server.kill() == -signal.SIGKILL  # else it had ended before: another moment
        kept = _look(command, place, when)
        server.start(command.arguments(place), place / "log")
        if code := server.finish():
            raise Broken(f"{when}; the same command then ended with {code}: {(place / 'log').read_text()[-300:]!r}")
        after = _look(command, place, f"{when} and run again")
        lost = [name for name, value in kept.items() if after.get(name) != value]
        if lost:
            raise Broken(f"{when}; lost or changed after: {lost}")
        found = command.result(place)
        if found != self.expected:
            wrong = [name for name in found.keys() | self.expected if found.get(name) != self.expected.get(name)]
            raise Broken(f"{when}; not what an undisturbed run gives: {sorted(wrong)}")


def _run(server: Server, command: Command, place: Path) -> float:
    """Run a command undisturbed in a folder made for it; the seconds that it takes."""
    place.mkdir()
    command.begin(place)
    started = time.monotonic()
    server.start(command.arguments(place), place / "log")
    if code := server.finish():
        raise RuntimeError(f"{command.name} undisturbed: exit code {code}; see {place / 'log'}")
    return time.monotonic() - started


def _await_moment(server: Server, reference: Reference, place: Path, rng: random.Random) -> str:
    """Wait for a moment drawn from the command's whole time, or for one of its files to appear."""
    moment, started = rng.uniform(0, reference.seconds), time.monotonic()
    if rng.random() < 0.5:
        server.ended(moment)
        return f"killed after {moment:.3f} s"
    pattern = rng.choice(list(reference.command.aims))
    count = rng.randint(1, reference.command.aims[pattern])
    before = _seen(place, pattern)
    new: set[tuple[str, int]] = set()
    while len(new) < count and not server.ended(0.0005):
        new |= _seen(place, pattern) - before
    return f"killed after {time.monotonic() - started:.3f} s, when {pattern} had appeared {len(new)} times"


def _seen(place: Path, pattern: str) -> set[tuple[str, int]]:
    """Names of files with their times of change: a file that is replaced appears again."""
    found = set()
    for path in place.glob(pattern):
        with contextlib.suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_mtime_ns))
    return found


def _look(command: Command, place: Path, when: str) -> Content:
    try:
        return command.kept(place)
    except Exception as problem:  # whatever a reader throws: a file under a final name is not whole
        raise Broken(f"{when}; {type(problem).__name__}: {problem}") from problem


# --- the commands ---


def commands(server: Server, folder: Path) -> Iterator[Command]:
    """What is killed; each may use what the ones before it left in the folders of their names."""
    videos, unseen = _clips(folder / "videos", 5, 0), _clips(folder / "unseen", 2, 500)
    cache, model, old = (folder / name for name in ("extract/cache", "train/models/m", "old"))

    def extract(place: Path) -> list[str]:
        return ["extract", str(videos), "--cache", str(place / "cache"), *TINY_OPTIONS]

    def train(place: Path, *options: str) -> list[str]:
        return ["train", "--cache", str(cache), *TRAIN, "--out", str(place / MODEL), *options]

    def predict(place: Path) -> list[str]:
        options = ["--cache", str(place / "cache"), "--out", str(place / "tags.csv"), "--workers", "1"]
        return ["predict", str(unseen), "--model", str(model), *options]

    def old_model(place: Path) -> None:
        shutil.copytree(old / "models", place / "models")

    def old_tags(place: Path) -> None:
        shutil.copytree(cache, place / "cache")
        (place / "tags.csv").write_bytes(OLD_TAGS)

    def whole_tags(place: Path) -> Content:
        tags = _tags(place)["tags.csv"]
        if tags not in (None, OLD_TAGS, _tags(folder / "predict")["tags.csv"]):
            raise Broken("tags.csv is neither the old one nor the new")
        return _finished(place)

    def whole_model(place: Path) -> Content:
        return _whole_model(place, [old / MODEL, model])

    aims = {H5: 10, "cache/*/??/.tmp-*": 5, "cache/roots/*": 2}
    yield Command("extract", extract, _nothing, _features, _finished, aims)
    aims = {CHECKPOINT: 10, "models/.tmp-*": 10, MODEL: 1}
    yield Command("train", train, _nothing, _model, whole_model, aims)
    _run(server, Command("old", lambda place: train(place, "--seed", "5"), _nothing, _model, _model, {}), old)
    (old / MODEL / "notes.txt").write_text("mine")
    aims = {CHECKPOINT: 10, "models/.previous-m": 1, f"{MODEL}/{METRICS_FILE}": 1}
    yield Command("train-again", train, old_model, _model, whole_model, aims)
    yield Command("predict", predict, _nothing, _tags, whole_tags, {H5: 4, ".tmp-*": 1, "tags.csv": 1})
    yield Command("predict-again", predict, old_tags, _tags, whole_tags, {H5: 4, ".tmp-*": 1, "tags.csv": 1})


OLD_TAGS = b"tags of another day\n"


def _clips(folder: Path, num_each: int, seed: int) -> Path:
    for place, colour in enumerate(COLOURS):
        (folder / colour).mkdir(parents=True)
        for number in range(num_each):
            encode(folder / colour / f"{number}.mp4", coloured(colour, seed + 100 * place + number))
    return folder


def _nothing(place: Path) -> None:
    pass


def _features(place: Path) -> Content:
    """Bytes of the features of every finished video. Every other file must be whole, too."""
    cache = place / "cache"
    for path in cache.glob("**/*.json"):
        json.loads(path.read_bytes())
    found: Content = {}
    for path in cache.glob("*/spec.json"):
        store = FeatureStore(cache).open_spec(path.parent.name)
        for key in store.keys():  # noqa: SIM118 - a store is no dict
            one = store.read(key)
            found[key] = (one.maps.tobytes(), one.time_s.tobytes(), one.frame_index.tobytes(), store.header(key).sha256)
        store.close()
    return found


def _finished(place: Path) -> Content:
    """The same with the time of change of each file: what is finished is not even written again."""
    changed = {path.stem: path.stat().st_mtime_ns for path in place.glob(H5)}
    return {key: (changed[key], value) for key, value in _features(place).items()}


def _tags(place: Path) -> Content:
    path = place / "tags.csv"
    return {"tags.csv": path.read_bytes() if path.exists() else None}


def _model(place: Path) -> Content:
    """Every file of the model but for the seconds of its history; beside it only what has a temporary name."""
    names = [path.name for path in (place / "models").iterdir() if not path.name.startswith(TEMPORARY_PREFIX)]
    found: Content = {"beside each other": names}
    found |= {path.name: path.read_bytes() for path in (place / MODEL).iterdir() if path.name != "notes.txt"}
    rows = csv.DictReader(found[HISTORY_FILE].decode().splitlines())
    return found | {HISTORY_FILE: [{name: row[name] for name in row if name != "seconds"} for row in rows]}


def _whole_model(place: Path, accepted: list[Path]) -> Content:
    """What a user put beside the model; the model must be one of those accepted, or there is none yet."""
    places = [path for path in (place / MODEL, place / "models/.previous-m") if path.exists()]
    if places:
        weights, config = ((places[0] / name).read_bytes() for name in (WEIGHTS_FILE, CONFIG_FILE))
        if not any((path / WEIGHTS_FILE).read_bytes() == weights for path in accepted):
            raise Broken("the weights are neither those of the old model nor of the new")
        if json.loads(config)["weights_sha256"] != hashlib.sha256(weights).hexdigest():
            raise Broken("the weights are not those of their model")
    notes = [path / "notes.txt" for path in places if (path / "notes.txt").exists()]
    return {"notes.txt": notes[0].read_bytes()} if notes else {}
