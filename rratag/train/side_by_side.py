"""Contenders of a :class:`rratag.train.grid.Grid` side by side: one process each, one result after the other.

A head is small work in many steps, which several cores share badly; several heads share them well.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import product

import torch

from rratag.data.datasets import physical_memory
from rratag.errors import StoppedError
from rratag.train.grid import Contender, Grid, Result, Split

_grid: Grid | None = None
"""Of a worker process; it keeps the split that it trained on last."""


def run_side_by_side(
    grid: Grid, contenders: Sequence[Contender], seeds: Sequence[int], workers: int
) -> Iterator[Result]:
    """What :meth:`Grid.run` gives, in its order, to the last bit; up to `workers` contenders train at a time.

    Fewer do if their maps would take more than half of the machine's memory. Results that are there already are read.

    Raises
    ------
    StoppedError
        If a result cannot be kept, or a process was killed.
    """
    kept = {(seed, one.name): grid.kept(one, seed) for seed, one in product(seeds, contenders)}
    pending = [(seed, one) for seed, one in product(seeds, contenders) if kept[seed, one.name] is None]
    count = min(workers, len(pending), _by_memory(grid.split(seeds[0])) if pending else 1)
    if count < 2:
        yield from grid.run(contenders, seeds)
        return
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin, (grid.fresh(), count))
    try:
        futures = {(seed, one.name): pool.submit(_train, seed, one) for seed, one in pending}
        for place, result in kept.items():
            yield result or futures[place].result()
    except BrokenProcessPool as error:
        raise StoppedError("a training process was killed; the same command goes on: give fewer --workers") from error
    except BaseException:  # an interrupt above all: what is being trained is lost, what is kept stays
        for child in multiprocessing.active_children():
            child.terminate()
        # the pool waits for them: of two that wait for a process, one would never hear of its end
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


def _by_memory(split: Split) -> int:
    """Processes whose maps take at most half of the machine's memory; each reads the whole split."""
    parts = (split.train, split.validation, split.test)
    need = sum(one.num_bytes for one in parts if one.fits_memory)
    return max(1, physical_memory() // 2 // max(1, need))


def _begin(grid: Grid, count: int) -> None:
    """Set a worker process up."""
    global _grid
    _grid = grid
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    logging.getLogger("rratag").addHandler(logging.NullHandler())  # what there is to say the parent has said
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))


def _train(seed: int, contender: Contender) -> Result:
    assert _grid is not None
    (result,) = _grid.run([contender], [seed])
    return result
