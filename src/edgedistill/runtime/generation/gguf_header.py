"""What a GGUF file says of itself, read and checked before native code sees the file.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (version 3, little-endian).
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill.core.errors import BundleError

# Value types by their number: struct codes of the fixed-width ones.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
            12: "d"}  # fmt: skip
_STRING, _ARRAY = 8, 9
# Tensor types by their number: weights and bytes in a block.
_BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
           10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210),
           30: (1, 2)}  # fmt: skip
_MAX_COUNT = 1 << 24
_MAX_RANK = 4
_DIMENSIONS = ("context_length", "embedding_length", "block_count", "feed_forward_length",
               "attention.head_count", "attention.head_count_kv")  # fmt: skip


@dataclass(frozen=True)
class GgufHeader:
    """A Llama file's own account: `metadata` by key, `shapes` of its tensors (fastest axis first).

    `context`: tokens that the model was made for. `vocab_size`: rows of the embeddings.
    """

    metadata: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]

    @property
    def context(self) -> int:
        return int(self.metadata["llama.context_length"])

    @property
    def vocab_size(self) -> int:
        return self.shapes["token_embd.weight"][1]


def read_header(path: Path) -> GgufHeader:
    """Read and check the file's header.

    Raises:
        BundleError: not a GGUF file, cut short, damaged, or not of the llama architecture.
    """
    try:
        with (
            path.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            header, ends = _parse(_Cursor(data))
            needed, size = max(ends, default=0), len(data)
    except (OSError, ValueError, struct.error, UnicodeDecodeError) as error:
        raise _damaged(path, str(error)) from error
    if needed > size:
        raise _damaged(path, f"its tensors need {needed:,} bytes, it has {size:,}")
    architecture = header.metadata.get("general.architecture")
    if architecture != "llama":
        raise BundleError(
            f"the model is of the architecture {architecture!r}",
            where=str(path),
            fix="a GGUF file of the llama architecture",
        )
    if wrong := _contradiction(header):
        raise _damaged(path, wrong)
    return header


def _damaged(path: Path, why: str) -> BundleError:
    return BundleError(
        f"not a whole GGUF file: {why}", where=str(path), fix="copy or export it again"
    )


class _Cursor:
    """Reads values one after another; raises struct.error or ValueError beyond the end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.position = data, 0

    def scalar(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self.data, self.position)
        self.position += struct.calcsize(f"<{code}")
        return value

    def count(self) -> int:
        value = int(self.scalar("Q"))
        if value > min(_MAX_COUNT, len(self.data)):
            raise ValueError(f"a count of {value}")
        return value

    def string(self) -> str:
        length = self.count()
        piece = self.data[self.position : self.position + length]
        if len(piece) < length:
            raise ValueError("a text beyond the end")
        self.position += length
        return piece.decode()

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            raise ValueError(f"a value of the unknown type {kind}")
        inner, length = self.scalar("I"), self.count()
        if inner == _STRING:
            return [self.string() for _ in range(length)]
        if inner not in _SCALARS:
            raise ValueError(f"a list of the type {inner}")
        values = struct.unpack_from(f"<{length}{_SCALARS[inner]}", self.data, self.position)
        self.position += struct.calcsize(f"<{length}{_SCALARS[inner]}")
        return list(values)


def _parse(cursor: _Cursor) -> tuple[GgufHeader, list[int]]:
    """The header, and where each tensor's data would end (bytes from the file's start)."""
    if bytes(cursor.data[:4]) != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    cursor.position = 4
    if (version := cursor.scalar("I")) != 3:
        raise ValueError(f"version {version}, not 3")
    num_tensors, num_values = cursor.count(), cursor.count()
    metadata = {}
    for _ in range(num_values):
        key = cursor.string()
        metadata[key] = cursor.value(cursor.scalar("I"))
    tensors = [_tensor(cursor) for _ in range(num_tensors)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 8 or alignment & (alignment - 1):
        raise ValueError(f"an alignment of {alignment!r}")
    start = -(-cursor.position // alignment) * alignment
    shapes = {name: shape for name, shape, _, _ in tensors}
    if len(shapes) < len(tensors):
        raise ValueError("two tensors of one name")
    if any(offset % alignment for _, _, offset, _ in tensors):
        raise ValueError("a tensor out of line")
    ends = [start + offset + size for _, _, offset, size in tensors]
    return GgufHeader(metadata, shapes), ends


def _tensor(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """(name, shape, offset, bytes) of the next tensor's entry."""
    name, rank = cursor.string(), cursor.scalar("I")
    if not 1 <= rank <= _MAX_RANK:
        raise ValueError(f"{name} has {rank} dimensions")
    shape = tuple(cursor.count() for _ in range(rank))
    kind, offset = cursor.scalar("I"), cursor.scalar("Q")
    if kind not in _BLOCKS:
        raise ValueError(f"{name} is of the unknown type {kind}")
    weights, size = _BLOCKS[kind]
    if 0 in shape or shape[0] % weights:
        raise ValueError(f"{name} has the shape {shape}")
    return name, shape, int(offset), math.prod(shape) // weights * size


def _contradiction(header: GgufHeader) -> str | None:
    """Why the numbers cannot belong together, or None."""
    metadata, shapes = header.metadata, header.shapes
    for key in _DIMENSIONS:
        value = metadata.get(f"llama.{key}")
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < _MAX_COUNT:
            return f"llama.{key} is {value!r}"
    positive = ("llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base")
    for key in positive:
        value = metadata.get(key, 1.0)
        if not isinstance(value, float) or not 0 < value < math.inf:
            return f"{key} is {value!r}"
    width, heads = metadata["llama.embedding_length"], metadata["llama.attention.head_count"]
    if heads % metadata["llama.attention.head_count_kv"]:
        return "query heads are not a multiple of key heads"
    tokens = metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not tokens:
        return "no tokenizer"
    if shapes.get("token_embd.weight") != (width, len(tokens)):
        return f"the embeddings have the shape {shapes.get('token_embd.weight')}"
    checks: list[Callable[[], str | None]] = [
        lambda: _wrong_list(metadata, len(tokens)),
        lambda: _wrong_shape(metadata, shapes, width, heads),
        lambda: _wrong_id(metadata, len(tokens)),
    ]
    return next((wrong for check in checks if (wrong := check())), None)


def _wrong_list(metadata: dict[str, Any], num_tokens: int) -> str | None:
    """Lists beside the tokens, of another length."""
    for key in ("token_type", "scores"):
        values = metadata.get(f"tokenizer.ggml.{key}")
        if values is not None and (not isinstance(values, list) or len(values) != num_tokens):
            return f"tokenizer.ggml.{key} does not go with the tokens"
    return None


def _wrong_id(metadata: dict[str, Any], num_tokens: int) -> str | None:
    """Special tokens that are none of the tokens."""
    for key, value in metadata.items():
        is_id = key.startswith("tokenizer.ggml.") and key.endswith("_token_id")
        if is_id and (not isinstance(value, int) or not 0 <= value < num_tokens):
            return f"{key} is {value!r}"
    return None


def _wrong_shape(
    metadata: dict[str, Any], shapes: dict[str, tuple[int, ...]], width: int, heads: int
) -> str | None:
    """A layer's tensor that is absent or of another size than the numbers say."""
    head = metadata.get("llama.attention.key_length", width // heads)
    hidden = metadata["llama.feed_forward_length"]
    keys = metadata["llama.attention.head_count_kv"]
    if not isinstance(head, int) or head <= 0:
        return f"llama.attention.key_length is {head!r}"
    rotated = metadata.get("llama.rope.dimension_count", head)
    if rotated != head or metadata.get("llama.attention.value_length", head) != head:
        return "rotated, key and value lengths differ"
    layer = {
        "attn_norm": (width,), "ffn_norm": (width,), "attn_q": (width, heads * head),
        "attn_k": (width, keys * head), "attn_v": (width, keys * head),
        "attn_output": (heads * head, width), "ffn_gate": (width, hidden),
        "ffn_up": (width, hidden), "ffn_down": (hidden, width),
    }  # fmt: skip
    if metadata["llama.block_count"] > len(shapes):
        return "fewer tensors than layers"
    needed = {"output_norm.weight": (width,)} | {
        f"blk.{block}.{part}.weight": shape
        for block in range(metadata["llama.block_count"])
        for part, shape in layer.items()
    }
    if "rope_freqs.weight" in shapes:
        needed["rope_freqs.weight"] = (head // 2,)
    return next(
        (f"{n} has the shape {shapes.get(n)}" for n, s in needed.items() if shapes.get(n) != s),
        None,
    )
