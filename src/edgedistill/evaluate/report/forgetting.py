"""What a report shows of earlier steps of fine-tuning, and the section on it: one line a step."""

from __future__ import annotations

from dataclasses import dataclass

from edgedistill.core.artefacts import Interval
from edgedistill.evaluate.report.blocks import Block, Paragraph, Section, Table
from edgedistill.evaluate.report.numbers import percent, percent_interval


@dataclass(frozen=True)
class StepAbility:
    """The accuracies on the validation rows of one step.

    `before`, `after`: the teacher's after this step and after its last one; `bundle`: the bundle's;
    `kept`: the bundle's in shares of `before`. `num_left_out`: rows of the step that stand in other
    splits.
    """

    data: str
    num_rows: int
    before: float
    after: float
    bundle: float
    kept: Interval
    num_left_out: int


def forgetting_section(steps: tuple[StepAbility, ...]) -> Section:
    """What was learned first, and what is left of it."""
    rows = tuple(
        (
            step.data,
            f"{step.num_rows:,}",
            percent(step.before),
            percent(step.after),
            percent(step.bundle),
            percent_interval(step.kept),
        )
        for step in steps
    )
    table = Table(
        ("Step", "Rows", "Teacher after it", "Teacher at the end", "Bundle", "Bundle keeps"),
        rows, frozenset(range(1, 6)),
        "Accuracy on the validation rows of each step; none of them was learned from.",
    )  # fmt: skip
    text = (
        "What the teacher loses from the third column to the fourth, later steps took; what the "
        "bundle loses beyond it, distillation took."
    )
    blocks: list[Block] = [table, Paragraph(text)]
    if num := sum(step.num_left_out for step in steps):
        told = f"{num:,} rows of the steps were left out: their texts stand in another split."
        blocks.append(Paragraph(told, muted=True))
    return Section("forgetting", "Earlier steps", tuple(blocks))
