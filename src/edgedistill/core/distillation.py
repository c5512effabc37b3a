"""What a task file may say of how a student is taught, whatever the kind of its task."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgedistill.core.mixture import MixtureSpec
from edgedistill.core.section import Section
from edgedistill.core.strategies import CurriculumSpec, ResponseSettings, Strategies


class TeachingSpec(Section):
    """How a student learns from its teacher."""

    strategy: Annotated[Strategies, Field(json_schema_extra={"default": "response"})] = (
        ResponseSettings(),
    )
    """What the student learns of the teacher: a strategy's name, or a list of parts whose losses
    are added up, each a name or a mapping of `name`, `weight` and the strategy's own settings."""
    balance: bool = False
    """Whether each part of the strategy is divided by a running mean of its own size, so that
    weights compare parts whose losses are of different scale."""
    generations: Annotated[int, Field(ge=1, le=10)] = 1
    """Students in a row: each after the first is built anew and learns its answers from the one
    before it; the last one ships."""
    curriculum: CurriculumSpec | None = None
    """Order in which texts are learned; left out: all from the start."""
    mixture: MixtureSpec = MixtureSpec()
    """Used where there are `teachers`."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """Softening of both distributions; left out: the family's own default."""
    hard_weight: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Weight of the true labels or tags against the teacher's distribution, where a text has
    them."""
    energy_weight: Annotated[float, Field(ge=0)] = 0.05
    """Weight of matching the teacher's energy, by which out-of-bounds texts are told apart."""
    num_texts: Annotated[int, Field(ge=1)] | None = None
    """Most texts of the transfer set that the student learns from; left out: all."""
    num_epochs: Annotated[int, Field(ge=1)] | None = None
    """Most epochs over the transfer set; left out: the family's own default."""
