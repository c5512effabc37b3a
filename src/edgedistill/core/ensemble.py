"""Settings of further students: of an ensemble that answers as one, or teaches one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from edgedistill.core.section import Section


class FurtherStudent(Section):
    """One more student: a member of an ensemble, or one in between."""

    family: str
    """A student family (`edgedistill families`) that is distilled."""
    options: dict[str, Any] = Field(default={})
    """Settings of that family."""


class EnsembleSpec(Section):
    """Several students that answer as one; left out: one student."""

    num_members: Annotated[int, Field(ge=1, le=10)] = 3
    """Students of the family and options of `student`, each of a seed of its own."""
    others: tuple[FurtherStudent, ...] = ()
    """Further members, of other families or options."""
    average: Literal["probabilities", "logits"] = "probabilities"
    """What of the members' answers is averaged."""
    weighting: Literal["likelihood", "equal"] = "likelihood"
    """`likelihood`: the weights under which the validation labels are likeliest."""
    ships: Literal["smallest", "ensemble", "distilled"] = "smallest"
    """`distilled`: one student of the family and options of `student` that learned the ensemble's
    answers; `smallest`: of the first member, the distilled one and the ensemble the smallest that
    meets the requirements, or else the most accurate."""

    @model_validator(mode="after")
    def _are_several(self) -> EnsembleSpec:
        if self.num_members + len(self.others) < 2:
            raise ValueError("an ensemble has at least two members: raise num_members or add one")
        if any(other.family == "auto" for other in self.others):
            raise ValueError("others: each needs a family of its own, 'auto' tries single students")
        return self
