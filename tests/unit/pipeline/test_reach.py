"""What is said where no candidate meets what is required."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgedistill.core.task import Requirements
from edgedistill.pipeline.reach import told_reach
from edgedistill.pipeline.search import Tried
from edgedistill.pipeline.stages.any_ground import Candidate


def tried(name: str, kept: float, mb: float, p95_ms: float) -> Tried[Any]:
    chosen = SimpleNamespace(size_bytes=int(mb * 1e6), p95_ms=p95_ms, peak_memory_bytes=None)
    artefact: Any = SimpleNamespace(chosen=chosen)
    return Tried(Candidate("compressed", name, {}), artefact, kept)


FIELD = [tried("small", 0.92, 4.0, 1.0), tried("fast", 0.96, 6.0, 1.5), tried("wide", 0.99, 9, 4)]


def test_nothing_is_said_where_one_meets_all() -> None:
    required = Requirements(retention=0.95, size_mb=6, latency_p95_ms=2)
    assert told_reach(FIELD, required) == ()
    assert told_reach(FIELD, Requirements(retention=None)) == ()
    assert told_reach([Tried(Candidate("a", "a", {}), None, reason="no")], required) == ()


def test_each_requirement_that_alone_is_missed_is_told_with_the_nearest() -> None:
    required = Requirements(retention=0.95, size_mb=5, latency_p95_ms=2)
    assert told_reach(FIELD, required) == (
        "retention (lower bound) binds: 92.00% is within reach (small), 95.00% asked for, of what "
        "meets the rest",
        "size binds: 6.00 MB is within reach (fast), 5.00 MB asked for, of what meets the rest",
    )


def test_where_every_candidate_misses_two_each_is_told_by_itself() -> None:
    required = Requirements(retention=0.995, size_mb=3, latency_p95_ms=5)
    told = told_reach(FIELD, required)
    assert [line.partition(":")[0] for line in told] == ["retention (lower bound)", "size"]
    assert "99.00% is within reach (wide)" in told[0]
    assert "4.00 MB is within reach (small)" in told[1]
    assert all("misses another requirement" in line for line in told)


@pytest.mark.parametrize("memory_mb", [100.0, 200.0])
def test_memory_binds_too(memory_mb: float) -> None:
    one = tried("small", 0.99, 1, 1)
    one.artefact.chosen.peak_memory_bytes = 150_000_000
    told = told_reach([one], Requirements(memory_mb=memory_mb))
    assert bool(told) == (memory_mb < 150)
    assert all("memory binds: 150 MB resident" in line for line in told)
