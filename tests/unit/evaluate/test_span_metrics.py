"""Span scores by hand, by brute force, and their intervals."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.core.errors import VerificationFailed
from edgedistill.evaluate.span_metrics import (
    exact_counts,
    f1_gain,
    f1_interval,
    field_scores,
    partial_counts,
    retention,
    whole_records,
)

GOLD = [{("a", 0, 3), ("a", 5, 9), ("b", 10, 12)}, set(), {("b", 0, 2)}]
FOUND = [{("a", 0, 3), ("a", 4, 9), ("a", 10, 12)}, {("b", 0, 1)}, {("b", 0, 2)}]


def test_counts_by_hand() -> None:
    exact, partial = exact_counts(FOUND, GOLD), partial_counts(FOUND, GOLD)
    assert exact.num_right.tolist() == [1, 0, 1]
    assert partial.num_right.tolist() == [2, 0, 1]
    assert exact.num_predicted.tolist() == [3, 1, 1]
    assert exact.num_expected.tolist() == [3, 0, 1]
    assert (exact.precision, exact.recall) == (2 / 5, 2 / 4)
    assert exact.f1 == pytest.approx(4 / 9)
    assert whole_records(FOUND, GOLD).tolist() == [False, False, True]


def test_scores_by_field() -> None:
    a, b, c = field_scores(FOUND, GOLD, ("a", "b", "c"))
    assert (a.precision, a.recall, a.num_expected) == (1 / 3, 1 / 2, 2)
    assert a.partial_f1 == pytest.approx(4 / 5)
    assert (b.precision, b.recall) == (1 / 2, 1 / 2)
    assert (c.f1, c.partial_f1, c.num_expected) == (0.0, 0.0, 0)


def apart(pairs: list[tuple[int, int]]) -> set[tuple[str, int, int]]:
    """Spans that do not overlap, of gaps and lengths."""
    found, place = set(), 0
    for gap, length in pairs:
        found.add(("a", place + gap, place + gap + length))
        place += gap + length
    return found


spans = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), max_size=4).map(apart)


@given(spans, spans)
def test_as_many_pairs_as_can_be(found: set, wanted: set) -> None:  # type: ignore[type-arg]
    few, many = sorted((sorted(found), sorted(wanted)), key=len)
    best = max(
        sum(a[1] < b[2] and b[1] < a[2] for a, b in zip(few, order, strict=False))
        for order in permutations(many)
    )
    assert partial_counts([found], [wanted]).num_right[0] == best
    assert exact_counts([found], [wanted]).num_right[0] <= best


@given(st.lists(st.tuples(spans, spans), min_size=1, max_size=8))
def test_intervals_hold_their_value(rows: list) -> None:  # type: ignore[type-arg]
    found, wanted = ([row[i] for row in rows] for i in (0, 1))
    counts = exact_counts(found, wanted)
    interval = f1_interval(counts, num_resamples=200)
    assert interval.value == pytest.approx(counts.f1)
    assert 0 <= interval.low <= interval.high <= 1
    same = f1_gain(counts, counts, num_resamples=200)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_a_gain_is_paired() -> None:
    rng = np.random.default_rng(0)
    wanted = [{("a", 0, 1), ("a", 2, 3)} for _ in range(300)]
    weak = [{("a", 0, 1)} if rng.random() < 0.5 else set() for _ in wanted]
    strong = [spans | {("a", 2, 3)} for spans in weak]
    reference, candidate = exact_counts(weak, wanted), exact_counts(strong, wanted)
    gain = f1_gain(reference, candidate, num_resamples=2000)
    assert gain.value == pytest.approx(candidate.f1 - reference.f1)
    apart = f1_interval(candidate, num_resamples=2000)
    assert gain.high - gain.low < 2 * (apart.high - apart.low)
    assert gain.low > 0.3


def test_retention_is_the_ratio_and_needs_a_teacher_that_finds_something() -> None:
    wanted = [{("a", 0, 1)} for _ in range(40)]
    teacher, student = exact_counts(wanted, wanted), exact_counts([set(), *wanted[1:]], wanted)
    kept = retention(teacher, student)
    assert kept.value == pytest.approx(student.f1)
    assert kept.low < kept.value < 1
    with pytest.raises(VerificationFailed, match="finds no span"):
        retention(exact_counts([set()] * 40, wanted), student)


def test_unequal_lists_are_refused() -> None:
    for pair in (([], []), ([set()], [])):
        with pytest.raises(ValueError, match="equally long"):
            exact_counts(*pair)
        with pytest.raises(ValueError, match="equally long"):
            whole_records(*pair)
