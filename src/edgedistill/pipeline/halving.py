"""Successive halving: short trainings of many strategies, longer ones of the best, one choice.

After Jamieson and Talwalkar 2016, "Non-stochastic best arm identification", arXiv 1502.07943, with
a measure that is never dropped: plain response runs in every rung, and wins unless another is ahead
of it by more than a standard error on rows that had no part in the ranking. Of many that are
alike, the best of the ranking is best by luck; on other rows it has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgedistill.core.errors import ModelError
from edgedistill.evaluate.report.strategies_tried import StrategiesTried, StrategyTrial
from edgedistill.pipeline.rungs import num_kept, paired_gain, require_rows
from edgedistill.pipeline.strategy_options import Option

#: Most of the time that is kept for the last comparison.
LAST_SHARE = 0.5


@dataclass(frozen=True)
class Outcome:
    """What a trial came to: the score of each validation row, float [n], higher is better, and the
    seconds that it took, whenever that was."""

    rows: np.ndarray
    seconds: float


#: Trains an option for so many epochs.
Run = Callable[[Option, int], Outcome]


@dataclass(frozen=True)
class Choice:
    """The option that was chosen, the epochs of the trial that decided, and the table."""

    option: Option
    num_epochs: int
    tried: StrategiesTried


class Halving:
    """One search. `options`: plain response first. `limit_s`: seconds of trials in all; those that
    stand from an earlier run count as they did then, so that a run that was cut off goes on to the
    same choice. `refine`: gives more options when the first rung has ranked the given ones.
    """

    def __init__(
        self,
        options: Sequence[Option],
        run: Run,
        *,
        refine: Callable[[Sequence[Option]], Sequence[Option]],
        rungs: Sequence[int],
        num_rows: int,
        num_texts: int,
        limit_s: float,
        seed: int,
    ) -> None:
        require_rows(num_rows)
        self.plain, *self.others = options
        self.run, self.refine, self.rungs = run, refine, rungs
        self.num_texts, self.limit_s = num_texts, limit_s
        order = np.random.default_rng(seed).permutation(num_rows)
        self.ranking, self.deciding = order[: num_rows // 2], order[num_rows // 2 :]
        #: Per rung, by name, in the order of trying; None: training failed.
        self.outcomes: list[dict[str, Outcome | None]] = [{} for _ in rungs]
        self.options = {option.name: option for option in options}
        self.verdicts: dict[tuple[int, str], tuple[bool, str]] = {}
        self.left_out: dict[str, str] = {}
        self.spent = 0.0

    def choose(self) -> Choice:
        """Try, rank, decide."""
        field = [option for option in self.others if option.least_epochs <= self.rungs[0]]
        waiting = [option for option in self.others if option.least_epochs > self.rungs[0]]
        decisive = 0
        for rung in range(len(self.rungs)):
            if rung:
                field = self._promoted(rung - 1)
                field += [o for o in waiting if o.least_epochs <= self.rungs[rung]]
                waiting = [o for o in waiting if o not in field]
                if not self._affords(rung, field):
                    break
            self._try(self.plain, rung)
            for option in field:
                self._try_in_time(option, rung)
            if not rung:
                for option in self.refine(self._worth_refining()):
                    self.options[option.name] = option
                    self._try_in_time(option, rung)
            if rung and len(self._ranked(rung)) < 2:
                self.verdicts[rung, self.plain.name] = (False, "no time left for one beside it")
                break
            decisive = rung
        for option in waiting:
            self.left_out[option.name] = (
                f"needs {option.least_epochs} epochs, more than there was time or plan for"
            )
        return self._decide(decisive)

    def _try(self, option: Option, rung: int) -> None:
        try:
            outcome = self.run(option, self.rungs[rung])
        except ModelError as error:
            if option is self.plain:
                raise
            self.outcomes[rung][option.name] = None
            self.verdicts[rung, option.name] = (False, f"training failed: {error.what}")
            return
        self.outcomes[rung][option.name] = outcome
        self.spent += outcome.seconds

    def _try_in_time(self, option: Option, rung: int) -> None:
        if self.spent + self._expected_s(option, rung) <= self._limit_s(rung):
            self._try(option, rung)
        elif rung and option.name in self.outcomes[rung - 1]:
            self._leave(option, rung)
        else:
            self.left_out[option.name] = f"no time left for {_epochs(self.rungs[rung])}"

    def _leave(self, option: Option, rung: int) -> None:
        reason = f"no time left for {_epochs(self.rungs[rung])}"
        self.verdicts[rung - 1, option.name] = (False, reason)

    def _expected_s(self, option: Option, rung: int) -> float:
        """Seconds of a trial, by its shorter one or, at first, by the mean of others."""
        for before in reversed(range(rung)):
            if known := self.outcomes[before].get(option.name):
                return known.seconds * self.rungs[rung] / self.rungs[before]
        seen = rung if self.outcomes[rung] else rung - 1
        seconds = [outcome.seconds for outcome in self.outcomes[seen].values() if outcome]
        return float(np.mean(seconds)) * self.rungs[rung] / self.rungs[seen]

    def _limit_s(self, rung: int) -> float:
        """Seconds after which no trial of a rung begins: some are kept for the last comparison."""
        first = self.outcomes[0][self.plain.name]
        assert first is not None
        kept = 0.0
        for later in range(rung + 1, len(self.rungs)):
            two = 2 * first.seconds * self.rungs[later] / self.rungs[0]
            if two <= LAST_SHARE * self.limit_s:
                kept = two
        return self.limit_s - kept

    def _affords(self, rung: int, field: Sequence[Option]) -> bool:
        """Whether a rung can compare anything with plain response; marks the options if not."""
        if not field:
            return False
        needed = self._expected_s(self.plain, rung) + self._expected_s(field[0], rung)
        if self.spent + needed <= self._limit_s(rung):
            return True
        for option in field:
            if option.name in self.outcomes[rung - 1]:
                self._leave(option, rung)
            else:
                self.left_out[option.name] = f"no time left for {_epochs(self.rungs[rung])}"
        return False

    def _ranked(self, rung: int) -> list[Option]:
        """The options of a rung, the best first; of equal ones the one tried first."""
        scored = [(name, o) for name, o in self.outcomes[rung].items() if o is not None]
        scored.sort(key=lambda each: -float(each[1].rows[self.ranking].mean()))
        return [self.options[name] for name, _ in scored]

    def _promoted(self, rung: int) -> list[Option]:
        """Those that go on beside plain response, the best first."""
        ranked = [option for option in self._ranked(rung) if option is not self.plain]
        num = num_kept(len(ranked) + 1) - 1
        for place, option in enumerate(ranked):
            goes_on = place < num
            what = "goes on" if goes_on else "dropped"
            reason = f"{what}: {place + 1} of {len(ranked)} beside plain response"
            self.verdicts[rung, option.name] = (goes_on, reason)
        self.verdicts[rung, self.plain.name] = (True, "what others are measured by")
        return ranked[:num]

    def _worth_refining(self) -> list[Option]:
        """The first rung's options that are not clearly behind plain response, the best first."""
        ranked = [option for option in self._ranked(0) if option is not self.plain]
        found = []
        for option in ranked:
            gain, error = self._gain(option.name, 0, self.ranking)
            if gain + error >= 0:
                found.append(option)
        return found

    def _gain(self, name: str, rung: int, rows: np.ndarray) -> tuple[float, float]:
        """How far an option is ahead of plain response on some rows, with the standard error."""
        ours, theirs = self.outcomes[rung][name], self.outcomes[rung][self.plain.name]
        assert ours is not None
        assert theirs is not None
        return paired_gain(ours.rows[rows], theirs.rows[rows])

    def _decide(self, rung: int) -> Choice:
        """The best of the ranking against plain response, on the rows that ranked nothing."""
        num_epochs = self.rungs[rung]
        best, *others = [o for o in self._ranked(rung) if o is not self.plain] or [self.plain]
        for place, option in enumerate(others, start=2):
            reason = f"{place} of {len(others) + 1} beside plain response in the rung that decided"
            self.verdicts[rung, option.name] = (False, reason)
        if best is self.plain:
            decision, chosen = "Nothing could be compared with plain response: it is taken.", best
        else:
            gain, error = self._gain(best.name, rung, self.deciding)
            # A difference of one row has an error as large as itself: equal is no evidence.
            is_ahead = gain > error * (1 + 1e-9)
            chosen = best if is_ahead else self.plain
            decision = (
                f"After {_epochs(num_epochs)}, {best.name} ranked first; on the "
                f"{len(self.deciding):,} validation rows that had no part in the ranking it is "
                f"{100 * gain:+.2f} ± {100 * error:.2f} points from plain response: "
                + ("more than a standard error ahead." if is_ahead else "plain response is kept.")
            )
            if rung + 1 < len(self.rungs):
                decision += " There was no time left to compare longer trainings."
            reason = "chosen" if is_ahead else "not ahead by more than a standard error"
            self.verdicts[rung, best.name] = (is_ahead, reason)
        kept = chosen is self.plain
        reason = "chosen" if kept else f"{best.name} is ahead of it"
        self.verdicts[rung, self.plain.name] = (kept, reason)
        tried = StrategiesTried(
            chosen=chosen.name,
            settings=chosen.told(),
            decision=decision,
            trials=tuple(self._trials()),
            left_out=tuple(self.left_out.items()),
            num_ranking=len(self.ranking),
            num_deciding=len(self.deciding),
            limit_s=self.limit_s,
        )
        return Choice(chosen, num_epochs, tried)

    def _trials(self) -> list[StrategyTrial]:
        """The table, in the order of trying."""
        return [
            self._trial(rung, name, outcome)
            for rung, outcomes in enumerate(self.outcomes)
            for name, outcome in outcomes.items()
        ]

    def _trial(self, rung: int, name: str, outcome: Outcome | None) -> StrategyTrial:
        score = error = gain = gain_error = None
        if outcome:
            rows = outcome.rows[self.ranking]
            score, error = paired_gain(rows, np.zeros(len(rows)))
            if name != self.plain.name:
                gain, gain_error = self._gain(name, rung, self.ranking)
        kept, reason = self.verdicts[rung, name]
        return StrategyTrial(
            name=name,
            settings=self.options[name].told(),
            rung=rung + 1,
            num_epochs=self.rungs[rung],
            num_texts=self.num_texts,
            score=score,
            error=error,
            gain=gain,
            gain_error=gain_error,
            seconds=outcome.seconds if outcome else 0.0,
            kept=kept,
            reason=reason,
        )


def _epochs(num: int) -> str:
    return f"{num} epoch{'s' if num > 1 else ''}"
