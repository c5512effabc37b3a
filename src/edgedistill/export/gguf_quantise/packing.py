"""Levels and scales as the bytes of ggml's blocks (structs `block_q*` of ggml-common.h).

Every function takes whole numbers as floats, [n, ...], and returns uint8 [n, bytes of a block].
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgedistill.core.errors import ModelError
from edgedistill.export.gguf_quantise.scales import Floats
from edgedistill.export.gguf_quantise.super_blocks import SuperBlocks

Bytes = npt.NDArray[np.uint8]


def halves(values: Floats) -> Bytes:
    """F16 numbers [n] as [n, 2] bytes.

    Raises:
        ModelError: one is beyond the range of F16.
    """
    stored = values.reshape(-1, 1).astype("<f2")
    if not np.isfinite(stored).all():
        raise ModelError("weights are beyond the range of F16 block scales", fix="f32 or bf16")
    return stored.view(np.uint8)


def nibbles(levels: Bytes) -> Bytes:
    """Low four bits: of [n, 32] the first half below, the second half above."""
    first, second = np.split(levels & 15, 2, axis=-1)
    packed: Bytes = first | second << 4
    return packed


def fifth_bits(levels: Bytes) -> Bytes:
    """Bit 4 of [n, 32] levels, level i as bit i of four bytes."""
    return np.packbits(levels >> 4 & 1, axis=-1, bitorder="little")


def bytes_of(levels: Floats, zero: int = 0) -> Bytes:
    """Levels with `zero` added, as bytes; negative ones in two's complement."""
    return (levels + zero).astype(np.int16).astype(np.uint8)


def sixes(scales: Bytes, mins: Bytes) -> Bytes:
    """Eight scales and eight mins of six bits in twelve bytes.

    Of the last four of each, the low four bits share a byte and the two above them fill up the
    bytes of the first four.
    """
    first = scales[:, :4] | scales[:, 4:] >> 4 << 6
    second = mins[:, :4] | mins[:, 4:] >> 4 << 6
    third = scales[:, 4:] & 15 | (mins[:, 4:] & 15) << 4
    return np.concatenate([first, second, third], axis=-1)


def q4_k(found: SuperBlocks) -> Bytes:
    """`block_q4_K`: d, d_min, scales and mins, levels."""
    pairs = bytes_of(found.levels).reshape(-1, 4, 64)
    return np.concatenate([_head(found), nibbles(pairs).reshape(-1, 128)], axis=-1)


def q5_k(found: SuperBlocks) -> Bytes:
    """`block_q5_K`: as Q4_K, with byte i of the fifth bits holding level i of all sub-blocks."""
    levels = bytes_of(found.levels)
    high = np.packbits(levels >> 4 & 1, axis=1, bitorder="little").reshape(-1, 32)
    low = nibbles(levels.reshape(-1, 4, 64)).reshape(-1, 128)
    return np.concatenate([_head(found), high, low], axis=-1)


def q6_k(found: SuperBlocks) -> Bytes:
    """`block_q6_K`: low four bits, high two bits, scales as int8, d.

    Each half of 128 levels is four runs of 32: the low bits of runs 0 and 2, and of 1 and 3,
    share bytes; the high bits of all four share one.
    """
    runs = bytes_of(found.levels, 32).reshape(-1, 2, 4, 32)
    low = (runs[:, :, :2] & 15 | (runs[:, :, 2:] & 15) << 4).reshape(-1, 128)
    high = np.zeros_like(runs[:, :, 0])
    for number in range(4):
        high |= runs[:, :, number] >> 4 << 2 * number
    scales = bytes_of(found.scales[..., 0])
    return np.concatenate([low, high.reshape(-1, 64), scales, halves(found.d)], axis=-1)


def _head(found: SuperBlocks) -> Bytes:
    packed = sixes(bytes_of(found.scales[..., 0]), bytes_of(found.mins[..., 0]))
    return np.concatenate([halves(found.d), halves(found.d_min), packed], axis=-1)
