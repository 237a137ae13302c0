"""Everything of rratag that changes the disk, each as a `Writer`, and the check of what a fault leaves of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rratag.errors import RratagError
from rratag.files import TEMPORARY_PREFIX
from rratag.head.rra import HeadConfig
from rratag.head.variants import build_head
from rratag.model import LABELS_FILE, Model, load_model, save_model
from rratag.records import Receipt
from rratag.tag.rows import About
from rratag.tag.writers import read_tags, write_report, write_tags
from rratag.train.checkpoint import read_checkpoint, write_checkpoint
from tests.faults.cached import (
    put_failure,
    put_features,
    put_listing,
    read_failures,
    read_features_below,
    read_listings,
)
from tests.faults.disk import Disk
from tests.faults.states import Log, Tree, read_tree, write_tree

LEFT = (TEMPORARY_PREFIX, ".previous-")
"""How names begin that a later run or ``rratag cache gc`` removes; the second is a model that is being replaced."""


@dataclass(frozen=True)
class Writer:
    """One kind of write.

    Attributes
    ----------
    prepare : makes what was finished before
    write : what is disturbed; ends with an error of `errors` where the disk refuses
    read : reads all that stands under final names below the folder by the program's own readers
    """

    prepare: Callable[[Path], None]
    write: Callable[[Path], None]
    read: Callable[[Path], Any]
    errors: type[Exception] = RratagError


# --- models, checkpoints, tags ---


def model(seed: int) -> Model:
    torch.manual_seed(seed)
    config = HeadConfig(4, 2, num_glimpses=1)
    return Model(build_head(config).eval(), config, ["blue", "red"], {"channels": 4}, {"backbone": "toy"})


def put_model(folder: Path, seed: int) -> None:
    save_model(folder / "models" / "m", model(seed), {"seed": seed}, [{"epoch": 1}], f"video,label\n{seed}.mp4,red\n")


def put_model_and_notes(folder: Path) -> None:
    put_model(folder, 1)
    (folder / "models" / "m" / "notes.txt").write_text("mine")


def read_model(folder: Path) -> tuple[Any, ...] | None:
    """Weights, labels and what a user put there; None where there is no model."""
    places = [folder / "models" / "m", folder / "models" / ".previous-m"]
    place = next((one for one in places if one.exists()), None)
    if place is None:
        return None
    weights = {name: value.numpy().tobytes() for name, value in load_model(places[0]).head.state_dict().items()}
    notes = [one / "notes.txt" for one in places if (one / "notes.txt").exists()]
    return weights, (place / LABELS_FILE).read_bytes(), notes[0].read_text() if notes else ""


def put_checkpoint(folder: Path, epoch: int) -> None:
    write_checkpoint(folder / "new" / "run.ckpt", {"seed": 0}, {"epoch": epoch, "head": torch.full((64,), epoch)})


def read_epoch(folder: Path) -> int | None:
    state = read_checkpoint(folder / "new" / "run.ckpt", {"seed": 0})
    if state is None:
        return None
    assert torch.equal(state["head"], torch.full((64,), state["epoch"]))
    return int(state["epoch"])


ABOUT = About({}, {}, {}, num_glimpses=1, top=1)


def put_tags(folder: Path, *videos: str) -> None:
    write_tags([Receipt(video, "unreadable", "empty") for video in videos], folder / "tags.csv", ABOUT)


def read_videos(folder: Path) -> list[str] | None:
    path = folder / "tags.csv"
    return [row.video for row in read_tags(path)] if path.exists() else None


def put_report(folder: Path, *videos: str) -> None:
    write_report(folder / "report.csv", [Receipt(video, "ok") for video in videos])


def read_report(folder: Path) -> bytes | None:
    """Its bytes: a report has no reader, and is whole if it ends as it should."""
    path = folder / "report.csv"
    content = path.read_bytes() if path.exists() else None
    assert content is None or content.endswith(b"\n")
    return content


def nothing(folder: Path) -> None:
    pass


WRITERS: dict[str, Writer] = {
    "features": Writer(lambda f: put_features(f, "a"), lambda f: put_features(f, "b"), read_features_below),
    "features again": Writer(lambda f: put_features(f, "a", "b"), lambda f: put_features(f, "b"), read_features_below),
    "first features": Writer(nothing, lambda f: put_features(f, "a"), read_features_below),
    "listing": Writer(lambda f: put_listing(f, 2), lambda f: put_listing(f, 3), read_listings, OSError),
    "first listing": Writer(nothing, lambda f: put_listing(f, 3), read_listings, OSError),
    "part of a listing": Writer(
        lambda f: put_listing(f, 2), lambda f: put_listing(f, 3, part=True), read_listings, OSError
    ),
    "failure": Writer(lambda f: put_failure(f, "a"), lambda f: put_failure(f, "b"), read_failures),
    "checkpoint": Writer(lambda f: put_checkpoint(f, 1), lambda f: put_checkpoint(f, 2), read_epoch),
    "first checkpoint": Writer(nothing, lambda f: put_checkpoint(f, 1), read_epoch),
    "model": Writer(nothing, lambda f: put_model(f, 1), read_model),
    "model again": Writer(put_model_and_notes, lambda f: put_model(f, 2), read_model),
    "tags": Writer(lambda f: put_tags(f, "a", "b"), lambda f: put_tags(f, "a", "b", "c"), read_videos),
    "report": Writer(lambda f: put_report(f, "a"), lambda f: put_report(f, "a", "b"), read_report),
}


# --- the check ---


@dataclass(frozen=True)
class Reference:
    """What a writer finds and what it leaves undisturbed."""

    writer: Writer
    before: Any
    after: Any
    names: frozenset[str]

    @classmethod
    def of(cls, writer: Writer, folder: Path) -> Reference:
        """By running it once in `folder`, which is made and removed again."""
        folder.mkdir()
        writer.prepare(folder)
        before, names = writer.read(folder), set(read_tree(folder))
        writer.write(folder)
        after = writer.read(folder)
        names |= set(read_tree(folder))
        shutil.rmtree(folder)
        return cls(writer, before, after, frozenset(names))

    def check(self, folder: Path, *, ended: bool = False) -> None:
        """Everything promised of a folder in which the writer was broken off, or had `ended`."""
        found = self.writer.read(folder)
        assert found == self.after or (found == self.before and not ended), "neither the old content nor the new"
        odd = [name for name in set(read_tree(folder)) - self.names if not is_left(name)]
        assert not odd, f"left under a final name: {odd}"
        self.writer.write(folder)
        assert self.writer.read(folder) == self.after, "the same write again gives something else"

    def faults(self, states: Iterable[tuple[str, Tree, bool]], folder: Path) -> Iterator[str]:
        """A line for every one of `states` in which a promise is broken; each is made below `folder`."""
        for when, tree, ended in states:
            place = write_tree(tree, folder / when)
            try:
                self.check(place, ended=ended)
            except Exception as error:  # whatever a reader throws: the test shows it
                yield f"{when}: {type(error).__name__}: {error}"
            shutil.rmtree(place)


def is_left(name: str) -> bool:
    """Whether a path is below a name that marks something unfinished."""
    return any(part.startswith(LEFT) for part in Path(name).parts)


def record(writer: Writer, folder: Path) -> Log:
    """What the writer does to a new folder in which its preparation is durable."""
    folder.mkdir()
    writer.prepare(folder)
    with Disk(folder) as disk:
        writer.write(folder)
    return disk.log


def kill_faults(writer: Writer, folder: Path) -> Iterator[str]:
    """A line for every state after a kill in which a promise is broken."""
    log, reference = record(writer, folder / "recorded"), Reference.of(writer, folder / "reference")
    yield from reference.faults(((when, tree, False) for when, tree in log.kills()), folder)


def power_faults(writer: Writer, folder: Path) -> Iterator[str]:
    """A line for every state after a loss of power in which a promise is broken."""
    log, reference = record(writer, folder / "recorded"), Reference.of(writer, folder / "reference")
    yield from reference.faults(log.power_losses(), folder)
