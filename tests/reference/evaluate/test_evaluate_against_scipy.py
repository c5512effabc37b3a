"""Intervals against scipy's bootstrap over rows, and its exact binomial intervals."""

import time

import numpy as np
import pytest
from scipy import stats

from edgedistill.evaluate.intervals import (
    accuracy_difference_interval,
    clopper_pearson_interval,
    rate_lower_bound,
    retention_interval,
    wilson_interval,
)


def _answers(seed: int, num_rows: int = 600) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    teacher = rng.random(num_rows) < 0.95
    student = np.where(rng.random(num_rows) < 0.9, teacher, rng.random(num_rows) < 0.6)
    return teacher, student


def _scipy_interval(teacher, student, statistic):  # type: ignore[no-untyped-def]
    result = stats.bootstrap(
        (teacher.astype(float), student.astype(float)),
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(1),
    )
    return result.confidence_interval


@pytest.mark.parametrize("seed", range(3))
def test_retention(seed: int) -> None:
    teacher, student = _answers(seed)
    expected = _scipy_interval(
        teacher, student, lambda t, s, axis=-1: s.mean(axis=axis) / t.mean(axis=axis)
    )
    ours = retention_interval(teacher, student)
    assert ours.value == student.mean() / teacher.mean()
    assert ours.low == pytest.approx(expected.low, abs=1.5e-3)
    assert ours.high == pytest.approx(expected.high, abs=1.5e-3)


def test_difference() -> None:
    teacher, student = _answers(7)
    expected = _scipy_interval(
        teacher, student, lambda t, s, axis=-1: s.mean(axis=axis) - t.mean(axis=axis)
    )
    ours = accuracy_difference_interval(teacher, student)
    assert ours.value == pytest.approx(student.mean() - teacher.mean())
    assert ours.low == pytest.approx(expected.low, abs=2e-3)
    assert ours.high == pytest.approx(expected.high, abs=2e-3)


@pytest.mark.parametrize(("hits", "rows"), [(0, 10), (3, 10), (10, 10), (950, 1000), (1, 4500)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_rates(hits: int, rows: int, confidence: float) -> None:
    result = stats.binomtest(hits, rows)
    for ours, method in ((wilson_interval, "wilson"), (clopper_pearson_interval, "exact")):
        expected = result.proportion_ci(confidence, method)  # type: ignore[arg-type]
        interval = ours(hits, rows, confidence=confidence)
        assert interval.value == hits / rows
        assert interval.low == pytest.approx(expected.low, abs=1e-9)
        assert interval.high == pytest.approx(expected.high, abs=1e-9)
    one_sided = stats.binomtest(hits, rows, alternative="greater").proportion_ci(confidence)
    assert rate_lower_bound(hits, rows, confidence=confidence) == pytest.approx(one_sided.low)


def test_ten_thousand_resamples_of_4500_rows_take_well_under_a_second() -> None:
    teacher, student = _answers(0, 4500)
    started = time.perf_counter()
    retention_interval(teacher, student)
    assert time.perf_counter() - started < 0.5


def test_coverage_of_the_retention_interval() -> None:
    """Over many samples of a known truth, about 95 % of the intervals hold the truth."""
    rng = np.random.default_rng(0)
    shares, truth = [0.91, 0.04, 0.02, 0.03], (0.91 + 0.02) / (0.91 + 0.04)
    held = 0
    for trial in range(400):
        cells = rng.choice(4, size=1000, p=shares)
        interval = retention_interval(
            cells < 2, (cells == 0) | (cells == 2), num_resamples=1000, seed=trial
        )
        held += interval.low <= truth <= interval.high
    assert 0.92 <= held / 400 <= 0.98
