"""Matrices of the guard in eight bits: a quarter of the bytes in the bundle.

A column's scale is a power of two, so what a packed matrix stands for is exact in float32, and
packing it once more gives the same integers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

SCALE = "_scale"
"""Ends the name of the array that holds a packed matrix's exponents."""

_LARGEST = 127


def rounded(matrix: np.ndarray) -> np.ndarray:
    """The nearest matrix that packs without loss: float [n, k] -> float32 [n, k]."""
    exponents = _exponents(matrix)
    near = np.rint(np.ldexp(matrix, -exponents))
    return np.asarray(np.ldexp(near, exponents), dtype=np.float32)


def packed(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is stored: matrices that lose nothing as int8 with the exponents of their columns."""
    stored: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if array.ndim == 2 and np.array_equal(rounded(array), array):
            exponents = _exponents(array)
            stored[name] = np.ldexp(array, -exponents).astype(np.int8)
            stored[name + SCALE] = exponents.astype(np.int16)
        else:
            stored[name] = array
    return stored


def unpacked(stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays that `packed` took."""
    return {
        name: np.ldexp(array.astype(np.float32), stored[name + SCALE].astype(np.int32))
        if name + SCALE in stored
        else array
        for name, array in stored.items()
        if not name.endswith(SCALE)
    }


def _exponents(matrix: np.ndarray) -> np.ndarray:
    """Least exponents by which the entries of each column fit into an int8, int32 [k]."""
    largest = np.abs(matrix).max(axis=0, initial=0.0).astype(np.float64) / _LARGEST
    fractions, exponents = np.frexp(largest)
    # frexp's fraction is in [0.5, 1): an exact power of two needs one less.
    return np.asarray(exponents - (fractions == 0.5), dtype=np.int32)
