"""The course of an extraction task: from its data to its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.models.teachers.sources import resolve_teacher
from edgedistill.pipeline.compressible import require_compressible, require_reachable
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.extraction.artefact import Artefact, make_artefact
from edgedistill.pipeline.extraction.dataset import encoder_of, prepare_documents
from edgedistill.pipeline.extraction.further import find_further, hear_all
from edgedistill.pipeline.extraction.heads import output_names
from edgedistill.pipeline.extraction.kept import TeacherOnValidation
from edgedistill.pipeline.extraction.student import Ground, train
from edgedistill.pipeline.extraction.teacher import prepare_teacher
from edgedistill.pipeline.extraction.transfer import prepare_transfer
from edgedistill.pipeline.extraction.verification import verify
from edgedistill.pipeline.pass_search import find_sequences
from edgedistill.pipeline.rungs import require_rows
from edgedistill.pipeline.search import Tried, assistants_of, candidates_of, search
from edgedistill.pipeline.size_forecast import size_forecast
from edgedistill.pipeline.stages.answers import prepare_mixture
from edgedistill.pipeline.stages.any_ground import Candidate
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
    spec = context.spec
    candidates = candidates_of(spec)
    ground, chosen = prepare_ground(context), None
    if spec.distillation.search is not None:
        chosen = choose_strategy(ground, candidates[0])
        ground = chosen.ground
    if spec.compress and spec.compress.is_of_teacher:
        tried = _compressed(ground, candidates)
    else:
        # A trial that was a whole training is found in the store.
        (candidate,) = candidates
        made = _made(ground, candidate)
        tried = [Tried(candidate, made, on_front=True, chosen=True)]
    return verify(ground, tried, strategies=chosen.tried if chosen else None)


def _compressed(ground: Ground, candidates: Sequence[Candidate]) -> list[Tried[Artefact]]:
    """The teacher under every sequence of passes that is asked for or found, one of them chosen."""
    settings = ground.context.spec.compress
    keeps = TeacherOnValidation(ground).kept_by
    size_bytes, others = size_forecast(ground), list[Tried[Artefact]]()
    ready = frozenset[str]()
    if settings and settings.search:
        found = find_sequences(ground, _made, size_bytes, keeps)
        candidates, others, ready = found.finalists, found.others, found.ready
    tried = search(
        ground.context, candidates, partial(_made, ground), size_bytes, keeps, ready=ready
    )  # fmt: skip
    return [*tried, *others]


def _made(ground: Ground, candidate: Candidate, /, *, is_trial: bool = False) -> Artefact:
    return make_artefact(ground, train(ground, candidate), is_trial=is_trial)


def prepare_ground(context: Context[ExtractionSpec]) -> Ground:
    """What students of a task grow on: its data, its teacher, and all that it says.

    Raises:
        SpecError: the student has options that its family lacks, or a further teacher has another
            tokenizer.
        MissingSignal: the strategy needs what student or teacher cannot tell.
        ModelError, BudgetExceeded: what is to be compressed cannot be, or not so far.
    """
    spec = context.spec
    candidates, assistants = candidates_of(spec), assistants_of(spec)
    source = resolve_teacher(spec.teacher.source, root=context.root)
    if not is_default(spec):
        require_fitting(spec, candidates, assistants, source)
    require_compressible(spec, source)
    find_further(spec, context.root, encoder_of(spec, source).encoder)
    data = prepare_documents(context)
    if spec.distillation.search is not None:
        require_rows(len(data.rows.validation))
    teacher = prepare_teacher(context, data)
    ids = teacher.encoder.encode(data.rows.train).texts.ids
    outputs = output_names(teacher.encoder)
    require_reachable(spec, teacher.source, teacher.encoder.encoder, ids, len(outputs))
    transfer = prepare_transfer(context, data, teacher)
    ground = Ground(context, data, teacher, transfer)
    if spec.teachers:
        mixture = prepare_mixture(ground, *hear_all(ground), ground.validation_tags())
        ground = replace(ground, instead=mixture)
    layers = layers_tried(spec, candidates, assistants, teacher.source)
    ground = replace(ground, internals=prepare_internals(ground, layers))
    return with_assistants(ground, assistants)
