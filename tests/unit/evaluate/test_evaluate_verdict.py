import math
from dataclasses import replace

import pytest

from edgedistill.core.artefacts import Interval, Judgement
from edgedistill.core.task import Requirements
from edgedistill.evaluate.fidelity import HopBars, Ledger
from edgedistill.evaluate.verdict import (
    Count,
    FalseAbstention,
    Measurements,
    false_abstention_limit,
    judge,
    reasons,
    ships,
)

REQUIRED = Requirements(retention=0.98, size_mb=2.0, latency_p95_ms=0.15, out_of_bounds_recall=0.7)
GOOD = Measurements(
    retention=Interval(0.99, 0.985, 0.995),
    size_bytes=2_000_000,
    latency_p95_ms=0.12,
    latency_p95_upper_ms=0.15,
    repeat_agreement=Count(500, 500),
    batch_agreement=Count(4500, 4500),
    out_of_bounds_refused=Count(800, 1000),
    false_abstention=FalseAbstention(0.05, 1000, Count(50, 1000)),
)


def _by_name(measured: Measurements, required: Requirements = REQUIRED) -> dict[str, Judgement]:
    return {j.requirement: j for j in judge(required, measured)}


def test_all_holds_ships() -> None:
    judgements = judge(REQUIRED, GOOD)
    assert len(judgements) == 7
    assert ships(judgements)
    assert reasons(judgements) == ()


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("retention", replace(GOOD, retention=Interval(0.99, 0.979, 1.0))),
        ("size", replace(GOOD, size_bytes=2_000_001)),
        ("p95 latency", replace(GOOD, latency_p95_upper_ms=0.1501)),
        ("repeat agreement", replace(GOOD, repeat_agreement=Count(499, 500))),
        ("batch agreement", replace(GOOD, batch_agreement=Count(4495, 4500))),
        ("out-of-bounds recall", replace(GOOD, out_of_bounds_refused=Count(715, 1000))),
        ("out-of-bounds recall", replace(GOOD, out_of_bounds_refused=None)),
        (
            "false abstention",
            replace(GOOD, false_abstention=FalseAbstention(0.05, 1000, Count(80, 1000))),
        ),
    ],
)
def test_a_point_estimate_that_passes_does_not_ship_when_its_bound_fails(
    name: str, bad: Measurements
) -> None:
    judgements = judge(REQUIRED, bad)
    assert [j.requirement for j in judgements if not j.holds] == [name]
    assert not ships(judgements)
    assert len(reasons(judgements)) == 1
    assert reasons(judgements)[0].startswith(name)


def test_a_latency_without_a_bound_does_not_ship_and_stays_json() -> None:
    found = _by_name(replace(GOOD, latency_p95_upper_ms=math.inf))["p95 latency"]
    assert not found.holds
    assert found.bound == 0.12
    assert found.detail["bound"] == "none: too few measurements"


def test_requirements_left_out_are_not_judged() -> None:
    names = set(_by_name(replace(GOOD, false_abstention=None), Requirements(retention=None)))
    assert names == {"repeat agreement", "batch agreement"}


def test_bounds_are_those_that_decide() -> None:
    found = _by_name(GOOD)
    assert found["retention"].bound == 0.985
    assert found["size"].bound == 2.0
    assert found["p95 latency"].bound == 0.15
    assert 0.77 < found["out-of-bounds recall"].bound < 0.8


def test_nothing_judged_does_not_ship() -> None:
    assert not ships([])


def test_a_broken_hop_does_not_ship() -> None:
    ledger = Ledger([0, 1])
    ledger.record("student", [0, 1])
    assert ships(judge(REQUIRED, GOOD, hops=ledger.hops))
    ledger.record("int8", [1, 1], bars=HopBars(agreement=1.0))
    assert [r[:22] for r in reasons(judge(REQUIRED, GOOD, hops=ledger.hops))] == [
        "fidelity: every hop ho"
    ]


def test_false_abstention_limit_allows_chance_and_no_more() -> None:
    assert 0.05 < false_abstention_limit(0.05, 3000, 4500, 0.95) < 0.065
    assert false_abstention_limit(0.05, 100, 4500, 0.95) > 0.08
    assert false_abstention_limit(0.05, 5, 4500, 0.95) == 0.0


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError):
        Count(3, 2)


def test_general_retention_is_judged_on_its_lower_end() -> None:
    required = REQUIRED.model_copy(update={"general_retention": 0.9})
    assert "general retention" not in _by_name(GOOD)
    for low, holds in ((0.9, True), (0.899, False)):
        measured = replace(GOOD, general_retention=Interval(0.95, low, 0.97))
        judgement = _by_name(measured, required)["general retention"]
        assert judgement.holds is holds
        assert judgement.bound == low
        # Retention of the task's own rows is another matter.
        assert _by_name(measured, required)["retention"].bound == 0.985
    missing = _by_name(GOOD, required)["general retention"]
    assert not missing.holds
    assert "no step" in missing.measured
