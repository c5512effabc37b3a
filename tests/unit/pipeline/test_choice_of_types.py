"""The smallest type of weights that answers as full precision does is kept."""

from __future__ import annotations

import pytest

from edgedistill.core.generation_task import GenerationRequirements
from edgedistill.pipeline.generation.artefact import Variant, choose


def variant(
    kind: str, size_bytes: int, score: float = 0.8, agreement: float = 1.0, p95_ms: float = 5.0
) -> Variant:
    return Variant(kind, size_bytes, score, agreement, 3.0, p95_ms, 900.0, "")


@pytest.mark.parametrize(
    ("smaller", "reason"),
    [
        (variant("q4_0", 25, score=0.794), "costs quality: score 0.8000 → 0.7940"),
        # As many right answers, but other ones.
        (variant("q4_0", 25, agreement=0.64), "changes 36.0% of the tokens"),
        (variant("q4_0", 25, p95_ms=12.0), "p95 12.0 ms is over the latency asked for"),
    ],
)
def test_a_smaller_type_is_declined_for_what_it_changes(smaller: Variant, reason: str) -> None:
    found = choose(
        [variant("f16", 100), variant("q8_0", 50, score=0.796, agreement=0.95), smaller],
        GenerationRequirements(latency_p95_ms=10.0),
    )
    assert [v.kind for v in found if v.kept] == ["q8_0"]
    assert [v.reason for v in found] == ["q8_0 is smaller and answers as well", "", reason]


def test_full_precision_stays_where_nothing_else_is_sound() -> None:
    found = choose([variant("f16", 100), variant("q8_0", 50, score=0.5)], GenerationRequirements())
    assert [v.kept for v in found] == [True, False]
