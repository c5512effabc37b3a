"""Stage `verification`: make the bundle, score the test split once, judge, write the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from edgedistill.evaluate.report.removal import Removal
from edgedistill.evaluate.report.strategies_tried import StrategiesTried
from edgedistill.evaluate.verdict import judge
from edgedistill.pipeline.extraction.artefact import Artefact
from edgedistill.pipeline.extraction.boundary import fit
from edgedistill.pipeline.extraction.fidelity import keep_ledger
from edgedistill.pipeline.extraction.measurement import Measured, measure
from edgedistill.pipeline.extraction.packaging import write_extraction_bundle
from edgedistill.pipeline.extraction.student import Ground, Student, train
from edgedistill.pipeline.search import Tried, is_untrained
from edgedistill.pipeline.stages.removal import measure_removal
from edgedistill.pipeline.verified import (
    ANSWERS,
    ARCHIVE,
    BUNDLE,
    Verified,
    read_verdict,
    write_verdict,
)
from edgedistill.runtime.bundle import write_archive
from edgedistill.runtime.extraction.extractor import Extractor
from edgedistill.runtime.loading import load

TEACHER_FILE = "teacher.onnx"


@dataclass(frozen=True)
class Made:
    """Everything of the run that the verdict and the report look back on. `control`: None where
    what ships is the teacher itself, so that nothing was trained."""

    ground: Ground
    tried: Sequence[Tried[Artefact]]
    artefact: Artefact
    control: Student | None
    removal: tuple[Removal, ...] = ()
    strategies: StrategiesTried | None = None


def verify(
    ground: Ground,
    tried: Sequence[Tried[Artefact]],
    *,
    strategies: StrategiesTried | None = None,
) -> Verified:
    """Judge the chosen candidate on the file that ships.

    Args:
        strategies: those that were tried.
    """
    artefact = next(t.artefact for t in tried if t.chosen and t.artefact)
    candidate = artefact.student.candidate
    control = None if is_untrained(candidate) else train(ground, candidate, distilled=False)
    teacher_file = _export_teacher(ground)
    removal = measure_removal(ground, artefact.student.trained)
    made = Made(ground, tried, artefact, control, removal, strategies)
    inputs = {
        "spec": ground.context.spec.model_dump(mode="json", exclude={"budget"}),
        "tried": [
            [t.candidate.name, t.artefact.stage.fingerprint if t.artefact else t.reason, t.chosen]
            for t in tried
        ],
        "control": control.stage.fingerprint if control else None,
        "teacher": ground.teacher.stage.fingerprint,
        "strategies": asdict(strategies) if strategies else None,
    }
    stage = ground.context.store.stage(
        "verification", inputs, lambda folder: _compute(made, teacher_file, folder),
        rooms=("evaluate", "runtime", "pipeline", "tasks"),
    )  # fmt: skip
    return read_verdict(stage)


def _export_teacher(ground: Ground) -> Path:
    """The teacher's ONNX file, the peer of every ratio, exported once."""

    def compute(folder: Path) -> None:
        from edgedistill.export.onnx import OnnxExporter

        OnnxExporter().write(ground.teacher.load(), to=folder / TEACHER_FILE)

    inputs = {"teacher": ground.teacher.stage.fingerprint}
    stage = ground.context.store.stage(
        "teacher-file", inputs, compute, rooms=("export", "models/teachers")
    )
    return stage.folder / TEACHER_FILE


def _compute(made: Made, teacher_file: Path, folder: Path) -> None:
    from edgedistill.pipeline.extraction.content import report_content

    ground, artefact = made.ground, made.artefact
    fitted = fit(ground, artefact)
    write_extraction_bundle(folder / BUNDLE, ground, artefact, fitted, [], {})
    extractor = cast(Extractor, load(folder / BUNDLE))
    measured = measure(ground, made.control, teacher_file, folder / BUNDLE, extractor, fitted)
    hops = keep_ledger(ground, artefact, extractor)
    judgements = judge(ground.context.spec.requirements, measured.measurements, hops=hops)
    # Again, with the measurements that were taken on its files.
    bundle = write_extraction_bundle(
        folder / BUNDLE, ground, artefact, fitted, judgements, measured.summary
    )
    write_archive(bundle, folder / ARCHIVE)
    _save_counts(folder, measured)
    content = report_content(made, fitted, measured, hops, judgements, bundle, extractor)
    write_verdict(folder, content, judgements, measured.summary)


def _save_counts(folder: Path, measured: Measured) -> None:
    """Right, predicted and expected spans by test text, int64 [num_rows, 3], of each model, and
    which of its labels are right, bool [num_rows, labels], so that intervals can be computed again,
    or pooled."""
    columns: dict[str, Any] = {}
    for model in measured.spans:
        counts = measured.counts(model)
        parts = (counts.num_right, counts.num_predicted, counts.num_expected)
        columns[model] = np.stack(parts, axis=1)
        if measured.gold.labels.size:
            columns[f"{model}.labels"] = measured.labels_right[model]
    np.savez(folder / ANSWERS, **columns)
