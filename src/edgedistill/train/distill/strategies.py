"""The catalogue of distillation strategies, and a part made of its settings."""

from __future__ import annotations

from collections.abc import Sequence

from edgedistill.core.catalogue import Catalogue
from edgedistill.core.errors import SpecError
from edgedistill.core.protocols import Signal
from edgedistill.core.strategies import AnyStrategy, ResponseSettings, ShallowSettings
from edgedistill.models.internals import NetworkShape
from edgedistill.train.distill.combined import Weighted
from edgedistill.train.distill.response import ResponseConfig
from edgedistill.train.distill.seen import Part

STRATEGIES = Catalogue(
    "distillation strategy",
    {
        "response": "edgedistill.train.distill.response:Response",
        "feature": "edgedistill.train.distill.feature:Feature",
        "attention": "edgedistill.train.distill.attention:Attention",
        "relation": "edgedistill.train.distill.relation:Relation",
        "consistency": "edgedistill.train.distill.consistency:Consistency",
        "average": "edgedistill.train.distill.average:Average",
        "shallow": "edgedistill.train.distill.shallow:Shallow",
    },
)


def weighted_parts(
    strategy: Sequence[AnyStrategy],
    response: ResponseConfig,
    student: NetworkShape | None,
    teacher: NetworkShape | None,
) -> list[Weighted]:
    """The parts that a task file asks for.

    Args:
        response: what holds for a response part where its own settings say nothing.
        student, teacher: their shapes; None where no part looks inside.

    Raises:
        SpecError: a part does not fit the two networks, with its key.
    """
    parts = []
    for place, settings in enumerate(strategy):
        try:
            part = _part(settings, response, student, teacher)
        except SpecError as error:
            key = f"distillation.strategy.{place} ({settings.name})"
            raise SpecError(error.what, where=key, fix=error.fix) from error
        parts.append(Weighted(settings.name, part, settings.weight, settings.final_weight))
    return parts


def _part(
    settings: AnyStrategy,
    response: ResponseConfig,
    student: NetworkShape | None,
    teacher: NetworkShape | None,
) -> Part:
    kind = STRATEGIES.load(settings.name)
    if isinstance(settings, ResponseSettings):
        own = settings.model_dump(include=set(ResponseConfig.model_fields), exclude_none=True)
        made: Part = kind(response.model_copy(update=own))
    elif isinstance(settings, ShallowSettings):
        made = kind(settings, student)
    elif settings.internals:
        made = kind(settings, student, teacher)
    else:
        made = kind(settings)
    return made


def asked_layers(parts: Sequence[Weighted]) -> dict[Signal, tuple[int, ...]]:
    """The teacher's layers that parts look into, by signal, ascending."""
    found: dict[Signal, set[int]] = {}
    for each in parts:
        if each.part.layers:
            for signal in each.part.needs:
                found.setdefault(signal, set()).update(t for _, t in each.part.layers)
    return {signal: tuple(sorted(found[signal])) for signal in sorted(found)}
