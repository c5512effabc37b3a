"""Sections on behaviour: boundary, calibration, robustness, edge cases, worst classes."""

from __future__ import annotations

from collections.abc import Sequence

from edgedistill.evaluate.flips import FlipReport
from edgedistill.evaluate.report.blocks import (
    Block,
    Cell,
    Columns,
    Mark,
    Paragraph,
    Plot,
    Plots,
    Section,
    Table,
)
from edgedistill.evaluate.report.content import Boundary, CalibrationSummary, EdgeCases
from edgedistill.evaluate.report.numbers import (
    MISSING,
    data_size,
    decimal,
    percent,
    percent_interval,
    points_interval,
)
from edgedistill.evaluate.report.plots import reliability_plot, risk_coverage_plot, roc_plot
from edgedistill.evaluate.robustness import RobustnessRow

_NUM_WORST_CLASSES = 8


def boundary_section(boundary: Boundary) -> Section:
    """The guard: score chosen, false abstention, recall, curves."""
    blocks: list[Block] = [Paragraph(f"Score chosen: {boundary.reason}.")]
    if boundary.false_abstention:
        blocks.append(
            Paragraph(
                f"False abstention asked: at most {percent(boundary.asked_rate, 1)} of in-bounds "
                f"texts; measured on the test: {percent_interval(boundary.false_abstention)}."
            )
        )
    if boundary.note:
        blocks.append(Paragraph(boundary.note))
    if not boundary.groups:
        blocks.append(
            Paragraph("There are no out-of-bounds test texts: how many the guard refuses is open.")
        )
    tables = [_groups(boundary)] if boundary.groups else []
    tables += [_scores(boundary)] if boundary.scores else []
    if tables:
        blocks.append(Columns(tuple((table,) for table in tables)))
    if plots := _curves(boundary):
        blocks.append(Plots(plots))
    return Section("boundary", "Boundary", tuple(blocks))


def _groups(boundary: Boundary) -> Table:
    rows = tuple(
        (g.name, f"{g.num_rows:,}", percent_interval(g.recall, 1), decimal(g.auroc))
        for g in boundary.groups
    )
    headings = ("Out-of-bounds texts", "Rows", "Refused", "AUROC")
    return Table(headings, rows, frozenset({1, 2, 3}))


def _scores(boundary: Boundary) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            score.name,
            decimal(score.auroc),
            data_size(score.array_bytes) if score.auroc is not None else MISSING,
            Mark("chosen", "good") if score.chosen else score.note,
        )
        for score in boundary.scores
    ]
    chosen = frozenset(i for i, score in enumerate(boundary.scores) if score.chosen)
    headings = ("Score", "AUROC on validation", "Bytes of its arrays", "")
    return Table(headings, tuple(rows), frozenset({1, 2}), emphasised=chosen)


def _curves(boundary: Boundary) -> tuple[Plot, ...]:
    plots = []
    if boundary.roc:
        auroc = boundary.groups[0].auroc if boundary.groups else None
        shipped = None
        if boundary.groups and boundary.false_abstention:
            shipped = (boundary.false_abstention.value, boundary.groups[0].recall.value)
        plots.append(roc_plot(boundary.roc, auroc, shipped))
    if boundary.risk_coverage:
        plots.append(risk_coverage_plot(boundary.risk_coverage, boundary.area))
    return tuple(plots)


def calibration_section(calibration: CalibrationSummary) -> Section:
    """Expected calibration error and the reliability diagram."""
    text = (
        f"Temperature {calibration.temperature:.3f} (set on validation). Expected calibration "
        f"error on the test: {percent(calibration.error)} in 15 equal-width bins, "
        f"{percent(calibration.error_equal_mass)} in equal-mass bins; "
        f"{percent(calibration.error_before)} before scaling."
    )
    columns: list[tuple[Block, ...]] = [(Paragraph(text),)]
    if calibration.bins:
        columns.insert(0, (Plots((reliability_plot(calibration.bins),)),))
    return Section("calibration", "Calibration", (Columns(tuple(columns)),))


def robustness_section(rows: Sequence[RobustnessRow]) -> Section:
    """Accuracy under each perturbation."""
    cells = tuple(
        (
            row.perturbation,
            f"{row.num_changed:,} of {row.num_rows:,}",
            percent_interval(row.accuracy),
            MISSING if row.perturbation == "unchanged" else points_interval(row.difference),
            percent(row.agreement),
        )
        for row in rows
    )
    headings = ("Texts", "Changed", "Accuracy", "Difference", "Same answer")
    return Section(
        "robustness",
        "Robustness",
        (
            Paragraph("The test texts again, changed the way people and systems change them."),
            Table(headings, cells, frozenset({1, 2, 3, 4})),
        ),
    )


def edge_cases_section(cases: EdgeCases) -> Section:
    """The task's hard cases, and those that failed."""
    text = (
        f"{percent_interval(cases.accuracy)} of {cases.num_rows:,} {cases.rows} answered rightly."
    )
    blocks: list[Block] = [Paragraph(text)]
    if cases.failures:
        rows = tuple((f.text, f.expected, f.answered) for f in cases.failures)
        blocks.append(Table(("Text", "Expected", "Answered"), rows, caption="Failures."))
    return Section("edge-cases", cases.title, tuple(blocks))


def flips_section(flips: FlipReport) -> Section:
    """Classes with the lowest recall, and texts that distillation lost."""
    text = (
        f"The teacher is right and the bundle wrong on {flips.num_flips:,} of {flips.num_rows:,} "
        f"test texts ({percent(flips.flip_rate)}); the other way round on {flips.num_gains:,}."
    )
    worst = flips.classes[:_NUM_WORST_CLASSES]
    rows = tuple(
        (
            c.label,
            f"{c.num_rows:,}",
            percent(c.teacher_recall, 1),
            percent(c.student_recall, 1),
            decimal(c.student_f1, 3),
            f"{c.num_flips}",
            f"{c.num_gains}",
        )
        for c in worst
    )
    headings = ("Class", "Rows", "Teacher recall", "Bundle recall", "Bundle F1", "Lost", "Gained")
    caption = f"The {len(worst)} classes of {len(flips.classes)} with the lowest recall."
    blocks: list[Block] = [
        Paragraph(text),
        Table(headings, rows, frozenset(range(1, 7)), caption),
    ]
    lost = tuple((f.text, f.expected, f.answered) for c in worst for f in c.examples)
    if lost:
        blocks.append(
            Table(("Text", "Teacher (right)", "Bundle"), lost, caption="Texts lost, examples.")
        )
    return Section("worst-classes", "Worst classes", tuple(blocks))
