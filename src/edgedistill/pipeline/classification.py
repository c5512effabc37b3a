"""The course of a classification task: from its data to its verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edgedistill.models.teachers.sources import resolve_teacher
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.search import assistants_of, candidates_of, search
from edgedistill.pipeline.stages.answers import prepare_mixture
from edgedistill.pipeline.stages.any_ground import Candidate
from edgedistill.pipeline.stages.artefact import Artefact, make_artefact
from edgedistill.pipeline.stages.assistants import with_assistants
from edgedistill.pipeline.stages.dataset import prepare_data
from edgedistill.pipeline.stages.further import find_further, hear_all
from edgedistill.pipeline.stages.ground import Ground
from edgedistill.pipeline.stages.internals import prepare_internals
from edgedistill.pipeline.stages.student import train_student
from edgedistill.pipeline.stages.teacher import prepare_teacher
from edgedistill.pipeline.stages.transfer import prepare_transfer
from edgedistill.pipeline.stages.verification import verify_choice
from edgedistill.pipeline.strategy import is_default, layers_asked, require_fitting
from edgedistill.pipeline.verified import Verified


def carry_out(context: Context) -> Verified:
    """Teach, distil, compress, measure, judge.

    Raises:
        SpecError: the student is of an unknown family, or has options that its family lacks.
        MissingSignal: the strategy needs what student or teacher cannot tell.
    """
    spec = context.spec
    candidates, assistants = candidates_of(spec), assistants_of(spec)
    if not is_default(spec):
        source = resolve_teacher(spec.teacher.source, root=context.root)
        require_fitting(spec, candidates, assistants, source)
    data = prepare_data(context)
    find_further(spec, context.root, data.dataset.labels)
    teacher = prepare_teacher(context, data)
    transfer = prepare_transfer(context, data, teacher)
    ground = Ground(context, data, teacher, transfer)
    if spec.teachers:
        targets = data.dataset.targets("validation")
        mixture = prepare_mixture(ground, *hear_all(context, data, transfer), targets)
        ground = replace(ground, instead=mixture)

    layers = layers_asked(spec, [*candidates, *assistants], teacher.source)
    ground = replace(ground, internals=prepare_internals(ground, layers))
    ground = with_assistants(ground, assistants)

    def make(candidate: Candidate) -> Artefact:
        return make_artefact(ground, train_student(ground, candidate))

    logits, _ = transfer.outputs("validation")
    teacher_right = np.argmax(logits, axis=1) == data.dataset.targets("validation")
    tried = search(context, candidates, make, _size_forecast(ground), teacher_right)
    return verify_choice(ground, tried)


def _size_forecast(ground: Ground) -> Callable[[Candidate], int]:
    """Bytes of model and tokenizer of a candidate, before it is trained."""
    from edgedistill.models.families import FAMILIES

    data, teacher, transfer = ground.data, ground.teacher, ground.transfer
    num_rows = len(np.unique(transfer.real_ids))
    shape = json.loads((teacher.source / "config.json").read_text(encoding="utf-8"))
    fixed = len(teacher.encoder.packed) + 2 * teacher.encoder.num_tokens

    def size_bytes(candidate: Candidate) -> int:
        family = FAMILIES.load(candidate.family)
        config = family.config(**candidate.options)
        num_labels, hidden = len(data.dataset.labels), int(shape["hidden_size"])
        return int(family.size_bytes(config, num_rows, num_labels, hidden)) + fixed

    return size_bytes
