"""The course of a generation task: from its data to its verdict."""

from __future__ import annotations

from edgedistill.core.generation_task import GenerationSpec
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.generation.artefact import make_artefact
from edgedistill.pipeline.generation.dataset import prepare_conversations, require_llm
from edgedistill.pipeline.generation.pretrained import find_bases
from edgedistill.pipeline.generation.reader import prepare_reader
from edgedistill.pipeline.generation.rounding import require_rows_to_fit
from edgedistill.pipeline.generation.student import Ground, train_student
from edgedistill.pipeline.generation.teacher import prepare_teacher
from edgedistill.pipeline.generation.teacher_texts import prepare_texts
from edgedistill.pipeline.generation.transfer import prepare_transfer
from edgedistill.pipeline.generation.verification import Made, verify
from edgedistill.pipeline.verified import Verified


def carry_out(context: Context[GenerationSpec]) -> Verified:
    """Teach, distil, write the file, measure, judge.

    Raises:
        MissingExtra: as `prepare_ground`.
    """
    ground = prepare_ground(context)
    student = train_student(ground)
    control = train_student(ground, distilled=False)
    artefact = make_artefact(ground, student)
    return verify(Made(ground, student, control, artefact))


def prepare_ground(context: Context[GenerationSpec]) -> Ground:
    """What students of a task grow on: its data, its teacher, and all that it says.

    Raises:
        MissingExtra: what writes and runs a GGUF file is not installed.
        DataError: too few rows for a type of weights that is fitted to them.
    """
    require_llm(context.spec)
    data = prepare_conversations(context)
    require_rows_to_fit(context.spec, len(data.rows.train))
    bases = find_bases(context.spec, context.root, data.rows.train)
    teacher = prepare_teacher(context, data, bases.teacher)
    texts = prepare_texts(context, data, teacher)
    transfer = prepare_transfer(context, teacher, texts)
    reader = prepare_reader(context, data, bases.student)
    return Ground(context, data, teacher, transfer, bases.student, reader)
