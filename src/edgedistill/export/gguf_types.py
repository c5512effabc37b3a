"""The number formats that a GGUF file can be written in, and those that it cannot."""

from __future__ import annotations

from dataclasses import dataclass

from edgedistill.core.errors import SpecError
from edgedistill.export.gguf_quantise.matrix import BLOCK_TYPES


@dataclass(frozen=True)
class GgufType:
    """One choice of formats for a file's matrices; vectors (norms) are always F32.

    Args:
        tensor: name of the matrices' format in `gguf.GGMLQuantizationType`.
        head: format of the matrix that gives the logits (the embeddings, where they are tied).
            Below 8 bits it has more than the rest, as in llama.cpp's own quantiser: errors there
            fall on every token.
        first: format of the first block's matrices, where there are more blocks: what it gets
            wrong goes through all others (measured in docs/decisions/0013).
        file: name of the whole in `gguf.LlamaFileType`.
        bits: bits a weight of a matrix in that format, block scales included.
    """

    tensor: str
    head: str
    first: str
    file: str
    bits: float

    def format_of(self, tensor: str, *, head: str, num_blocks: int) -> str:
        """The format of a matrix by its name in GGUF; `head`: name of the one with the logits."""
        if tensor == head:
            return self.head
        is_first = tensor.startswith("blk.0.") and num_blocks > 1
        return self.first if is_first else self.tensor


GGUF_TYPES: dict[str, GgufType] = {
    "f32": GgufType("F32", "F32", "F32", "ALL_F32", 32),
    "f16": GgufType("F16", "F16", "F16", "MOSTLY_F16", 16),
    "bf16": GgufType("BF16", "BF16", "BF16", "MOSTLY_BF16", 16),
    "q8_0_f16": GgufType("Q8_0", "Q8_0", "F16", "MOSTLY_Q8_0", 8.5),
    "q8_0": GgufType("Q8_0", "Q8_0", "Q8_0", "MOSTLY_Q8_0", 8.5),
    "q6_k": GgufType("Q6_K", "Q6_K", "Q8_0", "MOSTLY_Q6_K", 6.5625),
    "q5_1": GgufType("Q5_1", "Q8_0", "Q8_0", "MOSTLY_Q5_1", 6),
    "q5_k": GgufType("Q5_K", "Q6_K", "Q6_K", "MOSTLY_Q5_K_S", 5.5),
    "q5_0": GgufType("Q5_0", "Q8_0", "Q8_0", "MOSTLY_Q5_0", 5.5),
    "q4_1": GgufType("Q4_1", "Q8_0", "Q8_0", "MOSTLY_Q4_1", 5),
    "q4_k": GgufType("Q4_K", "Q6_K", "Q6_K", "MOSTLY_Q4_K_S", 4.5),
    "q4_0": GgufType("Q4_0", "Q8_0", "Q8_0", "MOSTLY_Q4_0", 4.5),
}
"""Kinds by name. Other K-quants and all IQ-quants are absent: nothing here writes them."""

#: What a matrix gets whose width the super-block of 256 does not divide, as in llama.cpp.
NARROWER = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


def gguf_type(kind: str) -> GgufType:
    """The formats named `kind`; raises SpecError with the known names otherwise."""
    if kind in GGUF_TYPES:
        return GGUF_TYPES[kind]
    known = f"one of: {', '.join(GGUF_TYPES)}"
    if "_k" in kind.lower() or kind.lower().startswith("iq"):
        raise SpecError(
            f"GGUF type {kind!r} cannot be written here",
            fix=f"{known}; or write f16 and convert that file with llama.cpp's llama-quantize",
        )
    raise SpecError(f"unknown GGUF type {kind!r}", fix=known)


def type_for_width(wanted: str, width: int) -> str:
    """The format of a matrix of this width: `wanted`, else the next that divides it, else F16."""
    while wanted in BLOCK_TYPES and width % BLOCK_TYPES[wanted].width:
        wanted = NARROWER.get(wanted, "F16")
    return wanted
