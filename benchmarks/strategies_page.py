"""What the runs of the benchmark of strategies say: one table a case, and the claims."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from results import Result
from strategies_cases import (
    CLINC_LEFT_OUT,
    JSON_EPOCHS,
    JSON_EVERY,
    NARROW_EPOCHS,
    SLOTS_EVERY,
    WIDE_EPOCHS,
    Case,
)
from strategies_catalogue import AS_LONG, CONTROL_EPOCHS, NONE, PLAIN, TEACHER, Strategy
from strategies_pooled import Spread, pooled_f1, spread, verdict
from strategies_runs import Run, Workshop, f1

#: Families that are to be the best choice somewhere, or said not to be.
SOUGHT = ("progressive", "several teachers", "self")


@dataclass(frozen=True)
class Line:
    """A strategy in a case: the settings that ran, scores averaged over seeds with intervals over
    test rows, `gain` over plain response, `above_none` over no distillation; `cost`: seconds of
    training over those of plain response, the median over seeds."""

    strategy: Strategy
    place: int
    validation: float
    test: Spread
    gain: Spread
    above_none: Spread
    cost: float


@dataclass(frozen=True)
class Table:
    """What a case came to; `refused`: strategies that it does not take, with the reasons."""

    case: Case
    lines: tuple[Line, ...]
    refused: tuple[tuple[str, str], ...]

    def line(self, strategy: Strategy) -> Line:
        """That of a strategy."""
        return next(line for line in self.lines if line.strategy == strategy)

    @property
    def compared(self) -> list[Line]:
        """The strategies that are measured against plain response."""
        return [line for line in self.lines if not line.strategy.is_baseline]

    @property
    def best(self) -> Line | None:
        """The strategy that validation prefers to all others; None where there is no other."""
        return max(self.compared, key=lambda line: line.validation, default=None)


def table_of(workshop: Workshop, case: Case, seeds: Sequence[int]) -> Table:
    """A case's table, from finished runs."""
    refused = {name: why for (of, name), why in workshop.refused.items() if of == case.name}
    strategies = [s for s in case.strategies if s.name not in refused]
    places, validation, test, costs = dict[str, int](), [], [], []
    for strategy in strategies:
        runs = [Run(case, strategy, seed) for seed in seeds]
        place = workshop.place(runs[0])
        assert place is not None
        places[strategy.name] = place
        tried = [workshop.scored(run, place, "validation") for run in runs]
        validation.append(float(np.mean([f1(found.counts) for found in tried])))
        costs.append([found.seconds for found in tried])
        test.append([workshop.scored(run, place, "test").counts for run in runs])
    scores = pooled_f1(np.array(test))
    plain, none = scores[:, strategies.index(PLAIN)], scores[:, strategies.index(NONE)]
    usual = np.array(costs[strategies.index(PLAIN)])
    lines = [
        Line(
            strategy, places[strategy.name], validation[i], spread(scores[:, i]),
            spread(scores[:, i] - plain), spread(scores[:, i] - none),
            float(np.median(np.array(costs[i]) / np.maximum(usual, 1e-9))),
        )
        for i, strategy in enumerate(strategies)
    ]  # fmt: skip
    return Table(case, tuple(lines), tuple(refused.items()))


def claims(tables: Sequence[Table], make: Callable[..., Result]) -> list[Result]:
    """What the page asserts; `make` gives a row from claim, values, unit, bar and whether it
    holds."""
    rows, won = list[Result](), 0
    for table in tables:
        title, metric = table.case.title, table.case.metric
        rows += [
            make(f"{title}: {line.strategy.name}, above no distillation",
                 _points(line.above_none), f"points of {metric}", "shown", True)
            for line in table.lines if line.strategy in (PLAIN, AS_LONG)
        ]  # fmt: skip
        if table.best is None:
            continue
        won += table.best.gain[1] > 0
        rows.append(make(
            f"{title}: {table.best.strategy.name}, the best on validation, above response",
            _points(table.best.gain), f"points of {metric}", "interval above 0",
            table.best.gain[1] > 0,
        ))  # fmt: skip
    least = min(2, len(tables))
    rows.append(make("cases in which the best strategy beats response", (won,) * 3,
                     f"of {len(tables)}", f"≥ {least}", won >= least))  # fmt: skip
    for family in SOUGHT:
        num = len(_best_in(tables, family))
        claim = f"cases in which a strategy of the family “{family}” is the best choice"
        unit = f"of {len(tables)}"
        rows.append(make(claim, (num,) * 3, unit, "≥ 1, or said not to be", True))
    return rows


def gains(tables: Sequence[Table], make: Callable[..., Result]) -> list[Result]:
    """Every strategy's gain over response, for machines."""
    return [
        make(f"{t.case.name}: {line.strategy.name} above response", _points(line.gain),
             f"points of {t.case.metric}", "shown", True)
        for t in tables for line in t.compared
    ]  # fmt: skip


def notes(tables: Sequence[Table], seeds: Sequence[int]) -> list[str]:
    """The page below its claims."""
    num = sum(len(table.compared) for table in tables)
    told = [
        "Every student of a case has the same network, texts, epochs and rate; strategies differ "
        "in the section `distillation` alone. Trainings are short, on cuts of the data and without "
        f"made texts, so that all of them fit into hours: {WIDE_EPOCHS} epochs for what is cut out "
        f"of the teacher, {NARROW_EPOCHS} for the narrow network, {JSON_EPOCHS[1]} for JSON; of "
        f"CLINC150's smaller training split all but each {_th(CLINC_LEFT_OUT)} row, of SNIPS each "
        f"{_th(SLOTS_EVERY)} for slots and each {_th(JSON_EVERY)} for JSON. Without distillation "
        "the student learns the labels alone, as the control of every run does: on CLINC150 and "
        f"slots for {CONTROL_EPOCHS} epochs over the same texts, which is more than the others "
        f"have there. “{AS_LONG.name}” is plain response with that many, so that the two can be "
        "compared; among strategies read the column against plain response. What students that "
        "are trained to the end gain over their control stands in "
        "[classification](classification.md) and [generation](generation.md). Where two "
        "settings were tried, validation chose with seed 0; plain response had one, its "
        "defaults. The second of two teachers is, on CLINC150, that of the next seed, and on slots "
        "one that was fine-tuned with half as many texts a step. A model is scored as it was "
        "trained, before export and rounding; what writes JSON answers in llama.cpp, in half "
        "precision, by the task's grammar. The test split was scored once for each strategy and "
        "seed. Scores are means over seeds; intervals are 95 % bootstrap intervals over test "
        "rows, the same rows drawn for every model and seed. “Helps” and “harms”: the interval "
        f"of the gain over plain response excludes zero. Of {num} comparisons, about "
        f"{0.05 * num:.0f} would by chance, were there no difference at all. Time: seconds of "
        "training over those of plain response, teachers apart; several processes shared the "
        "machine, so it is rough.",
    ]
    for table in tables:
        told += ["", *_section(table)]
    told += ["", "## Where each family is the best choice", ""]
    for family in SOUGHT:
        found = _best_in(tables, family)
        where = "; ".join(
            f"{t.case.title} ({t.best.strategy.name})" for t in found if t.best is not None
        )
        told.append(f"- **{family}**: {where or 'no case was found'}.")
    told.append("")
    told.append(
        "The best choice: preferred by validation to every other strategy, and ahead of plain "
        "response on the test by an interval that excludes zero."
    )
    return told


def _section(table: Table) -> list[str]:
    metric = table.case.metric
    teacher = table.line(TEACHER)
    lines = [
        f"## {table.case.title}",
        "",
        f"Teacher: {teacher.test[0]:.4f} {metric} on the test "
        f"({teacher.test[1]:.4f} to {teacher.test[2]:.4f}).",
        "",
        f"| strategy | settings | {metric}, validation | {metric}, test | above response, points "
        "| above no distillation, points | time | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for line in table.lines:
        if line.strategy == TEACHER:
            continue
        lines.append(
            f"| {line.strategy.name} | {_settings(line)} | {line.validation:.4f} | "
            f"{line.test[0]:.4f} | {'' if line.strategy == PLAIN else _told(line.gain)} | "
            f"{'' if line.strategy == NONE else _told(line.above_none)} | {line.cost:.1f} × | "
            f"{'' if line.strategy.is_baseline else verdict(line.gain)} |"
        )
    for name, why in table.refused:
        lines.append(f"| {name} | | | | | | | not run: {why} |")
    return lines


def _th(num: int) -> str:
    """An ordinal of the few that cuts have."""
    return {2: "second", 3: "third"}[num]


def _settings(line: Line) -> str:
    """What the strategy changes in the section `distillation`, as one line of YAML would say it."""
    changes = line.strategy.tries[line.place]
    return f"`{json.dumps(changes)}`".replace('"', "") if changes else ""


def _best_in(tables: Sequence[Table], family: str) -> list[Table]:
    return [
        table for table in tables
        if table.best and table.best.strategy.family == family and table.best.gain[1] > 0
    ]  # fmt: skip


def _points(values: Spread) -> Spread:
    return (100 * values[0], 100 * values[1], 100 * values[2])


def _told(values: Spread) -> str:
    value, low, high = _points(values)
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"
