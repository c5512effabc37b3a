"""`compress: auto`: which sequences of passes are worth a whole training.

Each pass alone is measured without training; of their combinations, those that nothing foreseen
beats are trained shortly beside the recipes, exported, compressed and measured as the files that
would ship; the best of those go on. All on validation, and stage by stage in the store: a search
that was killed goes on with the trial that it was at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from edgedistill.core.artefacts import Interval
from edgedistill.core.events import Event
from edgedistill.core.files import read_json
from edgedistill.core.requirements import BundleRequirements
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.pass_options import (
    FIRST,
    MOST_TRIALS,
    TOLERANCE,
    foresee,
    name_of,
    proposals,
    sequences,
    single_passes,
    widest_first,
)
from edgedistill.pipeline.rungs import num_kept, rungs_of
from edgedistill.pipeline.search import (
    COMPRESSED,
    File,
    Keeps,
    Tried,
    compressed_of,
    pareto_front,
    try_one,
)
from edgedistill.pipeline.stages.any_ground import AnyGround, Candidate
from edgedistill.pipeline.stages.bounds import within
from edgedistill.pipeline.stages.sensitivity import measure_effects
from edgedistill.pipeline.stages.trials import planned_epochs

OneGround = TypeVar("OneGround", bound=AnyGround)
_Ground = TypeVar("_Ground", bound=AnyGround, contravariant=True)
_File = TypeVar("_File", covariant=True)
#: The model under no pass that calls for training: what its file alone can spare.
WHOLE = Candidate(COMPRESSED, "whole", {"passes": [dict(FIRST)]})


class Make(Protocol[_Ground, _File]):
    """Trains a candidate on a ground, exports it and measures its files: of a trial no more than
    it takes to know which would be kept."""

    def __call__(
        self, ground: _Ground, candidate: Candidate, /, *, is_trial: bool = False
    ) -> _File: ...


@dataclass(frozen=True)
class Found(Generic[File]):
    """What is to be trained to the end, the smallest first; the trials that go no further, with
    the reasons; which of the finalists were made to the end already."""

    finalists: list[Candidate]
    others: list[Tried[File]]
    ready: frozenset[str] = frozenset()


def find_sequences(
    ground: OneGround,
    make: Make[OneGround, File],
    size_bytes: Callable[[Candidate], int],
    keeps: Keeps[File],
) -> Found[File]:
    """Try sequences of passes within the time of the task's search. The whole model, which takes no
    training, goes on in any case where it may fit.

    Args:
        size_bytes: forecast of model and tokenizer, before training.
    """
    context = ground.context
    settings = context.spec.compress
    assert settings is not None
    assert settings.search is not None
    field, spent = _field(ground, size_bytes)
    first = [WHOLE] if _may_fit(WHOLE, ground, size_bytes) else []
    for each in first:
        if (tried := try_one(each, partial(make, ground), keeps, context)).artefact:
            spent += tried.artefact.stage.seconds
    if not field:
        return Found([*first, *compressed_of(settings)], [], frozenset({WHOLE.name}))
    limit_s = settings.search.seconds(context.spec.budget.wall_time_minutes)
    whole = planned_epochs(context.spec, field[0], len(ground.taught))
    short = rungs_of(whole)[0]
    # Where a trial is a whole training already, it is the one that ships if it is chosen.
    is_trial = short < whole
    on = _with_epochs(ground, short) if is_trial else ground
    trials = _try_all(
        field, partial(make, on, is_trial=is_trial), keeps, context, limit_s=limit_s - spent
    )
    made = _most_accurate_first(trials, context.spec.requirements)
    if is_trial and made:
        keeps, made = once_whole(ground, make, trials, keeps), made[:1]
    when = f"after {short} of {whole} epochs"
    recipes = [each.name for each in compressed_of(settings)]
    found = judged(trials, keeps, context.spec.requirements, when, recipes)
    ready = {WHOLE.name, *(t.candidate.name for t in made)}
    return replace(found, finalists=[*first, *found.finalists], ready=frozenset(ready))


def _try_all(
    field: Sequence[Candidate],
    make: Callable[[Candidate], File],
    keeps: Keeps[File],
    context: Context[Any],
    *,
    limit_s: float,
) -> list[Tried[File]]:
    """A trial of each, as long as the next one is expected to end in time; the first in any case.
    Trials that stand from an earlier run count as they took then."""
    trials, seconds = list[Tried[File]](), list[float]()
    for place, candidate in enumerate(field, start=1):
        if seconds and sum(seconds) + float(np.mean(seconds)) > limit_s:
            trials.append(Tried(candidate, None, reason="no time left for a trial of it"))
            continue
        tried = try_one(candidate, make, keeps, context)
        trials.append(tried)
        if tried.artefact:
            seconds.append(tried.artefact.stage.seconds + tried.artefact.student.stage.seconds)
            told = f"trial {place} of {len(field)}: {candidate.name}, {_told(tried)}"
            context.listener(Event("search", "note", told))
    return trials


def once_whole(
    ground: OneGround,
    make: Make[OneGround, File],
    trials: Sequence[Tried[File]],
    keeps: Keeps[File],
) -> Keeps[File]:
    """What trials would keep after a whole training, as the most accurate of them shows.

    That one goes on in any case; what it still loses in the end, as a share of what it lost as a
    trial, is taken for that of all. Without it every small candidate would be given up for what
    is only a short training.
    """
    context = ground.context
    best = _most_accurate_first(trials, context.spec.requirements)[0]
    assert best.artefact
    before, after = keeps(best.artefact), keeps(make(ground, best.candidate))
    left = 1.0
    if before.value < 1:
        left = min(1.0, max(0.0, (1 - after.value) / (1 - before.value)))
    told = f"{best.candidate.name}, trained whole, keeps {after.value:.2%} ({before.value:.2%} as a"
    context.listener(Event("search", "note", f"{told} trial): {left:.0%} of what a trial loses"))

    def foreseen(file: File) -> Interval:
        short = keeps(file)
        return Interval(*(1 - left * (1 - x) for x in (short.value, short.low, short.high)))

    return foreseen


def _field(
    ground: AnyGround, size_bytes: Callable[[Candidate], int]
) -> tuple[list[Candidate], float]:
    """The recipes that may fit and what is proposed beside them; seconds that it took."""
    spec = ground.context.spec
    assert spec.compress is not None
    single = single_passes(read_json(ground.teacher.source / "config.json"))
    effects, stage = measure_effects(ground, COMPRESSED, single)
    known = [each.options["passes"] for each in compressed_of(spec.compress)]
    options = {
        each.name: each for each in map(_candidate(spec), sequences(single))
        if each.options["passes"] not in known
    }  # fmt: skip
    foreseen = [
        foresee(tuple(each.options["passes"]), effects, size_bytes(each))
        for each in options.values()
    ]
    recipes = [
        each for each in compressed_of(spec.compress) if _may_fit(each, ground, size_bytes)
    ]  # fmt: skip
    size_mb = spec.requirements.size_mb
    found = widest_first(proposals(foreseen, MOST_TRIALS - len(recipes), size_mb))
    return [*recipes, *(options[name_of(each.passes)] for each in found)], stage.seconds


def _may_fit(
    candidate: Candidate, ground: AnyGround, size_bytes: Callable[[Candidate], int]
) -> bool:
    size_mb = ground.context.spec.requirements.size_mb
    return size_mb is None or size_bytes(candidate) <= (1 + TOLERANCE) * size_mb * 1e6


def _candidate(spec: Any) -> Callable[[Any], Candidate]:
    rate = spec.compress.learning_rate
    more = {"learning_rate": rate} if rate else {}
    return lambda passes: Candidate(
        COMPRESSED, name_of(passes), {"passes": [dict(each) for each in passes], **more}
    )


def _with_epochs(ground: OneGround, num_epochs: int) -> OneGround:
    """The ground of a task whose students are trained so long."""
    spec = ground.context.spec
    settings = spec.distillation.model_copy(update={"num_epochs": num_epochs})
    changed = spec.model_copy(update={"distillation": settings})
    return replace(ground, context=replace(ground.context, spec=changed))


def judged(
    trials: Sequence[Tried[File]],
    keeps: Keeps[File],
    required: BundleRequirements,
    when: str,
    recipes: Sequence[str] = (),
) -> Found[File]:
    """Who goes on: the most accurate, the smallest that may meet the requirements, and for each
    recipe that may, the most accurate of those that are no larger and no slower, so that a search
    ends no worse than the recipes; then the next smallest, up to a third of the trials.

    Args:
        keeps: what is foreseen after a whole training. when: how long all were trained, for the
            reasons. recipes: their names.
    """
    made = [t for t in trials if t.artefact]
    if not made:
        # Nothing is known against any: the search that follows says what fails.
        return Found([t.candidate for t in trials], [])
    highs = {t.candidate.name: keeps(t.artefact).high for t in made if t.artefact}

    def is_hopeful(t: Tried[File]) -> bool:
        enough = highs[t.candidate.name] >= (required.retention or 0.0)
        return _is_within(t, required) and enough

    front = dict(zip([t.candidate.name for t in made], pareto_front(_points(made)), strict=True))
    by_size = sorted(made, key=lambda t: _points([t])[0][1:])
    by_accuracy = _most_accurate_first(made, required)
    hopeful = [t for t in by_size if is_hopeful(t) and front[t.candidate.name]]
    rivals = [_rival(t, made) for t in made if t.candidate.name in recipes and is_hopeful(t)]
    kept = {t.candidate.name for t in (by_accuracy[0], *hopeful[:1], *rivals)}
    for t in (*hopeful, *by_accuracy):
        if len(kept) < num_kept(len(made)):
            kept.add(t.candidate.name)

    def why(t: Tried[File]) -> str:
        if not _is_within(t, required):
            return "over the size, latency or memory asked for"
        if not is_hopeful(t):
            most = highs[t.candidate.name]
            return f"would keep at most {most:.2%} trained whole, below the requirement"
        if not front[t.candidate.name]:
            return "another is as good in every respect and better in one"
        return "smaller ones may still meet the requirements"

    return Found(
        [t.candidate for t in by_size if t.candidate.name in kept],
        [
            replace(t, reason=f"{when}: {why(t)}") if t.artefact else t
            for t in trials if t.candidate.name not in kept
        ],
    )  # fmt: skip


def _is_within(t: Tried[Any], required: BundleRequirements) -> bool:
    return bool(t.artefact and within(t.artefact.chosen, required))


def _most_accurate_first(
    trials: Sequence[Tried[File]], required: BundleRequirements
) -> list[Tried[File]]:
    """Those that were made; what is over a limit comes last."""
    made = [t for t in trials if t.artefact]
    return sorted(made, key=lambda t: (not _is_within(t, required), -_points([t])[0][0]))


def _rival(recipe: Tried[File], made: Sequence[Tried[File]]) -> Tried[File]:
    """The most accurate trial that is no larger and no slower than a recipe's; at worst its own."""
    _, size_bytes, p95_ms = _points([recipe])[0]
    lighter = [t for t in made if _points([t])[0][1] <= size_bytes and _points([t])[0][2] <= p95_ms]
    return max(lighter, key=lambda t: (_points([t])[0][0], t is recipe))


def _points(trials: Sequence[Tried[Any]]) -> list[tuple[float, int, float]]:
    variants = [t.artefact.chosen for t in trials if t.artefact]
    return [(v.accuracy, v.size_bytes, v.p95_ms) for v in variants]


def _told(tried: Tried[Any]) -> str:
    ((accuracy, size_bytes, p95_ms),) = _points([tried])
    return f"{accuracy:.2%}, {size_bytes / 1e6:.2f} MB, p95 {p95_ms:.2f} ms"
