"""Field F1 of several seeds on the same test rows, with intervals that know the rows are the same.

Answers of two seeds to one row are no two rows: a row that is hard is hard for both. So rows are
drawn, the same ones for every seed, and what each seed scores on them is averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgedistill.evaluate.generation_metrics import field_counts, parse_record

Spread = tuple[float, float, float]
Answers = Mapping[str, np.ndarray]
NUM_RESAMPLES = 10_000


def mean_f1(seeds: Sequence[Answers], role: str) -> np.ndarray:
    """Field F1 averaged over seeds, float [1 + NUM_RESAMPLES]: on all rows, and on rows drawn.

    Args:
        seeds: each one's texts ("" for none) by role, and `expected`, rows in one order.

    Raises:
        ValueError: the seeds were not asked the same rows.
    """
    expected = seeds[0]["expected"].tolist()
    if any(found["expected"].tolist() != expected for found in seeds):
        raise ValueError("the seeds have other test rows")
    wanted = [parse_record(text) for text in expected]
    scores = []
    often = _drawn(len(expected))
    for found in seeds:
        said = [parse_record(text) if text else None for text in found[role].tolist()]
        counts = field_counts(said, wanted)
        both = counts.num_predicted + counts.num_expected
        scores.append(2.0 * (often @ counts.num_right) / np.maximum(1.0, often @ both))
    return np.asarray(np.mean(scores, axis=0))


def pooled_score(seeds: Sequence[Answers], role: str) -> Spread:
    """Mean field F1 with its 95 % interval."""
    return _spread(mean_f1(seeds, role))


def pooled_retention(seeds: Sequence[Answers], below: str, above: str) -> Spread:
    """Mean field F1 of `above` over that of `below`, with its 95 % interval."""
    least = 1e-9  # a sample of rows on which nothing is right
    return _spread(mean_f1(seeds, above) / np.maximum(least, mean_f1(seeds, below)))


def pooled_gain(seeds: Sequence[Answers], reference: str, candidate: str) -> Spread:
    """Mean field F1 of `candidate` minus that of `reference`, with its 95 % interval."""
    return _spread(mean_f1(seeds, candidate) - mean_f1(seeds, reference))


def _drawn(num_rows: int) -> np.ndarray:
    """How often each row is in each sample, float32 [1 + NUM_RESAMPLES, num_rows]; the first is
    the rows themselves. The same for the same number of rows."""
    rng = np.random.default_rng(0)
    often = rng.multinomial(num_rows, np.full(num_rows, 1.0 / num_rows), size=NUM_RESAMPLES)
    return np.concatenate([np.ones((1, num_rows)), often]).astype(np.float32)


def _spread(values: np.ndarray) -> Spread:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return float(values[0]), float(low), float(high)
