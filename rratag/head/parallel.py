"""Work on groups of videos side by side on a CPU: one thread per group instead of many threads per small operation.

A group's tensors fit the cache, so each operation takes microseconds; splitting each over threads costs more than it
gains, and on a busy machine every operation would wait for the slowest thread.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

Result = TypeVar("Result")

_reserved: ContextVar[int] = ContextVar("_reserved", default=0)
"""Threads that :func:`threads_for_groups` has set aside; 0 for as many as torch uses."""


def each_group(work: Callable[[slice], Result], groups: Sequence[slice]) -> list[Result]:
    """Results of `work` in the order of `groups`. No gradient is recorded in it.

    Parameters
    ----------
    work : called from several threads at once; groups must not write to the same memory
    groups : slices of videos
    """
    num_threads = _reserved.get() or torch.get_num_threads()
    inference = torch.is_inference_mode_enabled()

    def quietly(rows: slice) -> Result:
        with torch.inference_mode() if inference else torch.no_grad():  # a thread's own setting, not inherited
            return work(rows)

    if num_threads < 2 or len(groups) < 2:
        return [quietly(rows) for rows in groups]
    return list(_pool(num_threads).map(quietly, groups))


@contextmanager
def threads_for_groups() -> Iterator[None]:
    """Inside, all of torch's threads work on groups, and torch's own operations use one.

    After an operation of several threads, OpenMP keeps them spinning for milliseconds: the time of a whole glimpse,
    taken from the threads that work on it.
    """
    num_threads = torch.get_num_threads()
    token = _reserved.set(num_threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
        _reserved.reset(token)


@contextmanager
def threads_for_operations() -> Iterator[None]:
    """Inside, torch's own operations use all threads again: for the work within that is not in groups."""
    before = torch.get_num_threads()
    torch.set_num_threads(_reserved.get() or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.lru_cache(maxsize=1)
def _pool(num_threads: int) -> ThreadPoolExecutor:
    """Threads each of which computes alone."""
    before = torch.get_num_threads()
    all_started = threading.Barrier(num_threads)
    pool = ThreadPoolExecutor(num_threads, "rratag-head", initializer=_compute_alone)
    list(pool.map(lambda _: all_started.wait(), range(num_threads)))
    torch.set_num_threads(before)  # the threads have set what threads to come begin with; set it back
    return pool


def _compute_alone() -> None:
    torch.get_num_threads()  # makes torch take its default for this thread now, not after the next line
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads
