"""What a bundle of any kind of task may be required to meet."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgedistill.core.section import Section


class BundleRequirements(Section):
    """What the bundle must meet; each is judged on its confidence bound. Left out: not required."""

    retention: Annotated[float, Field(gt=0, le=1)] | None = 0.97
    """Least share of the teacher's test accuracy (lower bound of the interval)."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    """Confidence of every interval and bound."""
    size_mb: Annotated[float, Field(gt=0)] | None = None
    """Most bytes of model and tokenizer, in 10^6 bytes."""
    latency_p95_ms: Annotated[float, Field(gt=0)] | None = None
    """Most milliseconds at the 95th percentile, one text at a time, tokenization included."""
    memory_mb: Annotated[float, Field(gt=0)] | None = None
    """Most resident memory of a process of its own that loads the bundle and answers, in 10^6
    bytes; Python and the runtime count."""
    cold_start_ms: Annotated[float, Field(gt=0)] | None = None
    """Most milliseconds from starting such a process to its first answer (median of several starts,
    upper bound)."""
    threads: Annotated[int, Field(ge=1)] = 1
    """Threads for every latency measurement."""
    repeat_agreement: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Least share of answers that are bit-identical when asked twice."""
    out_of_bounds_recall: Annotated[float, Field(ge=0, le=1)] | None = None
    """Least share of out-of-bounds test texts refused (needs such texts)."""
