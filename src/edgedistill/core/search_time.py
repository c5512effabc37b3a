"""What a search may spend of a run's time."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgedistill.core.section import Section


class SearchTime(Section):
    """How long a search may try."""

    share: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Share of `budget.wall_time_minutes` for it, unless `minutes` says it."""
    minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Minutes for it; left out: by `share`."""

    def seconds(self, wall_time_minutes: float) -> float:
        """What it may take, of a run with this budget."""
        return 60.0 * (self.minutes or self.share * wall_time_minutes)
