"""Which matrices are stored in groups of few bits or with weights left out, and in what groups.

Passes over a file go by it, and training for such a file must go alike.
"""

from __future__ import annotations

#: Weights of an output that share a scale, where the layer is as wide.
GROUP = 128
#: The same where weights take eight bits: token tables and heads of language models in ONNX, and
#: their other matrices. A weight takes 9 bits with its part of the scale, as in q8_0 of GGUF's.
EIGHT_BIT_GROUP = 32
#: What ONNX Runtime's MatMulNBits asks of a group: a power of two, and no smaller.
_LEAST_GROUP = 16
#: Smaller matrices are left alone: their bytes do not pay for the extra operators.
MIN_BYTES = 16_384
MIN_WIDTH = 4
#: Of so many neighbours so many are kept, where the smaller ones are left out.
RUN, KEPT_OF_RUN = 4, 2


def group_size(width: int) -> int:
    """GROUP, or the smallest group that holds all inputs of a narrower layer."""
    return min(GROUP, max(_LEAST_GROUP, 1 << (width - 1).bit_length()))


def is_large(rows: int, columns: int) -> bool:
    """Whether a matrix in FP32 is worth a form of its own."""
    # Of a narrower one the scales would weigh more than what is saved.
    return min(rows, columns) >= MIN_WIDTH and rows * columns * 4 >= MIN_BYTES
