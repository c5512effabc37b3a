"""The course of an extraction task: from its data to its verdict."""

from __future__ import annotations

from dataclasses import replace

from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.models.teachers.sources import resolve_teacher
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.extraction.artefact import make_artefact
from edgedistill.pipeline.extraction.dataset import encoder_of, prepare_documents
from edgedistill.pipeline.extraction.further import find_further, hear_all
from edgedistill.pipeline.extraction.student import Ground, train
from edgedistill.pipeline.extraction.teacher import prepare_teacher
from edgedistill.pipeline.extraction.transfer import prepare_transfer
from edgedistill.pipeline.extraction.verification import Made, verify
from edgedistill.pipeline.rungs import require_rows
from edgedistill.pipeline.search import assistants_of, candidates_of
from edgedistill.pipeline.stages.answers import prepare_mixture
from edgedistill.pipeline.stages.assistants import with_assistants
from edgedistill.pipeline.stages.internals import prepare_internals
from edgedistill.pipeline.stages.trials import choose_strategy, layers_tried
from edgedistill.pipeline.strategy import is_default, require_fitting
from edgedistill.pipeline.verified import Verified


def carry_out(context: Context[ExtractionSpec]) -> Verified:
    """Teach, distil, compress, measure, judge.

    Raises:
        SpecError: as `prepare_ground`.
        MissingSignal: as `prepare_ground`.
    """
    ground, chosen = prepare_ground(context), None
    (candidate,) = candidates_of(context.spec)
    if context.spec.distillation.search is not None:
        chosen = choose_strategy(ground, candidate)
        ground = chosen.ground
    # A trial that was a whole training is found in the store.
    student = train(ground, candidate)
    control = train(ground, candidate, distilled=False)
    artefact = make_artefact(ground, student)
    return verify(Made(ground, student, control, artefact, chosen.tried if chosen else None))


def prepare_ground(context: Context[ExtractionSpec]) -> Ground:
    """What students of a task grow on: its data, its teacher, and all that it says.

    Raises:
        SpecError: the student has options that its family lacks, or a further teacher has another
            tokenizer.
        MissingSignal: the strategy needs what student or teacher cannot tell.
    """
    spec = context.spec
    (candidate,), assistants = candidates_of(spec), assistants_of(spec)
    source = resolve_teacher(spec.teacher.source, root=context.root)
    if not is_default(spec):
        require_fitting(spec, [candidate], assistants, source)
    find_further(spec, context.root, encoder_of(spec, source).encoder)
    data = prepare_documents(context)
    if spec.distillation.search is not None:
        require_rows(len(data.rows.validation))
    teacher = prepare_teacher(context, data)
    transfer = prepare_transfer(context, data, teacher)
    ground = Ground(context, data, teacher, transfer)
    if spec.teachers:
        mixture = prepare_mixture(ground, *hear_all(ground), ground.validation_tags())
        ground = replace(ground, instead=mixture)
    layers = layers_tried(spec, [candidate], assistants, teacher.source)
    ground = replace(ground, internals=prepare_internals(ground, layers))
    return with_assistants(ground, assistants)
