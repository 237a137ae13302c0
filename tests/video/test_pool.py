"""Exactly one result per video, in order, whatever a file or a worker does; and nothing left behind."""

from __future__ import annotations

import gc
import hashlib
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from rratag.errors import StoppedError, UsageError
from rratag.records import Video
from rratag.video import pool as pool_module
from rratag.video.plan import Sampling
from rratag.video.pool import Decoded, DecodePool, PoolOptions

HOOK = """
import os, signal, time
import rratag.video.probe as module
real = module.probe
def probe(path, max_pixels, beat=lambda: None):
    name = path.name
    if name.startswith("segv"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("once") and not os.path.exists(str(path) + ".seen"):
        open(str(path) + ".seen", "w").close()
        os.kill(os.getpid(), signal.SIGABRT)
    if name.startswith("hang"):
        time.sleep(600)
    if name.startswith("loop"):
        while True:
            beat()
            time.sleep(0.01)
    if name.startswith("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("starved"):
        ballast = b"x" * (400 << 20)
        for _ in range(10):
            beat()
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("swapped"):
        os.unlink(path)
        os.mkfifo(path)
    if name.startswith("fat"):
        ballast = bytearray(b"x" * (400 << 20))
        time.sleep(600)
    if name.startswith("edited"):
        os.utime(path, ns=(time.time_ns(), time.time_ns()))
    if name.startswith("fleeting"):
        raise FileNotFoundError(2, "No such file or directory")
    if name.startswith("bug"):
        raise ValueError("line one\\nline two \\x1b[31m")
    return real(path, max_pixels, beat)
module.probe = probe
"""


def options(**changes: object) -> PoolOptions:
    return PoolOptions(**{"workers": 1, "ring_bytes": 1 << 20, "max_pixels": 1 << 18, **changes})  # type: ignore[arg-type]


def never(_: str) -> bool:
    return False


def as_videos(folder: Path, names: list[str]) -> list[Video]:
    return [Video(folder, name, folder / name) for name in names]


def run(folder: Path, names: list[str], convert: Callable = np.copy, **changes: object) -> list[Decoded]:
    sampling = Sampling(frames=5)
    with DecodePool(options(**changes), sampling, convert, never) as pool:
        return list(pool.run(as_videos(folder, names)))


@pytest.fixture
def hooked(tmp_path_factory, monkeypatch):
    """Workers in which files with certain names crash, hang or eat memory."""
    folder = tmp_path_factory.mktemp("hook")
    (folder / "sitecustomize.py").write_text(HOOK)
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), root]))


def children() -> set[int]:
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def open_files() -> int:
    gc.collect()  # tracebacks of earlier tests hold views of their rings
    return len(os.listdir("/proc/self/fd"))


def test_pictures_times_and_facts(clips):
    path = clips.make("a.mp4", "h264_open", num_frames=50, rotation=90)
    (result,) = run(clips.folder, ["a.mp4"])
    assert result.receipt.status == "ok"
    assert result.frame_index.tolist() == [5, 15, 25, 35, 45]
    assert [clips.number(frame) for frame in result.frames] == [5, 15, 25, 35, 45]
    assert result.time_s == pytest.approx([0.2, 0.6, 1.0, 1.4, 1.8])
    assert result.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (result.size, result.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)
    assert not result.known
    receipt = result.receipt
    assert (receipt.width, receipt.height, receipt.rotation) == (160, 96, 90)
    assert (receipt.frames_wanted, receipt.frames_decoded, receipt.frames_distinct) == (5, 5, 5)
    assert (receipt.frames_damaged, receipt.decoder, receipt.message) == (0, "pyav", "")
    assert receipt.duration_s == pytest.approx(2.0)


def test_results_keep_their_order_with_several_workers(clips):
    names = []
    for number, length in enumerate([80, 3, 40, 1, 9, 60, 2]):
        names.append(f"{number}.mp4")
        clips.make(names[-1], "h264", num_frames=length)
    results = run(clips.folder, names, workers=3)
    assert [result.video.id for result in results] == names
    assert [result.receipt.frames_distinct for result in results] == [5, 3, 5, 1, 5, 5, 2]


def test_known_content_is_not_decoded(clips):
    path = clips.make("a.mp4", num_frames=9)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with DecodePool(options(), Sampling(), np.copy, lambda key: key == digest) as pool:
        (result,) = pool.run(as_videos(clips.folder, ["a.mp4"]))
    assert result.known
    assert result.sha256 == digest
    assert result.frames == []
    assert result.receipt.status == "ok"


def test_a_pool_runs_again(clips):
    clips.make("a.mp4", num_frames=5)
    with DecodePool(options(), Sampling(frames=5), np.copy, never) as pool:
        for _ in range(2):
            (result,) = pool.run(as_videos(clips.folder, ["a.mp4"]))
            assert [clips.number(frame) for frame in result.frames] == [0, 1, 2, 3, 4]


def bad_files(clips) -> dict[str, tuple[str, str]]:
    """Write files that are no good videos, and what each must be called."""
    folder = clips.folder
    good = clips.make("good.mp4", num_frames=40, muxer={"movflags": "faststart"}).read_bytes()
    late = clips.make("late.mp4", num_frames=40).read_bytes()
    contents = {
        "empty.mp4": b"",
        "byte.mp4": b"x",
        "text.mp4": b"not a video at all\n" * 40,
        "page.mp4": b"<!DOCTYPE html><html><body>404</body></html>",
        "zeros.mp4": bytes(5000),
        "noise.mp4": np.random.default_rng(0).integers(0, 256, 5000, np.uint8).tobytes(),
        "index_missing.mp4": late[: late.index(b"moov") - 4],
        "hls.mp4": b"#EXTM3U\n#EXTINF:1,\ngood.mp4\n",
        "concat.mp4": b"ffconcat version 1.0\nfile good.mp4\n",
        "sdp.mp4": b"v=0\no=- 0 0 IN IP4 127.0.0.1\n",
        "photo.mp4": b"\xff\xd8\xff\xe0" + bytes(range(256)) * 4,
        "cut.mp4": good[: int(len(good) * 0.6)],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "pipe.mp4")
    (folder / "gone_link.mp4").symlink_to(folder / "nowhere.mp4")
    return {
        "empty.mp4": ("unreadable", "empty"),
        "byte.mp4": ("unreadable", "not_media"),
        "text.mp4": ("unreadable", "not_media"),
        "page.mp4": ("unreadable", "not_media"),
        "zeros.mp4": ("unreadable", "not_media"),
        "noise.mp4": ("unreadable", "not_media"),
        "index_missing.mp4": ("unreadable", "truncated"),
        "hls.mp4": ("unreadable", "playlist"),
        "concat.mp4": ("unreadable", "playlist"),
        "sdp.mp4": ("unreadable", "playlist"),
        "photo.mp4": ("no_video_stream", "cover_art_only"),
        "pipe.mp4": ("skipped", "not_a_regular_file"),
        "gone_link.mp4": ("unreadable", "broken_link"),
        "never_there.mp4": ("vanished", ""),
        "cut.mp4": ("partial", "cut_off"),
        "good.mp4": ("ok", ""),
    }


def test_every_bad_file_gets_its_status(clips):
    expected = bad_files(clips)
    results = run(clips.folder, list(expected))
    assert {result.video.id: (result.receipt.status, result.receipt.reason) for result in results} == expected
    for result in results:
        assert result.receipt.message.isprintable()
        assert len(result.frames) == len(result.time_s) == len(result.frame_index)
        assert bool(result.frames) == result.receipt.usable
        for frame, index in zip(result.frames, result.frame_index, strict=True):
            assert clips.number(frame) == index


def test_sound_is_no_video(clips):
    with av.open(str(clips.folder / "sound.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    (result,) = run(clips.folder, ["sound.mp4"])
    assert (result.receipt.status, result.receipt.reason) == ("no_video_stream", "audio_only")


def test_a_cover_picture_is_no_video(clips):
    with av.open(str(clips.folder / "cover.mp4"), "w") as file:
        stream = file.add_stream("mjpeg", rate=1, options={"qmin": "2"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuvj420p"
        stream.disposition = av.stream.Disposition.attached_pic
        file.mux(stream.encode(av.VideoFrame.from_ndarray(clips.draw(1), format="rgb24")))
        file.mux(stream.encode(None))
    (result,) = run(clips.folder, ["cover.mp4"])
    assert (result.receipt.status, result.receipt.reason) == ("no_video_stream", "cover_art_only")


@pytest.mark.parametrize("name", ["new\nline.mp4", "-dash.mp4", "%03d.mp4", "a:b.mp4", "quo\"te's.mp4", "häß🎈.mp4"])
def test_odd_names(clips, name):
    clips.make("a.mp4", num_frames=5).rename(clips.folder / name)
    (result,) = run(clips.folder, [name])
    assert result.receipt.status == "ok"


def test_name_that_is_not_utf8(clips):
    name = os.fsdecode(b"caf\xe9.mp4")
    clips.make("a.mp4", num_frames=5).rename(clips.folder / name)
    (result,) = run(clips.folder, [name])
    assert result.video.id == name
    assert [clips.number(frame) for frame in result.frames] == [0, 1, 2, 3, 4]


def test_larger_pictures_than_allowed_are_refused_from_the_header(clips):
    clips.make("a.mp4", num_frames=2)
    (result,) = run(clips.folder, ["a.mp4"], max_pixels=160 * 96 - 1)
    assert (result.receipt.status, result.receipt.reason) == ("unreadable", "too_large")
    (result,) = run(clips.folder, ["a.mp4"], max_pixels=160 * 96, ring_bytes=1)
    assert result.receipt.status == "ok"


def test_more_pictures_than_the_ring_holds(clips):
    clips.make("a.mp4", num_frames=40)
    seen = []
    pool = DecodePool(options(), Sampling(frames=40), lambda image: seen.append(clips.number(image)), never)
    with pool:
        (result,) = pool.run(as_videos(clips.folder, ["a.mp4"]))
    assert sorted(seen) == list(range(40))
    assert result.receipt.frames_decoded == 40


def test_a_worker_that_crashes_is_replaced_and_the_file_named(clips, hooked):
    for name in ["a.mp4", "segv.mp4", "once.mp4", "b.mp4"]:
        clips.make(name, num_frames=5)
    results = run(clips.folder, ["a.mp4", "segv.mp4", "once.mp4", "b.mp4"])
    assert [result.receipt.status for result in results] == ["ok", "decoder_crashed", "ok", "ok"]
    assert results[1].receipt.reason == "signal"
    assert "SIGSEGV" in results[1].receipt.message
    assert results[1].frames == []


def test_a_killed_worker_is_named_honestly(clips, hooked):
    for name in ["killed.mp4", "starved.mp4", "after.mp4"]:
        clips.make(name, num_frames=5)
    killed, starved, after = run(clips.folder, ["killed.mp4", "starved.mp4", "after.mp4"], max_memory_bytes=700 << 20)
    assert (killed.receipt.status, killed.receipt.reason) == ("decoder_crashed", "signal")
    assert "SIGKILL" in killed.receipt.message
    assert (starved.receipt.status, starved.receipt.reason) == ("out_of_memory", "limit")
    assert "SIGKILL" in starved.receipt.message
    assert after.receipt.status == "ok"


def test_a_worker_that_dies_between_videos_costs_no_video(clips):
    """Killed from outside after each result: the next video finds another worker."""
    names = [f"{number}.mp4" for number in range(5)]
    for name in names:
        clips.make(name, num_frames=5)
    before = children()
    with DecodePool(options(), Sampling(frames=5), np.copy, never) as pool:
        statuses = []
        for result in pool.run(as_videos(clips.folder, names)):
            statuses.append(result.receipt.status)
            for pid in children() - before:
                os.kill(pid, signal.SIGKILL)
    assert statuses == ["ok"] * 5


def test_workers_are_replaced_after_some_videos(clips):
    names = [f"{number}.mp4" for number in range(7)]
    for name in names:
        clips.make(name, num_frames=5)
    before, seen = children(), set()

    def convert(image: np.ndarray) -> np.ndarray:
        seen.update(children() - before)
        return image.copy()

    results = run(clips.folder, names, convert, videos_per_worker=3)
    assert len(seen) == 3
    assert [[clips.number(frame) for frame in result.frames] for result in results] == [[0, 1, 2, 3, 4]] * 7


@pytest.mark.parametrize(("num_failures", "starts"), [(2, True), (3, False)])
def test_a_worker_that_does_not_start_is_tried_again(clips, tmp_path, monkeypatch, num_failures, starts):
    folder = tmp_path / "hook"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(f"""
import os, sys
if sys.argv[:1] == ["-c"] and len(os.listdir({str(folder)!r})) < 1 + {num_failures}:
    open(os.path.join({str(folder)!r}, f"{{os.getpid()}}.failed"), "w").close()
    sys.stderr.write("no room")
    os._exit(1)
""")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(Path(__file__).parents[2])]))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(pool_module, "START_PAUSE_S", 0.01)
    clips.make("a.mp4", num_frames=5)
    if starts:
        assert run(clips.folder, ["a.mp4"])[0].receipt.status == "ok"
    else:
        with pytest.raises(StoppedError, match="did not start, 3 times: no room"):
            run(clips.folder, ["a.mp4"])


def test_no_file_may_take_hours(clips):
    """A terabyte is allowed a day by its size alone; the limit of all limits stands."""
    pool = DecodePool(options(), Sampling(), np.copy, never)
    driver = pool_module._Driver(pool_module._Run(pool), pool)
    assert driver._time_exceeded(spent=7100, silent=0, allowed=1e6) is None
    outcome = driver._time_exceeded(spent=7300, silent=0, allowed=1e6)
    assert (outcome.status, outcome.reason) == ("timed_out", "limit")
    assert driver._time_exceeded(spent=70, silent=0, allowed=60).status == "timed_out"


@pytest.mark.parametrize(
    ("name", "limits", "expected"),
    [
        ("swapped.mp4", {"no_progress_s": 0.4}, ("timed_out", "no_progress")),
        ("loop.mp4", {"deadline_s": 0.4}, ("timed_out", "limit")),
        ("hang.mp4", {"no_progress_s": 0.4}, ("timed_out", "no_progress")),
        ("fat.mp4", {"max_memory_bytes": 300 << 20}, ("out_of_memory", "limit")),
    ],
)
def test_limits_hold(clips, hooked, name, limits, expected):
    for file in [name, "after.mp4"]:
        clips.make(file, num_frames=5)
    started = time.monotonic()
    bad, good = run(clips.folder, [name, "after.mp4"], **limits)
    assert time.monotonic() - started < 10
    assert (bad.receipt.status, bad.receipt.reason) == expected
    assert good.receipt.status == "ok"


@pytest.mark.parametrize(
    ("name", "limits"), [("loop.mp4", {"deadline_s": math.inf}), ("hang.mp4", {"no_progress_s": math.inf})]
)
def test_without_the_watchdog_a_hang_would_last(clips, hooked, name, limits):
    """The very files of `test_limits_hold`: with that limit alone switched off, nothing ends them."""
    clips.make(name, num_frames=5)
    reached, results = threading.Event(), []

    def is_known(_: str) -> bool:
        reached.set()  # read, and about to be decoded
        return False

    pool = DecodePool(options(**limits), Sampling(), np.copy, is_known)
    running = threading.Thread(target=lambda: results.append(_one_or_none(pool, as_videos(clips.folder, [name]))))
    running.start()
    assert reached.wait(30)
    running.join(2.0)  # five times the limit under which `test_limits_hold` sees it end
    assert running.is_alive()
    pool.close()
    running.join(30)
    assert not running.is_alive()
    assert results == [None]


def _one_or_none(pool: DecodePool, videos: list[Video]) -> Decoded | None:
    try:
        return next(pool.run(videos))
    except ValueError:  # the pool was closed
        return None


def test_a_file_that_changes_while_it_is_read(clips, hooked):
    clips.make("edited.mp4", num_frames=5)
    (result,) = run(clips.folder, ["edited.mp4"])
    assert result.receipt.status == "changed_while_read"
    assert result.frames == []


def test_a_file_that_goes_away_while_it_is_read(clips, hooked):
    clips.make("fleeting.mp4", num_frames=5)
    (result,) = run(clips.folder, ["fleeting.mp4"])
    assert (result.receipt.status, result.receipt.reason) == ("vanished", "")


def test_what_a_decoder_throws_is_one_printable_line(clips, hooked):
    clips.make("bug.mp4", num_frames=5)
    (result,) = run(clips.folder, ["bug.mp4"])
    assert (result.receipt.status, result.receipt.reason) == ("unreadable", "corrupt")
    assert "line one line two" in result.receipt.message
    assert result.receipt.message.isprintable()


def test_an_error_in_convert_reaches_the_caller_and_ends_the_workers(clips):
    for number in range(4):
        clips.make(f"{number}.mp4", num_frames=5)

    def convert(image: np.ndarray) -> int:
        raise ZeroDivisionError("mine")

    before = children()
    pool = DecodePool(options(workers=2), Sampling(), convert, never)
    with pytest.raises(ZeroDivisionError, match="mine"):
        list(pool.run(as_videos(clips.folder, [f"{number}.mp4" for number in range(4)])))
    assert children() == before


@pytest.mark.parametrize("how", ["generator", "context"])
def test_stopping_early_leaves_nothing_behind(clips, hooked, how):
    names = ["a.mp4", "hang.mp4", *[f"{number}.mp4" for number in range(8)]]
    for name in names:
        clips.make(name, num_frames=5)
    before, files = children(), open_files()
    pool = DecodePool(options(workers=2), Sampling(), np.copy, never)
    results = pool.run(as_videos(clips.folder, names))
    started = time.monotonic()
    if how == "generator":
        assert next(results).video.id == "a.mp4"
        results.close()
    else:
        with pool:
            next(results)
        with pytest.raises(ValueError, match="closed"):
            next(results)
    assert time.monotonic() - started < 5
    assert children() == before
    assert open_files() == files


def test_an_interrupt_leaves_nothing_behind(clips, hooked):
    for name in ("a.mp4", "hang.mp4"):
        clips.make(name, num_frames=5)
    # in a process of its own: an interrupt that goes astray in here would end the whole test run
    program = textwrap.dedent(f"""
        import gc, os, signal
        from pathlib import Path
        from rratag.records import Video
        from rratag.video.plan import Sampling
        from rratag.video.pool import DecodePool, PoolOptions

        folder = Path({str(clips.folder)!r})
        # a shell starts background jobs, such as a whole test run, with SIGINT ignored
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def state():
            gc.collect()
            tasks = Path("/proc/self/task").iterdir()
            return [(task / "children").read_text() for task in tasks], len(os.listdir("/proc/self/fd"))

        def decode():
            pool = DecodePool(PoolOptions(workers=2), Sampling(), len, lambda key: False)
            videos = [Video(folder, name, folder / name) for name in ("a.mp4", "hang.mp4")]
            for result in pool.run(videos):
                print(result.video.id, flush=True)

        before = state()
        try:
            decode()
        except KeyboardInterrupt:
            pass
        assert state() == before, (before, state())
        print("nothing left", flush=True)
    """)
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "a.mp4\n"
    time.sleep(0.2)  # now it waits for the video that hangs
    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=60)
    assert (said, child.returncode) == ("nothing left\n", 0)


def test_nothing_leaks_over_many_files(clips):
    names = list(bad_files(clips))
    before = children()
    with DecodePool(options(workers=2), Sampling(frames=3), np.copy, never) as pool:
        list(pool.run(as_videos(clips.folder, names)))
        files = open_files()
        assert len(list(pool.run(as_videos(clips.folder, names * 4)))) == 4 * len(names)
        assert open_files() == files
    assert children() == before


def test_workers_die_with_their_pool(clips, hooked):
    clips.make("hang.mp4", num_frames=5)
    program = textwrap.dedent(f"""
        from pathlib import Path
        from rratag.records import Video
        from rratag.video.plan import Sampling
        from rratag.video.pool import DecodePool, PoolOptions
        folder = Path({str(clips.folder)!r})
        pool = DecodePool(PoolOptions(workers=1), Sampling(), len, lambda key: print(key, flush=True))
        next(pool.run([Video(folder, "hang.mp4", folder / "hang.mp4")]))
    """)
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    parent.stdout.readline()  # the worker has read the file and hangs from here on
    worker = _only_child(parent.pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(100):
        if not Path(f"/proc/{worker}").exists() or _is_zombie(worker):
            return
        time.sleep(0.02)
    os.kill(worker, signal.SIGKILL)
    raise AssertionError("the worker outlived its pool")


def _only_child(pid: int) -> int:
    found = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    assert len(found) == 1
    return found[0]


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_the_worker_imports_neither_torch_nor_h5py():
    code = """
import sys, rratag.video.worker, rratag.video.pool
print([name for name in ("torch", "h5py", "timm") if name in sys.modules])
"""
    root = Path(__file__).parents[2]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


def test_options_are_checked():
    with pytest.raises(UsageError, match="workers is 0"):
        PoolOptions(workers=0)
    with pytest.raises(UsageError, match=r"unknown decoder 'opencv'; choose from auto, pyav, decord"):
        PoolOptions(workers=1, decoder="opencv")
