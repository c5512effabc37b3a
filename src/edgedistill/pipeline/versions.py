"""Every version that a run measured, as the report shows them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from edgedistill.core.artefacts import Interval
from edgedistill.evaluate.report.content import Footprint
from edgedistill.evaluate.report.versions import Version, Versions
from edgedistill.pipeline.search import Tried, pareto_front
from edgedistill.pipeline.stages.variants import LEAST_AGREEMENT, Variant


class Measured(Protocol):
    """What variants of every kind of task have."""

    @property
    def size_bytes(self) -> int: ...
    @property
    def p50_ms(self) -> float: ...
    @property
    def p95_ms(self) -> float: ...
    @property
    def agreement(self) -> float: ...
    @property
    def kept(self) -> bool: ...
    @property
    def retention(self) -> tuple[float, float, float] | None: ...


def version_of(
    of: str, passes: str, variant: Measured, first: Measured, score: float, **others: Any
) -> Version:
    """One variant of a student, beside the first, which changes nothing or least.

    Args:
        score: its score. others: fields of `Version` that only the caller knows.
    """
    return Version(
        of=of,
        passes=passes,
        size_bytes=variant.size_bytes,
        p50_ms=variant.p50_ms,
        p95_ms=variant.p95_ms,
        times_faster=first.p50_ms / variant.p50_ms,
        score=score,
        agreement=variant.agreement,
        # Of the first that would say of itself that it keeps all.
        retention=Interval(*variant.retention)
        if variant.retention and variant is not first else None,
        kept=variant.kept,
        **others,
    )  # fmt: skip


def versions_of_student(
    of: str, variants: Sequence[Variant], *, chosen: bool = True
) -> list[Version]:
    """Sequences of passes; `chosen`: the one that is kept ships."""
    return [
        version_of(
            of,
            " + ".join(variant.passes) or "full precision",
            variant,
            variants[0],
            variant.accuracy,
            least_agreement=LEAST_AGREEMENT,
            chosen=chosen and variant.kept,
        )
        for variant in variants
    ]


def versions_of_run(
    tried: Sequence[Tried[Any]],
    original: Footprint,
    *,
    original_score: float | None = None,
    score: str = "accuracy",
) -> Versions:
    """Every variant of every candidate; one candidate is chosen.

    Args:
        original, original_score, score: as `all_versions`.
    """
    rows = [
        version
        for t in tried if t.artefact
        for version in versions_of_student(
            t.candidate.name, t.artefact.variants, chosen=t.chosen
        )
    ]  # fmt: skip
    shipped = next(t.artefact for t in tried if t.artefact and t.chosen)
    return all_versions(
        rows,
        original,
        passes_with_bytes(shipped.variants[0], shipped.chosen),
        original_score=original_score,
        score=score,
    )


def all_versions(
    rows: Sequence[Version],
    original: Footprint,
    bytes_by_pass: Sequence[tuple[str, int]],
    *,
    original_score: float | None = None,
    score: str = "accuracy",
) -> Versions:
    """All of a run, with the front among them.

    Args:
        original: the teacher's footprint. original_score: its score on the same rows, if known.
    """
    front = pareto_front([(row.score, row.size_bytes, row.p95_ms) for row in rows])
    return Versions(
        rows=tuple(replace(row, on_front=on) for row, on in zip(rows, front, strict=True)),
        original="teacher",
        original_bytes=original.size_bytes,
        original_p95_ms=original.latency.p95_ms,
        original_score=original_score,
        bytes_by_pass=tuple(bytes_by_pass),
        score=score,
    )


def passes_with_bytes(full: Variant, chosen: Variant) -> list[tuple[str, int]]:
    """From the export in full precision through each pass of the sequence that ships."""
    return [
        ("full precision", full.size_bytes),
        *zip(chosen.passes, chosen.bytes_by_pass, strict=True),
    ]
