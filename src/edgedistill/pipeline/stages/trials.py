"""Stages `trial-STRATEGY-N-epochs`: trainings that find out what a student learns best, and the
choice that comes of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import numpy as np

from edgedistill.core.events import Event
from edgedistill.core.files import write_json
from edgedistill.core.protocols import Signal
from edgedistill.evaluate.report.strategies_tried import StrategiesTried
from edgedistill.pipeline.halving import Halving, Outcome
from edgedistill.pipeline.rungs import rungs_of
from edgedistill.pipeline.stages.any_ground import AnyGround, Candidate
from edgedistill.pipeline.stages.student import (
    ROOMS,
    TrainedStudent,
    build_student,
    inputs_of,
    load_student,
    loop_config,
    teach,
    train_student,
)
from edgedistill.pipeline.strategy import Layers, StrategySpec, layers_asked, strategy_parts
from edgedistill.pipeline.strategy_options import (
    Option,
    applicable,
    other_maps,
    refined,
    single_options,
)

SCORES = "scores.npy"
Spec = TypeVar("Spec", bound=StrategySpec)
OneGround = TypeVar("OneGround", bound=AnyGround)


@dataclass(frozen=True)
class ChosenStrategy(Generic[OneGround]):
    """The ground on which the student is taught as was chosen, and the student where a trial was a
    whole training already."""

    ground: OneGround
    student: TrainedStudent | None
    tried: StrategiesTried


def options_of(
    spec: StrategySpec, candidate: Candidate, source: Path
) -> tuple[list[Option], list[tuple[str, str]]]:
    """What `strategy: auto` tries first with this student and the teacher in the folder `source`,
    plain response first; and what it leaves out, as (name, reason).

    Raises:
        MissingSignal: the student can follow no strategy.
    """
    settings = spec.distillation
    options = single_options(
        curriculum=settings.curriculum is None,
        generations=settings.generations == 1,
        labels=not settings.hard_weight,
    )
    return applicable(options, lambda o: strategy_parts(spec_of(spec, o), candidate, source))


def spec_of(spec: Spec, option: Option, **more: Any) -> Spec:
    """The task as if it had named this option, and `more` settings of distillation."""
    changes = {"search": None, **option.changes(), **more}
    settings = spec.distillation.model_copy(update=changes)
    return cast(Spec, spec.model_copy(update={"distillation": settings}))


def layers_tried(
    spec: StrategySpec,
    candidates: Sequence[Candidate],
    assistants: Sequence[Candidate],
    source: Path,
) -> Layers:
    """The teacher's layers that the strategy, or one that the search may try, looks into.

    Raises:
        MissingSignal: as `options_of`.
    """
    if spec.distillation.search is None:
        return layers_asked(spec, [*candidates, *assistants], source)
    found: dict[Signal, set[int]] = {}
    for candidate in candidates:
        options, _ = options_of(spec, candidate, source)
        for option in [each for one in options for each in (one, *other_maps(one))]:
            asked = layers_asked(spec_of(spec, option), [candidate], source)
            for signal, layers in asked.items():
                found.setdefault(signal, set()).update(layers)
    return {signal: tuple(sorted(found[signal])) for signal in sorted(found)}


def planned_epochs(spec: StrategySpec, candidate: Candidate, num_texts: int) -> int:
    """Epochs of a whole training on so many texts, if nothing stops it early."""
    from edgedistill.models.families import FAMILIES

    config = loop_config(
        FAMILIES.load(candidate.family).recipe, num_texts, seed=spec.seed, is_control=False,
        num_epochs=spec.distillation.num_epochs,
    )  # fmt: skip
    return int(config.num_epochs)


def choose_strategy(ground: OneGround, candidate: Candidate) -> ChosenStrategy[OneGround]:
    """Find the strategy that validation favours for this student.

    Raises:
        DataError: too few validation rows to compare anything.
        MissingSignal: the student can follow no strategy.
        ModelError: not even plain response can be learned.
    """
    context = ground.context
    spec, num_texts = context.spec, len(ground.taught)
    assert spec.distillation.search is not None
    options, left_out = options_of(spec, candidate, ground.teacher.source)
    whole = planned_epochs(spec, candidate, num_texts)
    students = dict[str, TrainedStudent]()

    def run(option: Option, num_epochs: int) -> Outcome:
        if num_epochs < whole:
            return _short(_taught_by(ground, option, num_epochs=num_epochs), candidate, option)
        # A whole training is the one that ships, if its strategy is chosen: nothing is done twice.
        trained = train_student(_taught_by(ground, option), candidate)
        students[option.name] = trained
        rows = ground.validation_scores(load_student(ground, trained))
        return Outcome(rows, trained.stage.seconds)

    choice = Halving(
        options, run, refine=refined, rungs=rungs_of(whole),
        num_rows=len(ground.validation[0]), num_texts=num_texts,
        limit_s=spec.distillation.search.seconds(spec.budget.wall_time_minutes), seed=spec.seed,
    ).choose()  # fmt: skip
    tried = replace(choice.tried, left_out=(*left_out, *choice.tried.left_out))
    context.listener(Event("strategy", "note", f"{tried.chosen}. {tried.decision}"))
    student = students.get(choice.option.name)
    return ChosenStrategy(_taught_by(ground, choice.option), student, tried)


def _taught_by(ground: OneGround, option: Option, **more: Any) -> OneGround:
    """The ground whose task names this option."""
    spec = spec_of(ground.context.spec, option, **more)
    return replace(ground, context=replace(ground.context, spec=spec))


def _short(ground: AnyGround, candidate: Candidate, option: Option) -> Outcome:
    """A trial that is shorter than a whole training: its answers are kept, its weights are not."""
    what = re.sub(r"[^a-z0-9.]+", "-", option.name)
    num_epochs = ground.context.spec.distillation.num_epochs
    name = f"trial-{what}-{num_epochs}-epochs"

    def compute(folder: Path) -> None:
        model, recipe = build_student(ground, candidate)
        record = teach(ground, candidate, model, recipe, name, folder)
        np.save(folder / SCORES, ground.validation_scores(model))
        write_json(folder / "training.json", record)

    inputs = inputs_of(ground, candidate, distilled=True)
    rooms = (*ROOMS, *ground.rooms, "pipeline/stages/trials")
    stage = ground.context.store.stage(name, inputs, compute, rooms=rooms)
    return Outcome(np.load(stage.folder / SCORES), stage.seconds)
