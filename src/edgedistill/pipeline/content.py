"""The report's content, gathered from what the run made and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np

from edgedistill.core.artefacts import Judgement
from edgedistill.evaluate.fidelity import Ledger
from edgedistill.evaluate.flips import find_flips
from edgedistill.evaluate.guard_fit import FittedGuard
from edgedistill.evaluate.intervals import (
    accuracy_difference_interval,
    clopper_pearson_interval,
    retention_interval,
    wilson_interval,
)
from edgedistill.evaluate.metrics import (
    auroc,
    calibration_bins,
    expected_calibration_error,
    macro_f1,
    risk_coverage,
    roc_curve,
)
from edgedistill.evaluate.report import content as report
from edgedistill.evaluate.robustness import RobustnessRow, measure_robustness
from edgedistill.pipeline.ensemble_report import ensemble_summary
from edgedistill.pipeline.evidence import Control
from edgedistill.pipeline.measurement import Measured
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
from edgedistill.pipeline.stages.ensemble import DISTILLED
from edgedistill.pipeline.stages.made_texts import notes_on
from edgedistill.pipeline.versions import versions_of_run
from edgedistill.runtime.bundle import Bundle
from edgedistill.runtime.classification import Classifier
from edgedistill.runtime.loading import runner_of
from edgedistill.tasks.classification import predicted

if TYPE_CHECKING:
    from edgedistill.pipeline.stages.verification import Made

NUM_ROBUSTNESS = 1500
MAX_FAILURES = 10


def report_content(
    made: Made,
    fitted: FittedGuard,
    measured: Measured,
    controls: Sequence[Control],
    ledger: Ledger,
    judgements: Sequence[Judgement],
    bundle: Bundle,
) -> report.ReportContent:
    """Everything that the report of this run shows."""
    spec, dataset = made.ground.context.spec, made.ground.data.dataset
    classifier = cast(Classifier, runner_of(bundle))
    findings = made.ground.data.inspection["findings"]
    return replace(
        verdict_content(spec, judgements, findings),
        shipped=_shipped(made, measured, bundle),
        quality=_quality(measured, controls, len(dataset.labels), spec.requirements.confidence),
        ensemble=ensemble_summary(made),
        ledger=ledger.hops,
        candidates=candidate_rows(made.tried),
        skipped=tuple((t.candidate.name, t.reason) for t in made.tried if not t.artefact),
        reach=told_reach(made.tried, made.ground.context.spec.requirements),
        strategies=made.strategies,
        versions=versions_of_run(
            made.tried,
            measured.teacher_footprint,
            original_score=_teachers_accuracy(made),
        ),
        passes=pass_rows(made.artefact.variants),
        removal=made.removal,
        boundary=_boundary(made, fitted, measured),
        calibration=_calibration(fitted, measured),
        robustness=_robustness(made, classifier, measured),
        edge_cases=_edge_cases(made, classifier),
        flips=find_flips(
            measured.targets, measured.teacher_answers, measured.answers,
            labels=dataset.labels, texts=dataset.texts("test"),
        ),
        splits=_splits(made),
        making=_making(made),
    )  # fmt: skip


def _teachers_accuracy(made: Made) -> float:
    """Of the teacher on validation."""
    answers = predicted(made.ground.transfer.outputs("validation")[0])
    return float((answers == made.ground.data.dataset.targets("validation")).mean())


def _shipped(made: Made, measured: Measured, bundle: Bundle) -> report.Shipped:
    candidate = made.artefact.student.candidate
    passes = " + ".join(made.artefact.chosen.passes) or "full precision"
    options = options_told(candidate.options) or "default settings"
    return report.Shipped(
        family=candidate.family,
        description=f"{options}; {passes}",
        footprint=with_files(measured.footprint, bundle),
        teacher=measured.teacher_footprint,
        threads=made.ground.context.spec.requirements.threads,
        machine=machine(),
    )


def _quality(
    measured: Measured, controls: Sequence[Control], num_labels: int, confidence: float
) -> report.Quality:
    targets = measured.targets
    right = measured.answers == targets
    teacher_right = measured.teacher_answers == targets

    def quality(name: str, role: str, answers: np.ndarray) -> report.ModelQuality:
        own = answers == targets
        is_teacher, is_shipped = role == "teacher", role == "shipped"
        return report.ModelQuality(
            name=name,
            role=role,  # type: ignore[arg-type]
            accuracy=wilson_interval(int(own.sum()), len(own), confidence=confidence),
            macro_f1=macro_f1(targets, answers, num_labels),
            retention=None
            if is_teacher
            else retention_interval(teacher_right, own, confidence=confidence),
            gain=None
            if is_shipped
            else accuracy_difference_interval(own, right, confidence=confidence),
        )

    models = [
        quality("teacher", "teacher", measured.teacher_answers),
        quality("bundle", "shipped", measured.answers),
        *[quality(control.name, control.role, control.answers) for control in controls],
    ]
    return report.Quality(len(targets), tuple(models))


def _boundary(made: Made, fitted: FittedGuard, measured: Measured) -> report.Boundary:
    guard = fitted.guard
    confidence = made.ground.context.spec.requirements.confidence
    inside = guard.scores(measured.outputs.logits, measured.outputs.features)
    right = measured.answers == measured.targets
    curve = risk_coverage(-inside, right)
    roc, groups = None, tuple[report.OutOfBoundsGroup, ...]()
    if measured.outside is not None:
        outside = guard.scores(measured.outside.logits, measured.outside.features)
        roc = report.Curve.from_arrays(*roc_curve(inside, outside))
        groups = _groups(made, inside, outside, guard.threshold, confidence)
    return report.Boundary(
        score=guard.kind,
        reason=fitted.reason,
        asked_rate=guard.false_abstention_rate,
        false_abstention=false_abstention_interval(
            measured.measurements.false_abstention, confidence
        ),
        scores=tuple(
            report.ScoreRow(
                s.kind if s.rank is None else f"{s.kind} (rank {s.rank})",
                s.auroc, s.array_bytes, s.chosen, s.note,
            )
            for s in fitted.scores
        ),
        groups=groups,
        roc=roc,
        risk_coverage=report.Curve.from_arrays(curve.coverage, curve.risk),
        area=curve.area,
        note=fitted.conformal.reason,
    )  # fmt: skip


def _groups(
    made: Made, inside: np.ndarray, outside: np.ndarray, threshold: float, confidence: float
) -> tuple[report.OutOfBoundsGroup, ...]:
    """All out-of-bounds test texts, then each group that the file names (near, far, …)."""
    examples = made.ground.data.dataset.out_of_bounds["test"]
    names = np.array([example.label or "" for example in examples])
    found = []
    for name in ["all", *sorted(set(names) - {""})]:
        scores = outside if name == "all" else outside[names == name]
        refused = int((scores > threshold).sum())
        recall = clopper_pearson_interval(refused, len(scores), confidence=confidence)
        found.append(report.OutOfBoundsGroup(name, len(scores), recall, auroc(inside, scores)))
    return tuple(found)


def _calibration(fitted: FittedGuard, measured: Measured) -> report.CalibrationSummary:
    guard, logits = fitted.guard, measured.outputs.logits
    right = measured.answers == measured.targets
    confidences = guard.confidences(logits)
    plain = type(guard)("energy", 0.0, 1.0, guard.false_abstention_rate).confidences(logits)
    return report.CalibrationSummary(
        temperature=guard.temperature,
        error_before=expected_calibration_error(plain, right),
        error=expected_calibration_error(confidences, right),
        error_equal_mass=expected_calibration_error(confidences, right, equal_mass=True),
        bins=report.reliability_bins(calibration_bins(confidences, right)),
    )


def _robustness(
    made: Made, classifier: Classifier, measured: Measured
) -> tuple[RobustnessRow, ...]:
    rng = np.random.default_rng(made.ground.context.spec.seed)
    texts = made.ground.data.dataset.texts("test")
    rows = np.sort(rng.permutation(len(texts))[:NUM_ROBUSTNESS])
    return measure_robustness(
        [texts[row] for row in rows],
        measured.targets[rows],
        lambda changed: predicted(classifier.raw(changed)[0]),
        seed=made.ground.context.spec.seed,
        confidence=made.ground.context.spec.requirements.confidence,
    )


def _edge_cases(made: Made, classifier: Classifier) -> report.EdgeCases | None:
    examples = made.ground.data.dataset.edge_cases
    if not examples:
        return None
    predictions = classifier.predict([example.text for example in examples])
    wrong = [
        report.Answered(e.text, e.label or "", p.label or f"abstains: {p.reason}")
        for e, p in zip(examples, predictions, strict=True)
        if p.label != e.label
    ]
    right = len(examples) - len(wrong)
    confidence = made.ground.context.spec.requirements.confidence
    return report.EdgeCases(
        len(examples),
        wilson_interval(right, len(examples), confidence=confidence),
        tuple(wrong[:MAX_FAILURES]),
    )


def _splits(made: Made) -> tuple[tuple[str, int], ...]:
    dataset = made.ground.data.dataset
    names = ("train", "validation", "test", "unlabelled", "edge_cases")
    rows = [(name.replace("_", " "), len(getattr(dataset, name))) for name in names]
    rows += [(f"out of bounds, {name}", len(e)) for name, e in dataset.out_of_bounds.items()]
    rows.append(("transfer set", len(made.ground.transfer.texts)))
    rows += [(f"made: {kind}", num) for kind, num in made.ground.transfer.made.items()]
    return tuple((name, num) for name, num in rows if num)


def _making(made: Made) -> report.Making:
    student, teacher = made.artefact.student, made.ground.teacher
    accuracy, closeness = "validation accuracy", CLOSENESS
    if student.candidate.name == DISTILLED:
        closeness = CLOSENESS.replace("teacher", "ensemble")
    trained = [("teacher", accuracy, teacher.training), ("student", closeness, student.training)]
    trained += [(each.candidate.name, closeness, each.training) for each in student.members]
    if made.undistilled:
        trained.append(("control without distillation", accuracy, made.undistilled.training))
    settings = made.ground.context.spec.distillation.augmentation
    notes = [
        *notes_on(settings, made.ground.transfer.made),
        *teaching_notes(made.ground, student.training),
    ]
    return making(made.ground.context, trained, notes=notes)
