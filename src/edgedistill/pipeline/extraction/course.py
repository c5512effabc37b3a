"""The course of an extraction task: from its data to its verdict."""

from __future__ import annotations

from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.extraction.artefact import make_artefact
from edgedistill.pipeline.extraction.dataset import prepare_documents
from edgedistill.pipeline.extraction.student import Ground, checked_config, train_student
from edgedistill.pipeline.extraction.teacher import prepare_teacher
from edgedistill.pipeline.extraction.transfer import prepare_transfer
from edgedistill.pipeline.extraction.verification import Made, verify
from edgedistill.pipeline.verified import Verified


def carry_out(context: Context[ExtractionSpec]) -> Verified:
    """Teach, distil, compress, measure, judge.

    Raises:
        SpecError: as `prepare_ground`.
    """
    ground = prepare_ground(context)
    student = train_student(ground)
    control = train_student(ground, distilled=False)
    artefact = make_artefact(ground, student)
    return verify(Made(ground, student, control, artefact))


def prepare_ground(context: Context[ExtractionSpec]) -> Ground:
    """What students of a task grow on: its data, its teacher, and all that it says.

    Raises:
        SpecError: the student has options that its family lacks.
    """
    checked_config(context.spec)
    data = prepare_documents(context)
    teacher = prepare_teacher(context, data)
    transfer = prepare_transfer(context, data, teacher)
    return Ground(context, data, teacher, transfer)
