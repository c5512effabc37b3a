"""Scores of many models on the same test rows, averaged over seeds, with paired intervals."""

from __future__ import annotations

import numpy as np

Spread = tuple[float, float, float]
NUM_SAMPLES = 10_000
#: Samples that are drawn at a time.
BLOCK = 500


def pooled_f1(counts: np.ndarray) -> np.ndarray:
    """Micro F1 of every model, averaged over its seeds, float [1 + samples, models].

    Entry 0 is on the rows themselves, the others on rows drawn with replacement: the same ones for
    every model and seed, since answers of two models to one row are no two rows.

    Args:
        counts: right, given and expected answers, int [models, seeds, rows, 3].
    """
    num_models, num_seeds, num_rows, _ = counts.shape
    columns = np.moveaxis(counts, 2, 0).reshape(num_rows, -1).astype(np.float64)
    rng = np.random.default_rng(0)
    sums = [columns.sum(0, keepdims=True)]
    for start in range(0, NUM_SAMPLES, BLOCK):
        num = min(BLOCK, NUM_SAMPLES - start)
        drawn = rng.integers(num_rows, size=(num, num_rows)) + num_rows * np.arange(num)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=num * num_rows).reshape(num, num_rows)
        sums.append(weights.astype(np.float64) @ columns)
    parts = np.concatenate(sums).reshape(-1, num_models, num_seeds, 3)
    both = np.maximum(1.0, parts[..., 1] + parts[..., 2])
    return np.asarray((2.0 * parts[..., 0] / both).mean(axis=2))


def spread(values: np.ndarray) -> Spread:
    """The value of entry 0 and the 95 % interval of the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return float(values[0]), float(low), float(high)


def verdict(gain: Spread) -> str:
    """What an interval of a gain says."""
    if gain[1] > 0:
        return "helps"
    return "harms" if gain[2] < 0 else "no difference"
