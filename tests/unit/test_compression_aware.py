"""What the benchmark of training for four bits asserts, on hand-made answers."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NUM_ROWS = 1000
TARGETS = np.zeros(NUM_ROWS, int)


@pytest.fixture
def aware() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("compression_aware")
    sys.path.remove(str(BENCHMARKS))


def answers(num_wrong: int) -> np.ndarray:
    """Wrong in the first rows alone."""
    return (np.arange(NUM_ROWS) < num_wrong).astype(int)


@pytest.mark.parametrize(
    ("rounded", "trained", "holds"),
    [(60, 30, True), (60, 40, True), (60, 41, False), (20, 20, False), (10, 0, False)],
    ids=["most", "half", "less than half", "nothing lost", "better by rounding"],
)
def test_half_of_what_is_lost_is_to_come_back(
    aware: ModuleType, rounded: int, trained: int, holds: bool
) -> None:
    given = dict(zip(aware.FORMS, map(answers, (20, rounded, 30, trained)), strict=True))
    students = [aware.Student(seed, aware.JUDGED, given) for seed in (0, 1)]
    rows = {claim.partition(": ")[2]: (values, held)
            for claim, values, _, _, held in aware.rows_of(aware.JUDGED, students, TARGETS)
            if ", " not in claim}  # fmt: skip
    lost, _ = rows["accuracy lost to plain rounding"]
    back, held = rows["accuracy that training for four bits brings back"]
    assert lost[0] == pytest.approx((rounded - 20) / 10)
    assert back[0] == pytest.approx((rounded - trained) / 10)
    assert held is holds


def test_other_students_are_shown(aware: ModuleType) -> None:
    given = dict(zip(aware.FORMS, map(answers, (20, 60, 60, 60)), strict=True))
    (other,) = set(aware.TAUGHT) - {aware.JUDGED}
    rows = aware.rows_of(other, [aware.Student(0, other, given)], TARGETS)
    assert all(bar == "shown" and held for _, _, _, bar, held in rows)
    changed = {claim: values[0] for claim, values, *_ in rows if "answers other" in claim}
    assert list(changed.values()) == pytest.approx([4.0] * 3)
