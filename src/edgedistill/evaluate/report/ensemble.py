"""What a report shows of an ensemble, and the section on it: one line a member."""

from __future__ import annotations

from dataclasses import dataclass

from edgedistill.core.artefacts import Interval
from edgedistill.evaluate.report.blocks import Paragraph, Section, Table
from edgedistill.evaluate.report.numbers import MISSING, percent, percent_interval


@dataclass(frozen=True)
class EnsembleRow:
    """A member, the ensemble, or the one student that learned from it; in full precision.

    `weight`: None of what is no member. `validation`, `test`: accuracies.
    """

    name: str
    description: str
    weight: float | None
    validation: float
    test: Interval


@dataclass(frozen=True)
class EnsembleSummary:
    """The members first. `average`: what of their answers is averaged; `weighting`: how the weights
    were found; `shipped`: the row that ships."""

    rows: tuple[EnsembleRow, ...]
    average: str
    weighting: str
    shipped: str


def ensemble_section(summary: EnsembleSummary) -> Section:
    """Members with their weights, and what they come to."""
    rows = tuple(
        (
            row.name,
            row.description,
            MISSING if row.weight is None else percent(row.weight, 1),
            percent(row.validation),
            percent_interval(row.test),
        )
        for row in summary.rows
    )
    found = {
        "likelihood": "under these weights the validation labels are likeliest",
        "equal": "all members weigh the same",
    }[summary.weighting]
    table = Table(
        ("Student", "Settings", "Weight", "Validation accuracy", "Test accuracy"),
        rows, frozenset({2, 3, 4}),
        "Before compression. A member without weight is not in the file.",
        frozenset(i for i, row in enumerate(summary.rows) if row.name == summary.shipped),
    )  # fmt: skip
    text = f"The ensemble's answer is the mean of its members' {summary.average}; {found}."
    return Section("ensemble", "Ensemble", (table, Paragraph(text)))
