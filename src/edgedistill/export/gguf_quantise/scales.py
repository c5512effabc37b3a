"""Scales of small blocks: the ones whose rounded weights err least, weighted by column.

ggml's own reference rounding takes the scale that carries the largest weight exactly. Here that
is one candidate among several: for each, levels are rounded, the scale that fits those levels
best follows in closed form (weighted least squares), and the levels are rounded again with the
scale *as it will be stored*. The best of all is kept, so it is never worse than the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Storage = type[np.float16] | type[np.float32]

#: Below this a scale stands for a block of zeros.
_LEAST = 1e-30
#: Rounds of fitting and rounding after the best candidate.
_NUM_POLISH = 2


@dataclass
class Fit:
    """The best so far of blocks [n, width]: weight ≈ `scale` · `levels` + `offset`.

    `levels` [n, width] whole numbers; `scale`, `offset`, `error` (weighted sum of squares) [n, 1].
    """

    levels: Floats
    scale: Floats
    offset: Floats
    error: Floats

    def take(self, found: Fit) -> None:
        """Replace the blocks that `found` holds with less error; NaN is never less."""
        better = found.error < self.error
        for name in ("levels", "scale", "offset", "error"):
            setattr(self, name, np.where(better, getattr(found, name), getattr(self, name)))


def symmetric(
    values: Floats,
    weights: Floats,
    *,
    low: int,
    high: int,
    divisors: Sequence[float],
    storage: Storage,
) -> Fit:
    """Blocks without an offset.

    Args:
        values, weights: [n, width]; the weights are positive.
        low, high: range of the levels, -low ≥ high.
        divisors: a candidate is the weight farthest from 0 divided by each of these.
        storage: precision that a scale is stored with.
    """
    weighted = weights * values
    farthest = np.abs(values).argmax(-1)[:, None]
    peak = np.take_along_axis(values, farthest, -1)

    def rounded(scale: Floats) -> Fit:
        kept = scale.astype(storage).astype(np.float32)
        levels = np.clip(np.rint(values * inverse(kept)), low, high)
        return Fit(levels, kept, np.zeros_like(kept), _error(values - kept * levels, weights))

    def fitted(levels: Floats) -> Fit:
        squares = _sum(weights, levels * levels)
        return rounded(np.where(squares > 0, _sum(weighted, levels) / squares, 0))

    best = rounded(peak / np.float32(low))
    for divisor in divisors:
        rough = inverse(peak / np.float32(divisor))
        best.take(fitted(np.clip(np.rint(values * rough), low, high)))
    for _ in range(_NUM_POLISH):
        best.take(fitted(best.levels))
    return best


def affine(
    values: Floats,
    weights: Floats,
    *,
    high: int,
    divisors: Sequence[float],
    storage: Storage,
    below_zero: bool = False,
) -> Fit:
    """Blocks with an offset; levels are 0 to `high`, scales not negative.

    Args:
        values, weights: [n, width]; the weights are positive.
        divisors: a candidate is the span of a block divided by each of these, laid on from its
            lowest and from its highest weight.
        storage: precision that scale and offset are stored with.
        below_zero: offsets may not be positive (K-quants).
    """
    lowest, highest = plain_range(values, below_zero=below_zero)
    span = highest - lowest
    sums = _sum(weights, np.ones_like(values)), _sum(weights, values)
    weighted = weights * values

    def rounded(scale: Floats, offset: Floats) -> Fit:
        kept, base = (a.astype(storage).astype(np.float32) for a in (scale, offset))
        levels = np.clip(np.rint((values - base) * inverse(kept)), 0, high)
        return Fit(levels, kept, base, _error(values - kept * levels - base, weights))

    def fitted(levels: Floats) -> Fit:
        total, mean = sums
        first, second = _sum(weights, levels), _sum(weights, levels * levels)
        product = _sum(weighted, levels)
        spread = total * second - first * first
        # Levels that are all alike leave the scale open.
        steep = spread > 1e-5 * total * second
        slope = (total * product - first * mean) / spread
        scale: Floats = np.where(steep, slope, 0).clip(0).astype(np.float32)
        offset = (mean - scale * first) / total
        if below_zero:
            through_zero = np.where(second > 0, product / second, 0).clip(0)
            scale = np.where(offset > 0, through_zero, scale)
            offset = np.minimum(offset, 0)
        return rounded(scale, offset.astype(np.float32))

    best = rounded(span / np.float32(high), lowest)
    for divisor in divisors:
        steps = inverse(span / np.float32(divisor))
        best.take(fitted(np.clip(np.rint((values - lowest) * steps), 0, high)))
        best.take(fitted(np.clip(np.rint((values - highest) * steps) + high, 0, high)))
    for _ in range(_NUM_POLISH):
        best.take(fitted(best.levels))
    return best


def plain_range(values: Floats, *, below_zero: bool) -> tuple[Floats, Floats]:
    """Lowest (at most 0, if `below_zero`) and highest weight of each block, [n, 1]."""
    lowest = values.min(-1, keepdims=True)
    return np.minimum(lowest, 0) if below_zero else lowest, values.max(-1, keepdims=True)


def inverse(scale: Floats) -> Floats:
    """1 / scale; 0 for the scale of a block of zeros."""
    stands = np.abs(scale) > _LEAST
    return np.where(stands, 1 / np.where(stands, scale, 1), 0).astype(np.float32)


def _sum(first: Floats, second: Floats) -> Floats:
    total: Floats = np.einsum("nk,nk->n", first, second)[:, None]
    return total


def _error(differences: Floats, weights: Floats) -> Floats:
    return _sum(weights, differences * differences)
