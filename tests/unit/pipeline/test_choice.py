"""Which student and which compression are kept, on hand-made figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.core.errors import SpecError
from edgedistill.core.task import Requirements, TaskSpec
from edgedistill.models.families import FAMILIES
from edgedistill.pipeline.packaging import golden_rows
from edgedistill.pipeline.search import (
    COMPRESSED,
    CONTROL,
    Tried,
    candidates_of,
    choose,
    pareto_front,
)
from edgedistill.pipeline.stages.any_ground import Candidate
from edgedistill.pipeline.stages.artefact import Artefact
from edgedistill.pipeline.stages.student import TrainedStudent
from edgedistill.pipeline.stages.variants import Variant, choose_variant
from edgedistill.pipeline.store import StageResult

FULL = Variant((), 4_000_000, 0.95, 1.0, 1.0, 1.2)


def tried(
    name: str, *, accuracy: float, mb: float, p95_ms: float = 1.0, retention: float = 0.9
) -> Tried:
    """A candidate with one variant; bytes in 10^6."""
    stage = StageResult(name, Path(name), name, 0.0, False)
    candidate = Candidate("static", name, {})
    variant = Variant((), int(mb * 1e6), accuracy, 1.0, p95_ms, p95_ms, kept=True)
    student = TrainedStudent(candidate, stage, {})
    return Tried(candidate, Artefact(student, stage, variant, (variant,)), retention)


def chosen(found: Sequence[Tried]) -> str:
    names = [t.candidate.name for t in found if t.chosen]
    assert len(names) == 1
    return names[0]


def reason(found: Sequence[Tried], name: str) -> str:
    return next(t.reason for t in found if t.candidate.name == name)


BIG = tried("big", accuracy=0.96, mb=8, p95_ms=3, retention=0.98)
MIDDLE = tried("middle", accuracy=0.95, mb=3, retention=0.97)
SMALL = tried("small", accuracy=0.90, mb=1, p95_ms=0.1, retention=0.92)
WORSE = tried("worse", accuracy=0.94, mb=4, p95_ms=2, retention=0.96)
SKIPPED = Tried(Candidate("static", "huge", {}), None, reason="would take about 90 MB")
ALL = [SMALL, MIDDLE, SKIPPED, WORSE, BIG]


def test_the_smallest_that_meets_the_requirement_is_chosen() -> None:
    found = choose(ALL, Requirements(retention=0.965))
    assert chosen(found) == "middle"
    assert [t.candidate for t in found] == [t.candidate for t in ALL]
    assert reason(found, "small") == "foreseen retention bound 92.00% is below the requirement"
    assert reason(found, "worse") == "foreseen retention bound 96.00% is below the requirement"
    assert reason(found, "big") == "middle is smaller and meets the requirement too"
    assert reason(found, "huge") == "would take about 90 MB"
    assert reason(found, "middle") == ""


def test_of_those_that_meet_it_bytes_come_before_milliseconds() -> None:
    quick = tried("quick", accuracy=0.95, mb=3.1, p95_ms=0.2, retention=0.97)
    assert chosen(choose([quick, MIDDLE], Requirements(retention=0.965))) == "middle"
    even = replace(quick, artefact=tried("even", accuracy=0.95, mb=3, p95_ms=0.2).artefact)
    assert chosen(choose([MIDDLE, even], Requirements(retention=0.965))) == "quick"


def test_a_dominated_one_is_told_so() -> None:
    found = choose(ALL, Requirements(retention=0.95))
    assert chosen(found) == "middle"
    assert reason(found, "worse") == "another is as good in every respect and better in one"
    assert [t.on_front for t in found] == [True, True, False, False, True]


def test_size_and_latency_come_before_retention() -> None:
    found = choose(ALL, Requirements(retention=0.975, size_mb=5))
    assert chosen(found) == "middle"
    assert reason(found, "big") == "over the size, latency or memory asked for"
    assert chosen(choose(ALL, Requirements(retention=0.975, latency_p95_ms=0.5))) == "small"


def test_if_none_is_good_enough_the_most_accurate_within_the_limits_is_chosen() -> None:
    assert chosen(choose(ALL, Requirements(retention=0.999))) == "big"
    assert chosen(choose(ALL, Requirements(retention=0.999, size_mb=2))) == "small"


def test_if_none_is_within_the_limits_the_best_of_all_is_chosen() -> None:
    assert chosen(choose(ALL, Requirements(retention=0.97, size_mb=0.1))) == "middle"
    assert chosen(choose(ALL, Requirements(retention=None, size_mb=0.1))) == "small"


def test_equal_candidates_give_one_choice() -> None:
    twins = [replace(MIDDLE, candidate=Candidate("static", name, {})) for name in ("a", "b")]
    assert chosen(choose(twins, Requirements())) == "a"


POINTS = st.lists(st.tuples(*[st.integers(0, 4).map(float)] * 3), min_size=1, max_size=12)


def dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Plainly: accuracy up, bytes and latency down."""
    as_good = a[0] >= b[0] and a[1] <= b[1] and a[2] <= b[2]
    return as_good and a != b


@given(POINTS)
def test_the_front_is_what_nothing_dominates(points: list[tuple[float, float, float]]) -> None:
    expected = [not any(dominates(other, point) for other in points) for point in points]
    assert pareto_front(points) == expected
    assert any(expected)


def spec(**student: Any) -> TaskSpec:
    return TaskSpec.model_validate({
        "name": "x", "data": {"files": {"train": "t.jsonl"}}, "teacher": {"source": "folder:t"},
        "student": student,
    })  # fmt: skip


def test_auto_tries_every_family_and_the_control_first() -> None:
    found = candidates_of(spec(family="auto"))
    assert found[0] == CONTROL
    # What is compressed is no smaller student: a section of its own asks for it.
    assert {c.family for c in found} == set(FAMILIES) - {COMPRESSED}
    assert len({c.name for c in found}) == len(found)
    for candidate in found:
        FAMILIES.load(candidate.family).config(**candidate.options)


def test_a_named_family_is_tried_with_its_options() -> None:
    found = candidates_of(spec(family="static", options={"token_size": 16}))
    assert Candidate("static", "static", {"token_size": 16}) in found


@pytest.mark.parametrize(
    ("student", "told"),
    [
        ({"family": "telepathy"}, "one of: compressed, linear, small_transformer, static"),
        ({"family": "static", "options": {"token_sise": 16}}, "token_size"),
        ({"family": "static", "options": {"token_size": 1}}, "student.options.token_size"),
        ({"family": "truncated", "options": {"layers": []}}, "student.options.layers"),
    ],
)
def test_unknown_families_and_options_are_refused(student: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError) as caught:
        candidates_of(spec(**student))
    assert told in str(caught.value)


def kept(variants: Sequence[Variant], **required: Any) -> tuple[str, ...]:
    judged = choose_variant(variants, Requirements(**required))
    assert [v.passes for v in judged] == [v.passes for v in variants]
    assert sum(v.kept for v in judged) == 1
    assert all(bool(v.reason) != v.kept for v in judged)
    return next(v.passes for v in judged if v.kept)


def why_not(variants: Sequence[Variant], passes: str, **required: Any) -> str:
    judged = choose_variant(variants, Requirements(**required))
    return next(v.reason for v in judged if v.passes == (passes,))


HALF = Variant(("half",), 2_000_000, 0.949, 0.995, 1.0, 1.2)
QUARTER = Variant(("quarter",), 1_000_000, 0.948, 0.99, 1.0, 1.2)
SLOW = Variant(("slow",), 1_010_000, 0.95, 0.999, 2.0, 2.4)
LOSSY = Variant(("lossy",), 500_000, 0.94, 0.99, 0.5, 0.6)
SHIFTY = Variant(("shifty",), 500_000, 0.95, 0.98, 0.5, 0.6)


def test_the_smallest_variant_that_keeps_the_quality_is_kept() -> None:
    variants = [FULL, HALF, QUARTER, LOSSY, SHIFTY]
    assert kept(variants) == ("quarter",)
    assert why_not(variants, "half") == "does not pay: 2.00 MB where 1.00 MB serve as well"
    assert why_not(variants, "lossy").startswith("costs quality: accuracy 0.9500 → 0.9400")
    assert "2.0% of the answers change" in why_not(variants, "shifty")


def test_of_equal_sizes_the_faster_is_kept() -> None:
    assert kept([FULL, SLOW, QUARTER]) == ("quarter",)
    told = why_not([FULL, SLOW, QUARTER], "slow")
    assert told == "does not pay: p50 2.000 ms where 1.000 ms serve as well"


def test_of_equal_cost_the_nearest_to_full_precision_is_kept() -> None:
    near = Variant(("near",), 1_010_000, 0.949, 0.999, 1.1, 1.3)
    assert kept([FULL, QUARTER, near]) == ("near",)
    assert why_not([FULL, QUARTER, near], "quarter")


def test_within_latency_comes_before_small() -> None:
    slow = replace(QUARTER, p50_ms=3.0, p95_ms=3.5)
    assert kept([FULL, HALF, slow], latency_p95_ms=2.0) == ("half",)
    told = why_not([FULL, HALF, slow], "quarter", latency_p95_ms=2.0)
    assert told == "over the size or latency asked for (1.00 MB, 3.50 ms)"
    # Nothing is within: the smallest sound one, so that the verdict can say what is missing.
    assert kept([FULL, HALF, slow], latency_p95_ms=0.1) == ("quarter",)


def test_within_memory_comes_before_small() -> None:
    heavy = replace(QUARTER, peak_memory_bytes=90_000_000)
    light = replace(HALF, peak_memory_bytes=80_000_000)
    assert kept([FULL, light, heavy], memory_mb=85.0) == ("half",)
    told = why_not([FULL, light, heavy], "quarter", memory_mb=85.0)
    assert told == (
        "over the size, latency or memory asked for (1.00 MB, 1.20 ms, 90.0 MB resident)"
    )
    assert kept([FULL, light, heavy]) == ("quarter",)


def test_if_every_pass_costs_quality_full_precision_is_kept() -> None:
    assert kept([FULL, LOSSY, SHIFTY]) == ()
    assert kept([FULL]) == ()


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(1, 80))
def test_golden_rows_spread_over_the_classes(labels: list[int], num: int) -> None:
    targets = np.array(labels)
    rows = golden_rows(targets, num)
    assert len(rows) == min(num, len(labels))
    assert (np.diff(rows) > 0).all()
    counts = np.bincount(targets[rows], minlength=7)
    available = np.bincount(targets, minlength=7)
    # No class has two rows more than one that still had rows to give.
    for label in range(7):
        if counts[label] < available[label]:
            assert counts.max() <= counts[label] + 1
    # The first rows of each class are taken.
    for label in set(labels):
        of_label = np.flatnonzero(targets == label)
        assert set(of_label[: counts[label]]) <= set(rows)
