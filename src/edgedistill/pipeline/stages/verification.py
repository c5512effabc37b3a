"""Stage `verification`: make the bundle, score the test split once, judge, write the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from edgedistill.core.artefacts import Judgement
from edgedistill.evaluate.guard_fit import FittedGuard
from edgedistill.evaluate.report.removal import Removal
from edgedistill.evaluate.report.strategies_tried import StrategiesTried
from edgedistill.evaluate.verdict import judge
from edgedistill.pipeline.abilities import abilities_kept
from edgedistill.pipeline.evidence import Control, calibrated_guard, control_answers
from edgedistill.pipeline.fidelity import keep_ledger
from edgedistill.pipeline.measurement import Measured, measure
from edgedistill.pipeline.packaging import golden_rows, machine, versions, write_task_bundle
from edgedistill.pipeline.search import CONTROL, Tried, is_untrained
from edgedistill.pipeline.stages.artefact import Artefact
from edgedistill.pipeline.stages.ensemble import Together
from edgedistill.pipeline.stages.ground import Ground
from edgedistill.pipeline.stages.removal import measure_removal
from edgedistill.pipeline.stages.student import TrainedStudent, train_student
from edgedistill.pipeline.stages.teacher_file import export_teacher
from edgedistill.pipeline.verified import (
    ANSWERS,
    ARCHIVE,
    BUNDLE,
    Verified,
    read_verdict,
    write_verdict,
)
from edgedistill.runtime.bundle import write_archive
from edgedistill.runtime.classification import Classifier
from edgedistill.runtime.loading import load
from edgedistill.runtime.networks import runtime_of


@dataclass(frozen=True)
class Made:
    """Everything of the run that the verdict and the report look back on."""

    ground: Ground
    tried: Sequence[Tried]
    artefact: Artefact
    undistilled: TrainedStudent | None
    linear: TrainedStudent
    teacher_file: Path
    together: Together | None = None
    strategies: StrategiesTried | None = None
    removal: tuple[Removal, ...] = ()


def verify_choice(
    ground: Ground,
    tried: Sequence[Tried],
    *,
    together: Together | None = None,
    strategies: StrategiesTried | None = None,
) -> Verified:
    """Judge the chosen candidate on the file that ships.

    Args:
        together: the ensemble that it comes of. strategies: those that were tried.
    """
    artefact = next(t.artefact for t in tried if t.chosen and t.artefact)
    # An ensemble's control is one of its members: what one network does without a teacher.
    candidate = together.members[0].candidate if together else artefact.student.candidate
    # As a control it depends on nothing of the distillation: one result serves every bundle.
    linear = train_student(ground, CONTROL, distilled=False)
    undistilled = None
    if candidate.family != CONTROL.family and not is_untrained(candidate):
        undistilled = train_student(ground, candidate, distilled=False)
    teacher_file = export_teacher(ground)
    removal = measure_removal(ground, artefact.student)
    made = Made(
        ground, tried, artefact, undistilled, linear, teacher_file, together, strategies, removal
    )
    inputs = {
        "spec": ground.context.spec.model_dump(mode="json", exclude={"budget"}),
        "tried": [
            [t.candidate.name, t.artefact.stage.fingerprint if t.artefact else t.reason, t.chosen]
            for t in tried
        ],
        "strategies": asdict(strategies) if strategies else None,
        "controls": [c.stage.fingerprint if c else None for c in (undistilled, linear)],
    }
    stage = ground.context.store.stage(
        "verification", inputs, lambda folder: _compute(made, folder),
        rooms=("evaluate", "runtime", "pipeline", "tasks"),
    )  # fmt: skip
    return read_verdict(stage)


def _compute(made: Made, folder: Path) -> None:
    from edgedistill.pipeline.content import report_content

    ground = made.ground
    fitted = calibrated_guard(ground, made.artefact)
    _write(made, folder, fitted, [], {})
    classifier = cast(Classifier, load(folder / BUNDLE))
    controls = [
        control_answers(ground, student, name, role)
        for student, name, role in (
            (made.undistilled, "same network, labels only", "undistilled"),
            (made.linear, "TF-IDF and linear SVM", "linear"),
        )
        if student is not None
    ]
    measured = measure(
        ground, made.artefact, made.teacher_file, folder / BUNDLE, classifier, fitted
    )
    ledger = keep_ledger(ground, made.artefact, classifier)
    steps = abilities_kept(ground, classifier)
    measurements = replace(
        measured.measurements, general_retention=steps[0].kept if steps else None
    )
    judgements = judge(ground.context.spec.requirements, measurements, hops=ledger.hops)
    bundle = _write(made, folder, fitted, judgements, measured.summary)
    write_archive(bundle, folder / ARCHIVE)
    _save_answers(folder, measured, controls)
    content = report_content(made, fitted, measured, controls, ledger, judgements, bundle)
    write_verdict(folder, replace(content, earlier_steps=steps), judgements, measured.summary)


def _write(
    made: Made,
    folder: Path,
    fitted: FittedGuard,
    judgements: Sequence[Judgement],
    measurements: Mapping[str, Any],
) -> Any:
    """Write the bundle; again with the measurements once they are taken on its files."""
    spec, dataset = made.ground.context.spec, made.ground.data.dataset
    targets, texts = dataset.targets("validation"), dataset.texts("validation")
    return write_task_bundle(
        folder / BUNDLE, spec, dataset,
        model=made.artefact.model.read_bytes(),
        tokenizer=made.ground.teacher.encoder.packed,
        pad_id=made.ground.teacher.encoder.pad_id,
        guard=fitted.guard,
        golden_texts=[texts[row] for row in golden_rows(targets)],
        batching=made.artefact.batching,
        judgements=judgements,
        measurements=measurements,
        provenance=_provenance(made),
    )  # fmt: skip


def _provenance(made: Made) -> dict[str, Any]:
    spec = made.ground.context.spec
    candidate = made.artefact.student.candidate
    return {
        "data fingerprint": made.ground.data.stage.fingerprint,
        "teacher": spec.teacher.source,
        "teacher weights sha256": made.ground.teacher.weights_sha256,
        "student": f"{candidate.family} {json.dumps(candidate.options)}",
        "vocabulary": _vocabulary(made),
        "compression": " + ".join(made.artefact.chosen.passes) or "none",
        "runtime": runtime_of(made.artefact.model.read_bytes()),
        "machine": machine(),
        "seed": spec.seed,
        "versions": versions(),
    }


def _vocabulary(made: Made) -> str:
    """Which tokens have a vector of their own, and what the others are read as."""
    shape = made.artefact.student.training.get("shape")
    if shape and shape["rows"] == shape["ids"]:
        return f"all {shape['rows']:,} tokens"
    transfer, num_tokens = made.ground.transfer, made.ground.teacher.encoder.num_tokens
    kept = len(np.union1d(transfer.real_ids, made.ground.teacher.encoder.special_ids))
    return f"{kept:,} of {num_tokens:,} tokens; any other is read as its nearest kept neighbour"


def _save_answers(folder: Path, measured: Measured, controls: Sequence[Control]) -> None:
    """Label indices on the test split, so that intervals can be computed again, or pooled."""
    np.savez(
        folder / ANSWERS,
        targets=measured.targets,
        teacher=measured.teacher_answers,
        shipped=measured.answers,
        **dict[str, Any]({control.role: control.answers for control in controls}),
    )
