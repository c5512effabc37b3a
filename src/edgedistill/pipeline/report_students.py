"""What the report of every kind of task shows of its students and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgedistill.evaluate.report import content as report
from edgedistill.pipeline.search import Tried
from edgedistill.pipeline.stages.removal import told_settings
from edgedistill.pipeline.stages.variants import Variant


def options_told(options: Mapping[str, Any]) -> str:
    """Settings of a student in words; of passes each with its own."""
    told = []
    for key, value in options.items():
        if key == "passes":
            value = ", then ".join(f"{p['name']} ({told_settings(p)})" for p in value)
        told.append(f"{key} {value}".replace(" ()", ""))
    return ", ".join(told)


def candidate_rows(tried: Sequence[Tried[Any]]) -> tuple[report.Candidate, ...]:
    """A row for each student that was made."""
    return tuple(_row(each, each.artefact.chosen) for each in tried if each.artefact)


def _row(tried: Tried[Any], variant: Variant) -> report.Candidate:
    return report.Candidate(
        name=tried.candidate.name,
        family=tried.candidate.family,
        accuracy=variant.accuracy,
        size_bytes=variant.size_bytes,
        latency_p95_ms=variant.p95_ms,
        on_front=tried.on_front,
        chosen=tried.chosen,
        note=tried.reason,
    )


def pass_rows(variants: Sequence[Variant]) -> tuple[report.PassOutcome, ...]:
    """A row for each sequence of passes on the file, against full precision, which is the first."""
    full = variants[0]
    return tuple(
        report.PassOutcome(
            name=" + ".join(variant.passes) or "full precision",
            kept=variant.kept,
            reason=variant.reason or "smallest that keeps the quality",
            size_before_bytes=full.size_bytes,
            size_after_bytes=variant.size_bytes,
            latency_p95_before_ms=full.p95_ms,
            latency_p95_after_ms=variant.p95_ms,
            accuracy_before=full.accuracy,
            accuracy_after=variant.accuracy,
        )
        for variant in variants
    )
