"""Scores of several seeds on the same test rows, with intervals that know the rows are the same.

Answers of two seeds to one row are no two rows: a row that is hard is hard for both. So rows are
drawn, the same ones for every seed, and what each seed scores on them is averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from edgedistill.core.generation_task import Metric
from edgedistill.evaluate.generation_score import NUM_RESAMPLES, resampled

Spread = tuple[float, float, float]
Answers = Mapping[str, np.ndarray]
Ratio = tuple[np.ndarray, np.ndarray]


def mean_score(metric: Metric, seeds: Sequence[Answers], role: str) -> np.ndarray:
    """Score averaged over seeds, float [1 + samples]: on all rows, and on rows drawn.

    Args:
        seeds: each one's texts ("" for none) by role, and `expected`, rows in one order.

    Raises:
        ValueError: the seeds were not asked the same rows.
    """
    expected = seeds[0]["expected"].tolist()
    if any(found["expected"].tolist() != expected for found in seeds):
        raise ValueError("the seeds have other test rows")
    rows = _drawn(len(expected), NUM_RESAMPLES)
    scores = []
    for found in seeds:
        answers = [text or None for text in found[role].tolist()]
        scores.append(resampled(metric, answers, expected, rows))
    return np.asarray(np.mean(scores, axis=0))


def pooled_score(metric: Metric, seeds: Sequence[Answers], role: str) -> Spread:
    """Mean score with its 95 % interval."""
    return _spread(mean_score(metric, seeds, role))


def pooled_retention(metric: Metric, seeds: Sequence[Answers], below: str, above: str) -> Spread:
    """Mean score of `above` over that of `below`, with its 95 % interval."""
    least = 1e-9  # a sample of rows on which nothing is right
    first, second = (mean_score(metric, seeds, role) for role in (below, above))
    return _spread(second / np.maximum(least, first))


def pooled_gain(metric: Metric, seeds: Sequence[Answers], reference: str, candidate: str) -> Spread:
    """Mean score of `candidate` minus that of `reference`, with its 95 % interval."""
    return _spread(mean_score(metric, seeds, candidate) - mean_score(metric, seeds, reference))


def pooled_ratio(seeds: Sequence[Ratio], minus: Sequence[Ratio] | None = None) -> Spread:
    """Mean over seeds of a sum over rows by a sum over rows, less another, with its 95 % interval.

    Args:
        seeds: each one's numerators and denominators, [rows] both.
    """

    def mean(found: Sequence[Ratio]) -> np.ndarray:
        rows = _drawn(len(found[0][0]), NUM_RESAMPLES)
        return np.mean([above[rows].sum(1) / below[rows].sum(1) for above, below in found], axis=0)

    return _spread(mean(seeds) - (mean(minus) if minus else 0.0))


@cache
def _drawn(num_rows: int, num_samples: int) -> np.ndarray:
    """Row numbers of each sample, int64 [1 + samples, rows]; the first is the rows themselves. The
    same for the same number of rows."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(num_rows, size=(num_samples, num_rows))
    return np.concatenate([np.arange(num_rows)[None], drawn])


def _spread(values: np.ndarray) -> Spread:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return float(values[0]), float(low), float(high)
