"""How tensors lie in a file: types of numbers, and the bytes around them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

#: Bytes a number of what a safetensors file can hold and a plan uses, in the format's own order.
SAFETENSORS_BYTES = {"U8": 1, "I8": 1, "F16": 2, "BF16": 2, "I32": 4, "F32": 4, "I64": 8}
_ORDER = {kind: place for place, kind in enumerate(SAFETENSORS_BYTES)}
_LENGTH_BYTES = _ALIGNMENT = 8

#: Of GGUF: tensors begin at multiples of 32 bytes; name, dimensions, type and place of each.
GGUF_ALIGNMENT = 32
_GGUF_LENGTH, _GGUF_COUNT, _GGUF_DIMENSION, _GGUF_TYPE, _GGUF_OFFSET = 8, 4, 8, 4, 8


@dataclass(frozen=True)
class Stored:
    """One array of a file."""

    name: str
    kind: str
    """Type of numbers in safetensors, or of blocks in GGUF."""
    shape: tuple[int, ...]
    size_bytes: int


def array(name: str, kind: str, shape: tuple[int, ...]) -> Stored:
    """An array of a safetensors file."""
    return Stored(name, kind, shape, prod(shape) * SAFETENSORS_BYTES[kind])


def safetensors_header_bytes(arrays: Sequence[Stored]) -> int:
    """Bytes of a safetensors file before its numbers, exactly, as `transformers` writes it.

    The length in 8 bytes, then JSON without spaces, filled up to a multiple of 8. Arrays lie
    sorted by type, the last in `SAFETENSORS_BYTES` first, then by name: places are in the JSON.
    """
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for each in sorted(arrays, key=lambda one: (-_ORDER[one.kind], one.name)):
        end = at + each.size_bytes
        entries[each.name] = {
            "dtype": each.kind, "shape": list(each.shape), "data_offsets": [at, end],
        }  # fmt: skip
        at = end
    length = len(json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode())
    return _LENGTH_BYTES + -(-length // _ALIGNMENT) * _ALIGNMENT


def safetensors_bytes(arrays: Sequence[Stored]) -> int:
    """Bytes of one safetensors file of these arrays."""
    return safetensors_header_bytes(arrays) + sum(each.size_bytes for each in arrays)


def gguf_bytes(arrays: Sequence[Stored]) -> int:
    """Bytes of these arrays in a GGUF file, with their entries, but without its metadata.

    The metadata holds the tokenizer, which no config.json tells.
    """
    padded = sum(-(-each.size_bytes // GGUF_ALIGNMENT) * GGUF_ALIGNMENT for each in arrays)
    entries = sum(
        _GGUF_LENGTH + len(each.name.encode()) + _GGUF_COUNT + _GGUF_DIMENSION * len(each.shape)
        + _GGUF_TYPE + _GGUF_OFFSET
        for each in arrays
    )  # fmt: skip
    return padded + entries
