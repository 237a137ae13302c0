"""Ways to do one thing, timed in turns: processor seconds, of which a busy machine takes few away."""

from __future__ import annotations

import resource
import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

OURS = "rratag"
"""The way that a line is about."""


@dataclass(frozen=True)
class Line:
    """What one stage costs.

    Attributes
    ----------
    stage : its name
    unit : of what the costs are: "frame", "video"
    cost_ms : by way, processor milliseconds per unit; `OURS` among them
    error : how far our results are from those of a way, by way; see `error_of`
    error_of : what the errors are
    skipped : why a way was not measured here, by way
    """

    stage: str
    unit: str
    cost_ms: dict[str, float]
    error: dict[str, float] = field(default_factory=dict)
    error_of: str = ""
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def speedup(self) -> dict[str, float]:
        """How many times what we take the other ways take."""
        return {way: cost / self.cost_ms[OURS] for way, cost in self.cost_ms.items() if way != OURS}

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, strings and numbers."""
        return {**asdict(self), "speedup": self.speedup}


def processor_seconds() -> float:
    """Processor time of this process and of those that it started and saw end."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def interleaved(ways: Mapping[str, Callable[[], object]], units: int, rounds: int) -> dict[str, float]:
    """Median processor milliseconds per unit of each way.

    Parameters
    ----------
    ways : what to call; each does `units` units
    rounds : in which each way has its turn, after one that does not count
    """
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            before = processor_seconds()
            way()
            if number:
                spent[name].append(processor_seconds() - before)
    return {name: 1000 * statistics.median(times) / units for name, times in spent.items()}
