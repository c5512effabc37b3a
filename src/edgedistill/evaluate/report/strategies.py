"""Section on the strategies that were tried, and what the evidence was."""

from __future__ import annotations

from edgedistill.evaluate.report.blocks import Block, Cell, Mark, Paragraph, Section, Table
from edgedistill.evaluate.report.numbers import MISSING, duration
from edgedistill.evaluate.report.strategies_tried import StrategiesTried, StrategyTrial


def strategies_section(tried: StrategiesTried) -> Section:
    """The choice with its reason, then every trial, then what was left out."""
    rows = tuple(_row(trial) for trial in tried.trials)
    last = max((t.rung for t in tried.trials if t.name == tried.chosen), default=0)
    chosen = frozenset(
        i for i, t in enumerate(tried.trials) if (t.name, t.rung) == (tried.chosen, last)
    )
    headings = (
        "Strategy", "Rung", "Epochs", "Score", "Ahead of response", "Time", "Outcome", "Settings",
    )  # fmt: skip
    seconds = sum(trial.seconds for trial in tried.trials)
    num_texts = tried.trials[0].num_texts if tried.trials else 0
    caption = (
        f"Every trial had the same {num_texts:,} texts and the same seed. Score: share of "
        f"{tried.num_ranking:,} validation rows, which rank, ± one standard error; differences "
        f"are paired by row. {tried.num_deciding:,} other validation rows decide. Trials took "
        f"{duration(seconds)} of the {duration(tried.limit_s)} that they might take. No test row "
        "was read."
    )
    blocks: list[Block] = [
        Paragraph(f"Chosen: {tried.chosen} ({tried.settings}). {tried.decision}"),
        Table(headings, rows, frozenset({1, 2, 3, 4, 5}), caption, chosen),
    ]
    if tried.left_out:
        left_out: tuple[tuple[Cell, ...], ...] = tuple(tried.left_out)
        blocks += [Paragraph("Not tried:"), Table(("Strategy", "Reason"), left_out)]
    return Section("strategies", "Strategies tried", tuple(blocks))


def _row(trial: StrategyTrial) -> tuple[Cell, ...]:
    return (
        trial.name,
        str(trial.rung),
        str(trial.num_epochs),
        _with_error(trial.score, trial.error),
        _with_error(trial.gain, trial.gain_error, sign="+"),
        duration(trial.seconds),
        Mark(trial.reason, "good" if trial.kept else "neutral"),
        trial.settings,
    )


def _with_error(value: float | None, error: float | None, sign: str = "") -> str:
    """In percent or percentage points."""
    if value is None or error is None:
        return MISSING
    return f"{100 * value:{sign}.2f} ± {100 * error:.2f}"
