"""Whatever lies in a folder, the run ends, every file has one honest row, and no frame is a wrong one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rratag.records import STATUSES, Receipt
from rratag.video.discover import discover
from rratag.video.plan import Sampling
from rratag.video.pool import Decoded, DecodePool, PoolOptions
from rratag.video.process import WorkerProcess
from tests.clips import Clips
from tests.nasty.kitchen import Nasty
from tests.nasty.table import TABLE, make_all

FRAMES = 25
MOST_MEMORY = 1 << 30


class Night:
    """One run over the whole folder: results by name, refused ones too, and the workers' peak memory in bytes."""

    def __init__(self, folder: Path, workers: int, *, backwards: bool = False) -> None:
        found = discover([str(folder)])
        videos = found.videos[::-1] if backwards else found.videos
        with DecodePool(
            PoolOptions(workers=workers, no_progress_s=30.0), Sampling(frames=FRAMES), np.copy, lambda _: False
        ) as pool:
            self.results: list[Decoded[np.ndarray]] = list(pool.run(videos))
        self.by_name = {result.video.id: result for result in self.results}
        self.receipts = {receipt.video: receipt for receipt in found.failures}
        self.receipts.update({name: result.receipt for name, result in self.by_name.items()})
        self.num_rows = len(found.failures) + len(self.results)

    def untimed(self) -> dict[str, Receipt]:
        return {name: replace(receipt, seconds=0.0) for name, receipt in self.receipts.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nasty")
    make_all(folder, tmp_path_factory.mktemp("kitchen"))
    return folder


@pytest.fixture(scope="module")
def peaks() -> list[int]:
    return []


@pytest.fixture(scope="module")
def night(folder: Path, peaks: list[int]) -> Iterator[Night]:
    forget = WorkerProcess.forget_log

    def noting(process: WorkerProcess) -> None:
        peaks.append(peak_memory(process.popen.pid))
        forget(process)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WorkerProcess, "forget_log", noting)
        yield Night(folder, workers=2)


def peak_memory(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def test_every_file_has_exactly_one_row(night: Night) -> None:
    assert len({row.name for row in TABLE}) == len(TABLE) >= 90
    assert night.num_rows == len(night.receipts) == len(TABLE)
    assert set(night.receipts) == {row.name for row in TABLE}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: ascii(row.name)[1:-1])
def test_the_answer_is_the_right_one(night: Night, row: Nasty) -> None:
    receipt = night.receipts[row.name]
    assert (receipt.status, receipt.reason) in row.answers, receipt
    assert receipt.reason in STATUSES[receipt.status] or not STATUSES[receipt.status]
    assert receipt.message.isprintable()
    assert len(receipt.message) < 3000
    assert row.says in receipt.message
    if receipt.usable:
        check_frames(row, night.by_name[row.name])
    elif row.name in night.by_name:
        assert night.by_name[row.name].frames == []


def check_frames(row: Nasty, result: Decoded[np.ndarray]) -> None:
    """Counts, times and pictures of a usable video belong together, and every picture is the one it is said to be."""
    receipt, indices = result.receipt, result.frame_index.tolist()
    assert receipt.frames_decoded == receipt.frames_distinct == len(result.frames) == len(indices) >= max(1, row.least)
    assert receipt.frames_decoded <= receipt.frames_wanted <= FRAMES
    assert 0 <= receipt.frames_damaged <= receipt.frames_decoded
    assert (receipt.status == "ok") <= (receipt.frames_damaged == 0 and receipt.frames_decoded == receipt.frames_wanted)
    assert (np.diff(result.frame_index) > 0).all()
    assert (np.diff(result.time_s) > 0).all()
    assert receipt.rotation == row.rotation
    assert (receipt.width, receipt.height) == (row.size or result.frames[0].shape[1::-1])
    if row.shown is None:
        return
    times = np.array(row.times) if row.times is not None else np.arange(len(row.shown)) / row.rate
    if row.exact:
        assert indices == wanted(times, row)
        assert result.time_s == pytest.approx(times[indices], abs=1.1e-3)
    shown = [number(frame) for frame in result.frames]
    slips = [0] if row.exact else range(-20, 21)  # where a cut or spoilt file's clock begins is a matter of its parts
    wrong = min((misses(row, times, result.time_s + slip / row.rate, shown) for slip in slips), key=len)
    assert len(wrong) <= receipt.frames_damaged + row.unnoticed, f"wrong frames (shown, right): {wrong}"


def misses(
    row: Nasty, times: np.ndarray, moments: np.ndarray, shown: list[int | None]
) -> list[tuple[int | None, int | None]]:
    """Frames that are not those that a player shows at these moments."""
    assert row.shown is not None
    wrong = []
    for moment, got in zip(moments, shown, strict=True):
        nearest = int(np.abs(times - moment).argmin())
        right = row.shown[nearest] if abs(times[nearest] - moment) < 0.021 else None
        if got is None or got != right:
            wrong.append((got, right))
    return wrong


def number(frame: np.ndarray) -> int | None:
    try:
        return Clips.number(frame)
    except AssertionError:
        return None


def wanted(times: np.ndarray, row: Nasty) -> list[int]:
    """Slow definition: the frame shown in the middle of each of 25 equal slices; at a constant rate by integers."""
    if row.times is None:
        return sorted({(2 * i + 1) * len(times) // (2 * FRAMES) for i in range(FRAMES)})
    assert row.end is not None
    middles = [times[0] + (2 * i + 1) * (row.end - times[0]) / (2 * FRAMES) for i in range(FRAMES)]
    return sorted({max(k for k, time in enumerate(times) if time <= middle + 1e-6) for middle in middles})


def test_workers_stay_small(night: Night, peaks: list[int]) -> None:
    assert peaks
    assert max(peaks) < MOST_MEMORY, [f"{peak >> 20} MiB" for peak in peaks]


def test_another_run_says_the_same(folder: Path, night: Night) -> None:
    """One worker, the other way round: what went before in the same process changes nothing."""
    again = Night(folder, workers=1, backwards=True)
    first, second = night.untimed(), again.untimed()
    assert {name: (first[name], second[name]) for name in first if second[name] != first[name]} == {}
    spoilt = {row.name for row in TABLE if row.shown is None or row.unnoticed}  # decoders fill up from old memory
    for name, result in night.by_name.items():
        for one, other in zip(result.frames, again.by_name[name].frames, strict=True):
            assert np.array_equal(one, other) or result.receipt.frames_damaged or name in spoilt, name
        assert np.array_equal(result.time_s, again.by_name[name].time_s)
        assert result.sha256 == again.by_name[name].sha256 or os.path.getsize(folder / name) > 1 << 30
