"""Formats of a matrix: what stands in the file for it, and how many bytes that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edgedistill.export.gguf_types import GGUF_TYPES, type_for_width
from edgedistill.sizing.network import Tensor
from edgedistill.sizing.stored import Stored, array


class Format(Protocol):
    """A way to store one matrix."""

    def __call__(self, tensor: Tensor) -> list[Stored]:
        """The arrays that stand for `tensor`."""
        ...


@dataclass(frozen=True)
class Plain:
    """Numbers of one type, a name of `SAFETENSORS_BYTES`."""

    kind: str

    def __call__(self, tensor: Tensor) -> list[Stored]:
        return [array(tensor.name, self.kind, tensor.shape)]


@dataclass(frozen=True)
class Grouped:
    """Whole numbers of `bits` bits; each `group` of a row has a scale and, perhaps, a zero.

    Args:
        group: weights that share a scale; None: a whole row does.
        scale: type of the scales.
        zero_bits: bits of each group's zero, packed; 0: symmetric.
    """

    bits: int
    group: int | None
    scale: str
    zero_bits: int = 0

    def __call__(self, tensor: Tensor) -> list[Stored]:
        rows, width = _matrix(tensor)
        groups = -(-width // self.group) if self.group else 1
        stored = [
            array(tensor.name, "U8", (rows, -(-width * self.bits // 8))),
            array(f"{tensor.name}.scales", self.scale, (rows, groups)),
        ]
        if self.zero_bits:
            zeros = -(-groups * self.zero_bits // 8)
            stored.append(array(f"{tensor.name}.zeros", "U8", (rows, zeros)))
        return stored


@dataclass(frozen=True)
class FilledGroups:
    """Whole numbers of `bits` bits, symmetric; `group` of a row have an F32 scale, and the last
    group of a row is filled with zeros, as ONNX Runtime's MatMulNBits reads them."""

    bits: int
    group: int

    def __call__(self, tensor: Tensor) -> list[Stored]:
        rows, width = _matrix(tensor)
        groups = -(-width // self.group)
        return [
            array(tensor.name, "U8", (rows, groups, self.group * self.bits // 8)),
            array(f"{tensor.name}.scales", "F32", (rows, groups)),
        ]


@dataclass(frozen=True)
class Awq:
    """Four bits by groups as AutoAWQ packs them: eight weights to an I32, F16 scales, zeros.

    What it cannot pack (inputs the group does not divide, outputs that eight does not) stays F16,
    as it does there. Source: Lin et al. 2023, arXiv 2306.00978, and AutoAWQ's `WQLinear_GEMM`.
    """

    group: int = 128

    def __call__(self, tensor: Tensor) -> list[Stored]:
        rows, width = _matrix(tensor)
        if width % self.group or rows % 8 or len(tensor.shape) != 2:
            return Plain("F16")(tensor)
        name, groups = tensor.name.removesuffix(".weight"), width // self.group
        return [
            array(f"{name}.qweight", "I32", (width, rows // 8)),
            array(f"{name}.qzeros", "I32", (groups, rows // 8)),
            array(f"{name}.scales", "F16", (groups, rows)),
        ]


@dataclass(frozen=True)
class Palette:
    """An index of `bits` bits for each weight into a table of 2^bits F32 values of the matrix."""

    bits: int

    def __call__(self, tensor: Tensor) -> list[Stored]:
        if tensor.num_weights <= 1 << self.bits:  # the palette would weigh more
            return Plain("F32")(tensor)
        return [
            array(tensor.name, "U8", (-(-tensor.num_weights * self.bits // 8),)),
            array(f"{tensor.name}.palette", "F32", (1 << self.bits,)),
        ]


#: Bits a weight of every block format that is written here, scales included.
BLOCK_BITS = {each.tensor: each.bits for each in GGUF_TYPES.values()}
#: Formats of llama.cpp that nothing here writes: (weights to a block, bytes of a block), as in
#: `gguf.constants.GGML_QUANT_SIZES`. Where the block does not divide a row: the next wider.
FOREIGN_BLOCKS = {"Q3_K": (256, 110), "Q2_K": (256, 84), "IQ2_XXS": (256, 66), "IQ1_S": (256, 50)}
_NARROW_FOREIGN = "Q4_0"


def block_bytes(kind: str, tensor: Tensor) -> tuple[str, int]:
    """(format that the row's width allows, bytes) of a matrix in a GGUF file."""
    width = tensor.shape[-1]
    if kind in FOREIGN_BLOCKS:
        per_block, size = FOREIGN_BLOCKS[kind]
        if width % per_block == 0:
            return kind, tensor.num_weights // per_block * size
        kind = _NARROW_FOREIGN
    stored = type_for_width(kind, width)
    return stored, int(tensor.num_weights * BLOCK_BITS[stored]) // 8


def _matrix(tensor: Tensor) -> tuple[int, int]:
    """Rows and columns; all but the last dimension make rows."""
    return tensor.num_weights // tensor.shape[-1], tensor.shape[-1]
