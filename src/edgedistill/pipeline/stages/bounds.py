"""What is said of a variant besides its score: whether it keeps to limits, what it keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgedistill.core.requirements import BundleRequirements
from edgedistill.evaluate.intervals import retention_interval


class Costs(Protocol):
    """What a file that could ship takes. `peak_memory_bytes`: None where it is not bounded."""

    @property
    def size_bytes(self) -> int: ...
    @property
    def p95_ms(self) -> float: ...
    @property
    def peak_memory_bytes(self) -> int | None: ...


def within(costs: Costs, required: BundleRequirements) -> bool:
    """Whether it keeps to the size, latency and memory that are required."""
    size_mb, p95_ms, memory_mb = required.size_mb, required.latency_p95_ms, required.memory_mb
    return (
        (size_mb is None or costs.size_bytes <= size_mb * 1e6)
        and (p95_ms is None or costs.p95_ms <= p95_ms)
        and (memory_mb is None or (costs.peak_memory_bytes or 0) <= memory_mb * 1e6)
    )


def over(costs: Costs) -> str:
    """Why what is not within the limits is declined."""
    told = f"{costs.size_bytes / 1e6:.2f} MB, {costs.p95_ms:.2f} ms"
    if costs.peak_memory_bytes is None:
        return f"over the size or latency asked for ({told})"
    memory = f"{costs.peak_memory_bytes / 1e6:.1f} MB resident"
    return f"over the size, latency or memory asked for ({told}, {memory})"


def paired_retention(
    full: np.ndarray, own: np.ndarray, confidence: float
) -> tuple[float, float, float] | None:
    """Share of the right answers in full precision that are kept: value, low, high.

    Args:
        full, own: which rows each gets right, bool [n].

    Returns:
        None where full precision has none right.
    """
    if not full.any():
        return None
    kept = retention_interval(full, own, confidence=confidence)
    return kept.value, kept.low, kept.high


def bytes_by_pass(size_bytes: int, file: Path, steps: Sequence[Path]) -> tuple[int, ...]:
    """Model and tokenizer after each pass.

    Args:
        size_bytes: both, of the last file. file: the last file. steps: the file after each pass.
    """
    beside = size_bytes - file.stat().st_size
    return tuple(step.stat().st_size + beside for step in steps)


def with_tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of JSON, which has no tuples, with its lists as tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
