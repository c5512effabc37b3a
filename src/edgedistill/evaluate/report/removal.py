"""Section on what each pass took from the network: parameters against bytes and milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgedistill.evaluate.report.blocks import Cell, Paragraph, Section, Table
from edgedistill.evaluate.report.numbers import data_size, milliseconds, percent


@dataclass(frozen=True)
class Removal:
    """The network after a pass (the whole one first, without a name): all parameters, those of its
    layers; bytes and p50 of its file in full precision."""

    name: str
    settings: str
    parameters: int
    layer_parameters: int
    size_bytes: int
    p50_ms: float


def removal_section(steps: Sequence[Removal]) -> Section:
    """A row a pass, each against the whole network."""
    whole = steps[0]
    rows: list[tuple[Cell, ...]] = [
        (
            step.name or "whole model",
            step.settings,
            _of(step.layer_parameters, whole.layer_parameters),
            _of(step.parameters, whole.parameters),
            f"{data_size(step.size_bytes)} ({whole.size_bytes / step.size_bytes:.2f} ×)",
            f"{milliseconds(step.p50_ms)} ({whole.p50_ms / step.p50_ms:.2f} ×)",
        )
        for step in steps
    ]
    text = (
        "The network after each pass, the ones before it included; bytes and milliseconds of its "
        "file in full precision, measured in turn in the runtime that ships. What passes on the "
        "file add to this stands under what was tried. × is against the whole model."
    )
    headings = ("After", "Settings", "Layers' parameters", "All parameters", "File", "p50")
    table = Table(headings, tuple(rows), frozenset({2, 3, 4, 5}))
    return Section("removal", "What was removed", (Paragraph(text), table))


def _of(num: int, whole: int) -> str:
    gone = f" (−{percent(1 - num / whole)})" if num < whole else ""
    return f"{num:,}{gone}"
