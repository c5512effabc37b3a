"""The course of a classification task: from its data to its verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgedistill.core.artefacts import Interval
from edgedistill.evaluate.intervals import retention_interval
from edgedistill.models.teachers.sources import resolve_teacher
from edgedistill.pipeline.compressible import require_compressible, require_reachable
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.pass_search import find_sequences
from edgedistill.pipeline.rungs import require_rows
from edgedistill.pipeline.search import Tried, assistants_of, candidates_of, search
from edgedistill.pipeline.size_forecast import size_forecast
from edgedistill.pipeline.stages.answers import prepare_mixture
from edgedistill.pipeline.stages.any_ground import Candidate
from edgedistill.pipeline.stages.artefact import Artefact, make_artefact
from edgedistill.pipeline.stages.assistants import with_assistants
from edgedistill.pipeline.stages.dataset import prepare_data
from edgedistill.pipeline.stages.ensemble import members_of, train_together
from edgedistill.pipeline.stages.further import find_further, hear_all
from edgedistill.pipeline.stages.ground import Ground
from edgedistill.pipeline.stages.internals import prepare_internals
from edgedistill.pipeline.stages.student import TrainedStudent, train_student
from edgedistill.pipeline.stages.teacher import prepare_teacher
from edgedistill.pipeline.stages.transfer import prepare_transfer
from edgedistill.pipeline.stages.trials import choose_strategy, layers_tried
from edgedistill.pipeline.stages.verification import verify_choice
from edgedistill.pipeline.strategy import is_default, require_fitting
from edgedistill.pipeline.verified import Verified


def carry_out(context: Context) -> Verified:
    """Teach, distil, compress, measure, judge.

    Raises:
        SpecError, MissingSignal: as `prepare_ground`.
    """
    candidates, members = candidates_of(context.spec), members_of(context.spec)
    ground = prepare_ground(context)
    chosen = together = None
    trained = dict[str, TrainedStudent]()
    if context.spec.distillation.search is not None:
        chosen = choose_strategy(ground, candidates[0])
        ground = chosen.ground
        if chosen.student is not None:
            trained[candidates[0].name] = chosen.student
    if members:
        together = train_together(ground, members)
        trained = together.tried
        candidates = [each.candidate for each in trained.values()]

    def make(candidate: Candidate) -> Artefact:
        student = trained.get(candidate.name) or train_student(ground, candidate)
        return make_artefact(ground, student)

    logits, _ = ground.transfer.outputs("validation")
    teacher_right = np.argmax(logits, axis=1) == ground.data.dataset.targets("validation")
    confidence = context.spec.requirements.confidence

    def keeps(artefact: Artefact) -> Interval:
        right = artefact.validation_right
        return retention_interval(teacher_right, right, confidence=confidence)

    size_bytes, others = size_forecast(ground, members), list[Tried]()
    ready = frozenset[str]()
    if context.spec.compress and context.spec.compress.search:
        found = find_sequences(ground, _made, size_bytes, keeps)
        candidates, others, ready = found.finalists, found.others, found.ready
    tried = search(context, candidates, make, size_bytes, keeps, ready=ready)
    strategies = chosen.tried if chosen else None
    return verify_choice(ground, [*tried, *others], together=together, strategies=strategies)


def _made(ground: Ground, candidate: Candidate, /, *, is_trial: bool = False) -> Artefact:
    return make_artefact(ground, train_student(ground, candidate), is_trial=is_trial)


def prepare_ground(context: Context) -> Ground:
    """What students of a task grow on: its data, its teachers, and all that these say.

    Raises:
        SpecError: the student is of an unknown family, or has options that its family lacks.
        MissingSignal: the strategy needs what student or teacher cannot tell.
    """
    spec = context.spec
    candidates, members = candidates_of(spec), members_of(spec)
    assistants = assistants_of(spec)
    if not is_default(spec):
        source = resolve_teacher(spec.teacher.source, root=context.root)
        require_fitting(spec, candidates, [*assistants, *members], source)
    if spec.compress is not None and spec.compress.is_of_teacher:
        # In time: what it would refuse is refused before the teacher reads a text.
        source = resolve_teacher(spec.teacher.source, root=context.root)
        require_compressible(spec, source)
    data = prepare_data(context)
    if spec.distillation.search is not None:
        require_rows(len(data.dataset.validation))
    find_further(spec, context.root, data.dataset.labels)
    teacher = prepare_teacher(context, data)
    if spec.compress is not None and spec.compress.is_of_teacher:
        ids = teacher.encoder.encode(data.dataset.texts("train")).ids
        require_reachable(spec, teacher.source, teacher.encoder, ids, len(data.dataset.labels))
    transfer = prepare_transfer(context, data, teacher)
    ground = Ground(context, data, teacher, transfer)
    if spec.teachers:
        targets = data.dataset.targets("validation")
        mixture = prepare_mixture(ground, *hear_all(context, data, transfer), targets)
        ground = replace(ground, instead=mixture)

    layers = layers_tried(spec, candidates, [*assistants, *members], teacher.source)
    ground = replace(ground, internals=prepare_internals(ground, layers))
    return with_assistants(ground, assistants)
