"""What the header of a GGUF file says, without the package `gguf` and without reading a weight.

The format (versions 2 and 3, little-endian): magic `GGUF`, u32 version, u64 tensors, u64 values; the values, each a key, a type
and what it holds; the tensors, each a name, dimensions (the fastest first), a type and an offset into the data, which begins
behind it at the next multiple of `general.alignment`.
"""

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

from models.errors import SourceError
from models.lm.gguf.find import GgufFile

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_AGAIN = "Copy it again, or name another file."


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor: name, shape (as torch has it), number of its ggml type, offset into the data in bytes."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """A header.

    Attributes:
        file: The file.
        values: Its values by key; an array of strings counts by its length alone.
        tensors: Its tensors.
        data_start: Where the data begin, in bytes.
    """

    file: GgufFile
    values: Mapping[str, Any]
    tensors: tuple[GgufTensor, ...]
    data_start: int

    @property
    def architecture(self) -> str:
        """Name of the architecture, as llama.cpp has it."""
        return str(self.values["general.architecture"])

    @property
    def num_parameters(self) -> int:
        """Parameters of all tensors; a tied head is not stored twice."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def vocab_size(self) -> int:
        """Entries of the tokenizer."""
        return int(self.values["tokenizer.ggml.tokens"])

    @property
    def has_template(self) -> bool:
        """Whether it brings a chat template."""
        return bool(self.values.get("tokenizer.chat_template"))

    def number(self, key: str) -> int:
        """Return a number of the architecture, such as `block_count`; the largest, where each layer has its own."""
        value = self.values[f"{self.architecture}.{key}"]
        return int(max(value) if isinstance(value, tuple) else value)

    def kinds(self) -> Counter[int]:
        """Return how many parameters each ggml type stores."""
        counts: Counter[int] = Counter()
        for tensor in self.tensors:
            counts[tensor.kind] += prod(tensor.shape)
        return counts


def read_header(file: GgufFile) -> GgufHeader:
    """Read the header of a GGUF file.

    Raises:
        SourceError: It is not a GGUF file, is a part of a split one, describes no language model, or ends within its header or
            before its last tensor begins.
    """
    with file.open() as stream:
        reader = _Reader(stream, file)
        magic = reader.take(4)
        if magic != _MAGIC:
            first = ", or its first part is missing" if len(file.parts) > 1 else ""
            raise SourceError(f"{file.where}: {file.name} must be a GGUF file, but begins with {magic!r}{first}. {_AGAIN}")
        version, num_tensors, num_values = reader.unpack("IQQ")
        if version not in _VERSIONS:
            raise SourceError(
                f"{file.where}: {file.name} must have GGUF version 2 or 3 in little-endian order, but has {version}. "
                "Convert it by llama.cpp's own scripts, or name another file."
            )
        values = {}
        for _ in range(num_values):
            key = reader.text()
            (kind,) = reader.unpack("I")
            values[key] = reader.value(kind)
        tensors = tuple(reader.tensor() for _ in range(num_tensors))
        position = reader.position
    _check_values(file, values)
    alignment = int(values.get("general.alignment", 32))
    header = GgufHeader(file, values, tensors, -(-position // alignment) * alignment)
    refuse_shorter(header, header.data_start + max((tensor.offset + 1 for tensor in tensors), default=0))
    return header


def refuse_shorter(header: GgufHeader, num_bytes: int) -> None:
    """Refuse a file that has fewer bytes than its header asks for.

    Raises:
        SourceError: It has: it is truncated, or its last part is missing.
    """
    file = header.file
    if file.num_bytes < num_bytes:
        parts = f" in {len(file.parts)} parts" if len(file.parts) > 1 else ""
        raise SourceError(
            f"{file.where}: {file.name} must have at least {num_bytes:,} bytes, as its header says, but has {file.num_bytes:,}"
            f"{parts}: it is truncated{', or its last part is missing' if parts else ''}. {_AGAIN}"
        )


def _check_values(file: GgufFile, values: Mapping[str, Any]) -> None:
    if int(values.get("split.count", 1)) > 1:
        raise SourceError(
            f"{file.where}: {file.name} must be a whole GGUF file, but is part {int(values.get('split.no', 0)) + 1} of "
            f"{values['split.count']}. Merge them (`llama-gguf-split --merge`) and name the result."
        )
    architecture = values.get("general.architecture")
    needed = ["tokenizer.ggml.tokens", *(f"{architecture}.{key}" for key in ("embedding_length", "block_count"))]
    missing = [key for key in ("general.architecture", *needed) if key not in values]
    if missing:
        raise SourceError(
            f"{file.where}: {file.name} must describe a language model with its tokenizer, but has no {', '.join(missing)}. "
            "Name another file."
        )


class _Reader:
    """Reads the header's values from a stream; every length is checked against what is left of the file."""

    def __init__(self, stream: BinaryIO, file: GgufFile) -> None:
        self._stream, self._file, self._size = stream, file, file.num_bytes
        self.position = 0

    def take(self, count: int) -> bytes:
        if count > self._size - self.position:
            raise SourceError(
                f"{self._file.where}: {self._file.name} must hold a whole header, but ends within it, at {self._size:,} bytes: "
                f"it is truncated. {_AGAIN}"
            )
        self.position += count
        return self._stream.read(count)

    def unpack(self, layout: str) -> tuple[Any, ...]:
        packed = struct.Struct(f"<{layout}")
        return packed.unpack(self.take(packed.size))

    def text(self) -> str:
        return self.take(self.unpack("Q")[0]).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.unpack(_SCALARS[kind])[0]
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            raise SourceError(f"{self._file.where}: {self._file.name} holds a value of the unknown type {kind}. {_AGAIN}")
        inner, count = self.unpack("IQ")
        if inner in _SCALARS:
            width = struct.calcsize(f"<{_SCALARS[inner]}")
            return struct.unpack(f"<{count}{_SCALARS[inner]}", self.take(count * width))
        for _ in range(count):
            self.take(self.unpack("Q")[0]) if inner == _STRING else self.value(inner)
        return count

    def tensor(self) -> GgufTensor:
        name = self.text()
        (dimensions,) = self.unpack("I")
        shape = self.unpack(f"{dimensions}Q")
        kind, offset = self.unpack("IQ")
        return GgufTensor(name, tuple(reversed(shape)), kind, offset)
