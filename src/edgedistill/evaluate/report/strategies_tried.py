"""What a report shows of the strategies that were tried before one was chosen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StrategyTrial:
    """One training of a strategy, compared with the others of its rung (from 1) on the ranking
    rows.

    `settings`: as a task file takes them. `score`: mean over the ranking rows, with its standard
    error; `gain`: over plain response of the same rung, with the standard error of the paired
    difference; None where training failed, and for plain response itself. `num_epochs`: the plan;
    training may stop before. `kept`: went on, or was chosen.
    """

    name: str
    settings: str
    rung: int
    num_epochs: int
    num_texts: int
    score: float | None
    error: float | None
    gain: float | None
    gain_error: float | None
    seconds: float
    kept: bool
    reason: str


@dataclass(frozen=True)
class StrategiesTried:
    """Everything tried, in its order, and what was chosen.

    `decision`: why, in a sentence. `num_ranking`, `num_deciding`: validation rows that ranked, and
    those, not seen in ranking, that decided. `limit_s`: seconds that it might have taken.
    `left_out`: (name, reason).
    """

    chosen: str
    settings: str
    decision: str
    trials: tuple[StrategyTrial, ...]
    left_out: tuple[tuple[str, str], ...]
    num_ranking: int
    num_deciding: int
    limit_s: float
