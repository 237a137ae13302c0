"""What damaged files once led to, each by the smallest file that shows it."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import av
import pytest
import torch

from rratag import sealed
from rratag.errors import ModelError
from rratag.train.checkpoint import read_checkpoint, write_checkpoint
from rratag.video.gate import Refused
from rratag.video.probe import probe
from tests.conftest import CommandLine, ToyCache, coloured

LONG = "x" * 100_000


def change(path: Path, **values: Any) -> None:
    """Set `values` in the JSON object at `path`, and its checksum."""
    path.write_bytes(sealed.to_bytes(json.loads(path.read_text()) | values))


def one_short_line(cli: CommandLine, code: int, *arguments: object) -> str:
    """What the tool says when it stops with `code`: one line that a screen can hold."""
    ran = cli(*arguments)
    ran.says_one_line(code)
    assert len(ran.err) < 2000
    return ran.err


@pytest.mark.parametrize(
    ("name", "value"), [("sha256", True), ("sha256", 5), ("id", ["a"]), ("size", "x"), ("mtime_ns", None)]
)
def test_a_listing_with_a_value_of_another_type_is_taken_for_none(
    name: str, value: object, cli: CommandLine, toy_cache: ToyCache
) -> None:
    toy_cache.fill(["red/0.mp4", "blue/0.mp4"])
    (listing,) = (toy_cache.cache / "roots").glob("*.json")
    content = json.loads(listing.read_text())
    content["videos"][0][name] = value
    listing.write_bytes(sealed.to_bytes(content))
    assert "no extracted videos" in one_short_line(cli, 1, "train", "--cache", toy_cache.cache)
    assert cli("cache", "ls", "--cache", toy_cache.cache, "--json").json["roots"] == []


@pytest.mark.parametrize("field", ["frames_wanted", "frames_decoded"])
def test_a_changed_count_in_a_listing_is_not_reported(field: str, cli: CommandLine, toy_cache: ToyCache) -> None:
    """Another digit is as good a number: only a checksum tells it from the one that was written."""
    toy_cache.fill(["red/0.mp4"])
    (listing,) = (toy_cache.cache / "roots").glob("*.json")
    text = listing.read_text()
    changed = re.sub(rf'("{field}": )(\d)', lambda found: f"{found[1]}{int(found[2]) + 1}", text)
    assert changed != text
    listing.write_text(changed)
    assert cli("cache", "ls", "--cache", toy_cache.cache, "--json").json["roots"] == []


@pytest.mark.parametrize("changed", [{"spec": 7}, {"spec": ["a"]}, {"when": 1}])
def test_a_listing_of_another_kind_is_taken_for_none(
    changed: dict[str, object], cli: CommandLine, toy_cache: ToyCache
) -> None:
    toy_cache.fill(["red/0.mp4"])
    (listing,) = (toy_cache.cache / "roots").glob("*.json")
    change(listing, **changed)
    assert "no extracted videos" in one_short_line(cli, 1, "train", "--cache", toy_cache.cache)


def test_a_listing_of_brackets_is_taken_for_none(cli: CommandLine, toy_cache: ToyCache) -> None:
    toy_cache.fill(["red/0.mp4"])
    (listing,) = (toy_cache.cache / "roots").glob("*.json")
    listing.write_text("[" * 100_000)
    assert "no extracted videos" in one_short_line(cli, 1, "train", "--cache", toy_cache.cache)


def test_what_is_wrong_with_labels_is_said_in_a_short_line(cli: CommandLine, toy_cache: ToyCache) -> None:
    toy_cache.fill_classes(2)
    for content in (
        f"video,{LONG}\n",
        f"video,label,split\nred/0.mp4,red,{LONG}\n",
        f"video,label,start_s\nred/0.mp4,a,{LONG}\n",
    ):
        Path("labels.csv").write_text(content)
        one_short_line(cli, 1, "train", "--cache", toy_cache.cache, "--labels", "labels.csv")


def test_what_is_wrong_with_tags_is_said_in_a_short_line(cli: CommandLine) -> None:
    Path("tags.csv").write_text(f"video,{LONG}\n")
    one_short_line(cli, 2, "evaluate", "tags.csv")
    Path("tags.json").write_text(json.dumps({"format": "rratag-tags", "version": LONG}))
    one_short_line(cli, 2, "evaluate", "tags.json")


def test_a_model_whose_numbers_are_none_of_json_is_refused(cli: CommandLine, toy_cache: ToyCache) -> None:
    toy_cache.fill_classes(3)
    assert cli("train", "--cache", toy_cache.cache, "--epochs", 1, "--out", "model").code == 0
    config = Path("model/config.json")
    content = json.loads(config.read_text())
    meaning = content["meaning"]
    config.write_text(json.dumps({**content, "meaning": {**meaning, "channels": float("nan")}}))
    Path("a.mp4").write_bytes(b"x")
    assert "config.json" in one_short_line(cli, 1, "predict", "a.mp4", "--model", "model")
    config.write_text(json.dumps({**content, "meaning": {**meaning, "input_size": float("inf")}}))
    assert "config.json" in one_short_line(cli, 1, "predict", "a.mp4", "--model", "model")


@pytest.mark.parametrize("name", ["rratag-cache.json", "*/spec.json"])
def test_a_cache_of_brackets_is_no_crash(name: str, cli: CommandLine, toy_cache: ToyCache) -> None:
    toy_cache.fill(["red/0.mp4"])
    (path,) = toy_cache.cache.glob(name)
    path.write_text("[" * 100_000)
    ran = cli("cache", "ls", "--cache", toy_cache.cache)
    assert ran.code in (0, 1)
    assert path.name in ran.err


def test_settings_of_brackets_are_refused(cli: CommandLine) -> None:
    Path("rratag.toml").write_text("cache = " + "[" * 100_000 + "]" * 100_000)
    assert "rratag.toml" in one_short_line(cli, 2, "cache", "ls")


def test_a_marker_of_another_version_is_refused_in_a_short_line(cli: CommandLine, toy_cache: ToyCache) -> None:
    toy_cache.fill(["red/0.mp4"])
    change(toy_cache.cache / "rratag-cache.json", version=LONG)
    assert "upgrade" in one_short_line(cli, 1, "cache", "ls", "--cache", toy_cache.cache)


def test_a_checkpoint_with_a_wrong_bit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    write_checkpoint(path, {"seed": 1}, {"weights": torch.ones(1000)})
    content = bytearray(path.read_bytes())
    content[content.index(struct.pack("<8f", *[1.0] * 8)) + 400] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        read_checkpoint(path, {"seed": 1})


def test_what_a_demuxer_calls_not_permitted_is_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wmv"
    with av.open(str(path), "w", container_options={"fflags": "+bitexact"}) as file:
        stream = file.add_stream("wmv2", rate=25)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        for picture in coloured("red", 1):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode(None))
    content = bytearray(path.read_bytes())
    # the first bytes of the kind of stream in the stream properties: FFmpeg answers EPERM to a kind it does not know
    content[content.index(bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b"))] ^= 1
    path.write_bytes(content)
    with pytest.raises(Refused) as caught:
        probe(path, 8192 * 8192)
    assert caught.value.fault.status == "unreadable"


def test_a_checkpoint_without_checksums_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    content = {"format": "rratag-checkpoint", "version": 1, "run": {}, "state": {}}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ModelError, match="no archive with checksums"):
        read_checkpoint(path, {})
