"""The process that decodes: it may crash, hang or be killed, and nothing of value is lost.

Reads jobs from its standard input, answers on its standard output, puts pictures into the memory shared with the pool.
Imports neither torch nor h5py. Started by `process.WorkerProcess`.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.logging
import numpy as np

from rratag import files
from rratag.video.complaints import forget_log_above
from rratag.video.decode import DistrustError, Frame, Notes, routes
from rratag.video.flow import Stacks
from rratag.video.gate import Fault, Refused, gate, open_without_waiting
from rratag.video.plan import wanted_indices
from rratag.video.probe import Probe, choose_stream, opened, probe
from rratag.video.wire import Inbox, Job, Outcome, send

HASH_CHUNK = 1 << 20
PEEK_BYTES = 1 << 30
"""A larger file must look like a video before it is read as a whole: a disk image or a hole may be a terabyte."""
BEAT_S = 0.5
"""How often a busy worker says that it is alive, in seconds."""
MAX_SLOTS = 8
MAX_LOG_BYTES = 16 << 20


class Worker:
    """Serves jobs one after another until the pool closes the pipe."""

    def __init__(self, source: int, sink: int, ring: mmap.mmap) -> None:
        self.sink, self.ring = sink, ring
        self.inbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self.last_beat = 0.0
        self.slots: list[int] = []
        self.slot_bytes = 0
        self.slots_in_use = 0
        threading.Thread(target=self._listen, args=(source,), daemon=True).start()

    def _listen(self, source: int) -> None:
        """Pass messages on; leave at once when the pool is gone, whatever the main thread is doing."""
        inbox = Inbox(source)
        while inbox.fill():
            while (message := inbox.next()) is not None:
                self.inbox.put(message)
        os._exit(0)

    def serve(self) -> None:
        """Do one job after another; whatever a file brings becomes an outcome."""
        send(self.sink, ("ready",))
        while True:
            message = self.inbox.get()
            if message[0] == "free":
                self._free(message[1])
                continue
            job: Job = message[1]
            try:
                outcome = self._run(job)
            except Refused as refusal:
                outcome = _failed(refusal.fault)
            except FileNotFoundError:
                outcome = Outcome("vanished", message="the file went away while it was read")
            except PermissionError as error:
                outcome = Outcome("permission_denied", message=str(error.strerror))
            except MemoryError:
                outcome = Outcome("out_of_memory", "limit", "a picture or the file's index did not fit into memory")
            except Exception as error:  # the decoders are native code: whatever they throw is about this file
                outcome = Outcome("unreadable", "corrupt", f"{type(error).__name__}: {error}")
            send(self.sink, ("done", outcome))

    def beat(self) -> None:
        """Say that work goes on, if that was not said just now; keep the log from filling the disk."""
        now = time.monotonic()
        if now - self.last_beat >= BEAT_S:
            self.last_beat = now
            send(self.sink, ("alive",))
            forget_log_above(MAX_LOG_BYTES)

    def _run(self, job: Job) -> Outcome:
        path = Path(job.path)
        fault = gate(path)
        if fault is not None:
            return _failed(fault)
        before = _stat(path)
        send(self.sink, ("size", *before))
        if before[0] > PEEK_BYTES:
            with opened(path, job.max_pixels) as container:
                choose_stream(container)
        digest = self._digest(path, before[0])
        if digest is None:
            return _changed("it grew while it was read")
        send(self.sink, ("digest", digest))
        answer = self.inbox.get()
        while answer[0] == "free":
            self._free(answer[1])
            answer = self.inbox.get()
        if answer[0] == "skip":
            return Outcome("ok")
        outcome = self._decode(path, job)
        if _stat(path) != before:
            return _changed("size or time of change differ before and after reading")
        return outcome

    def _digest(self, path: Path, size: int) -> str | None:
        """Hex sha256 of the file's bytes; None if there are more than `size`: it may grow faster than it is read."""
        digest = hashlib.sha256()
        left = size
        with open(path, "rb", buffering=0, opener=open_without_waiting) as file:
            while left >= 0 and (chunk := file.read(HASH_CHUNK)):
                digest.update(chunk)
                left -= len(chunk)
                self.beat()
        return digest.hexdigest() if left >= 0 else None

    def _decode(self, path: Path, job: Job) -> Outcome:
        """Take the routes one after another until one is trusted."""
        found = probe(path, job.max_pixels, self.beat)
        said = ""
        for name, route, view in routes(job.decoder, found):
            wanted = frames = wanted_indices(job.sampling, view.times_s, view.end_s)
            stacks = None
            if job.flow is not None:
                stacks = Stacks(wanted, len(view.times_s), job.flow.resized, self._computing)
                frames = stacks.frames
            send(self.sink, ("plan", view.end_s - float(view.times_s[0])))
            outcome, notes = Outcome("ok", frames_wanted=len(wanted)), Notes(decoder=name, message=said)
            if job.decoder == "decord" and name != "decord":
                notes.fallback_from = "decord"
            try:
                pictures = route(view, frames, notes, job.max_pixels, self.beat)
                delivered = self._deliver_all(pictures, outcome, stacks)
                damaged = notes.damaged if stacks is None else stacks.damaged(notes.damaged)
                return _judge(outcome, view, notes, delivered, damaged)
            except DistrustError as problem:
                said = str(problem)
        return Outcome("unreadable", "corrupt", said)

    def _deliver_all(self, frames: Iterator[Frame], outcome: Outcome, stacks: Stacks | None) -> set[int]:
        """Pass the frames on, or the stacks that they make; the indices of those that came."""
        delivered: set[int] = set()
        for frame in frames:
            if not outcome.height:
                outcome.height, outcome.width = frame.image.shape[:2]
                outcome.rotation = frame.rotation
            for one in [frame] if stacks is None else stacks.add(frame):
                self._deliver(one)
                delivered.add(one.index)
        return delivered

    def _computing(self, begins: bool) -> None:
        """Say that a field of optical flow is begun or done: that time is not the decoder's."""
        send(self.sink, ("flow", begins))

    def _deliver(self, frame: Frame) -> None:
        offset = self._take_slot(frame.image.nbytes)
        shape = frame.image.shape
        view = np.frombuffer(self.ring, np.uint8, frame.image.size, offset).reshape(shape)
        np.copyto(view, frame.image)
        send(self.sink, ("frame", offset, shape, frame.index, frame.time_s))

    def _take_slot(self, num_bytes: int) -> int:
        """Offset of a free slot, waiting for the pool to free one; slots grow when a larger picture comes."""
        while num_bytes > self.slot_bytes and self.slots_in_use:
            self._await_free()
        if num_bytes > self.slot_bytes:
            if num_bytes > len(self.ring):
                raise Refused(
                    "unreadable", "too_large", f"a picture of {num_bytes} bytes; the limit is {len(self.ring)}"
                )
            self.slot_bytes = num_bytes
            count = min(MAX_SLOTS, len(self.ring) // num_bytes)
            self.slots = [slot * num_bytes for slot in range(count)]
        while not self.slots:
            self._await_free()
        self.slots_in_use += 1
        return self.slots.pop()

    def _await_free(self) -> None:
        message = self.inbox.get()
        self._free(message[1])

    def _free(self, offset: int) -> None:
        self.slots_in_use -= 1
        self.slots.append(offset)


def _failed(fault: Fault) -> Outcome:
    return Outcome(fault.status, fault.reason, fault.message)


def _changed(message: str) -> Outcome:
    return Outcome("changed_while_read", message=message)


def _stat(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise Refused("vanished", message="the file went away while it was read") from error
    return files.stamp(status)[:2]


def _judge(outcome: Outcome, found: Probe, notes: Notes, delivered: set[int], damaged: set[int]) -> Outcome:
    """Set status and counts once everything that can be decoded has been."""
    outcome.decoder, outcome.fallback_from = notes.decoder, notes.fallback_from
    outcome.frames_decoded = len(delivered)
    outcome.frames_damaged = len(delivered & damaged)
    outcome.duration_s = found.end_s - float(found.times_s[0])
    said = [notes.message] if notes.message else []
    if not delivered:
        outcome.status, outcome.reason = "unreadable", "truncated" if found.cut_off else "corrupt"
        said.append(f"no frame could be decoded: {notes.last_error or 'the decoder gave no picture'}")
    elif len(delivered) < outcome.frames_wanted:
        outcome.status, outcome.reason = "partial", "frames"
        said.append(f"{len(delivered)} of {outcome.frames_wanted} frames")
    elif outcome.frames_damaged:
        outcome.status, outcome.reason = "partial", "damaged"
        said.append(f"damaged {outcome.frames_damaged} of {len(delivered)} frames")
    elif found.cut_off:
        outcome.status, outcome.reason = "partial", "cut_off"
    if delivered and found.cut_off:
        promised = "" if found.duration_s is None else f" of {found.duration_s:.1f} s"
        said.append(f"the file ends after {found.end_s:.1f} s{promised}")
    outcome.message = "; ".join(said)
    return outcome


def _die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when the pool dies; elsewhere the closed pipe does it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(0)


def main() -> None:
    """Serve the pool that started this process: arguments are the ring's descriptor, its size, and the pool's id."""
    ring_descriptor, ring_bytes, parent = (int(argument) for argument in sys.argv[1:4])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the pool, which ends its workers
    _die_with_parent(parent)
    source, sink = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)  # what native code prints must not reach the messages
    av.logging.restore_default_callback()  # errors to the log, whose end explains an unreadable file
    av.logging.set_libav_level(av.logging.ERROR)
    Worker(source, sink, mmap.mmap(ring_descriptor, ring_bytes)).serve()
