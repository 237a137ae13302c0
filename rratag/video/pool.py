"""Worker processes and their watchdog: videos in, exactly one :class:`Decoded` each, in order, whatever happens."""

from __future__ import annotations

import importlib.util
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from types import TracebackType
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from rratag.errors import StoppedError, UsageError
from rratag.records import USABLE, Receipt, Video
from rratag.video.plan import Choice, Sampling
from rratag.video.process import WorkerProcess, one_line
from rratag.video.wire import Job, Outcome, send

T_ = TypeVar("T_")
Convert = Callable[[NDArray[np.uint8]], T_]

DECODER_NAMES = ("auto", "pyav", "decord")
"""The keys of ``decode.DECODERS``, here too so that the pool need not load a decoder."""
LOOK_S = 0.25
"""How often a silent worker is looked at, in seconds."""
START_LIMIT_S = 120.0
START_ATTEMPTS = 3
START_PAUSE_S = 5.0
"""Before a worker that did not start is tried again: memory or processes may have run out for a moment only."""
BASE_LIMIT_S = 60.0
READ_BYTES_PER_S = 10e6
MAX_LIMIT_S = 7200.0


@dataclass(frozen=True)
class PoolOptions:
    """How many workers, and what a video may cost.

    ``deadline_s`` bounds the worker's time for one video (default: 60 s, twice the video's length, and 1 s for each
    10 MB, but no more than 2 h); ``no_progress_s`` the time without a sign of life; ``max_pixels`` the picture size
    (width * height); ``ring_bytes`` the memory that each worker shares with the pool; ``max_memory_bytes`` the worker's
    own. A worker is replaced after ``videos_per_worker``, so that native leaks stay bounded; ``window`` videos for each
    are in work or waiting.
    """

    workers: int
    decoder: str = "auto"
    deadline_s: float | None = None
    no_progress_s: float = 60.0
    max_pixels: int = 8192 * 8192
    ring_bytes: int = 256 << 20
    max_memory_bytes: int = 3 << 30
    videos_per_worker: int = 500
    window: int = 3

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"the number of decode workers is {self.workers}; it must be 1 or more")
        if self.decoder not in DECODER_NAMES:
            raise UsageError(f"unknown decoder {self.decoder!r}; choose from {', '.join(DECODER_NAMES)}")
        if self.decoder == "decord" and importlib.util.find_spec("decord") is None:
            raise UsageError("decord is not installed; choose from auto, pyav, or install it: pip install decord")


@dataclass(frozen=True)
class Decoded(Generic[T_]):
    """One video's result.

    ``sha256`` is of the file's bytes, "" if they were never read; ``time_s`` float64 [T], ``frame_index`` int64 [T] and
    ``frames`` (what `convert` made of each picture) belong together, in order of time; empty if nothing was decoded.
    ``known`` is True if the features exist already.
    """

    video: Video
    receipt: Receipt
    sha256: str
    size: int
    mtime_ns: int
    time_s: NDArray[np.float64]
    frame_index: NDArray[np.int64]
    frames: list[T_]
    known: bool


@dataclass
class _Attempt(Generic[T_]):
    """What one try at a video gave so far; ``pictures`` by index: time and converted picture."""

    sha256: str = ""
    size: int = 0
    mtime_ns: int = 0
    known: bool = False
    limit_s: float = BASE_LIMIT_S
    pictures: dict[int, tuple[float, T_]] = field(default_factory=dict)


class DecodePool(Generic[T_]):
    """Decodes videos in worker processes; use as a context manager.

    Parameters
    ----------
    options : workers and limits
    sampling : which frames of each video, for all of them or one by one: the n-th of a run
    convert : called with each picture, uint8 [H, W, 3] upright RGB, from several threads; the array is read-only and
        valid during the call alone, so the result must not share its memory
    is_known : called with a file's sha256, from several threads; True skips decoding
    """

    def __init__(
        self,
        options: PoolOptions,
        sampling: Sampling | Callable[[int], Choice],
        convert: Convert[T_],
        is_known: Callable[[str], bool],
    ) -> None:
        self.options = options
        self.sampling: Callable[[int], Choice] = (lambda _: sampling) if isinstance(sampling, Sampling) else sampling
        self.convert, self.is_known = convert, is_known
        self._runs: list[_Run[T_]] = []

    def __enter__(self) -> DecodePool[T_]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill all workers; a run in progress ends."""
        for run in list(self._runs):
            run.stop()

    def run(self, videos: Iterable[Video]) -> Iterator[Decoded[T_]]:
        """Decode `videos`: exactly one result for each, in their order.

        Only a bounded number of videos is held at a time. Closing the generator kills the workers.

        Raises
        ------
        StoppedError
            If the workers cannot be started at all.
        Exception
            Whatever `convert` or `is_known` raised, when its video's turn comes.
        """
        run = _Run(self)
        self._runs.append(run)
        try:
            yield from run.results(videos)
        finally:
            run.stop()
            self._runs.remove(run)


class _StoppedRun(Exception):  # noqa: N818 - somebody closed the run; not a mistake
    pass


class _Run(Generic[T_]):
    """One pass over a sequence of videos: threads that each drive a worker, and results put back into order."""

    def __init__(self, pool: DecodePool[T_]) -> None:
        self.pool = pool
        self.changed = threading.Condition()
        self.waiting: deque[tuple[int, Video]] = deque()
        self.finished: dict[int, Decoded[T_] | BaseException] = {}
        self.stopped = False
        self.threads: list[threading.Thread] = []
        self.processes: set[WorkerProcess] = set()

    def results(self, videos: Iterable[Video]) -> Iterator[Decoded[T_]]:
        """Keep a window of videos in work and give the results in order."""
        window = self.pool.options.window * self.pool.options.workers
        numbered = enumerate(videos)
        given = taken = 0
        more = True
        while True:
            while more and given - taken < window:
                entry = next(numbered, None)
                more = entry is not None
                if entry is not None:
                    given += 1
                    self._submit(entry)
            if taken == given:
                return
            yield self._take(taken)
            taken += 1

    def stop(self) -> None:
        """End all threads and kill their workers; results not taken yet are dropped."""
        with self.changed:
            self.stopped = True
            self.waiting.clear()
            for process in self.processes:
                process.popen.kill()
            self.changed.notify_all()
        for thread in self.threads:
            thread.join()

    def start_process(self) -> WorkerProcess:
        """Start a worker, unless the run was stopped meanwhile."""
        with self.changed:
            if self.stopped:
                raise _StoppedRun
            options = self.pool.options
            process = WorkerProcess(max(options.ring_bytes, options.max_pixels * 3))
            self.processes.add(process)
            return process

    def pause(self, seconds: float) -> None:
        """Wait, unless the run is stopped meanwhile."""
        with self.changed:
            if self.changed.wait_for(lambda: self.stopped, seconds):
                raise _StoppedRun

    def end_process(self, process: WorkerProcess) -> int:
        """Kill and reap a worker; its exit status."""
        with self.changed:
            self.processes.discard(process)
        return process.end()

    def _take(self, number: int) -> Decoded[T_]:
        with self.changed:
            while number not in self.finished:
                if self.stopped:
                    raise ValueError("the pool was closed during the run")
                self.changed.wait()
            result = self.finished.pop(number)
        if isinstance(result, BaseException):
            raise result
        return result

    def _submit(self, entry: tuple[int, Video]) -> None:
        with self.changed:
            self.waiting.append(entry)
            self.changed.notify_all()
        if len(self.threads) < self.pool.options.workers:
            thread = threading.Thread(target=self._drive, name=f"rratag-decode-{len(self.threads)}", daemon=True)
            self.threads.append(thread)
            thread.start()

    def _drive(self) -> None:
        driver = _Driver(self, self.pool)
        try:
            while (entry := self._next_entry()) is not None:
                number, video = entry
                result: Decoded[T_] | BaseException
                try:
                    result = driver.decode(video, self.pool.sampling(number))
                except _StoppedRun:
                    return
                except BaseException as error:  # raised again in the caller's thread
                    result = error
                with self.changed:
                    self.finished[number] = result
                    self.changed.notify_all()
        finally:
            driver.end()

    def _next_entry(self) -> tuple[int, Video] | None:
        with self.changed:
            while not self.waiting and not self.stopped:
                self.changed.wait()
            return None if self.stopped else self.waiting.popleft()


class _Driver(Generic[T_]):
    """Drives one worker process from one thread, starting it again when it dies."""

    def __init__(self, run: _Run[T_], pool: DecodePool[T_]) -> None:
        self.run, self.pool = run, pool
        self.process: WorkerProcess | None = None
        self.num_videos = 0

    def end(self) -> int:
        """Kill the worker, if there is one; its exit status."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        return self.run.end_process(process)

    def decode(self, video: Video, sampling: Choice) -> Decoded[T_]:
        """Try a video, a second time where that can help, and make its result."""
        started = time.monotonic()
        decoder = self.pool.options.decoder
        attempt, outcome = self._attempt(video, sampling, decoder)
        if decoder == "decord" and outcome.status in ("timed_out", "decoder_crashed", "out_of_memory"):
            trouble = f"decord: {outcome.status}"
            attempt, outcome = self._attempt(video, sampling, "auto")
            message = "; ".join(filter(None, [trouble, outcome.message]))
            outcome = replace(outcome, fallback_from="decord", message=message)
        elif outcome.status in ("decoder_crashed", "changed_while_read"):
            attempt, outcome = self._attempt(video, sampling, decoder)
        return _result(video, attempt, outcome, time.monotonic() - started)

    def _attempt(self, video: Video, sampling: Choice, decoder: str) -> tuple[_Attempt[T_], Outcome]:
        attempt: _Attempt[T_] = _Attempt()
        job = Job(str(video.path), sampling, decoder, self.pool.options.max_pixels)
        try:
            process = self._ready_process()
            process.forget_log()
            send(process.stdin, ("job", job))
            outcome = self._converse(process, attempt)
        except (EOFError, BrokenPipeError):
            outcome = self._post_mortem()
        except BaseException:
            self.end()
            raise
        if outcome.status in ("unreadable", "partial") and self.process is not None:
            outcome = replace(outcome, message=": ".join(filter(None, [outcome.message, self.process.said()])))
        if outcome.status in ("timed_out", "out_of_memory"):
            self.end()
        return attempt, outcome

    def _ready_process(self) -> WorkerProcess:
        """Return a worker that lives, a new one if need be."""
        worn_out = self.num_videos >= self.pool.options.videos_per_worker
        if self.process is not None and (worn_out or self.process.popen.poll() is not None):
            self.end()
        if self.process is None:
            self.process, self.num_videos = self._start_process(), 0
        self.num_videos += 1
        return self.process

    def _start_process(self) -> WorkerProcess:
        """Start a worker and wait for its first word.

        Raises
        ------
        StoppedError
            If it does not come up, several times.
        """
        said = ""
        for attempt in range(START_ATTEMPTS):
            if attempt:
                self.run.pause(START_PAUSE_S)
            try:
                process = self.run.start_process()
            except OSError as error:
                said = str(error.strerror)
                continue
            try:
                message = process.receive(START_LIMIT_S)
            except EOFError:
                message = None
            if message is not None:
                return process
            said = process.said()
            self.run.end_process(process)
            if self.run.stopped:
                raise _StoppedRun
        raise StoppedError(f"a decode worker did not start, {START_ATTEMPTS} times: {said or 'no reason given'}")

    def _post_mortem(self) -> Outcome:
        assert self.process is not None
        said, held = self.process.said(), self.process.most_bytes
        code = self.end()
        if self.run.stopped:
            raise _StoppedRun
        half = self.pool.options.max_memory_bytes // 2
        if code == -signal.SIGKILL and held > half:
            message = f"the decoder was killed (SIGKILL) when it had more than {half >> 20} MiB: memory ran out"
            return Outcome("out_of_memory", "limit", message)
        name = _signal_name(-code) if code < 0 else f"exit code {code}"
        return Outcome("decoder_crashed", "signal", ": ".join(filter(None, [f"the decoder died ({name})", said])))

    def _converse(self, process: WorkerProcess, attempt: _Attempt[T_]) -> Outcome:
        """Answer the worker until it is done or out of its limits; the pool's own work stops its clock."""
        spent = silent = unweighed = 0.0
        while True:
            asked = time.monotonic()
            message = process.receive(LOOK_S)
            waited = time.monotonic() - asked
            spent, unweighed = spent + waited, unweighed + waited
            silent = 0.0 if message is not None else silent + waited
            if message is not None and message[0] == "done":
                done: Outcome = message[1]
                return done
            if message is not None:
                self._answer(process, attempt, message)
            exceeded = self._time_exceeded(spent, silent, attempt.limit_s)
            if exceeded is None and unweighed >= LOOK_S:
                unweighed = 0.0
                exceeded = self._memory_exceeded(process)
            if exceeded is not None:
                return exceeded

    def _time_exceeded(self, spent: float, silent: float, allowed: float) -> Outcome | None:
        options = self.pool.options
        limit = min(allowed, MAX_LIMIT_S) if options.deadline_s is None else options.deadline_s
        if spent > limit:
            return Outcome("timed_out", "limit", f"not done after {limit:.1f} s")
        if silent > options.no_progress_s:
            return Outcome("timed_out", "no_progress", f"no sign of life for {options.no_progress_s:.1f} s")
        return None

    def _memory_exceeded(self, process: WorkerProcess) -> Outcome | None:
        limit = self.pool.options.max_memory_bytes
        if process.resident_bytes() <= limit:
            return None
        return Outcome("out_of_memory", "limit", f"the decoder took more than {limit >> 20} MiB")

    def _answer(self, process: WorkerProcess, attempt: _Attempt[T_], message: tuple[Any, ...]) -> None:
        kind, *content = message
        if kind == "frame":
            offset, shape, index, time_s = content
            attempt.pictures[index] = (time_s, self._convert(process, offset, shape))
            send(process.stdin, ("free", offset))
        elif kind == "digest":
            attempt.sha256 = content[0]
            attempt.known = self.pool.is_known(attempt.sha256)
            send(process.stdin, ("skip",) if attempt.known else ("go",))
        elif kind == "size":
            attempt.size, attempt.mtime_ns = content
            attempt.limit_s += attempt.size / READ_BYTES_PER_S
        elif kind == "plan":
            attempt.limit_s += 2 * content[0]
            attempt.pictures.clear()  # a new plan voids what another route gave

    def _convert(self, process: WorkerProcess, offset: int, shape: tuple[int, int, int]) -> T_:
        count = shape[0] * shape[1] * shape[2]
        view = np.frombuffer(process.ring, np.uint8, count, offset).reshape(shape)
        view.flags.writeable = False
        return self.pool.convert(view)


def _result(video: Video, attempt: _Attempt[T_], outcome: Outcome, seconds: float) -> Decoded[T_]:
    usable = outcome.status in USABLE and not attempt.known
    pictures = sorted(attempt.pictures.items()) if usable else []
    fields = {**asdict(outcome), "message": one_line(outcome.message)}
    return Decoded(
        video=video,
        receipt=Receipt(video.id, **fields, frames_distinct=len(pictures), seconds=seconds),
        sha256=attempt.sha256,
        size=attempt.size,
        mtime_ns=attempt.mtime_ns,
        time_s=np.array([time_s for _, (time_s, _) in pictures], np.float64),
        frame_index=np.array([index for index, _ in pictures], np.int64),
        frames=[picture for _, (_, picture) in pictures],
        known=attempt.known,
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
