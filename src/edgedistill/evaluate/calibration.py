"""Confidences that mean what they say, and an abstention rate that is kept.

Temperature scaling (Guo et al. 2017, arXiv 1706.04599) divides all logits by one number, so that
it changes no answer. Split conformal prediction (Vovk, Gammerman & Shafer 2005; Angelopoulos &
Bates 2021, arXiv 2107.07511) turns held-out scores into a threshold with a guarantee.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0


@dataclass(frozen=True)
class ConformalThreshold:
    """A row is refused if its score is strictly above `threshold` (higher = more out of bounds).

    `threshold` is infinite where too few rows stand behind it: nothing is refused, and `reason`
    says why. `measured_rate` is the share of the calibration rows above the threshold.
    """

    threshold: float
    rate: float
    num_rows: int
    measured_rate: float
    reason: str = ""


def log_softmax(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Log probabilities of logits [num_rows, num_classes] over `temperature`, in float64."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    result: Floats = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    return result


def negative_log_likelihood(
    logits: ArrayLike, targets: ArrayLike, temperature: float = 1.0
) -> float:
    """Mean surprise of the targets (int [num_rows]) in nats a row."""
    log_probabilities = log_softmax(logits, temperature)
    rows = np.arange(len(log_probabilities))
    return float(-log_probabilities[rows, np.asarray(targets, dtype=np.int64)].mean())


def fit_temperature(logits: ArrayLike, targets: ArrayLike) -> float:
    """The temperature under which held-out targets are least surprising.

    The negative log-likelihood is convex in 1/T, hence has one minimum in log T, and a bounded
    1-D search (Brent) finds it. Perfectly answered rows would drive T to 0, hopeless ones to
    infinity: T stays within [0.05, 20].

    Args:
        logits: float [num_rows, num_classes] of rows that nothing was trained on.
        targets: int [num_rows].
    """
    from scipy.optimize import minimize_scalar

    if not len(np.asarray(targets)):
        raise ValueError("no rows to fit a temperature on")
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(logits, targets, math.exp(log_t)),
        bounds=(math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)),
        method="bounded",
        options={"xatol": 1e-5},
    )
    return float(math.exp(found.x))


def conformal_rank(num_rows: int, rate: float) -> int:
    """k = ceil((n + 1)(1 - rate)): the threshold is the k-th smallest of n scores, if k <= n."""
    # 1e-9: (n + 1)(1 - rate) may exceed a whole number by rounding alone.
    return math.ceil((num_rows + 1) * (1 - rate) - 1e-9)


def conformal_threshold(scores: ArrayLike, rate: float) -> ConformalThreshold:
    """The smallest threshold that keeps the false-abstention rate.

    With n calibration scores, the threshold lies midway between the k-th smallest and the next,
    k = ceil((n + 1)(1 - rate)): at or above the empirical quantile at k / n. Guarantee: if a new
    in-bounds row is exchangeable with the calibration rows, the chance that it is refused (score
    strictly above the threshold) is at most `rate`, for any distribution and any n. The chance is
    over both the calibration rows and the new row; given one calibration set the rate varies around
    it with a standard deviation of about sqrt(rate (1 - rate) / n). Without ties it is also at
    least `rate` - 1/(n + 1); ties only make it refuse less.

    Where k > n, no finite threshold gives the guarantee: the threshold is infinite, with the
    number of rows that would be needed in `reason`.

    Args:
        scores: float [n], higher = more out of bounds, of rows that neither the model nor the
            score was fitted on.
        rate: share of in-bounds rows that may be refused, in (0, 1).
    """
    values = np.sort(np.asarray(scores, dtype=np.float64))
    if not 0 < rate < 1:
        raise ValueError(f"the rate must lie in (0, 1), got {rate}")
    if np.isnan(values).any():
        raise ValueError("scores must not be nan")
    n = len(values)
    k = conformal_rank(n, rate)
    if k > n:
        needed = math.ceil(1 / rate - 1 - 1e-9)
        reason = f"{n} in-bounds rows cannot bound a rate of {rate:g}: at least {needed} are needed"
        return ConformalThreshold(math.inf, rate, n, 0.0, reason)
    # Midway to the next score: the same rows are refused, and none hangs on the last bit.
    threshold = float(values[k - 1] + (values[min(k, n - 1)] - values[k - 1]) / 2)
    return ConformalThreshold(threshold, rate, n, float(np.mean(values > threshold)))
