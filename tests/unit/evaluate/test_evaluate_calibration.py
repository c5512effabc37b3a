import math

import numpy as np
import pytest

from edgedistill.evaluate.calibration import (
    conformal_threshold,
    fit_temperature,
    log_softmax,
    negative_log_likelihood,
)


def test_temperature_recovers_the_scale_the_labels_were_drawn_from() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 6))
    probabilities = np.exp(log_softmax(logits))
    targets = (rng.random((20_000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1).clip(max=5)
    assert fit_temperature(logits * 2.5, targets) == pytest.approx(2.5, rel=0.03)


def test_fitted_temperature_is_the_best_on_a_grid() -> None:
    rng = np.random.default_rng(1)
    logits, targets = rng.normal(0, 4, (500, 4)), rng.integers(0, 4, 500)
    targets = np.where(rng.random(500) < 0.6, logits.argmax(axis=1), targets)
    fitted = fit_temperature(logits, targets)
    best = min(negative_log_likelihood(logits, targets, t) for t in np.geomspace(0.05, 20, 200))
    assert negative_log_likelihood(logits, targets, fitted) <= best + 1e-9


def test_perfect_answers_do_not_send_the_temperature_to_zero() -> None:
    assert 0.05 <= fit_temperature(np.eye(3) * 50, [0, 1, 2]) < 1


def test_log_softmax_survives_large_logits() -> None:
    assert log_softmax([[1e4, 0.0]])[0].tolist() == [0.0, -1e4]


@pytest.mark.parametrize(("n", "rate", "rank"), [(99, 0.05, 95), (100, 0.05, 96), (19, 0.05, 19)])
def test_threshold_is_the_corrected_order_statistic(n: int, rate: float, rank: int) -> None:
    found = conformal_threshold(np.random.default_rng(0).permutation(n) + 1.0, rate)
    assert found.threshold == (rank + 0.5 if rank < n else rank)
    assert found.measured_rate == (n - rank) / n


def test_too_few_rows_refuse_nothing_and_say_why() -> None:
    found = conformal_threshold(np.arange(18.0), 0.05)
    assert found.threshold == math.inf
    assert "18 in-bounds rows" in found.reason
    assert "19 are needed" in found.reason
    assert conformal_threshold([], 0.5).threshold == math.inf


def test_ties_never_refuse_more_than_asked() -> None:
    found = conformal_threshold([0.0] * 50 + [1.0] * 50, 0.3)
    assert found.threshold == 1.0
    assert found.measured_rate == 0.0


def test_the_guarantee_holds_over_many_draws() -> None:
    """Mean refusal of fresh rows is at most the rate, and not far below it."""
    rng = np.random.default_rng(2)
    refused = [
        np.mean(rng.normal(size=500) > conformal_threshold(rng.normal(size=59), 0.1).threshold)
        for _ in range(2000)
    ]
    assert 0.1 - 1 / 60 - 0.002 <= np.mean(refused) <= 0.1 + 0.003


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_rate_without_meaning_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        conformal_threshold([1.0], rate)


def test_nan_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="nan"):
        conformal_threshold([1.0, math.nan], 0.5)
