"""Judgements on what a bundle takes in a process of its own: memory, and time to start."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from edgedistill.core.artefacts import Judgement
from edgedistill.runtime.measuring import distribution_free_upper


def judge_memory(required_mb: float | None, peak_bytes: int | None) -> Judgement | None:
    """The peak of resident memory; None where none is required.

    Judged on the peak itself: it hardly differs from process to process, and is the largest seen.
    """
    if required_mb is None:
        return None
    name, asked = "memory", f"at most {required_mb:g} MB resident"
    if peak_bytes is None:
        return _not_measured(name, asked)
    peak_mb = peak_bytes / 1e6
    return Judgement(
        name,
        asked,
        f"{peak_mb:.1f} MB",
        peak_mb,
        peak_mb <= required_mb,
        {"bound": f"{peak_mb:.1f} MB", "basis": "peak itself: the largest of fresh processes"},
    )


def judge_cold_start(
    required_ms: float | None, starts_ms: Sequence[float], confidence: float
) -> Judgement | None:
    """The median of several starts, on its upper bound; None where none is required."""
    if required_ms is None:
        return None
    name, asked = "cold start", f"at most {required_ms:g} ms to the first answer"
    if not starts_ms:
        return _not_measured(name, asked)
    upper = distribution_free_upper(starts_ms, 0.5, confidence)
    bounded = math.isfinite(upper)
    return Judgement(
        name,
        asked,
        f"{median(starts_ms):.0f} ms, median of {len(starts_ms)}",
        upper if bounded else median(starts_ms),
        bounded and upper <= required_ms,
        {
            "bound": f"{upper:.0f} ms" if bounded else "none: too few starts",
            "basis": f"{confidence:.0%} upper bound of the median (distribution-free)",
        },
    )


def _not_measured(name: str, asked: str) -> Judgement:
    why = "no process of its own was started"
    return Judgement(name, asked, f"not measured: {why}", 0.0, False, {"basis": why})
