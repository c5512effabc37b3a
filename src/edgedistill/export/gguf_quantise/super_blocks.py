"""Super-blocks of the K-quants: 256 weights whose sub-blocks have scales of few bits.

A sub-block's scale is a small whole number times the F16 scale of the super-block, and so is its
offset. The best scales of the sub-blocks, found alone, are rounded to such numbers; then three
moves are repeated, each kept only where it lowers the error: both F16 scales are fitted to all
256 weights at once, every sub-block tries the neighbours of its numbers, and levels are rounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgedistill.export.gguf_quantise.scales import (
    Floats,
    affine,
    inverse,
    plain_range,
    symmetric,
)

WIDTH = 256
#: Candidates of the sub-blocks' searches, in shares of the highest level.
_SHARES = (0.8, 0.9, 1.0, 1.1, 1.25)
_NUM_ROUNDS = 2


@dataclass
class SuperBlocks:
    """Weight ≈ d · scales · levels - d_min · mins.

    `d`, `d_min` [n, 1, 1], F16 values; `scales`, `mins` [n, parts, 1] and `levels`
    [n, parts, width], whole numbers; `error` [n, parts, 1].
    """

    d: Floats
    d_min: Floats
    scales: Floats
    mins: Floats
    levels: Floats
    error: Floats


@dataclass(frozen=True)
class Form:
    """One K-quant: `parts` sub-blocks; ranges of their scales, mins and levels."""

    parts: int
    scales: tuple[int, int]
    mins: tuple[int, int]
    levels: tuple[int, int]


Q4_K = Form(8, (0, 63), (0, 63), (0, 15))
Q5_K = Form(8, (0, 63), (0, 63), (0, 31))
Q6_K = Form(16, (-128, 127), (0, 0), (-32, 31))


class SuperBlockSearch:
    """The search for super-blocks [n, 256] of one form, their weights positive."""

    def __init__(self, form: Form, values: Floats, weights: Floats) -> None:
        self.form = form
        self.values = values.reshape(len(values), form.parts, -1)
        self.weights = weights.reshape(self.values.shape)

    def run(self) -> SuperBlocks:
        """The best super-blocks found; never worse than plain rounding."""
        best = self._stored(*self._plain())
        self._take_whole(best, self._stored(*self._searched()))
        for _ in range(_NUM_ROUNDS):
            self._take_whole(best, self._refitted(best))
            self._try_neighbours(best)
        self._take_whole(best, self._refitted(best))
        return best

    def _plain(self) -> tuple[Floats, Floats]:
        """Scales and offsets [n, parts, 1] that carry the extremes of each sub-block exactly."""
        low, high = self.form.levels
        if low < 0:
            farthest = np.abs(self.values).argmax(-1)[..., None]
            peak = np.take_along_axis(self.values, farthest, -1)
            return peak / np.float32(low), np.zeros_like(peak)
        lowest, highest = plain_range(self.values, below_zero=True)
        return (highest - lowest) / np.float32(high), -lowest

    def _searched(self) -> tuple[Floats, Floats]:
        """The same by the search, as if scales could be stored as they are."""
        low, high = self.form.levels
        width = self.values.shape[-1]
        values, weights = self.values.reshape(-1, width), self.weights.reshape(-1, width)
        if low < 0:
            divisors = [share * end for share in _SHARES for end in (low, high)]
            fit = symmetric(
                values, weights, low=low, high=high, divisors=divisors, storage=np.float32
            )
        else:
            fit = affine(
                values, weights, high=high, divisors=[share * high for share in _SHARES],
                storage=np.float32, below_zero=True,
            )  # fmt: skip
        shape = (*self.values.shape[:2], 1)
        return fit.scale.reshape(shape), -fit.offset.reshape(shape)

    def _stored(self, scale: Floats, offset: Floats) -> SuperBlocks:
        """Sub-blocks' scales and offsets as whole numbers times those of the super-block."""
        d = _half(_farthest(scale) / np.float32(_widest(self.form.scales)))
        d_min = _half(_farthest(offset) / np.float32(_widest(self.form.mins) or 1))
        scales = np.clip(np.rint(scale * inverse(d)), *self.form.scales)
        return self._rounded(
            d, d_min, scales, np.clip(np.rint(offset * inverse(d_min)), *self.form.mins)
        )

    def _rounded(self, d: Floats, d_min: Floats, scales: Floats, mins: Floats) -> SuperBlocks:
        step, base = d * scales, d_min * mins
        levels = np.clip(np.rint((self.values + base) * inverse(step)), *self.form.levels)
        wrong = self.values - step * levels + base
        error = np.einsum("npk,npk->np", self.weights, wrong * wrong)[..., None]
        return SuperBlocks(d, d_min, scales, mins, levels, error)

    def _refitted(self, best: SuperBlocks) -> SuperBlocks:
        """Both F16 scales by weighted least squares over the whole super-block."""
        up = best.scales * best.levels
        down = np.broadcast_to(-best.mins, up.shape)
        uu, ud, dd, ux, dx = (
            np.einsum("npk,npk,npk->n", self.weights, a, b)[:, None, None]
            for a, b in ((up, up), (up, down), (down, down), (up, self.values),
                         (down, self.values))
        )  # fmt: skip
        spread = uu * dd - ud * ud
        both = spread > 1e-5 * uu * dd
        alone = np.where(uu > 0, ux / uu, 0)
        d = np.where(both, (dd * ux - ud * dx) / spread, alone)
        d_min = np.where(both, (uu * dx - ud * ux) / spread, best.d_min)
        return self._rounded(_half(d), _half(d_min), best.scales, best.mins)

    def _try_neighbours(self, best: SuperBlocks) -> None:
        """Move each sub-block to the best of its numbers' neighbours."""
        around = (-1, 0, 1)
        moves = [(a, b) for a in around for b in (around if self.form.mins[1] else (0,))]
        scales, mins = best.scales, best.mins
        for by_scale, by_min in moves:
            found = self._rounded(
                best.d, best.d_min, np.clip(scales + by_scale, *self.form.scales),
                np.clip(mins + by_min, *self.form.mins),
            )  # fmt: skip
            _take(best, found, found.error < best.error, ("scales", "mins", "levels", "error"))

    @staticmethod
    def _take_whole(best: SuperBlocks, found: SuperBlocks) -> None:
        """Replace the super-blocks whose whole error is less in `found`."""
        better = found.error.sum(1, keepdims=True) < best.error.sum(1, keepdims=True)
        _take(best, found, better, ("d", "d_min", "scales", "mins", "levels", "error"))


def _take(
    best: SuperBlocks, found: SuperBlocks, better: npt.NDArray[np.bool_], names: tuple[str, ...]
) -> None:
    for name in names:
        setattr(best, name, np.where(better, getattr(found, name), getattr(best, name)))


def _farthest(scale: Floats) -> Floats:
    """The entry of each super-block farthest from 0, [n, 1, 1]."""
    return np.take_along_axis(scale, np.abs(scale).argmax(1)[:, None], 1)


def _widest(limits: tuple[int, int]) -> int:
    return max(limits, key=abs)


def _half(scale: Floats) -> Floats:
    return scale.astype(np.float16).astype(np.float32)
