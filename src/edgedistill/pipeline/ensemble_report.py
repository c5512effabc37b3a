"""What the report shows of an ensemble: its members, itself, and the student it taught."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedistill.evaluate.intervals import wilson_interval
from edgedistill.evaluate.report.ensemble import EnsembleRow, EnsembleSummary
from edgedistill.pipeline.evidence import model_logits
from edgedistill.pipeline.stages.student import TrainedStudent, load_student
from edgedistill.tasks.classification import predicted

if TYPE_CHECKING:
    from edgedistill.pipeline.stages.verification import Made


def ensemble_summary(made: Made) -> EnsembleSummary | None:
    """Every student of the ensemble on validation and test; None where there is none."""
    together = made.together
    if together is None:
        return None
    dataset, teacher = made.ground.data.dataset, made.ground.teacher
    confidence = made.ground.context.spec.requirements.confidence

    def row(student: TrainedStudent, weight: float | None) -> EnsembleRow:
        model = load_student(made.ground, student)
        right = {
            split: predicted(model_logits(model, dataset.texts(split), teacher))
            == dataset.targets(split)
            for split in ("validation", "test")
        }
        options = student.candidate.options
        test = right["test"]
        return EnsembleRow(
            name=student.candidate.name,
            description=""
            if student.members
            else ", ".join(f"{k} {v}" for k, v in options.items()) or "default settings",
            weight=weight,
            validation=float(right["validation"].mean()),
            test=wilson_interval(int(test.sum()), len(test), confidence=confidence),
        )

    record = together.ensemble.training
    members = zip(together.members, record["weights"], strict=True)
    rows = [row(member, weight) for member, weight in members]
    rows.append(row(together.ensemble, None))
    if together.distilled:
        rows.append(row(together.distilled, None))
    settings = made.ground.context.spec.student.ensemble
    assert settings is not None
    shipped = made.artefact.student.candidate.name
    return EnsembleSummary(tuple(rows), record["average"], settings.weighting, shipped)
