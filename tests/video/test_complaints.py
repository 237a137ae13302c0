"""The log that a worker's error stream is: what was said since, what of it matters."""

from __future__ import annotations

import os

import pytest

from rratag.video.complaints import complained, forget_log_above, log_bytes, refused_size


@pytest.fixture
def say(tmp_path):
    """Make the error stream a file, as in a worker; what native code would write to it."""
    kept = os.dup(2)
    with open(tmp_path / "log", "w+b") as file:
        os.dup2(file.fileno(), 2)
        yield lambda text: os.write(2, text)
        os.dup2(kept, 2)
    os.close(kept)


def test_only_new_lines_count(say):
    assert log_bytes() == 0
    assert not complained(0)
    say(b"[h264 @ 0x1] error while decoding MB 3 4\n")
    assert complained(0)
    assert not complained(log_bytes())


@pytest.mark.parametrize(
    "line", [b"[h264 @ 0x1] mmco: unref short failure\n", b"[mjpeg @ 0x1] unable to decode APP fields: Invalid data\n"]
)
def test_what_is_said_of_good_pictures_is_no_complaint(say, line):
    say(line)
    assert not complained(0)
    say(b"[h264 @ 0x1] no frame!\n" + line)
    assert complained(0)


def test_the_size_that_a_decoder_refused_is_read_from_its_words(say):
    assert refused_size() is None
    say(b"[png @ 0x1] [IMGUTILS @ 0x2] Picture size 16000x9000 exceeds specified max pixel count 67108864, see\n")
    assert refused_size() == (16000, 9000)


def test_a_long_log_is_emptied_and_written_from_the_start_again(say):
    say(b"x" * 100)
    forget_log_above(100)
    assert log_bytes() == 100
    forget_log_above(99)
    assert log_bytes() == 0
    say(b"new")
    assert log_bytes() == 3
