"""What a task's strategy asks of student and teacher: known, and refused, before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edgedistill.core.errors import MissingSignal, SpecError
from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.core.files import read_json
from edgedistill.core.protocols import Signal
from edgedistill.core.strategies import ResponseSettings
from edgedistill.core.task import TaskSpec
from edgedistill.models.teachers.sources import OWN_CLASSIFIER

if TYPE_CHECKING:
    from edgedistill.models.internals import NetworkShape
    from edgedistill.pipeline.stages.any_ground import Candidate
    from edgedistill.train.distill.combined import Weighted

#: The kinds of task whose students are taught by strategies.
StrategySpec: TypeAlias = TaskSpec | ExtractionSpec
Layers = Mapping[Signal, tuple[int, ...]]


def looks_inside(spec: StrategySpec) -> bool:
    """Whether a part of the strategy compares more than answers."""
    return any(part.internals for part in spec.distillation.strategy)


def is_plain(spec: StrategySpec) -> bool:
    """Whether the strategy is response distillation and nothing else."""
    part, *more = spec.distillation.strategy
    sums_up_to_itself = part.weight == 1.0 and part.final_weight in (None, 1.0)
    return (
        not more
        and isinstance(part, ResponseSettings)
        and sums_up_to_itself
        and not spec.distillation.balance
        and spec.distillation.curriculum is None
        and spec.distillation.mixture.weighting != "agreement"
    )


def is_default(spec: StrategySpec) -> bool:
    """Whether a student learns its teacher's answers, and learns once: what every family may."""
    settings = spec.distillation
    once = settings.generations == 1 and not settings.assistants and settings.search is None
    together = isinstance(spec, TaskSpec) and spec.student.ensemble
    return is_plain(spec) and once and not together


def teacher_shape(source: Path) -> NetworkShape:
    """The shape of the teacher in a folder.

    Raises:
        MissingSignal: its inside cannot be read.
    """
    from edgedistill.models.internals import NetworkShape

    return NetworkShape.of_encoder(read_json(source / "config.json"))


def strategy_parts(spec: StrategySpec, candidate: Candidate, source: Path) -> list[Weighted]:
    """The parts of the task's strategy for a candidate and the teacher in the folder `source`.

    Raises:
        MissingSignal: student or teacher cannot tell what a part compares.
        SpecError: a part's settings do not fit the two networks.
    """
    from edgedistill.models.families import FAMILIES
    from edgedistill.train.distill.response import ResponseConfig
    from edgedistill.train.distill.strategies import weighted_parts

    family, settings = FAMILIES.load(candidate.family), spec.distillation
    if family.recipe is None:
        raise MissingSignal(
            f"a {candidate.family} student is fitted to labels alone: no strategy applies",
            where="distillation",
            fix="leave strategy and generations out, or choose another family",
        )
    student = teacher = None
    if looks_inside(spec):
        _require_told(spec, candidate.family, family.shape is not None)
        _require_own_head(spec, source)
        teacher = teacher_shape(source)
        student = family.shape(family.config(**candidate.options), teacher)
    response = ResponseConfig(
        temperature=settings.temperature or family.recipe.temperature,
        hard_weight=settings.hard_weight,
        energy_weight=settings.energy_weight,
    )
    return weighted_parts(settings.strategy, response, student, teacher)


def require_fitting(
    spec: StrategySpec,
    candidates: Sequence[Candidate],
    assistants: Sequence[Candidate],
    source: Path,
) -> None:
    """Refuse a strategy that no candidate, or not every assistant, can follow under this teacher.

    Raises:
        MissingSignal, SpecError: as `strategy_parts`, of an assistant or the last candidate.
    """
    for assistant in assistants:
        strategy_parts(spec, assistant, source)
    refusals = []
    for candidate in reversed(candidates):
        try:
            strategy_parts(spec, candidate, source)
        except (MissingSignal, SpecError) as error:
            refusals.append(error)
    if len(refusals) == len(candidates):
        raise refusals[0]


def require_suited(spec: StrategySpec, candidate: Candidate, source: Path) -> None:
    """Refuse a candidate that is to be taught and cannot follow the strategy.

    Raises:
        MissingSignal, SpecError: as `strategy_parts`.
    """
    from edgedistill.models.families import FAMILIES

    if not is_plain(spec) and FAMILIES.load(candidate.family).recipe is not None:
        strategy_parts(spec, candidate, source)


def layers_asked(spec: StrategySpec, candidates: Sequence[Candidate], source: Path) -> Layers:
    """The teacher's layers that the strategy looks into for any of the candidates, by signal."""
    from edgedistill.train.distill.strategies import asked_layers

    found: dict[Signal, set[int]] = {}
    for candidate in candidates if looks_inside(spec) else ():
        try:
            parts = strategy_parts(spec, candidate, source)
        except (MissingSignal, SpecError):
            continue
        for signal, layers in asked_layers(parts).items():
            found.setdefault(signal, set()).update(layers)
    return {signal: tuple(sorted(found[signal])) for signal in sorted(found)}


def _require_told(spec: StrategySpec, name: str, tells: bool) -> None:
    """Refuse a family whose students do not tell what a part compares."""
    from edgedistill.models.families import FAMILIES

    if tells:
        return
    place, part = next((i, p) for i, p in enumerate(spec.distillation.strategy) if p.internals)
    others = [family for family in FAMILIES if FAMILIES.load(family).shape is not None]
    raise MissingSignal(
        f"a {name} student has no {' and no '.join(sorted(part.internals))} to compare",
        where=f"distillation.strategy.{place} ({part.name})",
        fix=f"choose a student of {' or '.join(others)}, or leave {part.name} out",
    )


def _require_own_head(spec: StrategySpec, source: Path) -> None:
    """Refuse a fine-tuned classifier of another make: students that can be read grow from ours.
    The head of a tagger is of one form."""
    if isinstance(spec, ExtractionSpec):
        return
    if spec.teacher.num_epochs == 0 and not (source / OWN_CLASSIFIER).is_file():
        raise MissingSignal(
            "students whose inside can be read start from a linear head on the mean of the "
            "teacher's states, which this fine-tuned classifier has not",
            where="teacher.num_epochs",
            fix="set it above 0 to fine-tune the encoder here, or take the strategy response",
        )
