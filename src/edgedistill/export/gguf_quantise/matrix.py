"""A matrix as the blocks of one ggml type, its columns weighted by how much they are used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgedistill.core.errors import ModelError
from edgedistill.export.gguf_quantise import packing
from edgedistill.export.gguf_quantise.scales import Fit, Floats, affine, symmetric
from edgedistill.export.gguf_quantise.super_blocks import (
    Q4_K,
    Q5_K,
    Q6_K,
    WIDTH,
    Form,
    SuperBlocks,
    SuperBlockSearch,
)

Bytes = npt.NDArray[np.uint8]

#: Share of the mean importance that every column has at least: what calibration never used must
#: not be rounded to anything.
FLOOR = 0.01
#: Weights at a time, so that what is computed stays in the processor's cache.
_CHUNK = 1 << 16


@dataclass(frozen=True)
class BlockType:
    """`width` weights to a block; `pack` makes bytes of blocks and weights, both [n, width]."""

    width: int
    pack: Callable[[Floats, Floats], Bytes]


def quantise(values: npt.ArrayLike, kind: str, importance: npt.ArrayLike | None = None) -> Bytes:
    """The bytes of a matrix, rows one after the other; the same input, the same bytes.

    Args:
        values: [rows, width].
        kind: a name of `BLOCK_TYPES`, whose block divides the width.
        importance: mean squared input of each column, [width]; None: all alike. What is
            minimised is the squared error weighted by `column_weights`: the expected squared
            error of the matrix's outputs, were its inputs uncorrelated.

    Returns:
        [rows, bytes of a row], decoded by `gguf.quants.dequantize`.

    Raises:
        ModelError: values or importances that are not finite, a width that does not fit, or
            weights beyond the range of block scales.
    """
    matrix = np.ascontiguousarray(values, np.float32)
    block = BLOCK_TYPES[kind]
    if matrix.ndim != 2 or matrix.shape[1] % block.width:
        raise ModelError(
            f"a matrix of shape {matrix.shape} as {kind}", fix=f"a width of {block.width} · n"
        )
    if not np.isfinite(matrix).all():
        raise ModelError(f"weights that are not finite cannot be written as {kind}")
    rows, width = matrix.shape
    weights = column_weights(importance, width)
    step = max(1, _CHUNK // max(1, width))
    parts = []
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for start in range(0, rows, step):
            part = matrix[start : start + step]
            spread = np.ascontiguousarray(np.broadcast_to(weights, part.shape))
            parts.append(block.pack(part.reshape(-1, block.width), spread.reshape(-1, block.width)))
    if not parts:
        return np.zeros((0, 0), np.uint8)
    return np.concatenate(parts).reshape(rows, -1)


def column_weights(importance: npt.ArrayLike | None, width: int) -> Floats:
    """What a squared error in each column counts, [width]; 1 on average, never 0.

    Raises:
        ModelError: importances of another length, negative or not finite.
    """
    if importance is None:
        return np.ones(width, np.float32)
    given = np.asarray(importance, np.float64)
    if given.shape != (width,) or not np.isfinite(given).all() or (given < 0).any():
        raise ModelError(
            f"importances of shape {given.shape} for {width} columns",
            fix="one finite number, 0 or more, for each column",
        )
    mean = given.mean()
    if mean == 0:
        return np.ones(width, np.float32)
    floored = np.maximum(given / mean, FLOOR)
    weights: Floats = (floored / floored.mean()).astype(np.float32)
    return weights


def _divisors(low: int, shares: tuple[float, ...]) -> list[float]:
    """Candidates on both sides of 0, since there is one level more below than above."""
    return [sign * share * low for share in shares for sign in (1, -1)]


#: Below 1 the block's largest weight falls short of the last level; above, it is cut to it.
_COARSE = (0.7, 0.76, 0.82, 0.87, 0.91, 0.94, 0.97, 1.0, 1.03, 1.07, 1.11, 1.16, 1.22, 1.3, 1.45)
_FINE = tuple(0.9 + 0.005 * step for step in range(33))


def _q4_0(values: Floats, weights: Floats) -> Bytes:
    fit = symmetric(
        values, weights, low=-8, high=7, divisors=_divisors(-8, _COARSE), storage=np.float16
    )
    return np.concatenate(
        [packing.halves(fit.scale), packing.nibbles(packing.bytes_of(fit.levels, 8))], axis=-1
    )


def _q5_0(values: Floats, weights: Floats) -> Bytes:
    fit = symmetric(
        values, weights, low=-16, high=15, divisors=_divisors(-16, _COARSE), storage=np.float16
    )
    return _with_fifth(packing.halves(fit.scale), packing.bytes_of(fit.levels, 16))


def _q8_0(values: Floats, weights: Floats) -> Bytes:
    fit = symmetric(
        values, weights, low=-127, high=127, divisors=[-127 * s for s in _FINE],
        storage=np.float16,
    )  # fmt: skip
    return np.concatenate([packing.halves(fit.scale), packing.bytes_of(fit.levels)], axis=-1)


def _q4_1(values: Floats, weights: Floats) -> Bytes:
    head, levels = _affine(values, weights, 15)
    return np.concatenate([head, packing.nibbles(levels)], axis=-1)


def _q5_1(values: Floats, weights: Floats) -> Bytes:
    return _with_fifth(*_affine(values, weights, 31))


def _affine(values: Floats, weights: Floats, high: int) -> tuple[Bytes, Bytes]:
    fit: Fit = affine(
        values, weights, high=high, divisors=[high * s for s in _COARSE], storage=np.float16
    )
    head = np.concatenate([packing.halves(fit.scale), packing.halves(fit.offset)], axis=-1)
    return head, packing.bytes_of(fit.levels)


def _with_fifth(head: Bytes, levels: Bytes) -> Bytes:
    return np.concatenate([head, packing.fifth_bits(levels), packing.nibbles(levels)], axis=-1)


def _super(form: Form, pack: Callable[[SuperBlocks], Bytes]) -> BlockType:
    return BlockType(WIDTH, lambda values, weights: pack(
        SuperBlockSearch(form, values, weights).run()))  # fmt: skip


BLOCK_TYPES: dict[str, BlockType] = {
    "Q8_0": BlockType(32, _q8_0),
    "Q5_1": BlockType(32, _q5_1),
    "Q5_0": BlockType(32, _q5_0),
    "Q4_1": BlockType(32, _q4_1),
    "Q4_0": BlockType(32, _q4_0),
    "Q6_K": _super(Q6_K, packing.q6_k),
    "Q5_K": _super(Q5_K, packing.q5_k),
    "Q4_K": _super(Q4_K, packing.q4_k),
}
"""Types that are written here, by their names in `gguf.GGMLQuantizationType`."""
