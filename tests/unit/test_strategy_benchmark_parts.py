"""Parts of the benchmark of strategies: pooled intervals, the tasks it writes, shared work."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgedistill.core.events import silent
from edgedistill.core.files import exclusive
from edgedistill.core.task_file import FORMS
from edgedistill.evaluate.generation_metrics import FieldCounts
from edgedistill.evaluate.span_metrics import f1_gain

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NAMES = ("strategies_pooled", "strategies_cases", "strategies_catalogue", "strategies_runs",
         "strategies_page")  # fmt: skip
FACTS = {"clinc": "data", "slots": ["artist", "album"], "json": None}


@pytest.fixture(scope="module")
def parts() -> Iterator[dict[str, ModuleType]]:
    """The benchmark's modules, which import each other as scripts do."""
    sys.path.insert(0, str(BENCHMARKS))
    yield {name: importlib.import_module(name) for name in NAMES}
    sys.path.remove(str(BENCHMARKS))


def counts(seed: int, right: float, num_rows: int = 150) -> np.ndarray:
    """Right, given and expected answers of each row, int [rows, 3]."""
    rng = np.random.default_rng(seed)
    expected = np.random.default_rng(99).integers(1, 4, size=num_rows)
    given = np.maximum(0, expected + rng.integers(-1, 2, size=num_rows))
    return np.stack([rng.binomial(np.minimum(given, expected), right), given, expected], axis=1)


def test_one_seed_is_the_paired_bootstrap_of_the_product(parts: dict[str, ModuleType]) -> None:
    pooled = parts["strategies_pooled"]
    below, above = counts(0, 0.7), counts(1, 0.8)
    f1 = pooled.pooled_f1(np.stack([below[None], above[None]]))
    value, low, high = pooled.spread(f1[:, 1] - f1[:, 0])
    known = f1_gain(*(FieldCounts(*c.T.copy()) for c in (below, above)))
    assert value == pytest.approx(known.value)
    assert (low, high) == pytest.approx((known.low, known.high), abs=0.004)


def test_accuracy_is_the_f1_of_rows_with_one_answer(parts: dict[str, ModuleType]) -> None:
    right = np.random.default_rng(0).random(200) < 0.7
    one = np.stack([right, np.ones(200, int), np.ones(200, int)], axis=1).astype(np.int64)
    f1 = parts["strategies_pooled"].pooled_f1(one[None, None])
    assert f1[0, 0] == pytest.approx(right.mean())
    # A mean of Bernoulli variables: the bootstrap's spread is known.
    assert f1[1:, 0].std() == pytest.approx(np.sqrt(right.var() / 200), rel=0.05)


def test_the_same_seed_twice_tells_no_more_than_once(parts: dict[str, ModuleType]) -> None:
    pooled = parts["strategies_pooled"]
    once, twice = counts(3, 0.6)[None, None], np.stack([counts(3, 0.6)] * 2)[None]
    assert pooled.pooled_f1(twice) == pytest.approx(pooled.pooled_f1(once))


def test_nothing_given_and_nothing_expected_is_no_crash(parts: dict[str, ModuleType]) -> None:
    f1 = parts["strategies_pooled"].pooled_f1(np.zeros((2, 1, 5, 3), np.int64))
    assert not f1.any()


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        ((0.01, 0.001, 0.02), "helps"),
        ((-0.01, -0.02, -0.001), "harms"),
        ((0.01, -0.001, 0.02), "no difference"),
        ((0.0, 0.0, 0.0), "no difference"),
    ],
)
def test_a_verdict_needs_an_interval_without_zero(
    parts: dict[str, ModuleType], gain: tuple[float, float, float], said: str
) -> None:
    assert parts["strategies_pooled"].verdict(gain) == said


def test_every_strategy_is_a_valid_task(parts: dict[str, ModuleType]) -> None:
    num_checked = 0
    for case in parts["strategies_cases"].all_cases().values():
        base = case.spec(FACTS[case.rows], False) | {"name": case.name}
        form = FORMS[base.get("kind", "classification")]
        assert case.strategies[:3] == parts["strategies_catalogue"].BASELINES
        assert len({s.name for s in case.strategies}) == len(case.strategies)
        for strategy in case.strategies:
            assert 1 <= len(strategy.tries) <= 2
            for changes in strategy.tries:
                value = base | {"distillation": base["distillation"] | dict(changes)}
                if strategy.has_second_teacher:
                    is_tagger = case.rows == "slots"
                    second = parts["strategies_cases"].second_tagger(base["teacher"])
                    folder = {"source": "folder:other", "num_epochs": 0}
                    value["teachers"] = [second if is_tagger else folder]
                form.model_validate(value)
                num_checked += 1
    assert num_checked > 70


def test_baselines_always_run(parts: dict[str, ModuleType]) -> None:
    catalogue = parts["strategies_catalogue"]
    every = catalogue.encoder_strategies({"family": "truncated"})
    assert [s.name for s in catalogue.chosen(every, ["feature"])] == [
        *(s.name for s in catalogue.BASELINES), catalogue.AS_LONG.name, "feature",
    ]  # fmt: skip
    assert catalogue.chosen(every, None) == every


def test_runs_begin_with_teachers_and_end_with_what_was_chosen(
    parts: dict[str, ModuleType],
) -> None:
    cases = list(parts["strategies_cases"].all_cases().values())
    runs = parts["strategies_runs"].runs_of(cases, [0, 1])
    assert len({run.name for run in runs}) == len(runs)
    assert [run.strategy.role for run in runs[:8]] == ["teacher"] * 8
    # No two of them have the same teacher: processes side by side would wait for one.
    assert len({(run.case.rows, run.seed) for run in runs[:6]}) == 6
    tries = [run for run in runs if run.place is not None]
    assert all(run.seed == 0 for run in tries)
    assert runs.index(tries[-1]) < min(
        i for i, run in enumerate(runs) if run.place is None and run.strategy.role == "student"
    )


class Scoring:
    """Stands where students are trained: each run is scored by a number, and noted."""

    def __init__(self, parts: dict[str, ModuleType]) -> None:
        self.runs, self.asked = parts["strategies_runs"], list[tuple[str, str]]()

    def __call__(self, context: object, role: str, split: str) -> object:
        spec = context.spec  # type: ignore[attr-defined]
        weight = sum(part.weight for part in spec.distillation.strategy)
        self.asked.append((role, split))
        right = int(10 * weight)
        return self.runs.Scored(np.array([[right, 40, 40]]), 1.0)


def test_validation_chooses_and_the_test_is_scored_once(
    parts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, catalogue = parts["strategies_runs"], parts["strategies_catalogue"]
    scoring = Scoring(parts)
    monkeypatch.setattr(runs, "score", scoring)
    nothing = parts["strategies_cases"].Rows(lambda _, __: ".", ())
    monkeypatch.setitem(runs.ROWS, "clinc", nothing)
    case = parts["strategies_cases"].all_cases()["clinc-small"]
    (feature,) = (s for s in case.strategies if s.name == "feature")
    shop = runs.Workshop(tmp_path, True, silent)
    todo = [
        *(runs.Run(case, feature, 0, place) for place in (0, 1)),
        *(runs.Run(case, feature, seed) for seed in (0, 1)),
    ]
    # What another process is at is left to it: nothing is done twice, nothing waits for ever.
    assert shop.place(todo[2]) is None
    with exclusive(tmp_path / "runs" / todo[0].name):
        assert not shop._done(todo[0])
        assert not shop._done(todo[2])
    shop.work_off(todo)
    assert shop.place(todo[3]) == 1
    assert scoring.asked.count(("student", "validation")) == 3
    assert scoring.asked.count(("student", "test")) == 2
    again = runs.Workshop(tmp_path, True, silent)
    again.work_off(todo)
    assert len(scoring.asked) == 5
    assert catalogue.PLAIN not in [run.strategy for run in todo]


def test_what_a_task_refuses_is_said_and_the_others_go_on(
    parts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, catalogue = parts["strategies_runs"], parts["strategies_catalogue"]
    monkeypatch.setattr(runs, "score", Scoring(parts))
    nothing = parts["strategies_cases"].Rows(lambda _, __: ".", ())
    monkeypatch.setitem(runs.ROWS, "clinc", nothing)
    case = parts["strategies_cases"].all_cases()["clinc-small"]
    strange = catalogue.Strategy("strange", "none", ({"strategy": "wishing"},))
    shop = runs.Workshop(tmp_path, True, silent)
    shop.work_off([runs.Run(case, strange, 0), runs.Run(case, catalogue.PLAIN, 0)])
    why = shop.refused[case.name, "strange"]
    assert "no strategy is called 'wishing'" in why
    assert str(tmp_path) not in why
    assert shop.refused.keys() == {(case.name, "strange")}
