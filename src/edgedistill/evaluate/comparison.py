"""What several bundles keep of the first one's quality, on the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgedistill.core.artefacts import Interval
from edgedistill.evaluate.intervals import retention_interval
from edgedistill.runtime.comparing import Comparison


def retentions(comparison: Comparison, *, confidence: float = 0.95) -> list[Interval | None]:
    """Share of the first bundle's right answers that each keeps, paired by row.

    None for the first itself, and for all where no row says what is right or the first is right on
    none.
    """
    first, *others = comparison.sides
    if not any(first.right):
        return [None] * len(comparison.sides)
    return [
        None,
        *(retention_interval(first.right, s.right, confidence=confidence) for s in others),
    ]


def comparison_json(comparison: Comparison) -> Mapping[str, Any]:
    """Plain values for JSON: every side with its retention."""
    kept = retentions(comparison)
    return {
        "num_rows": comparison.num_rows,
        "num_labelled": comparison.num_labelled,
        "threads": comparison.threads,
        "sides": [
            side.as_json() | {"retention": interval.as_json() if interval else None}
            for side, interval in zip(comparison.sides, kept, strict=True)
        ],
    }
