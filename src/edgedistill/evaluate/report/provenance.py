"""Sections on where it comes from: data, making, non-goals."""

from __future__ import annotations

from edgedistill.evaluate.report.blocks import (
    Block,
    Cell,
    Items,
    Mark,
    Paragraph,
    Plots,
    Section,
    Table,
)
from edgedistill.evaluate.report.content import Making, ReportContent, TrainingCurve
from edgedistill.evaluate.report.numbers import MISSING, duration
from edgedistill.evaluate.report.plots import training_plot

#: Epochs of a table of loss terms.
_NUM_EPOCHS = 6


def data_section(content: ReportContent) -> Section:
    """Rows by split, and what the data report found."""
    blocks: list[Block] = []
    if content.splits:
        rows = tuple((name, f"{count:,}") for name, count in content.splits)
        blocks.append(Table(("Split", "Rows"), rows, frozenset({1})))
    if content.data_findings:
        findings: list[tuple[Cell, ...]] = [
            (
                Mark(finding.severity, "neutral" if finding.severity == "info" else "bad"),
                finding.finding,
                f"{finding.count:,}" if finding.count else MISSING,
                " · ".join(finding.examples),
            )
            for finding in content.data_findings
        ]
        headings = ("Severity", "Finding", "Rows", "Examples")
        blocks.append(Table(headings, tuple(findings), frozenset({2})))
    else:
        blocks.append(Paragraph("The data report found nothing to mention."))
    return Section("data", "Data", tuple(blocks))


def making_section(making: Making) -> Section:
    """Seeds, notes, stages, training curves, versions, fingerprints."""
    blocks: list[Block] = []
    if making.seeds:
        blocks.append(Paragraph(f"Seeds: {', '.join(str(seed) for seed in making.seeds)}."))
    blocks += [Paragraph(note) for note in making.notes]
    if making.stages:
        rows: list[tuple[Cell, ...]] = [
            (stage.name, duration(stage.seconds), "reused" if stage.reused else "run")
            for stage in making.stages
        ]
        total = sum(stage.seconds for stage in making.stages if not stage.reused)
        caption = f"Time spent in this run: {duration(total)}."
        blocks.append(Table(("Stage", "Time", ""), tuple(rows), frozenset({1}), caption))
    metrics = dict.fromkeys(curve.metric for curve in making.curves if curve.values)
    if metrics:
        blocks.append(
            Plots(
                tuple(training_plot([c for c in making.curves if c.metric == m]) for m in metrics)
            )
        )
    blocks += [_terms(curve) for curve in making.curves if len(curve.terms) > 1]
    for heading, pairs in (("Version", making.versions), ("Fingerprint", making.fingerprints)):
        if pairs:
            blocks.append(Table(("", heading), pairs))
    return Section("making", "How it was made", tuple(blocks))


def _terms(curve: TrainingCurve) -> Table:
    """Loss terms by epoch: the first, the last, and some between where there are many."""
    last = len(curve.values) - 1
    steps = max(1, min(last, _NUM_EPOCHS - 1))
    epochs = sorted({round(last * step / steps) for step in range(steps + 1)})
    rows = [(name, *(f"{values[epoch]:.4g}" for epoch in epochs)) for name, values in curve.terms]
    headings = ("Loss term", *(f"Epoch {epoch + 1}" for epoch in epochs))
    numbers = frozenset(range(1, len(headings)))
    return Table(headings, tuple(rows), numbers, f"What the {curve.name} paid, weighted.")


def non_goals_section(content: ReportContent) -> Section:
    """What the model is not for."""
    return Section("non-goals", "Non-goals", (Items(content.non_goals),))
