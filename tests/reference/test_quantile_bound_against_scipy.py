"""The distribution-free bound against scipy's binomial, and log-sum-exp against scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import logsumexp as scipy_logsumexp
from scipy.stats import binom

from edgedistill.runtime.guard.logsumexp import log_sum_below_peak, logsumexp
from edgedistill.runtime.measuring import distribution_free_upper


@pytest.mark.parametrize("num", [1, 2, 10, 59, 300, 2000, 100_000])
@pytest.mark.parametrize("quantile", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_the_rank_is_scipys(num: int, quantile: float, confidence: float) -> None:
    ranks = np.random.default_rng(num).permutation(np.arange(1, num + 1)).astype(float)
    found = distribution_free_upper(ranks, quantile, confidence)
    expected = binom.ppf(confidence, num, quantile) + 1
    assert found == (expected if expected <= num else math.inf)


def test_log_sums_of_exponentials() -> None:
    logits = np.random.default_rng(0).normal(scale=50, size=(200, 30))
    np.testing.assert_allclose(logsumexp(logits), scipy_logsumexp(logits, axis=1), rtol=1e-13)
    peak = logits.max(axis=1)
    expected = scipy_logsumexp((logits - peak[:, None]) / 3.0, axis=1)
    np.testing.assert_allclose(log_sum_below_peak(logits, peak, 3.0), expected, atol=1e-13)
