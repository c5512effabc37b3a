"""The report's content, gathered from what an extraction run made and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgedistill.core.artefacts import Judgement
from edgedistill.evaluate.fidelity import Hop
from edgedistill.evaluate.intervals import clopper_pearson_interval
from edgedistill.evaluate.metrics import (
    auroc,
    calibration_bins,
    expected_calibration_error,
    risk_coverage,
    roc_curve,
)
from edgedistill.evaluate.report import content as report
from edgedistill.evaluate.report.field_quality import FieldQuality, FieldsSummary
from edgedistill.evaluate.span_metrics import (
    f1_gain,
    f1_interval,
    field_scores,
    retention,
    whole_records,
)
from edgedistill.pipeline.extraction.boundary import FittedBoundary
from edgedistill.pipeline.extraction.kept import TeacherOnValidation
from edgedistill.pipeline.extraction.labels import label_qualities, weights_told
from edgedistill.pipeline.extraction.measurement import Measured, Shipped, through_bundle
from edgedistill.pipeline.extraction.outputs import GoldTexts
from edgedistill.pipeline.packaging import machine
from edgedistill.pipeline.reach import told_reach
from edgedistill.pipeline.report_basis import (
    CLOSENESS,
    false_abstention_interval,
    making,
    teaching_notes,
    verdict_content,
    with_files,
)
from edgedistill.pipeline.report_students import candidate_rows, options_told, pass_rows
from edgedistill.pipeline.versions import versions_of_run
from edgedistill.runtime.bundle import Bundle
from edgedistill.runtime.extraction.extractor import Extractor

if TYPE_CHECKING:
    from edgedistill.core.extraction import Document
    from edgedistill.pipeline.extraction.verification import Made

MAX_FAILURES = 10


def report_content(
    made: Made,
    fitted: FittedBoundary,
    measured: Measured,
    hops: Sequence[Hop],
    judgements: Sequence[Judgement],
    bundle: Bundle,
    extractor: Extractor,
) -> report.ReportContent:
    """Everything that the report of this run shows."""
    spec = made.ground.context.spec
    return replace(
        verdict_content(spec, judgements, made.ground.data.findings),
        shipped=_shipped(made, measured, bundle),
        quality=_quality(measured, spec.requirements.confidence),
        fields=_fields(made, fitted, measured),
        labels=label_qualities(
            made.ground.data.rows.labels,
            measured.labels_right,
            measured.measurements.label_retention,
            [[value.confidence for value in a.labels] for a in measured.shipped.answers],
            spec.requirements.confidence,
        ),
        ledger=tuple(hops),
        candidates=candidate_rows(made.tried),
        skipped=tuple((t.candidate.name, t.reason) for t in made.tried if not t.artefact),
        reach=told_reach(made.tried, made.ground.context.spec.requirements),
        strategies=made.strategies,
        versions=versions_of_run(
            made.tried,
            measured.teacher_footprint,
            original_score=TeacherOnValidation(made.ground).score,
            score="mean of span F1 and labels" if spec.output.labels else "span F1",
        ),
        passes=pass_rows(made.artefact.variants),
        removal=made.removal,
        boundary=_boundary(made, fitted, measured),
        calibration=_calibration(fitted, measured),
        edge_cases=_wrong_records(made, measured, extractor),
        splits=_splits(made),
        making=_making(made),
    )


def _shipped(made: Made, measured: Measured, bundle: Bundle) -> report.Shipped:
    spec, candidate = made.ground.context.spec, made.artefact.student.candidate
    options = options_told(candidate.options) or "default settings"
    passes = " + ".join(made.artefact.chosen.passes) or "full precision"
    num_labels = len(spec.output.labels)
    also = f", {_named(num_labels, 'label')} of the whole text in the same pass"
    also = also if num_labels else ""
    return report.Shipped(
        family=candidate.family,
        description=f"{options}; {passes}; {_named(len(spec.output.fields), 'field')}{also}",
        footprint=with_files(measured.footprint, bundle),
        teacher=measured.teacher_footprint,
        threads=spec.requirements.threads,
        machine=machine(),
    )


def _quality(measured: Measured, confidence: float) -> report.Quality:
    counts = {name: measured.counts(name) for name in measured.spans}

    def model(name: str, role: str, key: str) -> report.ModelQuality:
        own = counts[key]
        return report.ModelQuality(
            name=name,
            role=role,  # type: ignore[arg-type]
            accuracy=f1_interval(own, confidence=confidence),
            macro_f1=float(measured.whole(key).mean()),
            retention=None
            if key == "teacher"
            else retention(counts["teacher"], own, confidence=confidence),
            gain=None
            if key == "shipped"
            else f1_gain(own, counts["shipped"], confidence=confidence),
        )

    models = [
        model("teacher", "teacher", "teacher"),
        model("bundle", "shipped", "shipped"),
    ]
    if "control" in measured.spans:
        models.append(model("same network, spans only", "undistilled", "control"))
    return report.Quality(len(measured.gold.spans), tuple(models), "span F1", "whole records right")


def _fields(made: Made, fitted: FittedBoundary, measured: Measured) -> FieldsSummary:
    names, gold = made.ground.teacher.encoder.fields, measured.gold.spans
    values = [value for answer in measured.shipped.answers for value in answer.fields]
    normalised = {
        name: [v.reason != "not_normalised" for v in values
               if v.name == name and v.reason != "unsure"]
        for name in names
    }  # fmt: skip
    teacher = {s.name: s for s in field_scores(measured.spans["teacher"], gold, names)}
    found = tuple(
        FieldQuality(
            s.name, s.num_expected, s.precision, s.recall, s.f1, s.partial_f1,
            teacher[s.name].f1,
            float(np.mean(normalised[s.name])) if normalised[s.name] else None,
        )
        for s in field_scores(measured.spans["shipped"], gold, names)
    )  # fmt: skip
    right = _right(measured)
    kept = np.array([v.reason != "unsure" for v in values], dtype=bool)
    return FieldsSummary(
        fields=found,
        least_confidence=fitted.least_confidence,
        withheld=1.0 - float(kept.mean()) if len(kept) else 0.0,
        precision=float(right.mean()) if len(right) else 0.0,
        precision_kept=float(right[kept].mean()) if kept.any() else 0.0,
    )


def _right(measured: Measured) -> np.ndarray:
    """Which of the spans that the bundle finds are right, text after text, bool."""
    pairs = zip(measured.shipped.answers, measured.gold.spans, strict=True)
    found = [(v.name, v.start, v.end) in spans for answer, spans in pairs for v in answer.fields]
    return np.array(found, dtype=bool)


def _calibration(fitted: FittedBoundary, measured: Measured) -> report.CalibrationSummary | None:
    """Whether a span of confidence 0.9 is right nine times in ten; None without spans."""
    right = _right(measured)
    if not len(right):
        return None
    confidences = [v.confidence for answer in measured.shipped.answers for v in answer.fields]
    return report.CalibrationSummary(
        temperature=fitted.guard.guard.temperature,
        error_before=expected_calibration_error(measured.shipped.uncalibrated, right),
        error=expected_calibration_error(confidences, right),
        error_equal_mass=expected_calibration_error(confidences, right, equal_mass=True),
        bins=report.reliability_bins(calibration_bins(confidences, right)),
    )


def _boundary(made: Made, fitted: FittedBoundary, measured: Measured) -> report.Boundary:
    guard = fitted.guard.guard
    confidence = made.ground.context.spec.requirements.confidence
    inside = guard.scores(measured.shipped.outputs.logits, measured.shipped.outputs.features)
    curve = risk_coverage(-inside, measured.whole("shipped"))
    groups, roc = tuple[report.OutOfBoundsGroup, ...](), None
    if count := measured.measurements.out_of_bounds_refused:
        recall = clopper_pearson_interval(count.num_hits, count.num_rows, confidence=confidence)
        area = auroc(inside, measured.outside)
        groups = (report.OutOfBoundsGroup("all", count.num_rows, recall, area),)
        roc = report.Curve.from_arrays(*roc_curve(inside, measured.outside))
    return report.Boundary(
        score=guard.kind,
        reason=fitted.guard.reason,
        asked_rate=guard.false_abstention_rate,
        false_abstention=false_abstention_interval(
            measured.measurements.false_abstention, confidence
        ),
        scores=tuple(
            report.ScoreRow(
                s.kind if s.rank is None else f"{s.kind} (rank {s.rank})",
                s.auroc, s.array_bytes, s.chosen, s.note,
            )
            for s in fitted.guard.scores
        ),
        groups=groups,
        roc=roc,
        risk_coverage=report.Curve.from_arrays(curve.coverage, curve.risk),
        area=curve.area,
        note=fitted.guard.conformal.reason,
    )  # fmt: skip


def _wrong_records(made: Made, measured: Measured, extractor: Extractor) -> report.EdgeCases | None:
    """The first few texts with other spans than expected: of the edge cases, or where the task
    has none, of the test texts."""
    hard, rows = made.ground.data.rows.edge_cases, made.ground.data.rows.test
    shipped: Shipped = through_bundle(extractor, hard) if hard else measured.shipped
    rows = hard or rows
    gold = GoldTexts(rows, made.ground.teacher)
    right = whole_records(shipped.spans, gold.spans)
    right &= (shipped.labels == gold.labels).all(axis=1)
    found = [[value.value for value in answer.labels] for answer in shipped.answers]
    failures = [
        report.Answered(
            row.text, _told(row, row.labels, gold.spans[place]),
            _told(row, found[place], shipped.spans[place]),
        )
        for place, row in enumerate(rows)
        if not right[place]
    ]  # fmt: skip
    confidence = made.ground.context.spec.requirements.confidence
    return report.EdgeCases(
        len(rows),
        clopper_pearson_interval(int(right.sum()), len(right), confidence=confidence),
        tuple(failures[:MAX_FAILURES]),
        "Edge cases" if hard else "Whole records",
        "edge cases" if hard else "test texts",
    )


def _told(row: Document, labels: Sequence[str], spans: set[tuple[str, int, int]]) -> str:
    """Labels and spans for people, in the order of the text."""
    ordered = sorted(spans, key=lambda span: span[1])
    told = [f"{name}: {row.text[start:end]}" for name, start, end in ordered]
    return "; ".join([*labels, *told]) or "nothing"


def _named(num: int, what: str) -> str:
    return f"{num} {what}{'' if num == 1 else 's'}"


def _splits(made: Made) -> tuple[tuple[str, int], ...]:
    rows = made.ground.data.rows
    named = [(name, len(rows.split(name))) for name in ("train", "validation", "test")]
    named += [("unlabelled", len(rows.unlabelled)), ("edge cases", len(rows.edge_cases))]
    named += [(f"out of bounds, {name}", len(texts)) for name, texts in rows.outside.items()]
    named.append(("transfer set", len(made.ground.transfer.documents)))
    return tuple((name, num) for name, num in named if num)


def _making(made: Made) -> report.Making:
    loss = "minus validation loss (nats a token)"
    if made.ground.data.rows.labels:
        loss = "minus validation loss (nats a token, and a label)"
    student = made.artefact.student
    trained = [
        ("teacher", loss, made.ground.teacher.training),
        ("student", CLOSENESS, student.training),
    ]
    if made.control:
        trained.append(("control without distillation", loss, made.control.training))
    notes = teaching_notes(made.ground, student.training)
    weights = weights_told(made.ground.context.spec)
    return making(made.ground.context, trained, notes=(*notes, *weights))
