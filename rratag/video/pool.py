"""Worker processes and their watchdog: videos in, exactly one :class:`Decoded` each, in order, whatever the files do."""

from __future__ import annotations

import logging
import mmap
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from types import TracebackType
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from rratag.errors import UsageError
from rratag.records import Receipt, Video
from rratag.video.plan import Sampling
from rratag.video.wire import Inbox, send
from rratag.video.worker import Job, Outcome

logger = logging.getLogger(__name__)

T_ = TypeVar("T_")
Convert = Callable[[NDArray[np.uint8]], T_]

DECODER_NAMES = ("auto", "pyav", "decord")
LOOK_S = 0.25
"""How often a silent worker is looked at, in seconds."""
BASE_LIMIT_S = 60.0
READ_BYTES_PER_S = 10e6
LOG_BYTES = 2048


@dataclass(frozen=True)
class PoolOptions:
    """How many workers, and what a video may cost.

    ``deadline_s`` bounds the worker's time for one video (default: 60 s, twice the video's length, and 1 s for each
    10 MB); ``no_progress_s`` the time without a sign of life; ``max_pixels`` the picture size (width * height);
    ``ring_bytes`` the memory that each worker shares with the pool; ``max_memory_bytes`` the worker's own.
    """

    workers: int
    decoder: str = "auto"
    deadline_s: float | None = None
    no_progress_s: float = 60.0
    max_pixels: int = 8192 * 8192
    ring_bytes: int = 256 << 20
    max_memory_bytes: int = 3 << 30

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"the number of decode workers is {self.workers}; it must be 1 or more")
        if self.decoder not in DECODER_NAMES:
            raise UsageError(f"unknown decoder {self.decoder!r}; choose from {', '.join(DECODER_NAMES)}")


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
class _Attempt:
    """What one try at a video gave so far."""

    sha256: str = ""
    size: int = 0
    mtime_ns: int = 0
    known: bool = False
    limit_s: float = BASE_LIMIT_S
    pictures: list[tuple[int, float, Any]] = field(default_factory=list)
    outcome: Outcome | None = None


class _Stopped(Exception):  # noqa: N818 - the pool is closing; not a mistake
    pass


class _Process:
    """A worker process with its pipes, ring and log."""

    def __init__(self, options: PoolOptions) -> None:
        self.ring_bytes = max(options.ring_bytes, options.max_pixels * 3)
        self.log = tempfile.TemporaryFile()
        ring = _ring_descriptor(self.ring_bytes)
        try:
            self.ring = mmap.mmap(ring, self.ring_bytes)
            arguments = [str(ring), str(self.ring_bytes), str(os.getpid())]
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "rratag.video.worker", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                pass_fds=(ring,),
                env=_worker_environment(),
                bufsize=0,
            )
        finally:
            os.close(ring)
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.stdin = self.popen.stdin.fileno()
        self.inbox = Inbox(self.popen.stdout.fileno())
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.popen.stdout, selectors.EVENT_READ)

    def receive(self, wait_s: float) -> tuple[Any, ...] | None:
        """Return the next message, or None after `wait_s` seconds of silence.

        Raises
        ------
        EOFError
            If the process is gone.
        """
        until = time.monotonic() + wait_s
        while (message := self.inbox.next()) is None:
            if not self.selector.select(max(0.0, until - time.monotonic())):
                return None
            if not self.inbox.fill():
                raise EOFError
        return message

    def said(self) -> str:
        """Last words on the log, on one line."""
        size = os.fstat(self.log.fileno()).st_size
        tail = os.pread(self.log.fileno(), LOG_BYTES, max(0, size - LOG_BYTES)).decode("utf-8", "replace")
        return one_line(tail)

    def resident_bytes(self) -> int:
        """Private memory of the process; 0 where the system does not say."""
        try:
            with open(f"/proc/{self.popen.pid}/status", "rb") as file:
                lines = file.read().splitlines()
        except OSError:
            return 0
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(b"RssAnon:"))

    def end(self) -> int:
        """Kill, reap and free everything; the exit status it had."""
        self.popen.kill()
        status = self.popen.wait()
        self.selector.close()
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream is not None:
                stream.close()
        self.log.close()
        try:
            self.ring.close()
        except BufferError:
            logger.debug("a picture outlives its ring; the memory is freed with it")
        return status


class DecodePool(Generic[T_]):
    """Decodes videos in worker processes; use as a context manager.

    Parameters
    ----------
    options : workers and limits
    sampling : which frames of each video
    convert : called with each picture, uint8 [H, W, 3] upright RGB, from several threads; the array is only valid during
        the call, so the result must not share its memory
    is_known : called with a file's sha256; True skips decoding
    """

    def __init__(
        self, options: PoolOptions, sampling: Sampling, convert: Convert[T_], is_known: Callable[[str], bool]
    ) -> None:
        self.options, self.sampling = options, sampling
        self.convert, self.is_known = convert, is_known
        self._lock = threading.Lock()
        self._processes: set[_Process] = set()
        self._stopping = False

    def __enter__(self) -> DecodePool[T_]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill all workers; a run in progress ends."""
        with self._lock:
            self._stopping = True
            for process in self._processes:
                process.popen.kill()

    def run(self, videos: Iterable[Video]) -> Iterator[Decoded[T_]]:
        """Decode `videos`: exactly one result for each, in their order.

        Only a bounded number of videos is held at a time. Closing the generator kills the workers.

        Raises
        ------
        Exception
            Whatever `convert` or `is_known` raised, when its video's turn comes.
        """
        if self._stopping:
            raise ValueError("the pool is closed")
        run = _Run(self)
        try:
            yield from run.results(videos)
        finally:
            run.stop()
            self.close()

    def _start(self) -> _Process:
        with self._lock:
            if self._stopping:
                raise _Stopped
            process = _Process(self.options)
            self._processes.add(process)
            return process

    def _end(self, process: _Process) -> int:
        with self._lock:
            self._processes.discard(process)
        return process.end()


class _Run(Generic[T_]):
    """One pass over a sequence of videos: threads that each drive a worker, and results put back into order."""

    def __init__(self, pool: DecodePool[T_]) -> None:
        self.pool = pool
        self.changed = threading.Condition()
        self.waiting: list[tuple[int, Video]] = []
        self.results_by_number: dict[int, Decoded[T_] | BaseException] = {}
        self.stopped = False
        self.threads: list[threading.Thread] = []

    def results(self, videos: Iterable[Video]) -> Iterator[Decoded[T_]]:
        window = 3 * self.pool.options.workers
        iterator = enumerate(videos)
        given, taken, more = 0, 0, True
        while True:
            while more and given - taken < window:
                entry = next(iterator, None)
                if entry is None:
                    more = False
                    break
                given += 1
                self._submit(entry)
            if taken == given:
                return
            with self.changed:
                while taken not in self.results_by_number:
                    self.changed.wait()
                result = self.results_by_number.pop(taken)
            if isinstance(result, BaseException):
                raise result
            taken += 1
            yield result

    def stop(self) -> None:
        """End all threads and their workers; results not taken yet are dropped."""
        with self.changed:
            self.stopped = True
            self.waiting.clear()
            self.changed.notify_all()
        self.pool.close()
        for thread in self.threads:
            thread.join()

    def _submit(self, entry: tuple[int, Video]) -> None:
        with self.changed:
            self.waiting.append(entry)
            self.changed.notify_all()
        if len(self.threads) < self.pool.options.workers:
            thread = threading.Thread(target=self._drive, name=f"rratag-decode-{len(self.threads)}", daemon=True)
            self.threads.append(thread)
            thread.start()

    def _drive(self) -> None:
        driver = _Driver(self.pool)
        try:
            while True:
                with self.changed:
                    while not self.waiting and not self.stopped:
                        self.changed.wait()
                    if self.stopped:
                        return
                    number, video = self.waiting.pop(0)
                try:
                    result: Decoded[T_] | BaseException = driver.decode(video)
                except _Stopped:
                    return
                except BaseException as error:  # raised again in the caller's thread
                    result = error
                with self.changed:
                    self.results_by_number[number] = result
                    self.changed.notify_all()
        finally:
            driver.end()


class _Driver(Generic[T_]):
    """Drives one worker process from one thread, starting it again when it dies."""

    def __init__(self, pool: DecodePool[T_]) -> None:
        self.pool = pool
        self.process: _Process | None = None

    def end(self) -> int:
        if self.process is None:
            return 0
        process, self.process = self.process, None
        return self.pool._end(process)

    def decode(self, video: Video) -> Decoded[T_]:
        """Try a video, a second time where that can help, and make its result."""
        started = time.monotonic()
        decoder = self.pool.options.decoder
        fallback_from = ""
        attempt = _Attempt()
        for final in (False, True):
            try:
                attempt = self._attempt(video, decoder)
            except BaseException:
                self.end()
                raise
            assert attempt.outcome is not None
            status = attempt.outcome.status
            again = status in ("decoder_crashed", "changed_while_read")
            if decoder == "decord" and status in ("timed_out", "decoder_crashed", "out_of_memory"):
                decoder, fallback_from, again = "auto", "decord", True
            if final or not again:
                break
        assert attempt.outcome is not None
        if fallback_from and not attempt.outcome.fallback_from:
            attempt.outcome = replace(attempt.outcome, fallback_from=fallback_from)
        return _result(video, attempt, time.monotonic() - started)

    def _attempt(self, video: Video, decoder: str) -> _Attempt:
        if self.process is None:
            self.process = self.pool._start()
        attempt = _Attempt()
        job = Job(str(video.path), self.pool.sampling, decoder, self.pool.options.max_pixels)
        try:
            send(self.process.stdin, ("job", job))
            self._converse(self.process, attempt)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            said = self.process.said()
            code = self.end()
            if self.pool._stopping:
                raise _Stopped from None
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            attempt.outcome = Outcome("decoder_crashed", "signal", f"the decoder died: {name}; {said}".rstrip("; "))
        return attempt

    def _converse(self, process: _Process, attempt: _Attempt) -> None:
        """Answer the worker until it is done or out of its limits; the pool's own work stops its clock."""
        options = self.pool.options
        spent = silent = 0.0
        while attempt.outcome is None:
            asked = time.monotonic()
            message = process.receive(LOOK_S)
            waited = time.monotonic() - asked
            spent += waited
            silent = 0.0 if message is not None else silent + waited
            if message is not None:
                self._answer(process, attempt, message)
                continue
            if self.pool._stopping:
                raise EOFError
            limit = options.deadline_s if options.deadline_s is not None else attempt.limit_s
            attempt.outcome = self._over_limits(process, spent, silent, limit)
            if attempt.outcome is not None:
                self.end()

    def _over_limits(self, process: _Process, spent: float, silent: float, limit: float) -> Outcome | None:
        options = self.pool.options
        if spent > limit:
            return Outcome("timed_out", "limit", f"not done after {limit:.0f} s")
        if silent > options.no_progress_s:
            return Outcome("timed_out", "no_progress", f"no sign of life for {options.no_progress_s:.0f} s")
        if process.resident_bytes() > options.max_memory_bytes:
            return Outcome("out_of_memory", "limit", f"the decoder took more than {options.max_memory_bytes >> 20} MiB")
        return None

    def _answer(self, process: _Process, attempt: _Attempt, message: tuple[Any, ...]) -> None:
        kind, *content = message
        if kind == "frame":
            offset, shape, index, time_s = content
            view = np.frombuffer(process.ring, np.uint8, int(np.prod(shape)), offset).reshape(shape)
            view.flags.writeable = False
            attempt.pictures.append((index, time_s, self.pool.convert(view)))
            del view
            send(process.stdin, ("free", offset))
        elif kind == "digest":
            attempt.sha256 = content[0]
            attempt.known = self.pool.is_known(attempt.sha256)
            send(process.stdin, ("skip",) if attempt.known else ("go",))
        elif kind == "size":
            attempt.size, attempt.mtime_ns = content
            attempt.limit_s += attempt.size / READ_BYTES_PER_S
        elif kind == "plan":
            attempt.limit_s += 2 * content[1]
            attempt.pictures.clear()  # a new plan voids what another route gave
        elif kind == "done":
            attempt.outcome = content[0]


def _result(video: Video, attempt: _Attempt, seconds: float) -> Decoded[T_]:
    assert attempt.outcome is not None
    fields = asdict(attempt.outcome)
    usable = Receipt(video.id, attempt.outcome.status).usable and not attempt.known
    pictures = sorted(attempt.pictures, key=lambda entry: entry[0]) if usable else []
    fields["message"] = one_line(attempt.outcome.message)
    receipt = Receipt(video.id, **fields, frames_distinct=len({index for index, _, _ in pictures}), seconds=seconds)
    return Decoded(
        video=video,
        receipt=receipt,
        sha256=attempt.sha256,
        size=attempt.size,
        mtime_ns=attempt.mtime_ns,
        time_s=np.array([time_s for _, time_s, _ in pictures], np.float64),
        frame_index=np.array([index for index, _, _ in pictures], np.int64),
        frames=[picture for _, _, picture in pictures],
        known=attempt.known,
    )


def one_line(text: str) -> str:
    """`text` without control characters or line breaks."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _ring_descriptor(size: int) -> int:
    """Descriptor of anonymous shared memory; pages are only taken when written to."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("rratag-ring", os.MFD_CLOEXEC)
    else:
        descriptor, name = tempfile.mkstemp(prefix="rratag-ring-")
        os.unlink(name)
    os.ftruncate(descriptor, size)
    return descriptor


def _worker_environment() -> dict[str, str]:
    """Environment of a worker: this very package, one thread for each numeric library."""
    package_parent = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.pathsep.join(filter(None, [package_parent, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
