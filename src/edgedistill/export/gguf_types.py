"""The number formats that a GGUF file can be written in, and those that it cannot."""

from __future__ import annotations

from dataclasses import dataclass

from edgedistill.core.errors import SpecError


@dataclass(frozen=True)
class GgufType:
    """One choice of formats for a file's matrices; vectors (norms) are always F32.

    Args:
        tensor: name of the matrices' format in `gguf.GGMLQuantizationType`.
        head: format of the matrix that gives the logits (the embeddings, where they are tied).
            Below 8 bits it keeps 8: errors there fall on every token, and llama.cpp's own
            quantiser also gives it more bits than the rest.
        file: name of the whole in `gguf.LlamaFileType`.
        bits: bits a weight of a matrix in that format, block scales included.
    """

    tensor: str
    head: str
    file: str
    bits: float


GGUF_TYPES: dict[str, GgufType] = {
    "f32": GgufType("F32", "F32", "ALL_F32", 32),
    "f16": GgufType("F16", "F16", "MOSTLY_F16", 16),
    "bf16": GgufType("BF16", "BF16", "MOSTLY_BF16", 16),
    "q8_0": GgufType("Q8_0", "Q8_0", "MOSTLY_Q8_0", 8.5),
    "q5_1": GgufType("Q5_1", "Q8_0", "MOSTLY_Q5_1", 6),
    "q5_0": GgufType("Q5_0", "Q8_0", "MOSTLY_Q5_0", 5.5),
    "q4_1": GgufType("Q4_1", "Q8_0", "MOSTLY_Q4_1", 5),
    "q4_0": GgufType("Q4_0", "Q8_0", "MOSTLY_Q4_0", 4.5),
}
"""Kinds by name. The K-quants and IQ-quants are absent: the `gguf` package only reads them."""


def gguf_type(kind: str) -> GgufType:
    """The formats named `kind`; raises SpecError with the known names otherwise."""
    if kind in GGUF_TYPES:
        return GGUF_TYPES[kind]
    known = f"one of: {', '.join(GGUF_TYPES)}"
    if "_k" in kind.lower() or kind.lower().startswith("iq"):
        raise SpecError(
            f"GGUF type {kind!r} cannot be written: the gguf package reads K- and IQ-quants only",
            fix=f"{known}; or write f16 and convert that file with llama.cpp's llama-quantize",
        )
    raise SpecError(f"unknown GGUF type {kind!r}", fix=known)
