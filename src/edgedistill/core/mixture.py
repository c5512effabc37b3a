"""Settings of several teachers: how their answers are mixed, what their labels are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from edgedistill.core.section import Section

TeacherWeight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _as_names(value: Any) -> Any:
    """A name stands for a list of one, nothing for an empty list."""
    return () if value is None else (value,) if isinstance(value, str) else value


OwnNames: TypeAlias = Annotated[
    tuple[str, ...],
    BeforeValidator(_as_names, json_schema_input_type=str | list[str] | None),
]


class MixtureSpec(Section):
    """How the answers of `teacher` and `teachers` become one."""

    weighting: Literal["static", "quality", "confidence"] = "static"
    """`static`: by the weights given; `quality`: these times how far each teacher's validation
    accuracy lies above chance; `confidence`: these times how sure it is, text by text."""
    first_weight: TeacherWeight = 1.0
    """Weight of `teacher` among them."""


def require_mixture(mixture: MixtureSpec, weights: Sequence[float]) -> None:
    """Refuse a mixture of nothing, as a ValueError.

    Args:
        weights: of the further teachers.
    """
    if not weights and mixture != MixtureSpec():
        raise ValueError("distillation.mixture: there is nothing to mix without teachers")
    if weights and not mixture.first_weight + sum(weights):
        raise ValueError("teachers: the weights of the teachers are all 0")
