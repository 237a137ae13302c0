"""Files of tensors from strangers: what torch.save writes comes back, everything else is refused before it costs."""

from __future__ import annotations

import collections
import io
import json
import struct
import subprocess
import sys
import textwrap
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rratag import tensorfile
from rratag.tensorfile import load_safetensors, load_torch

# --- what is read ---

PAIR = [1, "two"]
WHOLE = torch.arange(24, dtype=torch.float32).reshape(4, 6)


def tied() -> dict[str, Any]:
    layer = nn.Linear(2, 2)
    return {"a": layer.weight, "b": layer.weight}


def adam() -> dict[str, Any]:
    layer = nn.Linear(2, 3)
    optimiser = torch.optim.Adam(layer.parameters(), fused=True)
    layer(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    return optimiser.state_dict()


GOOD: dict[str, Callable[[], Any]] = {
    "a state dict with its metadata": lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).state_dict(),
    "parameters": lambda: dict(nn.Linear(2, 3).named_parameters()),
    "Adam": adam,
    "channels last": lambda: {"a": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)},
    "views of one storage": lambda: {"a": WHOLE[1:, ::2], "b": WHOLE[0], "t": WHOLE.T},
    "two names of one tensor": tied,
    "two names of one list": lambda: {"a": PAIR, "b": [PAIR, {"c": PAIR}]},
    "sides of 0 and 1": lambda: {
        "a": torch.tensor(3.5),
        "b": torch.zeros(0),
        "c": torch.zeros(2, 0, 3),
        "d": WHOLE[:1],
    },
    "kinds": lambda: {
        str(kind): torch.ones(3).to(kind)
        for kind in (
            *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool),
            *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
        )
    },
    "plain values": lambda: {
        "text": ["ä\udcff", ""],
        "numbers": (1, -2, 300, 70_000, 2**40, -(2**70), 0.5, True, None),
        3: {"deep": [[{"a": ()}]]},
        "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
        "long": list(range(2000)),
    },
}


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.stride() == other.stride() and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and all(map(equal, one, other))
    return bool(one == other)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", GOOD)
def test_what_torch_save_writes_comes_back(name: str, zipped: bool, tmp_path: Path) -> None:
    value = GOOD[name]()
    torch.save(value, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert equal(load_torch(tmp_path / "w.pth"), value)


def test_an_archive_without_checksums_comes_back(tmp_path: Path) -> None:
    """torch can write archives so (``set_crc32_options``), and reads them."""
    (tmp_path / "w.pth").write_bytes(saved({"a": WHOLE}).replace(b"cpu", b"xla"))
    assert torch.equal(load_torch(tmp_path / "w.pth")["a"], WHOLE)


# --- what is refused ---


def saved(value: Any, *, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def archive(pickled: bytes, *, compression: int = zipfile.ZIP_STORED, comment: bytes = b"", **records: bytes) -> bytes:
    """An archive as torch writes it, with any pickle and any records ``data/KEY``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        file.writestr("archive/data.pkl", pickled)
        for key, content in records.items():
            file.writestr(f"archive/data/{key.lstrip('_').removesuffix('_again')}", content)
        file.comment = comment
    return buffer.getvalue()


def overlapping() -> bytes:
    buffer = io.BytesIO(saved({"a": WHOLE}))
    with zipfile.ZipFile(buffer, "a") as file:
        for number in range(1000):
            twin = zipfile.ZipInfo(f"archive/data/{number + 1}")
            first = file.getinfo("archive/data/0")
            twin.header_offset, twin.CRC, twin.file_size, twin.compress_size = first.header_offset, 0, 96, 96
            file.filelist.append(twin)
        file.writestr("archive/last", b"")
    return buffer.getvalue()


def directory(length: int) -> bytes:
    """An archive that is nothing but a directory of so many bytes."""
    body = b"PK\3\4" + bytes(length - 4)
    return body + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, length, 0, 0)


def tensor_pickle(
    shape: tuple[int, ...] = (6,),
    strides: tuple[int, ...] = (1,),
    offset: int = 0,
    elements: int = 6,
    more: bytes = b"",
) -> bytes:
    """A pickle of one tensor in storage 0, by hand, so that it may claim anything."""

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    storage = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" + b"0X\3\0\0\0cpu" + number(elements) + b"tQ"
    hooks = more or b"ccollections\nOrderedDict\n)R"
    arguments = storage + number(offset) + numbers(shape) + numbers(strides) + b"\x89" + hooks
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def one_tensor(**claims: Any) -> bytes:
    return archive(b"\x80\2" + tensor_pickle(**claims) + b".", _0=bytes(24))


def many_tensors(count: int, elements: int) -> bytes:
    """The same tensor of `elements` again and again: three bytes each."""
    pickled = tensor_pickle((elements,), elements=elements)
    function, arguments = pickled[:33], pickled[33:-1]
    start = b"\x80\2" + b"]" + function + b"q\0" + arguments + b"q\1Ra"
    return archive(start + b"(" + b"h\0h\1R" * count + b"e.", _0=bytes(4 * elements))


def doubling(times: int) -> bytes:
    return b"\x80\2K\1" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(times)) + b"."


class Subclass(torch.Tensor):
    pass


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("unpickled",))


def hooked() -> bytes:
    return one_tensor(more=b"ccollections\nOrderedDict\n)RX\1\0\0\0aK\1s")


def legacy_claims(elements: int) -> bytes:
    content = saved({"a": WHOLE}, zipped=False)
    assert content.count(b"cpu") == 1
    return content.replace(b"K\x18", b"J" + struct.pack("<i", elements), 1)


DENSE = "whose elements share memory"
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "not a file of torch.save"),
    "text": (lambda: b"hello\n" * 9, "not a file of torch.save"),
    "a pickle": (lambda: b"\x80\2]q\0.", "not a file of torch.save"),
    "cut off": (lambda: saved({"a": WHOLE})[:-30], "damaged zip archive"),
    "another archive": (lambda: archive(b".").replace(b"data.pkl", b"text.txt"), "without data.pkl"),
    "with a comment": (lambda: archive(b"\x80\2N.", comment=b"PK\5\6"), "damaged zip archive, or one that"),
    "a comment that is not there": (lambda: archive(b"\x80\2N.")[:-2] + b"\1\0", "damaged zip archive, or one that"),
    "two directories": (lambda: saved(1) + saved(2)[-22:], "damaged zip archive"),
    "a huge directory": (lambda: directory(tensorfile.MAX_DIRECTORY + 1), "a zip directory of 8,388,609 bytes"),
    "a zip bomb": (
        lambda: archive(b"\x80\2N.", compression=zipfile.ZIP_DEFLATED, _0=bytes(2**28)),
        "is compressed, which torch.save never does",
    ),
    "records inside each other": (overlapping, "overlaps another"),
    "a name twice": (lambda: archive(b"\x80\2N.", _0=b"1", _0_again=b"2"), "two records .* have one name"),
    "a huge pickle": (
        lambda: archive(b"\x80\2" + bytes(tensorfile.MAX_PICKLE)),
        "a pickle of 33,554,434 bytes; at most 33,554,432",
    ),
    "bytes for the asking": (
        lambda: archive(b"\x80\2cbuiltins\nbytearray\nJ" + struct.pack("<i", 2**30) + b"\x85R."),
        "'builtins bytearray', which is neither a tensor nor a plain value",
    ),
    "a tensor for the asking": (
        lambda: archive(b"\x80\2ctorch\nTensor\nJ" + struct.pack("<i", 2**29) + b"\x85R."),
        "'torch Tensor', which is neither",
    ),
    "code": (lambda: saved(Evil()), "__builtin__ print', which is neither"),
    "a network": (lambda: saved(nn.Linear(1, 1)), "instruction NEWOBJ|which is neither"),
    "a subclass": (lambda: saved(torch.zeros(3).as_subclass(Subclass)), "'torch._tensor _rebuild_from_type_v2'"),
    "more than its record": (lambda: one_tensor(elements=2**30), "claims 4,294,967,296 bytes, its record has 24"),
    "a record that is not there": (
        lambda: archive(b"\x80\2" + tensor_pickle() + b"."),
        "claims 24 bytes, its record has 0",
    ),
    "stride 0": (lambda: saved({"a": torch.zeros(1).expand(10**9)}), rf"\(1000000000,\) {DENSE}"),
    "a stride of 0 inside": (lambda: one_tensor(shape=(3, 2, 10**6), strides=(2, 1, 0)), DENSE),
    "strides that overlap": (lambda: one_tensor(shape=(3, 4), strides=(1, 1)), DENSE),
    "negative strides": (lambda: one_tensor(shape=(6,), strides=(-1,)), "without a proper shape"),
    "a negative side": (lambda: one_tensor(shape=(-6,)), "without a proper shape"),
    "strides of another number": (lambda: one_tensor(shape=(6,), strides=(1, 1)), "without a proper shape"),
    "beyond the storage": (lambda: one_tensor(offset=1), r"of shape \(6,\) in a storage of 6 elements"),
    "too many dimensions": (lambda: one_tensor(shape=(1,) * 9, strides=(1,) * 9), "a tensor of 9 dimensions"),
    "many in the same memory": (lambda: many_tensors(1000, 10_000), "many tensors in the same memory"),
    "many empty ones": (lambda: many_tensors(tensorfile.MAX_TENSORS, 0), "more than 100,000 tensors"),
    "hooks": (hooked, "a tensor with hooks or metadata"),
    "attributes": (lambda: saved(attributed()), "_rebuild_parameter_with_state', which is neither"),
    "a dict with a method": (
        lambda: archive(b"\x80\2ccollections\nOrderedDict\n)R}X\5\0\0\0itemsK\1sb."),
        "a dict with attributes",
    ),
    "complex": (lambda: saved(torch.zeros(3, dtype=torch.complex64)), "a tensor of 'torch ComplexFloatStorage'"),
    "quantised": (lambda: saved(quantised()), "a tensor of 'torch QInt8Storage'"),
    "float8": (lambda: saved(torch.zeros(3).to(torch.float8_e5m2)), "'torch._utils _rebuild_tensor_v3'|UntypedStorage"),
    "sparse": (lambda: saved(torch.eye(3).to_sparse()), "_get_layout|_rebuild_sparse_tensor"),
    "meta": (lambda: saved(torch.zeros(10**6, 10**6, device="meta")), "_rebuild_meta_tensor_no_storage"),
    "deep": (lambda: archive(b"\x80\2" + b"]" * 9000 + b"a" * 8999 + b"."), "unfold without end"),
    "deep tuples": (lambda: archive(b"\x80\2N" + b"\x85" * 90_000 + b"."), "unfold without end"),
    "a billion laughs": (lambda: archive(doubling(30)), "unfold without end"),
    "a list in itself": (lambda: archive(b"\x80\2]q\0h\0a."), "a list or dict that grows after it was put in place"),
    "tuples as keys": (lambda: archive(b"\x80\2}N\x85K\1s."), "keys are neither strings nor whole numbers"),
    "many dicts": (lambda: archive(b"\x80\2(" + b"}" * 2_000_000 + b"t."), "more than 1,000,000 pickle instructions"),
    "a huge number": (lambda: archive(b"\x80\2\x8b" + struct.pack("<i", 10**6) + bytes(10**6) + b"."), "LONG4"),
    "a text that is not there": (lambda: archive(b"\x80\2X\xff\xff\xff\xff."), "expected 4294967295 bytes"),
    "an instruction without a value": (lambda: archive(b"\x80\2a."), "damaged pickle"),
    "setting what is no dict": (lambda: archive(b"\x80\2NK\1K\1s."), "damaged pickle"),
    "a kept value that is not there": (lambda: archive(b"\x80\2h\7."), "damaged pickle"),
    "legacy, more than there is": (lambda: legacy_claims(2**30), "claim 4,294,.* bytes, the file has"),
    "legacy, cut off": (lambda: saved({"a": WHOLE}, zipped=False)[:-1], "bytes, the file has"),
    "legacy, code": (lambda: saved(Evil(), zipped=False), "__builtin__ print', which is neither"),
}


def attributed() -> nn.Parameter:
    parameter = nn.Parameter(torch.zeros(3))
    parameter.note = [1]  # type: ignore[attr-defined]
    return parameter


def quantised() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)


@pytest.mark.parametrize("name", BAD)
def test_anything_else_is_refused_in_one_phrase(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make, words = BAD[name]
    (tmp_path / "w.pth").write_bytes(make())
    asked: list[Any] = []
    monkeypatch.setattr(tensorfile, "_torch_load", asked.append)
    with pytest.raises(ValueError, match=words) as caught:
        load_torch(tmp_path / "w.pth")
    assert "\n" not in str(caught.value)
    assert asked == []  # refused before torch allocates anything
    assert "unpickled" not in capsys.readouterr().out


MEASURE = """
    import sys, torch
    from pathlib import Path
    from rratag.tensorfile import load_safetensors, load_torch

    def peak():  # of this process image, unlike ru_maxrss, which a child inherits
        return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

    before = peak()
    for path in map(Path, sys.argv[1:]):
        try:
            load_safetensors(path) if path.suffix == ".safetensors" else load_torch(path)
            print(path.name, "was read")
        except ValueError:
            pass
    print((peak() - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_refusing_takes_little_memory(tmp_path: Path) -> None:
    """Each of these few bytes asks for 256 MB or more, or for millions of objects."""
    greedy = ("a zip bomb", "bytes for the asking", "a tensor for the asking", "more than its record", "stride 0")
    greedy += ("many dicts", "many empty ones", "a huge directory", "a huge pickle", "a billion laughs", "deep tuples")
    paths = [tmp_path / f"{number}.pth" for number in range(len(greedy))]
    for path, name in zip(paths, greedy, strict=True):
        path.write_bytes(BAD[name][0]())
    paths.append(tmp_path / "w.safetensors")
    entries = {f"{n:x}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(300_000)}
    paths[-1].write_bytes(safe(json.dumps(entries).encode()))
    command = [sys.executable, "-c", textwrap.dedent(MEASURE), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300, done.stdout  # MB


# --- safetensors ---


def safe(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(shape: list[Any], *offsets: int, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


UNSAFE: dict[str, bytes] = {
    "nothing": b"",
    "short": b"1234567",
    "huge header": safe(b"{}", length=2**63),
    "header beyond the end": safe(b"{}", length=3),
    "header over the limit": safe(b"{" + b" " * tensorfile.MAX_HEADER + b"}"),
    "not JSON": safe(b"{'a'}"),
    "a list": safe(b"[]"),
    "deep": safe(b"[" * 100_000 + b"]" * 100_000),
    "no entry": safe(b'{"a": 3}'),
    "a name twice": safe(b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":3}'),
    "complex": safe(json.dumps({"a": entry([1], 0, 8, dtype="C64")}).encode(), bytes(8)),
    "type of a list": safe(json.dumps({"a": entry([1], 0, 4, dtype=[1])}).encode(), bytes(4)),
    "overlap": safe(json.dumps({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}).encode(), bytes(12)),
    "hole": safe(json.dumps({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}).encode(), bytes(12)),
    "rest": safe(json.dumps({"a": entry([1], 0, 4)}).encode(), bytes(8)),
    "beyond": safe(json.dumps({"a": entry([2**40], 0, 2**42)}).encode(), bytes(8)),
    "backwards": safe(json.dumps({"a": entry([1], 4, 0)}).encode(), bytes(4)),
    "shape of another size": safe(json.dumps({"a": entry([3], 0, 4)}).encode(), bytes(4)),
    "product over 64 bits": safe(json.dumps({"a": entry([2**32, 2**32], 0, 0)}).encode()),
    "negative": safe(json.dumps({"a": entry([-1], 0, 4)}).encode(), bytes(4)),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_damaged_safetensors_are_refused_in_one_phrase(name: str, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(UNSAFE[name])
    with pytest.raises(ValueError, match=r"damaged|is of type|deep|twice|Expecting") as caught:
        load_safetensors(tmp_path / "w.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [3, tensorfile.MAX_HEADER + 2, 2**63])
def test_a_header_is_refused_by_its_length(length: int, tmp_path: Path) -> None:
    header = b"{" + b" " * tensorfile.MAX_HEADER + b"}" if length > 3 else b"{}"
    (tmp_path / "w.safetensors").write_bytes(safe(header, length=length))
    with pytest.raises(ValueError, match=f"damaged, a header of {length:,} bytes"):
        load_safetensors(tmp_path / "w.safetensors")


def test_safetensors_come_back(tmp_path: Path) -> None:
    header = {"__metadata__": {"format": "pt"}, "a": entry([2, 0], 0, 0), "b": entry([], 0, 4)}
    (tmp_path / "w.safetensors").write_bytes(safe(json.dumps(header).encode(), struct.pack("<f", 1.5)))
    found = load_safetensors(tmp_path / "w.safetensors")
    assert found["a"].shape == (2, 0)
    assert found["b"].item() == 1.5
