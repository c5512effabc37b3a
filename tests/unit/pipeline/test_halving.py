"""Successive halving: who goes on, who wins, what it costs, and what a kill changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.core.errors import DataError, ModelError
from edgedistill.evaluate.report.strategies_tried import StrategyTrial
from edgedistill.pipeline.halving import Choice, Halving, Outcome
from edgedistill.pipeline.rungs import num_kept, paired_gain, planned_trainings, rungs_of
from edgedistill.pipeline.strategy_options import (
    RESPONSE,
    Option,
    combined,
    refined,
    single_options,
)

NUM_ROWS = 400
OPTIONS = single_options(curriculum=True, generations=True, labels=True)


class Bench:
    """Stands for training: an option gets a share of the rows right that is known beforehand."""

    def __init__(
        self, quality: dict[str, float], *, seconds: float = 1.0, num_rows: int = NUM_ROWS
    ) -> None:
        self.quality, self.seconds, self.num_rows = quality, seconds, num_rows
        self.asked: list[tuple[str, int]] = []

    def __call__(self, option: Option, num_epochs: int) -> Outcome:
        self.asked.append((option.name, num_epochs))
        share = self.quality.get(option.name, self.quality.get("", 0.5))
        if share < 0:
            raise ModelError("the loss is not a number")
        # Which rows are hard is the same for all, so that differences are paired.
        hardness = np.random.default_rng(0).random(self.num_rows)
        return Outcome((hardness < share).astype(float), self.seconds * num_epochs)


def search(
    bench: Bench,
    options: Sequence[Option] = OPTIONS,
    rungs: Sequence[int] = (1, 3, 9),
    limit_s: float = 1e9,
    *,
    seed: int = 0,
    refine: bool = False,
) -> Choice:
    return Halving(
        options, bench, refine=refined if refine else lambda _: [], rungs=rungs,
        num_rows=bench.num_rows, num_texts=100, limit_s=limit_s, seed=seed,
    ).choose()  # fmt: skip


def trials_of(choice: Choice, name: str) -> list[StrategyTrial]:
    return [trial for trial in choice.tried.trials if trial.name == name]


def test_the_better_option_is_found_and_plain_response_goes_all_the_way() -> None:
    bench = Bench({"": 0.5, "relation": 0.6})
    choice = search(bench)
    assert choice.option.name == choice.tried.chosen == "relation"
    assert choice.num_epochs == 9
    assert [t.num_epochs for t in trials_of(choice, "response")] == [1, 3, 9]
    assert trials_of(choice, "relation")[-1].kept
    assert not trials_of(choice, "response")[-1].kept
    # All of the first rung had one epoch; after it, a third goes on, response among them.
    first = [name for name, epochs in bench.asked if epochs == 1]
    assert first == [o.name for o in OPTIONS if o.least_epochs == 1]
    second = {name for name, epochs in bench.asked if epochs == 3}
    # The curriculum, which one epoch says nothing of, joins those that were promoted.
    assert len(second) == num_kept(len(first)) + 1
    assert {"response", "relation", "curriculum"} <= second
    assert len(set(bench.asked)) == len(bench.asked)


def test_scores_and_errors_are_of_the_ranking_rows_and_the_choice_of_the_others() -> None:
    bench = Bench({"": 0.5, "relation": 0.6})
    choice = search(bench)
    order = np.random.default_rng(0).permutation(NUM_ROWS)
    ranking, deciding = order[: NUM_ROWS // 2], order[NUM_ROWS // 2 :]
    ours, theirs = bench(Option("relation"), 9).rows, bench(RESPONSE, 9).rows
    trial = trials_of(choice, "relation")[-1]
    difference = (ours - theirs)[ranking]
    assert trial.score == pytest.approx(ours[ranking].mean())
    assert trial.error == pytest.approx(ours[ranking].std(ddof=1) / len(ranking) ** 0.5)
    assert trial.gain == pytest.approx(difference.mean())
    assert trial.gain_error == pytest.approx(difference.std(ddof=1) / len(ranking) ** 0.5)
    told = f"{100 * (ours - theirs)[deciding].mean():+.2f}"
    assert told in choice.tried.decision
    assert set(ranking) | set(deciding) == set(range(NUM_ROWS))


@pytest.mark.parametrize("quality", [{"": 0.5}, {"": 0.4, "response": 0.5}])
def test_plain_response_wins_ties_and_against_worse(quality: dict[str, float]) -> None:
    choice = search(Bench(quality))
    assert choice.option is OPTIONS[0]
    assert "plain response is kept" in choice.tried.decision
    assert trials_of(choice, "response")[-1].reason == "chosen"


def test_one_row_is_no_evidence() -> None:
    rows = np.zeros(60)
    better = rows.copy()
    better[np.random.default_rng(0).permutation(60)[45]] = 1.0

    def run(option: Option, num_epochs: int) -> Outcome:
        return Outcome(better if option.name == "relation" else rows, 1.0)

    choice = Halving(
        OPTIONS[:4], run, refine=lambda _: [], rungs=[1], num_rows=60, num_texts=1,
        limit_s=99.0, seed=0,
    ).choose()  # fmt: skip
    assert choice.option is OPTIONS[0]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_luck_is_no_evidence(seed: int) -> None:
    """An option that is ahead on the rows that rank and behind on the others never wins."""
    order = np.random.default_rng(seed).permutation(100)
    lucky, plain = np.zeros(100), np.zeros(100)
    lucky[order[:50]] = 1.0
    plain[order[50:80]] = 1.0

    def run(option: Option, num_epochs: int) -> Outcome:
        return Outcome(plain if option is RESPONSE else lucky, 1.0)

    choice = Halving(
        [RESPONSE, Option("lucky")], run, refine=lambda _: [], rungs=[1, 2], num_rows=100,
        num_texts=1, limit_s=99.0, seed=seed,
    ).choose()  # fmt: skip
    assert choice.option is RESPONSE
    assert trials_of(choice, "lucky")[-1].gain == 1.0


def test_the_best_is_refined_and_combined_in_the_first_rung() -> None:
    bench = Bench({"": 0.4, "response": 0.5, "relation": 0.6, "average": 0.58, "labels": 0.56})
    bench.quality["relation + average"] = 0.8
    choice = search(bench, refine=True)
    assert choice.option.name == "relation + average"
    tried = {name for name, epochs in bench.asked if epochs == 1}
    assert {"relation x 1", "relation x 0.1", "relation + labels"} <= tried
    assert "relation + average + labels" in tried
    assert {"relation, uniform layers", "relation, deepest layers"} <= tried
    assert [part.name for part in choice.option.more] == ["relation", "average"]
    assert choice.option.changes()["balance"] is True


def test_what_is_clearly_behind_is_not_refined() -> None:
    bench = Bench({"": 0.2, "response": 0.5})
    search(bench, refine=True)
    assert {name for name, _ in bench.asked} <= {option.name for option in OPTIONS}


def test_time_that_runs_out_is_kept_for_the_last_comparison_and_told() -> None:
    bench = Bench({"": 0.5, "feature": 0.7})
    # Two whole trainings take 18 s: of 40 s, 22 are for finding out what to compare.
    choice = search(bench, limit_s=40.0)
    assert choice.num_epochs == 9
    assert sum(trial.seconds for trial in choice.tried.trials) <= 40.0
    assert choice.option.name == "feature"
    tight = search(Bench({"": 0.5, "feature": 0.7}), limit_s=6.5)
    assert tight.num_epochs == 1
    assert sum(trial.seconds for trial in tight.tried.trials) <= 6.5
    assert tight.option.name == "feature"
    assert "no time left to compare longer trainings" in tight.tried.decision
    left_out = dict(tight.tried.left_out)
    assert left_out["2 generations"] == "no time left for 1 epoch"
    alone = search(Bench({"": 0.5}), limit_s=0.5)
    assert alone.option is OPTIONS[0]
    assert "Nothing could be compared" in alone.tried.decision
    assert len(alone.tried.trials) == 1


@settings(max_examples=80, deadline=None)
@given(
    limit_s=st.floats(0.1, 200.0),
    rungs=st.sampled_from([(1,), (1, 3), (1, 3, 8), (2, 4, 12), (30, 90, 270)]),
    shares=st.lists(st.floats(-0.2, 0.9), min_size=len(OPTIONS), max_size=len(OPTIONS)),
)
def test_any_search_ends_within_its_time_and_tells_all(
    limit_s: float, rungs: tuple[int, ...], shares: list[float]
) -> None:
    quality = {o.name: share for o, share in zip(OPTIONS, shares, strict=True)}
    quality["response"] = abs(quality["response"])
    bench = Bench(quality, num_rows=40)
    choice = search(bench, rungs=rungs, limit_s=limit_s, refine=True)
    table = choice.tried
    assert [(t.name, t.num_epochs) for t in table.trials] == bench.asked
    # Nobody knows what the first one takes before it has run.
    assert sum(t.seconds for t in table.trials) <= max(limit_s, rungs[0]) + 1e-9
    assert {t.name for t in table.trials} | {name for name, _ in table.left_out} >= {
        option.name for option in OPTIONS
    }
    assert all(t.reason for t in table.trials)
    deciding = [t for t in table.trials if t.num_epochs == choice.num_epochs]
    assert [t.name for t in deciding if t.reason == "chosen"] == [choice.option.name]


def test_a_training_that_fails_drops_its_option_alone() -> None:
    choice = search(Bench({"": 0.5, "feature": -1.0, "relation": 0.7}))
    (failed,) = trials_of(choice, "feature")
    assert failed.score is None
    assert failed.reason == "training failed: the loss is not a number"
    assert choice.option.name == "relation"
    with pytest.raises(ModelError):
        search(Bench({"": 0.5, "response": -1.0}))


def test_same_seed_same_choice_and_too_few_rows_are_refused() -> None:
    quality = {o.name: 0.5 + 0.01 * place for place, o in enumerate(OPTIONS)}
    first, again = (search(Bench(quality), seed=3, refine=True) for _ in range(2))
    assert first == again
    with pytest.raises(DataError, match="19 are too few"):
        search(Bench({"": 0.5}, num_rows=19))


def test_plans() -> None:
    assert [rungs_of(n) for n in (1, 2, 3, 8, 9, 100)] == [
        [1], [1, 2], [1, 3], [1, 3, 8], [1, 3, 9], [12, 34, 100],
    ]  # fmt: skip
    assert [num_kept(n) for n in (1, 2, 6, 7, 19)] == [2, 2, 2, 3, 7]
    # 10 and 7 refined for 1 epoch, 6 of these for 3, 2 of these for 9: 17 + 18 + 18 epochs.
    assert planned_trainings(10, [1, 3, 9]) == pytest.approx(53 / 9)
    assert paired_gain(np.array([1.0, 1.0]), np.array([0.0, 1.0])) == (0.5, 0.5)


def test_options_combine_unless_they_contradict() -> None:
    by_name = {option.name: option for option in OPTIONS}
    together = combined([by_name["feature"], by_name["labels"], by_name["curriculum"]])
    assert together
    assert together.name == "feature + labels + curriculum"
    assert together.least_epochs == 3
    assert together.changes().keys() == {"strategy", "balance", "curriculum"}
    assert combined([by_name["labels"], by_name["decoupled"]]) is None
    assert combined([by_name["feature"], by_name["feature first"]]) is None
    assert refined([]) == []
    assert refined([by_name["labels"]]) == []


def test_other_layer_maps_are_tried_of_what_compares_layers_alone() -> None:
    by_name = {option.name: option for option in OPTIONS}
    mapped = refined([by_name["feature"]])[-2:]
    assert [option.name for option in mapped] == ["feature, deepest layers", "feature, last layers"]
    assert "layers: deepest" in mapped[0].told()
    assert not any("layers" in option.name for option in refined([by_name["average"]]))
