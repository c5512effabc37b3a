"""Which students to try, and which one to keep: decided on validation only."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol

import numpy as np
from typing_extensions import TypeVar

from edgedistill.core.artefacts import Interval
from edgedistill.core.compression import HARMLESS, CompressSpec
from edgedistill.core.ensemble import FurtherStudent
from edgedistill.core.errors import (
    BudgetExceeded,
    CannotApply,
    MissingSignal,
    ModelError,
    SpecError,
)
from edgedistill.core.events import Event
from edgedistill.core.extraction_task import ExtractionStudent
from edgedistill.core.requirements import BundleRequirements
from edgedistill.core.task import StudentSpec
from edgedistill.models.families import FAMILIES
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.reach import told_reach
from edgedistill.pipeline.stages.any_ground import Candidate
from edgedistill.pipeline.stages.artefact import Artefact
from edgedistill.pipeline.stages.bounds import within as keeps_within
from edgedistill.pipeline.stages.variants import Variant
from edgedistill.pipeline.store import StageResult
from edgedistill.pipeline.strategy import StrategySpec

#: The control without a teacher: part of every comparison; `auto` may find it good enough.
CONTROL = Candidate("linear", "linear", {})
#: The family of what `compress` makes; not among the students that `auto` tries.
COMPRESSED = "compressed"
#: Share of the wall time that stays for the final evaluation.
RESERVE = 0.25


class MadeFile(Protocol):
    """The file that would ship for a candidate, whatever the kind of the task."""

    @property
    def student(self) -> Any: ...
    @property
    def stage(self) -> StageResult: ...
    @property
    def chosen(self) -> Variant: ...
    @property
    def variants(self) -> tuple[Variant, ...]: ...


File = TypeVar("File", bound=MadeFile, default=Artefact)
#: What a file keeps of the teacher on validation, with its interval.
Keeps = Callable[[File], Interval]


@dataclass(frozen=True)
class Tried(Generic[File]):
    """One candidate of the search: measured, or skipped with the reason.

    `retention_low`: bound of retention that the test will probably confirm. `on_front`: no other
    candidate is at least as good in accuracy, bytes and p95 and better in one.
    """

    candidate: Candidate
    artefact: File | None
    retention_low: float = 0.0
    on_front: bool = False
    chosen: bool = False
    reason: str = ""


def candidates_of(spec: StrategySpec) -> list[Candidate]:
    """The students that the task asks for; of `auto` the cheapest family first.

    Raises:
        SpecError: an unknown family, or options that it does not have.
    """
    if spec.compress and spec.compress.is_of_teacher:
        return compressed_of(spec.compress)
    if spec.student.family != "auto":
        return [candidate_of(spec.student, spec.student.family, "student.options")]
    others = [
        Candidate(family, f"{family}-{preset}", options)
        for family in reversed(list(FAMILIES))
        for preset, options in FAMILIES.load(family).presets.items()
        if family not in (CONTROL.family, COMPRESSED)
    ]
    return [CONTROL, *others]


def compressed_of(settings: CompressSpec) -> list[Candidate]:
    """The teacher under the task's own sequence of passes, or under each recipe."""
    rate = {"learning_rate": settings.learning_rate} if settings.learning_rate else {}
    if settings.passes is not None:
        passes = [each.model_dump(mode="json") for each in settings.structural]
        return [Candidate(COMPRESSED, "own-passes", {"passes": passes, **rate})]
    presets = FAMILIES.load(COMPRESSED).presets
    return [Candidate(COMPRESSED, name, {**presets[name], **rate}) for name in settings.recipes]


def is_untrained(candidate: Candidate) -> bool:
    """Whether a candidate is the teacher itself: under no pass that would call for training."""
    if candidate.family != COMPRESSED:
        return False
    return HARMLESS.issuperset(each["name"] for each in candidate.options["passes"])


def is_asked_for(spec: StrategySpec) -> bool:
    """Whether a person named the one candidate, so that it must do."""
    if spec.compress and spec.compress.is_of_teacher:
        found = spec.compress.search is not None
        return not found and (spec.compress.passes is not None or len(spec.compress.recipes) == 1)
    return spec.student.family != "auto"


def assistants_of(spec: StrategySpec) -> list[Candidate]:
    """The students in between, in their order.

    Raises:
        SpecError: an unknown family, or options that it does not have.
    """
    assistants: Sequence[FurtherStudent | ExtractionStudent] = spec.distillation.assistants
    return [
        candidate_of(settings, f"assistant-{place}", f"distillation.assistants.{place - 1}.options")
        for place, settings in enumerate(assistants, start=1)
    ]


def candidate_of(
    settings: StudentSpec | ExtractionStudent | FurtherStudent, name: str, key: str
) -> Candidate:
    """A student of a family and options that `key` of the task file names.

    Raises:
        SpecError: an unknown family, or options that it does not have.
    """
    from pydantic import ValidationError

    family = FAMILIES.load(settings.family)
    try:
        config = family.config(**settings.options)
    except ValidationError as error:
        fault = error.errors()[0]
        option = ".".join(str(part) for part in fault["loc"])
        raise SpecError(
            f"{key}.{option}: {fault['msg']}",
            fix=f"options of {settings.family}: {', '.join(family.config.model_fields)}",
        ) from error
    values = config.model_dump(mode="json", exclude_unset=True)
    return Candidate(settings.family, name, values)


def search(
    context: Context[Any],
    candidates: Iterable[Candidate],
    make: Callable[[Candidate], File],
    size_bytes: Callable[[Candidate], int],
    keeps: Keeps[File],
    *,
    ready: Collection[str] = (),
) -> list[Tried[File]]:
    """Try the candidates within budget and size, and choose.

    Args:
        make: trains, exports and measures one.
        size_bytes: forecast of model and tokenizer, before training.
        ready: names of those that were made before, which takes no more time.
    """
    required = context.spec.requirements
    tried: list[Tried[File]] = []
    for candidate in candidates:
        forecast = size_bytes(candidate)
        if required.size_mb is not None and forecast > 1.1 * required.size_mb * 1e6:
            reason = f"would take about {forecast / 1e6:.1f} MB, over the {required.size_mb:g} MB"
            tried.append(Tried(candidate, None, reason=reason))
        elif (
            _out_of_time(context)
            and candidate.name not in ready
            and any(t.artefact and t.candidate.family != CONTROL.family for t in tried)
        ):
            tried.append(Tried(candidate, None, reason="no time left in the budget"))
        else:
            tried.append(try_one(candidate, make, keeps, context))
        if tried[-1].artefact is None:
            context.listener(Event("search", "declined", f"{candidate.name}: {tried[-1].reason}"))
    if not any(t.artefact for t in tried):
        raise BudgetExceeded(
            "no student family fits the size that is required",
            where="requirements.size_mb",
            fix="; ".join(f"{t.candidate.name} {t.reason}" for t in tried),
        )
    chosen = choose(tried, required)
    for line in told_reach(chosen, required):
        context.listener(Event("search", "note", line))
    return chosen


def try_one(
    candidate: Candidate,
    make: Callable[[Candidate], File],
    keeps: Keeps[File],
    context: Context[Any],
) -> Tried[File]:
    """One candidate, made; or why it was not, where nobody asked for it alone."""
    try:
        artefact = make(candidate)
    except CannotApply as error:
        # What `auto` proposes need not suit every teacher; what a person asks for must.
        if is_asked_for(context.spec):
            raise
        return Tried(candidate, None, reason=error.what)
    except ModelError as error:
        if is_asked_for(context.spec):
            raise
        return Tried(candidate, None, reason=f"does not suit this teacher: {error.what}")
    except (MissingSignal, SpecError) as error:
        if is_asked_for(context.spec):
            raise
        return Tried(candidate, None, reason=f"does not suit this strategy: {error.what}")
    return Tried(candidate, artefact, foreseen_retention(keeps(artefact)))


def foreseen_retention(interval: Interval) -> float:
    """The retention bound that the test split will probably confirm.

    Lower end of a prediction interval: the test is another sample, so its bound varies on top of
    validation's own uncertainty, by sqrt(2) of it for splits of like size. Choosing by the plain
    bound would see half of the choices fail.

    Args:
        interval: of retention on validation.
    """
    return float(interval.value - 2.0**0.5 * (interval.value - interval.low))


def choose(tried: Sequence[Tried[File]], required: BundleRequirements) -> list[Tried[File]]:
    """Mark front and choice.

    Of those within size, latency and memory: the smallest whose retention bound meets the
    requirement, or else the most accurate. If none is within: the most accurate of all.
    """
    made = [t for t in tried if t.artefact is not None]
    front = pareto_front([_axes(t) for t in made])

    def within(t: Tried[File]) -> bool:
        return t.artefact is not None and keeps_within(t.artefact.chosen, required)

    pool = [t for t in made if within(t)] or made
    enough = [t for t in pool if t.retention_low >= (required.retention or 0.0)]
    if enough:
        best = min(enough, key=lambda t: (_axes(t)[1], _axes(t)[2]))
    else:
        best = max(pool, key=lambda t: (_axes(t)[0], -_axes(t)[1]))
    result = list[Tried[File]]()
    for t in tried:
        if t.artefact is None:
            result.append(t)
            continue
        on_front = front[made.index(t)]
        reason = "" if t is best else _why_not(t, best, within(t), t in enough, on_front)
        result.append(Tried(t.candidate, t.artefact, t.retention_low, on_front, t is best, reason))
    return result


def _why_not(t: Tried[Any], best: Tried[Any], within: bool, enough: bool, on_front: bool) -> str:
    if not within:
        return "over the size, latency or memory asked for"
    if not enough:
        return f"foreseen retention bound {t.retention_low:.2%} is below the requirement"
    if not on_front:
        return "another is as good in every respect and better in one"
    return f"{best.candidate.name} is smaller and meets the requirement too"


def _axes(t: Tried[Any]) -> tuple[float, int, float]:
    assert t.artefact is not None
    variant: Variant = t.artefact.chosen
    return variant.accuracy, variant.size_bytes, variant.p95_ms


def pareto_front(points: Sequence[tuple[float, float, float]]) -> list[bool]:
    """True for points that no other dominates; first axis up, the others down."""
    values = np.array([(-a, b, c) for a, b, c in points], dtype=float).reshape(-1, 3)
    return [
        not any((other <= point).all() and (other < point).any() for other in values)
        for point in values
    ]


def _out_of_time(context: Context[Any]) -> bool:
    total: float = context.spec.budget.wall_time_minutes * 60.0
    return time.monotonic() > context.deadline - RESERVE * total
