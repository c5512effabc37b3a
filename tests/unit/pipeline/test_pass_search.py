"""Which trials of a search go on, on hand-made figures."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgedistill.core.artefacts import Interval
from edgedistill.core.task import Requirements
from edgedistill.evaluate.intervals import retention_interval
from edgedistill.pipeline.pass_search import Found, judged, once_whole
from edgedistill.pipeline.search import Tried, search
from edgedistill.pipeline.stages.any_ground import Candidate
from edgedistill.pipeline.stages.artefact import RIGHT, Artefact
from edgedistill.pipeline.stages.student import TrainedStudent
from edgedistill.pipeline.stages.variants import Variant
from edgedistill.pipeline.store import StageResult

NUM_ROWS = 400
TEACHER = np.ones(NUM_ROWS, bool)


def keeps(artefact: Artefact) -> Interval:
    return retention_interval(TEACHER, artefact.validation_right)


def trial(folder: Path, name: str, *, accuracy: float, mb: float, p95_ms: float = 1.0) -> Tried:
    """A trial whose first rows are right."""
    place = folder / name
    place.mkdir()
    np.save(place / RIGHT, np.arange(NUM_ROWS) < accuracy * NUM_ROWS)
    stage = StageResult(name, place, name, 0.0, False)
    candidate = Candidate("compressed", name, {})
    variant = Variant((), int(mb * 1e6), accuracy, 1.0, p95_ms, p95_ms, kept=True)
    artefact = Artefact(TrainedStudent(candidate, stage, {}), stage, variant, (variant,))
    return Tried(candidate, artefact)


@pytest.fixture
def trials(tmp_path: Path) -> list[Tried]:
    return [
        trial(tmp_path, "big", accuracy=0.98, mb=9),
        trial(tmp_path, "middle", accuracy=0.95, mb=5),
        trial(tmp_path, "worse", accuracy=0.94, mb=6),
        trial(tmp_path, "small", accuracy=0.93, mb=3),
        trial(tmp_path, "tiny", accuracy=0.6, mb=1),
        Tried(Candidate("compressed", "late", {}), None, reason="no time left for a trial of it"),
    ]


def finalists(found: Found) -> list[str]:
    return [each.name for each in found.finalists]


def reasons(found: Found) -> dict[str, str]:
    return {t.candidate.name: t.reason for t in found.others}


def test_the_smallest_that_may_do_and_the_most_accurate_go_on(trials: list[Tried]) -> None:
    found = judged(trials, keeps, Requirements(retention=0.94), "after 1 of 3 epochs")
    # Two of five; 93 % of 400 rows may be 94 %, 60 % may not.
    assert finalists(found) == ["small", "big"]
    assert reasons(found) == {
        "middle": "after 1 of 3 epochs: smaller ones may still meet the requirements",
        "worse": "after 1 of 3 epochs: another is as good in every respect and better in one",
        "tiny": reasons(found)["tiny"],
        "late": "no time left for a trial of it",
    }
    assert "below the requirement" in reasons(found)["tiny"]
    assert len(found.finalists) + len(found.others) == len(trials)


def test_a_search_ends_no_worse_than_its_recipes(trials: list[Tried]) -> None:
    required = Requirements(retention=0.5)
    found = judged(trials, keeps, required, "after 1 of 3 epochs", ["worse"])
    # The middle one is smaller than the recipe and more accurate.
    assert finalists(found) == ["tiny", "middle", "big"]
    found = judged(trials, keeps, required, "after 1 of 3 epochs", ["middle", "worse"])
    assert finalists(found) == ["tiny", "middle", "big"]
    # A recipe that cannot do needs no rival.
    required = Requirements(retention=0.97)
    found = judged(trials, keeps, required, "after 1 of 3 epochs", ["tiny"])
    assert "tiny" not in finalists(found)


def test_a_recipe_s_rival_is_no_slower(trials: list[Tried], tmp_path: Path) -> None:
    slow = trial(tmp_path, "slow", accuracy=0.97, mb=4, p95_ms=9.0)
    required = Requirements(retention=0.5)
    found = judged([*trials, slow], keeps, required, "after 1 of 3 epochs", ["middle"])
    assert finalists(found) == ["tiny", "middle", "big"]


def test_what_is_over_a_limit_does_not_go_on_while_others_are_within(trials: list[Tried]) -> None:
    found = judged(trials, keeps, Requirements(retention=0.5, size_mb=5.5), "after 1 of 3 epochs")
    assert finalists(found) == ["tiny", "middle"]
    assert "over the size" in reasons(found)["big"]


def test_where_none_will_do_the_most_accurate_go_on(trials: list[Tried]) -> None:
    found = judged(trials, keeps, Requirements(retention=0.999), "after 1 of 3 epochs")
    assert finalists(found) == ["middle", "big"]


@pytest.mark.parametrize(
    ("whole", "tiny"), [(0.99, 0.8), (0.98, 0.6), (0.9, 0.6), (1.0, 1.0)],
    ids=["half is left", "nothing gained", "worse", "nothing lost"],
)  # fmt: skip
def test_trials_are_judged_by_what_the_best_gains_in_the_end(
    trials: list[Tried], tmp_path: Path, whole: float, tiny: float
) -> None:
    ended = trial(tmp_path, "ended", accuracy=whole, mb=9).artefact
    told = list[str]()
    context = SimpleNamespace(
        spec=SimpleNamespace(requirements=Requirements()),
        listener=lambda event: told.append(event.message),
    )
    asked = list[str]()

    def make(ground: Any, candidate: Candidate) -> Any:
        asked.append(candidate.name)
        return ended

    foreseen = once_whole(SimpleNamespace(context=context), make, trials, keeps)
    assert asked == ["big"]
    assert foreseen(trials[4].artefact).value == pytest.approx(tiny)
    assert "98.00% as a trial" in told[0]


def test_where_every_trial_failed_all_are_left_to_the_search() -> None:
    failed = [Tried(Candidate("compressed", name, {}), None, reason="no") for name in ("a", "b")]
    found = judged(failed, keeps, Requirements(), "after 1 of 3 epochs")
    assert finalists(found) == ["a", "b"]
    assert found.others == []


def test_one_trial_goes_on_whatever_it_is(tmp_path: Path) -> None:
    alone = [trial(tmp_path, "alone", accuracy=0.1, mb=50)]
    found = judged(alone, keeps, Requirements(retention=0.9, size_mb=1), "after 1 of 3 epochs")
    assert finalists(found) == ["alone"]
    assert found.others == []


def test_what_was_made_already_is_not_given_up_for_time(
    trials: list[Tried], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgedistill.pipeline.search._out_of_time", lambda _: True)
    files = {t.candidate.name: t.artefact for t in trials}
    spec = SimpleNamespace(requirements=Requirements(), student=SimpleNamespace(family="auto"))
    spec.compress = None
    context: Any = SimpleNamespace(spec=spec, listener=lambda _: None)
    found = search(
        context, [t.candidate for t in trials[:3]], lambda c: files[c.name], lambda _: 1, keeps,
        ready={trials[2].candidate.name},
    )  # fmt: skip
    assert [t.artefact is not None for t in found] == [True, False, True]
    assert found[1].reason == "no time left in the budget"
