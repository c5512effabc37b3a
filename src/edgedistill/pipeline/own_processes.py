"""A bundle in processes of its own: what the verdict asks of them, and what none can meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill.core.errors import SpecError
from edgedistill.core.requirements import BundleRequirements
from edgedistill.core.task_file import place_of
from edgedistill.runtime.processes import (
    ProcessCosts,
    file_peak_bytes,
    num_starts_for,
    process_costs,
    process_floor,
)

if TYPE_CHECKING:
    import numpy as np

#: Texts that a candidate is run on for its memory.
NUM_ROWS = 32


def own_processes(bundle: Path, texts: Sequence[str], required: BundleRequirements) -> ProcessCosts:
    """Memory and start of the bundle; as many starts as a bound needs, where one is required."""
    asked = required.cold_start_ms is not None
    return process_costs(
        bundle, texts, num_starts=num_starts_for(required.confidence) if asked else 1
    )


def file_memory(
    files: Mapping[tuple[str, ...], Path],
    tokenizer: bytes,
    inputs: Sequence[Mapping[str, np.ndarray]],
    required: BundleRequirements,
) -> dict[tuple[str, ...], int]:
    """Resident memory of each file in a process held to what is required; none where nothing is.

    Args:
        files: ONNX files by their passes. tokenizer: as packed in the bundle.
        inputs: what the graph takes, a text each; the first ones are run.
    """
    if required.memory_mb is None:
        return {}
    rows = [values["input_ids"][0] for values in inputs[:NUM_ROWS]]
    return {
        passes: file_peak_bytes(
            file, tokenizer, rows,
            threads=required.threads, memory_bytes=round(required.memory_mb * 1e6),
        )
        for passes, file in files.items()
    }  # fmt: skip


def require_possible(spec: Any, path: Path) -> None:
    """Refuse bounds of memory and start that a process without any model breaks here.

    Args:
        spec: the task. path: its file.

    Raises:
        SpecError: with the line of the requirement, and the least that could be met.
    """
    required = spec.requirements
    if required.memory_mb is None and required.cold_start_ms is None:
        return
    floor = process_floor(spec.kind)
    fastest_ms = min(floor.cold_starts_ms)
    for key, asked, least, unit in (
        ("memory_mb", required.memory_mb, floor.peak_memory_bytes / 1e6, "MB"),
        ("cold_start_ms", required.cold_start_ms, fastest_ms, "ms"),
    ):
        if asked is not None and asked < least:
            raise SpecError(
                f"requirements.{key}: no bundle can, on this machine: Python and the libraries "
                f"that run it take {least:.0f} {unit} without any model",
                where=place_of(path, "requirements", key),
                fix=f"more than {least:.0f}, or leave it out",
            )
