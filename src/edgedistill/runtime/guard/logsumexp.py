"""Logarithms of sums of exponentials that neither overflow nor lose small terms."""

from __future__ import annotations

import numpy as np

# `ufunc.reduce` skips the Python layers of `array.max`, half of the cost for one text.
_maximum = np.maximum.reduce
_sum = np.add.reduce


def logsumexp(logits: np.ndarray) -> np.ndarray:
    """log Σ exp over the last axis, float64 [n], of logits [n, classes]."""
    peak = _maximum(logits, axis=1)
    return np.asarray(peak + log_sum_below_peak(logits, peak), dtype=np.float64)


def log_sum_below_peak(
    logits: np.ndarray, peak: np.ndarray, temperature: float = 1.0
) -> np.ndarray:
    """log Σ exp((logits - peak) / temperature), float64 [n]; at least 0.

    Its negative is the logarithm of the largest softmax probability.
    """
    below = np.subtract(logits, peak[:, None], dtype=np.float64)
    if temperature != 1.0:
        below /= temperature
    np.exp(below, out=below)
    return np.asarray(np.log(_sum(below, axis=1)))
