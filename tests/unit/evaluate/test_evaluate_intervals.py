import numpy as np
import pytest

from edgedistill.evaluate.intervals import (
    accuracy_difference_interval,
    clopper_pearson_interval,
    rate_lower_bound,
    rate_upper_bound,
    retention_interval,
    wilson_interval,
)


def test_same_seed_same_interval() -> None:
    teacher, student = np.arange(100) < 95, np.arange(100) % 11 > 0
    assert retention_interval(teacher, student, seed=3) == retention_interval(
        teacher, student, seed=3
    )


def test_pairing_narrows_the_interval() -> None:
    teacher = np.arange(1000) < 900
    alike = np.arange(1000) < 890
    unlike = np.roll(alike, 500)
    paired, unpaired = retention_interval(teacher, alike), retention_interval(teacher, unlike)
    assert paired.value == unpaired.value
    assert (paired.high - paired.low) < (unpaired.high - unpaired.low) / 3


@pytest.mark.parametrize("num_rows", [10, 1000])
def test_no_loss_seen_is_not_no_loss_proved(num_rows: int) -> None:
    right = np.ones(num_rows, dtype=bool)
    interval = retention_interval(right, right)
    assert interval.value == interval.high == 1.0
    assert interval.low == pytest.approx(0.025 ** (1 / num_rows))


def test_a_teacher_without_a_right_answer_has_no_retention() -> None:
    with pytest.raises(ValueError, match="right on no row"):
        retention_interval([False, False], [True, False])


def test_resamples_without_a_right_teacher_do_not_divide_by_zero() -> None:
    interval = retention_interval([True, False, False], [False, True, False])
    assert interval.low == 0.0
    assert 1.0 < interval.high <= 3.0


def test_difference_is_signed_towards_the_candidate() -> None:
    worse, better = np.arange(400) < 300, np.arange(400) < 360
    gain = accuracy_difference_interval(worse, better)
    assert gain.value == pytest.approx(0.15)
    assert gain.low > 0
    assert accuracy_difference_interval(better, worse).high < 0


def test_one_sided_bounds_meet_their_definition() -> None:
    assert rate_lower_bound(0, 20) == 0.0
    assert rate_upper_bound(20, 20) == 1.0
    assert rate_lower_bound(20, 20) == pytest.approx(0.05 ** (1 / 20))
    assert rate_upper_bound(0, 20) == pytest.approx(1 - 0.05 ** (1 / 20))


@pytest.mark.parametrize("interval", [wilson_interval, clopper_pearson_interval])
@pytest.mark.parametrize(("hits", "rows"), [(0, 0), (5, 4), (-1, 3)])
def test_impossible_counts_are_refused(interval, hits: int, rows: int) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="not a rate"):
        interval(hits, rows)
