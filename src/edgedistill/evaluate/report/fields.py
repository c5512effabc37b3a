"""The sections on the fields of an extraction, and on its labels of whole texts."""

from __future__ import annotations

from collections.abc import Sequence

from edgedistill.evaluate.report.blocks import Paragraph, Section, Table
from edgedistill.evaluate.report.field_quality import FieldsSummary, LabelQuality
from edgedistill.evaluate.report.numbers import (
    MISSING,
    percent,
    percent_interval,
    points_interval,
)


def fields_section(summary: FieldsSummary) -> Section:
    """Precision, recall and F1 by field of the bundle, and what its abstentions do."""
    rows = tuple(
        (
            field.name,
            f"{field.num_expected:,}",
            percent(field.precision),
            percent(field.recall),
            percent(field.f1),
            percent(field.partial_f1),
            percent(field.teacher_f1),
            MISSING if field.normalised is None else percent(field.normalised),
        )
        for field in summary.fields
    )
    headings = ("Field", "Spans", "Precision", "Recall", "F1", "F1, partial", "Teacher's F1",
                "Words that give a value")  # fmt: skip
    table = Table(
        headings, rows, frozenset(range(1, len(headings))),
        "Test texts, before fields abstain. Exact: the same field and the same characters; "
        "partial: the same field and characters in common.",
    )  # fmt: skip
    text = (
        f"A span is withheld where the model is less sure than {summary.least_confidence:.3f}: "
        f"{percent(summary.withheld)} of the spans that it finds, which lifts the share that is "
        f"right from {percent(summary.precision)} to {percent(summary.precision_kept)}."
    )
    return Section("fields", "Fields", (table, Paragraph(text)))


def labels_section(labels: Sequence[LabelQuality]) -> Section:
    """Accuracy of every label, and what is kept of the teacher's."""
    rows = tuple(
        (
            label.name,
            f"{label.num_values:,}",
            percent_interval(label.shipped),
            percent_interval(label.teacher),
            percent_interval(label.control),
            percent_interval(label.retention),
            points_interval(label.gain),
            percent(label.calibration_error),
        )
        for label in labels
    )
    headings = ("Label", "Values", "Accuracy", "Teacher's", "Without the teacher", "Retention",
                "Gained by distillation", "Calibration error")  # fmt: skip
    table = Table(
        headings, rows, frozenset(range(1, len(headings))),
        "Test texts, each read once for fields and labels. Intervals in brackets; retention and "
        "differences are paired by text.",
    )  # fmt: skip
    return Section("labels", "Labels of the whole text", (table,))
