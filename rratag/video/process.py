"""A worker process as the pool sees it: pipes, shared memory, log, and a certain end."""

from __future__ import annotations

import logging
import mmap
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from rratag.video.wire import Inbox

logger = logging.getLogger(__name__)

LOG_BYTES = 2048
"""How much of the worker's last words is read."""
SAID_CHARACTERS = 500
"""How much of them goes into a message."""

_BOOTSTRAP = """
import os, sys
sys.path[:] = sys.argv.pop().split(os.pathsep)
from rratag.video.worker import main
main()
"""
"""Imports the very package that runs here, and nothing of the user's program."""

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class WorkerProcess:
    """A worker process with its pipes, ring and log."""

    def __init__(self, ring_bytes: int) -> None:
        self.most_bytes = 0
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        ring = _ring_descriptor(ring_bytes)
        try:
            self.ring = mmap.mmap(ring, ring_bytes)
            search_path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
            arguments = [str(ring), str(ring_bytes), str(os.getpid()), search_path]
            self.popen = subprocess.Popen(
                [sys.executable, "-c", _BOOTSTRAP, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                pass_fds=(ring,),
                env={**os.environ, **_ONE_THREAD},
                bufsize=0,
            )
        except OSError:
            self.log.close()
            raise
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

    def forget_log(self) -> None:
        """Empty the log; the worker shares the place in the file, so it writes from the start again."""
        os.lseek(self.log.fileno(), 0, os.SEEK_SET)
        os.ftruncate(self.log.fileno(), 0)

    def said(self) -> str:
        """Last words on the log, on one line; what was said several times stands once."""
        size = os.fstat(self.log.fileno()).st_size
        tail = os.pread(self.log.fileno(), LOG_BYTES, max(0, size - LOG_BYTES)).decode("utf-8", "replace")
        lines = _CHATTER.sub("", tail).splitlines()
        whole = lines if size <= LOG_BYTES else lines[1:]
        return one_line(" ".join(dict.fromkeys(whole)))[-SAID_CHARACTERS:]

    def resident_bytes(self) -> int:
        """Private memory of the process, noted in ``most_bytes``; 0 where the system does not say."""
        try:
            with open(f"/proc/{self.popen.pid}/status", "rb") as file:
                lines = file.read().splitlines()
        except OSError:
            return 0
        found = sum(int(line.split()[1]) << 10 for line in lines if line.startswith(b"RssAnon:"))
        self.most_bytes = max(self.most_bytes, found)
        return found

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


_CHATTER = re.compile(r" @ 0x[0-9a-fA-F]+| '[\w,]{100,}'")
"""Addresses of FFmpeg's contexts, which differ in every run, and the list of accepted formats."""


def one_line(text: str) -> str:
    """`text` without control characters or line breaks."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def signal_name(number: int) -> str:
    """Name of a signal, as in SIGSEGV."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _ring_descriptor(size: int) -> int:
    """Descriptor of anonymous shared memory; pages are only taken when written to."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("rratag-ring", os.MFD_CLOEXEC)
    else:
        descriptor, name = tempfile.mkstemp(prefix="rratag-ring-")
        os.unlink(name)
    os.ftruncate(descriptor, size)
    return descriptor
