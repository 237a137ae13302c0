"""Damaged files of every kind the tool reads: it ends by itself, in its own words, and never with other results.

A trial is one damaged file. Seed and number decide everything, so that ``trials(seed, folder, [number])`` repeats it;
with ``--keep`` a file that made something go wrong is found in ``failed``, a clip among the videos of its batch.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.conftest import TINY, TINY_OPTIONS, CommandLine
from tests.soak import originals, tool
from tests.soak.mutate import damaged
from tests.soak.originals import AGAIN, BROKEN, TRAIN, VIDEOS

PLANNED = 1000
BATCH = 250
"""Trials in a row of one kind: clips, which share a folder and a run of the tool, then files of a working folder."""
CLIPS_LIMIT_S = 1500.0
LIMIT_S = 180.0
PROCESS_EVERY = 25
ELSEWHERE = ("permission_denied", "vanished", "changed_while_read", "skipped")
"""Statuses of what is not there to be read: no damage within a file leads to them."""

Tool = Callable[..., tool.Ended]


def trials(seed: int, folder: Path, numbers: Sequence[int] = range(PLANNED)) -> Iterator[str]:
    """What was wrong with each of the trials `numbers`, or ""."""
    place = folder / "clips"
    place.mkdir(parents=True)
    clips = originals.clips(place)
    work = Work(folder / "work")
    for batch, group in itertools.groupby(numbers, lambda number: number // BATCH):
        chunk = list(group)
        if batch % 2 == 0:
            answers = clip_faults(seed, folder / f"batch-{batch}", clips, chunk)
        else:
            answers = (work.trial(seed, number, folder / "failed") for number in chunk)
        for number, answer in zip(chunk, answers, strict=True):
            yield answer and f"{answer} (seed {seed}, number {number})"


# --- clips ---


def clip_faults(seed: int, folder: Path, clips: dict[str, bytes], numbers: Sequence[int]) -> Iterator[str]:
    """Damage one clip for each of `numbers`, extract them all in one run, and then once more."""
    videos = folder / "videos"
    videos.mkdir(parents=True)
    names = []
    for number in numbers:
        rng = random.Random(f"{seed}/{number}")
        kind, other = rng.choice(sorted(clips)), rng.choice(sorted(clips))
        names.append(f"{number:04}-{kind}")
        (videos / names[-1]).write_bytes(damaged(clips[kind], clips[other], rng))
    faults = extract_faults(tool.rratag, videos, names)
    # what concerns the whole run is told with its first clip
    whole = faults.pop("", "")
    for number, name in enumerate(names):
        answer = "; ".join(filter(None, [whole if number == 0 else "", faults.get(name, "")]))
        yield answer and f"{name}: {answer}"


def extract_faults(run: Tool, videos: Path, names: Sequence[str], *, limit_s: float = CLIPS_LIMIT_S) -> dict[str, str]:
    """What is wrong with ``extract`` of the folder, by name of the clip; under "" what concerns the run."""
    faults: dict[str, str] = {}
    rows: list[list[dict[str, str]]] = []
    for report in (videos.parent / "report.csv", videos.parent / "again.csv"):
        options = (*TINY_OPTIONS, "--workers", 2, "--cache", videos.parent / "cache", "--report", report)
        ended = run("extract", videos, *options, folder=videos.parent, limit_s=limit_s)
        rows.append(tool.rows_of(report))
        faults |= tool.row_faults(rows[-1], names)
        if fault := tool.fault_of(ended, codes=(0, 1, 3)):
            return {"": fault, **faults}
    faults |= {row["video"]: f"{row['status']}, but it is there" for row in rows[0] if row["status"] in ELSEWHERE}
    first, again = ({row["video"]: (row["status"], row["reason"]) for row in one} for one in rows)
    for name in names:
        if first.get(name) != again.get(name) and name not in faults:
            faults[name] = f"{first.get(name)} in the first run, {again.get(name)} in the second"
    usable = [name for name, (status, _) in first.items() if status in ("ok", "partial")]
    unread = tool.apart(_unreadable, videos, videos.parent / "cache", usable, limit_s=LIMIT_S)
    try:
        faults |= json.loads(unread)
    except ValueError:
        faults[""] = f"reading the features: {unread}"
    return faults


def _unreadable(videos: Path, cache: Path, names: Sequence[str]) -> str:
    """JSON of what is wrong with the features of each of the usable videos `names`."""
    from rratag.errors import RratagError
    from rratag.features.store import read_features

    faults = {}
    for name in names:
        try:
            features = read_features(videos / name, cache)
        except RratagError as error:
            faults[name] = f"its features cannot be read: {error}"
        else:
            if not len(features.maps) or not np.isfinite(features.maps).all():
                faults[name] = f"its features are {features.maps.shape}, or not finite"
    return json.dumps(faults)


# --- everything else ---


@dataclass(frozen=True)
class Target:
    """A kind of file: where it lies in the working folder, and what must hold when it is damaged."""

    pattern: str
    check: Callable[[Tool, Path], str]
    weight: int
    text: bool = False


class Work:
    """A working folder with everything the tool writes, put right again before each trial."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pristine = folder, folder.with_name("pristine")

    def trial(self, seed: int, number: int, kept: Path) -> str:
        """Damage one file, chosen by `number`, and check; a file that made something go wrong is copied to `kept`."""
        self._restore()
        rng = random.Random(f"{seed}/{number}")
        (target,) = rng.choices(TARGETS, [target.weight for target in TARGETS])
        files = sorted(self.pristine.glob(target.pattern))
        path, other = rng.choice(files).relative_to(self.pristine), rng.choice(files)
        content = damaged((self.pristine / path).read_bytes(), other.read_bytes(), rng, text=target.text)
        (self.folder / path).write_bytes(content)
        as_process = number % PROCESS_EVERY == (number // PROCESS_EVERY) % PROCESS_EVERY
        answer = tool.apart(_check, self.folder, self.pristine, target, path, as_process, limit_s=2 * LIMIT_S)
        if answer:
            kept.mkdir(exist_ok=True)
            (kept / f"{number:04}-{path.name}").write_bytes(content)
        return answer and f"{path}: {answer}"

    def _restore(self) -> None:
        """Put everything back but the videos, whose times of change are noted in listings; fill it the first time."""
        if not self.folder.exists():
            self.folder.mkdir()
            if fault := tool.apart(originals.fill_work, self.folder, limit_s=LIMIT_S):
                raise RuntimeError(f"the working folder cannot be filled: {fault}")
            shutil.copytree(self.folder, self.pristine, ignore=shutil.ignore_patterns("videos"))
        for path in self.folder.iterdir():
            if path.name != "videos":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self.pristine, self.folder, dirs_exist_ok=True)


def _check(folder: Path, pristine: Path, target: Target, path: Path, as_process: bool) -> str:
    os.chdir(folder)
    return target.check(tool.rratag if as_process else _in_process, pristine / path)


def _in_process(*arguments: object, folder: Path = Path(), limit_s: float = LIMIT_S) -> tool.Ended:
    ran = CommandLine()(*arguments)
    return tool.Ended(ran.code, ran.out, ran.err)


def _own(original: Path) -> Path:
    """The damaged file that `original` was copied to, from the working folder."""
    return original.relative_to(next(path for path in original.parents if path.name == "pristine"))


def check_features(run: Tool, original: Path) -> str:
    """Cached features are read as they were written, or refused."""
    from rratag.errors import CacheError
    from rratag.features.store import FeatureStore

    short, key = original.parts[-3], original.stem
    before = FeatureStore(original.parents[2]).open_spec(short)
    now = FeatureStore(Path(".rratag/features")).open_spec(short)
    try:
        found, expected = now.read(key), before.read(key)
        for name in ("maps", "time_s", "frame_index"):
            if not np.array_equal(getattr(found, name), getattr(expected, name)):
                return f"{name} are read and are not what was written"
    except CacheError:
        pass
    try:
        header, true = now.header(key), before.header(key)
        if not np.array_equal(header.time_s, true.time_s):
            return "other times in the header"
        if wrong := [
            name for name in ("receipt", "sha256", "num_frames") if getattr(header, name) != getattr(true, name)
        ]:
            return f"the header is read, with another {wrong[0]}"
    except CacheError:
        pass
    return _tags_fault(run, "--out", "new.csv")


def check_listing(run: Tool, original: Path) -> str:
    """Listings can be made again, so the run ends as ever."""
    return _extract_fault(run, (3,)) or tool.fault_of(run("cache", "ls", folder=Path.cwd()))


def check_note(run: Tool, original: Path) -> str:
    """A failure is noted by content: it is known again, or found again, where no listing knows the file."""
    shutil.rmtree(".rratag/features/roots")
    return _extract_fault(run, (3,))


def check_cache(run: Tool, original: Path) -> str:
    """Without the cache's marker, or a spec, the run may stop."""
    return _extract_fault(run, (1, 2, 3)) or tool.fault_of(run("cache", "ls", "--json", folder=Path.cwd()))


def check_model(run: Tool, original: Path) -> str:
    """A model is used or refused."""
    return _tags_fault(run, "--out", "new.csv") or tool.fault_of(run("evaluate", "--json", folder=Path.cwd()))


def check_weights(run: Tool, original: Path) -> str:
    """Weights are loaded whole or refused."""
    from rratag.errors import RratagError
    from rratag.features import backbones

    try:
        backbones.load(TINY, weights=str(_own(original)), input_size=64)
    except RratagError as error:
        return "" if "\n" not in str(error) else "the error has more than one line"
    return ""


def check_checkpoint(run: Tool, original: Path) -> str:
    """A training goes on to the very model it would have made, or refuses."""
    ended = run("train", *TRAIN, "--out", AGAIN, folder=Path.cwd())
    if ended.code == 0 and (AGAIN / "model.safetensors").read_bytes() != Path("expected.safetensors").read_bytes():
        return "the training went on to another model"
    return tool.fault_of(ended)


def check_labels(run: Tool, original: Path) -> str:
    """Labels are read or refused."""
    ended = run("train", *TRAIN, "--labels", _own(original), "--epochs", 1, "--out", "m", folder=Path.cwd())
    return tool.fault_of(ended) or tool.fault_of(
        run("evaluate", "tags.csv", "--labels", _own(original), folder=Path.cwd())
    )


def check_tags(run: Tool, original: Path) -> str:
    """A file of tags is judged or refused."""
    return tool.fault_of(run("evaluate", _own(original), "--json", folder=Path.cwd()))


def check_settings(run: Tool, original: Path) -> str:
    """Settings of the working folder are followed or refused."""
    shutil.copy(_own(original), "rratag.toml")
    return tool.fault_of(run("cache", "ls", folder=Path.cwd())) or tool.fault_of(
        run("extract", "videos", "--report", "report.csv", folder=Path.cwd())
    )


def check_list(run: Tool, original: Path) -> str:
    """A list names candidates or is refused; not run, for it may name anything on this machine."""
    from rratag.errors import UsageError
    from rratag.video.discover import discover

    if any(line.startswith(b"/") or b".." in line for line in _own(original).read_bytes().split(b"\n")):
        return ""
    try:
        found = discover([str(_own(original))])
    except UsageError as error:
        return "" if len(str(error).splitlines()) == 1 else "the error has more than one line"
    outside = [video.id for video in found.videos if not video.path.is_relative_to(Path("videos").absolute())]
    return f"{outside[0]} is not below the videos" if outside else ""


def _extract_fault(run: Tool, codes: Sequence[int]) -> str:
    ended = run("extract", "videos", *TINY_OPTIONS, "--report", "report.csv", folder=Path.cwd())
    if fault := tool.fault_of(ended, codes=codes):
        return fault
    if ended.code != 3:
        return ""
    found = {
        row["video"]: (row["status"], row["reason"], row["frames_decoded"]) for row in tool.rows_of(Path("report.csv"))
    }
    expected = dict.fromkeys(VIDEOS, ("ok", "", "3")) | {BROKEN: ("unreadable", "not_media", "0")}
    wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    return f"{wrong[0]} is {found.get(wrong[0])}, not {expected.get(wrong[0])}" if wrong else ""


def _tags_fault(run: Tool, *options: object) -> str:
    """What is wrong with ``predict``, that may refuse, but neither leave a video out nor tag it otherwise."""
    from rratag.tag.writers import read_tags

    ended = run("predict", "videos", "--workers", 1, *options, folder=Path.cwd())
    if fault := tool.fault_of(ended):
        return fault
    if ended.code not in (0, 3):
        return ""
    found, expected = read_tags("new.csv"), read_tags("tags.csv")
    if {row.video for row in found} != {*VIDEOS, BROKEN}:
        return "videos without a row of tags"
    other = [row for row, true in zip(found, expected, strict=True) if row != true]
    return f"{other[0].video} has other tags than before" if other else ""


TARGETS = (
    Target(".rratag/features/*/??/*.h5", check_features, 30),
    Target(".rratag/features/roots/*.json", check_listing, 12, text=True),
    Target(".rratag/features/*/failed/*.json", check_note, 5, text=True),
    Target(".rratag/features/*/spec.json", check_cache, 6, text=True),
    Target(".rratag/features/rratag-cache.json", check_cache, 4, text=True),
    Target(".rratag/models/latest/config.json", check_model, 8, text=True),
    Target(".rratag/models/latest/[!c]*.*", check_model, 7),
    Target(".rratag/models/.*.checkpoint", check_checkpoint, 8),
    Target("weights.*", check_weights, 8),
    Target("labels.csv", check_labels, 8, text=True),
    Target("tags.csv", check_tags, 5, text=True),
    Target("tags.json*", check_tags, 5, text=True),
    Target("settings.toml", check_settings, 8, text=True),
    Target("list.txt", check_list, 6, text=True),
)
