"""Which video trains and which one judges: stratified by label, never separating a group, the same on every machine.

Videos that share a group, or whose files have the same content, form one *unit* and stay together.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from rratag.errors import LabelError, UsageError
from rratag.records import Instance

PARTS = ("train", "validation", "test")
FRACTIONS = {"train": 0.8, "validation": 0.2}

DRAWS = 16
"""Orders of units that are tried; the most even outcome is kept."""

LEAST_SHARE = 1e-9
"""Of train; what rounding leaves where the other shares sum to 1."""

_EVEN = 0.25  # mean squared distance from the wanted counts below which no further order is tried


class Split(NamedTuple):
    """Instances in the order given, ``split`` filled in (empty for unlabelled ones), and one line per warning."""

    instances: list[Instance]
    warnings: list[str]


def split(instances: Sequence[Instance], fractions: Mapping[str, float] | None = None, seed: int = 0) -> Split:
    """Divide labelled instances into train, validation (and test).

    Parameters
    ----------
    instances : a ``split`` that the label file filled in stays; unlabelled ones stay without a split
    fractions : share of each part, summing to 1; 0.8 train and 0.2 validation by default
    seed : another seed, another division

    Returns
    -------
    The instances in the order given, and warnings: classes that only train because they have a single group, classes
    that never train, contents that carry two labels, and contents that the label file itself put on two sides.

    Raises
    ------
    LabelError
        If fewer than two classes are labelled (or left in train), or the label file puts one group into two parts.
    UsageError
        If the fractions are not positive shares of known parts that sum to 1.

    Notes
    -----
    The outcome does not depend on the order of `instances`, nor on names: units are ordered by a hash of seed and
    content. A class with at least as many units as parts is in every part; with fewer, in train first, then in
    validation (where units hold several classes: as far as `DRAWS` tries find it). Where the label file assigns every
    instance but none to validation, validation is taken out of its train part.
    """
    shares = _checked(FRACTIONS if fractions is None else fractions)
    _check_classes({instance.label for instance in instances}, "")
    rows = [row for row, one in enumerate(instances) if one.label is not None]
    _check_groups([instances[row] for row in rows])
    parts = ["" if one.label is None else one.split for one in instances]
    if not {parts[row] for row in rows} & {"", "validation"} and {"train", "validation"} <= shares.keys():
        rows = [row for row in rows if parts[row] == "train"]
        parts = [part if part != "train" else "" for part in parts]
        rest = shares["train"] + shares["validation"]
        shares = {part: shares[part] / rest for part in ("train", "validation")}
    units = _units(instances, rows, parts)
    for unit, part in zip(units, _assign(units, shares, seed, single="train"), strict=True):
        for member in unit.members:
            parts[member] = parts[member] or part
    result = [replace(one, split=part) for one, part in zip(instances, parts, strict=True)]
    _check_classes({one.label for one in result if one.split == "train"}, " in the train part")
    return Split(result, _warnings(result))


def folds(instances: Sequence[Instance], num_folds: int, seed: int = 0) -> list[list[Instance]]:
    """Divide labelled instances into `num_folds` pairs of train and test; each unit is tested once.

    Parameters
    ----------
    instances : their own ``split`` is not used; unlabelled ones are left out

    Returns
    -------
    For each fold all labelled instances in the order given, ``split`` "train" or "test". A class with a single unit is
    in train in every fold.

    Raises
    ------
    LabelError
        If fewer than two classes are labelled, or fewer units can be tested than there are folds.
    UsageError
        If `num_folds` is below 2.
    """
    if num_folds < 2:
        raise UsageError(f"{num_folds} folds: at least 2 are needed")
    labelled = [one for one in instances if one.label is not None]
    _check_classes({one.label for one in labelled}, "")
    units = _units(labelled, range(len(labelled)), [""] * len(labelled))
    parts = _assign(units, {str(fold): 1 / num_folds for fold in range(num_folds)}, seed, single="")
    num_tested = sum(part != "" for part in parts)
    if num_tested < num_folds:
        raise LabelError(
            f"{num_tested} groups that can be tested (of classes with at least two) cannot make {num_folds} folds;"
            " ask for fewer folds"
        )
    part_of = {member: part for unit, part in zip(units, parts, strict=True) for member in unit.members}
    return [
        [replace(one, split="test" if part_of[row] == str(fold) else "train") for row, one in enumerate(labelled)]
        for fold in range(num_folds)
    ]


def _checked(fractions: Mapping[str, float]) -> dict[str, float]:
    unknown = [part for part in fractions if part not in PARTS]
    if unknown:
        raise UsageError(f"unknown part {unknown[0]!r} of a split; choose from {', '.join(PARTS)}")
    if fractions.get("train", 0) <= LEAST_SHARE:
        raise UsageError("nothing is left to train on; the validation and the test share must sum to less than 1")
    if not all(0 < share <= 1 for share in fractions.values()):
        raise UsageError(f"split {dict(fractions)}: every part needs a share above 0")
    if abs(sum(fractions.values()) - 1) > 1e-6:
        raise UsageError(f"split {dict(fractions)}: the shares sum to {sum(fractions.values()):g}, not to 1")
    return {part: fractions[part] for part in PARTS if part in fractions}


def _check_classes(labels: set[str | None], where: str) -> None:
    names = sorted(label for label in labels if label is not None)
    if len(names) < 2:
        found = f"only the class {names[0]!r}" if names else "no labelled video"
        raise LabelError(f"{found}{where}; at least two classes are needed: one folder per tag, or --labels FILE")


def _warnings(instances: Sequence[Instance]) -> list[str]:
    """One line per class that cannot be learnt or judged, one each for contents with two labels or on two sides."""
    rows = [row for row, one in enumerate(instances) if one.label is not None]
    units = _units(instances, rows, [one.split for one in instances])
    trained = {one.label for one in instances if one.split == "train"}
    counts = Counter(label for unit in units for label in unit.labels)
    lines = []
    for label in sorted(counts):
        if label not in trained:
            lines.append(f"class {label!r} has no video in train: it cannot be learnt")
        elif counts[label] == 1:
            lines.append(f"class {label!r} has a single group: it only trains, nothing judges it")
    lines += _two_labels(instances)
    torn = [unit for unit in units if len({instances[member].split for member in unit.members}) > 1]
    if torn:
        first, second = (
            next(one for member in torn[0].members if (one := instances[member]).split == part)
            for part in sorted({instances[member].split for member in torn[0].members}, key=PARTS.index)[:2]
        )
        lines.append(
            f"{len(torn)} contents are on two sides of the label file's own split,"
            f" e.g. {first.video!r} ({first.split}) and {second.video!r} ({second.split})"
        )
    return lines


def _two_labels(instances: Sequence[Instance]) -> list[str]:
    """One line for all contents that carry two labels: the same file (and interval) in the folders of two tags."""
    first: dict[tuple[str, float | None, float | None], Instance] = {}
    pairs: dict[str, tuple[Instance, Instance]] = {}
    for one in instances:
        if one.label is not None and one.key:
            other = first.setdefault((one.key, one.start_s, one.end_s), one)
            if other.label != one.label:
                pairs.setdefault(one.key, (other, one))
    if not pairs:
        return []
    left, right = next(iter(pairs.values()))
    example = f"{left.video!r} ({left.label}) and {right.video!r} ({right.label})"
    return [f"{len(pairs)} contents carry two labels, e.g. {example}"]


# --- units ---


@dataclass(frozen=True)
class _Unit:
    """Instances that stay together: their positions, how many of each class, the part the label file names or ""."""

    name: str
    members: tuple[int, ...]
    labels: dict[str, int]
    fixed: str


def _units(instances: Sequence[Instance], rows: Iterable[int], parts: Sequence[str]) -> list[_Unit]:
    """Connected components of `rows` under equal video, equal content, equal group; sorted by name.

    `parts` holds the part that is already settled for each instance, or "".
    """
    rows = list(rows)
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def top(node: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for row in rows:
        one = instances[row]
        for kind, value in (("key", one.key), ("group", one.group)):
            if value:
                parent[top((kind, value))] = top(("video", one.video))
    together: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in rows:
        together[top(("video", instances[row].video))].append(row)
    return sorted((_unit(instances, members, parts) for members in together.values()), key=lambda unit: unit.name)


def _unit(instances: Sequence[Instance], members: list[int], parts: Sequence[str]) -> _Unit:
    ours = [instances[member] for member in members]
    fixed = sorted({parts[member] for member in members if parts[member]}, key=PARTS.index)
    # by content rather than by name, so that a renamed folder is divided as before
    name = min(f"{one.key} {one.video if not one.key else ''}" for one in ours)
    return _Unit(name, tuple(members), dict(Counter(str(one.label) for one in ours)), fixed[0] if fixed else "")


def _check_groups(instances: Sequence[Instance]) -> None:
    """Refuse a label file whose split separates one of its own groups."""
    first: dict[str, Instance] = {}
    for one in instances:
        if one.group and one.split:
            other = first.setdefault(one.group, one)
            if other.split != one.split:
                raise LabelError(
                    f"group {one.group!r} is in {other.split} ({other.video!r}) and in {one.split} ({one.video!r});"
                    " a group stays on one side: mend the split column, or leave out the group column"
                )


# --- assignment ---


@dataclass
class _Tally:
    """Per class and part: instances wanted, instances and units there. `total` instances and `left` units per class."""

    wanted: dict[str, dict[str, float]]
    total: dict[str, int]
    left: Counter[str]
    have: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    units: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, unit: _Unit, part: str) -> None:
        for label, count in unit.labels.items():
            self.have[label][part] += count
            self.units[label][part] += 1

    def choose(self, unit: _Unit, parts: Sequence[str]) -> str:
        """The part furthest behind in the unit's classes, of those that could otherwise end without one of them."""
        urgent: set[str] = set()
        for label in unit.labels:
            lacking = [part for part in parts if not self.units[label][part]]
            if self.left[label] <= len(lacking):
                urgent.update(lacking[: self.left[label]])
        self.left.subtract(unit.labels.keys())
        return max((part for part in parts if not urgent or part in urgent), key=lambda part: self._behind(unit, part))

    def _behind(self, unit: _Unit, part: str) -> float:
        missing = sum(
            count * (self.wanted[label][part] - self.have[label][part]) / self.total[label]
            for label, count in unit.labels.items()
        )
        return round(missing, 9)  # a tie must not hang on the order of additions

    def unevenness(self) -> tuple[int, float]:
        """Pairs of class and part without a unit, then the mean squared distance from the wanted counts."""
        pairs = [(label, part) for label, parts in self.wanted.items() for part in parts]
        empty = sum(not self.units[label][part] for label, part in pairs)
        distance = sum((self.wanted[label][part] - self.have[label][part]) ** 2 for label, part in pairs)
        return empty, distance / max(len(pairs), 1)


def _assign(units: Sequence[_Unit], shares: Mapping[str, float], seed: int, *, single: str) -> list[str]:
    """A part for each unit. `single` is the part of units that alone hold a class."""
    counts = Counter(label for unit in units for label in unit.labels)
    alone = [any(counts[label] == 1 for label in unit.labels) for unit in units]
    settled = [unit.fixed or (single if lonely else None) for unit, lonely in zip(units, alone, strict=True)]
    open_rows = [row for row, part in enumerate(settled) if part is None]
    best: tuple[tuple[int, float], list[str]] | None = None
    for draw in range(DRAWS if open_rows else 1):
        tally = _tally(units, settled, shares)
        parts = [part or "" for part in settled]
        for row in sorted(open_rows, key=lambda row: _turn(units[row], seed, draw)):
            parts[row] = tally.choose(units[row], list(shares))
            tally.add(units[row], parts[row])
        unevenness = tally.unevenness()
        if best is None or unevenness < best[0]:
            best = (unevenness, parts)
        if unevenness <= (0, _EVEN):
            break
    assert best is not None
    return best[1]


def _turn(unit: _Unit, seed: int, draw: int) -> tuple[int, bytes]:
    """Units of several classes first: those of one class can then even out each class by itself."""
    text = f"{seed} {draw} {unit.name}".encode("utf-8", "surrogatepass")
    return -len(unit.labels), hashlib.blake2b(text, digest_size=16).digest()


def _tally(units: Sequence[_Unit], settled: Sequence[str | None], shares: Mapping[str, float]) -> _Tally:
    """Counts before the first open unit is placed; parts outside `shares` take no part in the balance."""
    total: Counter[str] = Counter()
    left: Counter[str] = Counter()
    for unit, part in zip(units, settled, strict=True):
        if part is None or part in shares:
            total.update(unit.labels)
        if part is None:
            left.update(unit.labels.keys())
    wanted = {label: {part: share * count for part, share in shares.items()} for label, count in total.items()}
    tally = _Tally(wanted, dict(total), left)
    for unit, part in zip(units, settled, strict=True):
        if part is not None and part in shares:
            tally.add(unit, part)
    return tally
