"""Clipping of steps the long way: whole matrices on the rows themselves, no sums of products."""

from __future__ import annotations

import numpy as np

from edgedistill.compress.clipping import SHARES
from edgedistill.core.weight_groups import group_size


def errors(rows: np.ndarray, found: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Squared error of each output; rows [n, in], matrices [in, out]."""
    wrong = rows.astype(np.float64) @ (found.astype(np.float64) - values)
    return np.asarray((wrong**2).sum(axis=0))


def rounded(values: np.ndarray, share: float) -> np.ndarray:
    """Four bits of one group [size, out], at a share of the step that ends at the largest."""
    largest = np.take_along_axis(values, np.abs(values).argmax(0)[None], 0)
    steps = np.where(largest == 0, 1, largest / -8) * share
    return np.asarray(np.clip(np.rint(values / steps), -8, 7) * steps)


def groups_of(width: int) -> list[slice]:
    """The places of each group; the last may end beyond the width."""
    size = group_size(width)
    return [slice(start, start + size) for start in range(0, width, size)]


def clipped_by_hand(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The weights [in, out] if each output's groups choose their steps one after the other."""
    parts = groups_of(len(values))
    now = np.concatenate([rounded(values[part], 1) for part in parts])
    for part in parts:
        least = errors(rows, now, values)
        for share in SHARES:
            tried = now.copy()
            tried[part] = rounded(values[part], share)
            error = errors(rows, tried, values)
            better = error < least
            now[part, better], least[better] = tried[part, better], error[better]
    return now
