"""Memory and cold start: judged when asked, on the bound that counts."""

from __future__ import annotations

import pytest

from edgedistill.evaluate.edge_limits import judge_cold_start, judge_memory

STARTS = (210.0, 190.0, 230.0, 200.0, 205.0)


def test_what_is_not_required_is_not_judged() -> None:
    assert judge_memory(None, 10**9) is None
    assert judge_cold_start(None, STARTS, 0.95) is None


@pytest.mark.parametrize(("limit", "holds"), [(80.0, True), (79.9, False)])
def test_memory_is_judged_on_its_peak(limit: float, holds: bool) -> None:
    judgement = judge_memory(limit, 80_000_000)
    assert judgement is not None
    assert judgement.holds is holds
    assert judgement.measured == "80.0 MB"


@pytest.mark.parametrize(("limit", "holds"), [(230.0, True), (229.0, False)])
def test_a_start_is_judged_on_a_bound_of_its_median(limit: float, holds: bool) -> None:
    # The largest of five lies above the median with probability 1 - 2^-5 = 0.969.
    judgement = judge_cold_start(limit, STARTS, 0.95)
    assert judgement is not None
    assert judgement.holds is holds
    assert judgement.bound == 230.0
    assert "205 ms, median of 5" in judgement.measured


def test_too_few_starts_prove_nothing() -> None:
    judgement = judge_cold_start(1e9, STARTS[:4], 0.95)
    assert judgement is not None
    assert not judgement.holds
    assert judgement.detail["bound"] == "none: too few starts"


def test_what_was_not_measured_does_not_hold() -> None:
    for judgement in (judge_memory(1e9, None), judge_cold_start(1e9, (), 0.95)):
        assert judgement is not None
        assert not judgement.holds
        assert "not measured" in judgement.measured
