"""Tensors from files that a stranger may have written: ``torch.save`` (zip and legacy) and safetensors.

``torch.load(weights_only=True)`` runs no code of the file, but it allocates what the file asks for: a pickle of fifty
bytes says ``bytearray(2**40)``. So the pickle is read first as a list of instructions that does nothing, and only one
that builds plain values and dense tensors, whose bytes are all in the file, is given to torch.
"""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rratag import untrusted
from rratag.untrusted import MAX_DEPTH, shown

if TYPE_CHECKING:
    from torch import Tensor

MAX_PICKLE = 2**25
MAX_INSTRUCTIONS = 10**6
MAX_TENSORS = 10**5
MAX_DIRECTORY = 2**23
MAX_HEADER = 2**22
MAX_DIMENSIONS = 8

STORAGES = {
    "torch DoubleStorage": 8,
    "torch FloatStorage": 4,
    "torch HalfStorage": 2,
    "torch BFloat16Storage": 2,
    "torch LongStorage": 8,
    "torch IntStorage": 4,
    "torch ShortStorage": 2,
    "torch CharStorage": 1,
    "torch ByteStorage": 1,
    "torch BoolStorage": 1,
}
"""Accepted kinds of elements with their bytes: no complex, quantised, sparse or meta tensors."""
SAFETENSORS_TYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL")

_ORDERED = "collections OrderedDict"
_REBUILD = ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor")
_PARAMETERS = ("torch._utils _rebuild_parameter", "torch.nn.parameter Parameter")
_LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."


def check_sums(path: Path) -> None:
    """Refuse an archive of ours in which a record is not what its checksum says.

    Raises
    ------
    ValueError
        Naming the record.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except zipfile.BadZipFile as error:
        raise ValueError("no archive with checksums") from error
    if wrong:
        raise ValueError(f"checksum of record {shown(wrong)} is wrong")


def load_torch(path: Path) -> Any:
    """What ``torch.save`` wrote, on the CPU: dicts, lists, tuples, strings, numbers, None and dense tensors.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not such a file, is damaged, or would take more memory than its size tells.
    """
    untrusted.check_regular(path)
    with open(path, "rb") as file:
        check_torch(file)
        return _torch_load(file)


def _torch_load(file: IO[bytes]) -> Any:
    import torch

    file.seek(0)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of damaged bytes the reader makes errors of any kind; each means the same
        raise ValueError(f"damaged, {_first_line(error)}") from error


def check_torch(file: IO[bytes]) -> None:
    """Refuse what `load_torch` would not read, in memory that does not depend on what the file claims.

    Raises
    ------
    ValueError
        Saying what was found.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(len(_LEGACY_START))
    if start[:4] == b"PK\3\4":
        _check_archive(file, size)
    elif start == _LEGACY_START:
        _check_legacy(file, size)
    else:
        raise ValueError("not a file of torch.save")


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not such a file or is damaged.
    """
    from safetensors.torch import load_file

    untrusted.check_regular(path)
    with open(path, "rb") as file:
        check_safetensors(file.read(MAX_HEADER + 8))
    try:
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    except Exception as error:  # its own error, and any of torch
        raise ValueError(f"damaged, {_first_line(error)}") from error


def check_safetensors(start: bytes) -> None:
    """Refuse a header that takes much memory, or kinds of elements that are not read here; the library checks the rest.

    Parameters
    ----------
    start : of the file, the whole header

    Raises
    ------
    ValueError
        Saying what was found.
    """
    length = int.from_bytes(start[:8], "little")
    if len(start) < 8 or length > min(MAX_HEADER, len(start) - 8):
        raise ValueError(f"damaged, a header of {length:,} bytes")
    header = untrusted.parse_json(start[8 : 8 + length])
    if not isinstance(header, dict):
        raise ValueError("damaged, its header is no object")
    for name, entry in header.items():
        kind = entry.get("dtype") if isinstance(entry, dict) else None
        if name != "__metadata__" and kind not in SAFETENSORS_TYPES:
            raise ValueError(f"tensor {shown(name)} is of type {shown(kind)}; accepted: {', '.join(SAFETENSORS_TYPES)}")


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


# --- the zip archive ---


def _check_archive(file: IO[bytes], size: int) -> None:
    """``NAME/data.pkl`` and a record ``NAME/data/KEY`` for every storage, nothing compressed, nothing twice."""
    _check_directory(file, size)
    try:
        with zipfile.ZipFile(file) as archive:
            records = sorted(archive.infolist(), key=lambda record: record.header_offset)
    except (zipfile.BadZipFile, NotImplementedError, struct.error, UnicodeError, OverflowError) as error:
        raise ValueError("damaged zip archive") from error
    if len({record.filename for record in records}) != len(records):
        raise ValueError("two records of its zip archive have one name")
    end = 0
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size:
            raise ValueError(f"record {shown(record.filename)} is compressed, which torch.save never does")
        if record.header_offset < end:
            raise ValueError(f"record {shown(record.filename)} overlaps another")
        end = record.header_offset + 30 + len(record.filename) + record.file_size
        if end > size:
            raise ValueError(f"record {shown(record.filename)} claims more bytes than the file has")
    folder = records[0].filename.partition("/")[0] if records else ""
    sizes = {record.filename.removeprefix(f"{folder}/data/"): record.file_size for record in records}
    main = next((record for record in records if record.filename == f"{folder}/data.pkl"), None)
    if main is None:
        raise ValueError("a zip archive without data.pkl; not of torch.save")
    if main.file_size > MAX_PICKLE:
        raise ValueError(f"a pickle of {main.file_size:,} bytes; at most {MAX_PICKLE:,} are read")

    def check(key: str, num_bytes: int) -> None:
        if sizes.get(key, 0) != num_bytes:
            raise ValueError(f"a storage claims {num_bytes:,} bytes, its record has {sizes.get(key, 0):,}")

    _Scan(check, 2 * size).run(io.BytesIO(_content(file, main)))


def _check_directory(file: IO[bytes], size: int) -> None:
    """The archive's directory is small and stands where every reader looks for it: at the end, without a comment."""
    file.seek(max(0, size - 98))
    tail = file.read().rjust(98, b"\0")
    signature, *_, length, offset, comment = struct.unpack("<4s4H2LH", tail[-22:])
    end = size - 22
    if tail[-42:-38] == b"PK\6\7":
        end = size - 98
        length, offset = struct.unpack("<2Q", tail[40:56])
        if tail[:4] != b"PK\6\6" or struct.unpack("<Q", tail[-34:-26])[0] != end:
            raise ValueError("damaged zip archive")
    if signature != b"PK\5\6" or comment or offset + length != end:
        raise ValueError("damaged zip archive, or one that torch.save did not write")
    if length > MAX_DIRECTORY:
        raise ValueError(f"a zip directory of {length:,} bytes; at most {MAX_DIRECTORY:,} are read")


def _content(file: IO[bytes], record: zipfile.ZipInfo) -> bytes:
    """Bytes of a stored record. Not by ``zipfile``, which refuses archives that torch wrote without checksums."""
    file.seek(record.header_offset)
    head = file.read(30)
    if len(head) < 30:
        raise ValueError("damaged zip archive")
    file.seek(sum(struct.unpack("<2H", head[26:30])), io.SEEK_CUR)
    return file.read(record.file_size)


# --- the legacy format: five pickles, then every storage with its length before it ---


def _check_legacy(file: IO[bytes], size: int) -> None:
    file.seek(0)
    pickles = io.BytesIO(file.read(MAX_PICKLE))
    claimed: dict[str, int] = {}

    def note(key: str, num_bytes: int) -> None:
        if claimed.setdefault(key, num_bytes) != num_bytes:
            raise ValueError("a storage has two sizes")

    scan = _Scan(note, 2 * size)
    for _ in range(5):  # magic number, version, machine, content, names of the storages
        scan.run(pickles)
    needed = pickles.tell() + sum(8 + num_bytes for num_bytes in claimed.values())
    if needed != size:
        raise ValueError(f"its tensors claim {needed:,} bytes, the file has {size:,}")


# --- the pickle, followed but not obeyed ---


class _Global(str):
    """Name of something that a pickle would import."""

    __slots__ = ()


@dataclass
class _Storage:
    elements: int
    item_size: int


class _Tensor:
    pass


@dataclass
class _Box:
    """A tuple with its items, or a list or dict, of which only the size matters.

    `size` counts what is inside as often as it is reached; `depth` what stands inside each other. What stands in a
    second place takes nothing more: it would then grow in the first one too, or stand in itself.
    """

    kind: str
    items: tuple[Any, ...] = ()
    size: int = 1
    depth: int = 1
    closed: bool = False
    attributes: bool = True  # whether a dict may become those of another: no other name than torch's own

    def take(self, values: list[Any]) -> None:
        inner = [one for one in values if isinstance(one, _Box)]
        self.size += len(values) + sum(one.size for one in inner)
        self.depth = max([self.depth, *(one.depth + 1 for one in inner)])
        if self.size > MAX_INSTRUCTIONS or self.depth > MAX_DEPTH:
            raise ValueError("lists, tuples or dicts that unfold without end")


_MARK = object()
_PLAIN = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": "list", "EMPTY_DICT": "dict"}


class _Scan:
    """Follows pickles of protocol 2 as ``torch.save`` writes them.

    Parameters
    ----------
    storage : called with name and bytes of each storage that a tensor lies in; raises ``ValueError`` if it is not there
    max_bytes : of all tensors together, so that few bytes do not become many by sharing
    """

    def __init__(self, storage: Callable[[str, int], None], max_bytes: int) -> None:
        self.storage, self.bytes_left = storage, max_bytes
        self.num_instructions = self.num_tensors = 0

    def run(self, file: IO[bytes]) -> None:
        """Follow one pickle to its end, where `file` then stands.

        Raises
        ------
        ValueError
            At the first instruction that builds something else than plain values and dense tensors.
        """
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        try:
            for instruction, argument, _ in pickletools.genops(file):
                self.num_instructions += 1
                if self.num_instructions > MAX_INSTRUCTIONS:
                    raise ValueError(f"more than {MAX_INSTRUCTIONS:,} pickle instructions")
                self._follow(instruction.name, argument)
        except (IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError("damaged pickle") from error

    def _follow(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            value = self.memo[argument]
            if isinstance(value, _Box):
                value.closed = True
            stack.append(value)
        elif name in _PLAIN:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_Box(_EMPTY[name]))
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "GLOBAL":
            stack.append(_Global(argument))
        elif name not in ("PROTO", "STOP"):
            self._build(name)

    def _build(self, name: str) -> None:
        """What takes values from the stack."""
        stack = self.stack
        if name in ("EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            count = 0 if name == "EMPTY_TUPLE" else int(name[-1])
            self._tuple([stack.pop() for _ in range(count)][::-1])
        elif name == "TUPLE":
            self._tuple(self._to_mark())
        elif name in ("APPEND", "APPENDS"):
            values = [stack.pop()] if name == "APPEND" else self._to_mark()
            self._into("list", values)
        elif name in ("SETITEM", "SETITEMS"):
            values = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else self._to_mark()
            if len(values) % 2 or not all(isinstance(key, (str, int)) for key in values[::2]):
                raise ValueError("a dict whose keys are neither strings nor whole numbers")
            self._into("dict", values)
            stack[-1].attributes &= all(key == "_metadata" for key in values[::2])
        elif name == "BUILD":  # versions of the layers, which torch keeps beside an OrderedDict
            if not isinstance(stack[-1], _Box) or not stack[-1].attributes:
                raise ValueError("a dict with attributes")
            self._into("dict", [stack.pop()])
        elif name == "BINPERSID":
            stack.append(self._stored(stack.pop()))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(self._made(function, arguments))
        else:
            raise ValueError(f"pickle instruction {name}, which torch.save does not write")

    def _to_mark(self) -> list[Any]:
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _tuple(self, values: list[Any]) -> None:
        box = _Box("tuple", tuple(values))
        box.take(values)
        self.stack.append(box)

    def _into(self, kind: str, values: list[Any]) -> None:
        box = self.stack[-1]
        if not isinstance(box, _Box) or box.kind != kind:
            raise ValueError("damaged pickle")
        if box.closed:
            raise ValueError("a list or dict that grows after it was put in place")
        box.take(values)

    def _stored(self, identity: Any) -> _Storage:
        word, kind, key, _, elements, *view = identity.items
        if word != "storage" or not isinstance(kind, _Global) or any(one is not None for one in view):
            raise ValueError("damaged pickle")
        if kind not in STORAGES:
            raise ValueError(f"a tensor of {shown(str(kind))}; accepted: {', '.join(STORAGES)}")
        if not isinstance(key, str) or not _is_count(elements):
            raise ValueError("damaged pickle")
        self.storage(key, elements * STORAGES[kind])
        return _Storage(elements, STORAGES[kind])

    def _made(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, _Global) or not isinstance(arguments, _Box):
            raise ValueError("damaged pickle")
        given = arguments.items
        if function == _ORDERED and (not given or [getattr(one, "kind", None) for one in given] == ["list"]):
            made = _Box("dict")
            made.take(list(given))
            return made
        if function in _REBUILD:
            storage, offset, shape, strides, *more = given
            _refuse_extras(more[1:])
            self._check_tensor(storage, offset, shape.items, strides.items)
            return _Tensor()
        if function in _PARAMETERS and isinstance(given[0], _Tensor):
            _refuse_extras(given[2:])
            self._count()
            return _Tensor()
        raise ValueError(f"{shown(str(function))}, which is neither a tensor nor a plain value")

    def _check_tensor(self, storage: Any, offset: Any, shape: tuple[Any, ...], strides: tuple[Any, ...]) -> None:
        """Dense: every element of its own, inside the storage. A stride of 0 makes gigabytes of four bytes."""
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or not all(map(_is_count, numbers)) or len(shape) != len(strides):
            raise ValueError("a tensor without a proper shape")
        if len(shape) > MAX_DIMENSIONS:
            raise ValueError(f"a tensor of {len(shape)} dimensions")
        elements, reach = 1, 0
        for stride, side in sorted(zip(strides, shape, strict=True)):
            elements *= side
            if side > 1:
                if stride <= reach:
                    raise ValueError(f"a tensor of shape {shape} whose elements share memory")
                reach += stride * (side - 1)
        if elements and offset + reach >= storage.elements:
            raise ValueError(f"a tensor of shape {shape} in a storage of {storage.elements:,} elements")
        self.bytes_left -= elements * storage.item_size
        if self.bytes_left < 0:
            raise ValueError("many tensors in the same memory")
        self._count()

    def _count(self) -> None:
        self.num_tensors += 1
        if self.num_tensors > MAX_TENSORS:
            raise ValueError(f"more than {MAX_TENSORS:,} tensors")


def _refuse_extras(more: Any) -> None:
    """Hooks and metadata: an empty OrderedDict, or None."""
    if any(one is not None and not (isinstance(one, _Box) and one.kind == "dict" and one.size == 1) for one in more):
        raise ValueError("a tensor with hooks or metadata")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62
