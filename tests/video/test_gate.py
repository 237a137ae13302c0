"""What stands before any decoder never waits, whatever a file has become since it was found."""

from __future__ import annotations

import os

import pytest

from rratag.video import worker as worker_module
from rratag.video.gate import Refused, gate, read_head
from rratag.video.worker import Worker


@pytest.fixture
def reader():
    """A worker without a pool, for what it does by itself."""
    worker = object.__new__(Worker)
    worker.sink, worker.last_beat = os.open(os.devnull, os.O_WRONLY), 0.0
    yield worker
    os.close(worker.sink)


def test_a_file_that_became_a_pipe_is_neither_waited_for_nor_read(tmp_path, reader):
    path = tmp_path / "a.mp4"
    os.mkfifo(path)
    assert gate(path).status == "skipped"
    for read in (lambda: read_head(path), lambda: reader._digest(path, 10)):
        with pytest.raises(Refused) as refusal:
            read()
        assert (refusal.value.fault.status, refusal.value.fault.reason) == ("skipped", "not_a_regular_file")


def test_a_file_that_grows_faster_than_it_is_read_has_an_end(tmp_path, reader, monkeypatch):
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(100))
    assert len(reader._digest(path, 100)) == 64
    monkeypatch.setattr(worker_module, "HASH_CHUNK", 10)
    chunks = []

    def growing() -> None:
        chunks.append(1)
        with open(path, "ab") as file:
            file.write(bytes(10))

    reader.beat = growing
    assert reader._digest(path, 100) is None
    assert len(chunks) == 11


@pytest.mark.parametrize(
    "head", [b"#EXTM3U\n", b"\xef\xbb\xbf#EXTM3U\n", b" \r\n\t#extm3u", b"RTSPtext\r\n", b"ffconcat version 1.0"]
)
def test_play_lists_are_known_whatever_stands_before(tmp_path, head):
    (tmp_path / "a.mp4").write_bytes(head)
    assert gate(tmp_path / "a.mp4").reason == "playlist"
