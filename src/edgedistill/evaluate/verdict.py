"""SHIP or DO NOT SHIP: every requirement judged on the bound that counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgedistill.core.artefacts import Interval, Judgement
from edgedistill.core.extraction_task import ExtractionRequirements
from edgedistill.core.generation_task import GenerationRequirements
from edgedistill.core.task import Requirements as ClassificationRequirements
from edgedistill.evaluate.calibration import conformal_rank
from edgedistill.evaluate.edge_limits import judge_cold_start, judge_memory
from edgedistill.evaluate.fidelity import Hop
from edgedistill.evaluate.intervals import rate_lower_bound, rate_upper_bound

Requirements = ClassificationRequirements | GenerationRequirements | ExtractionRequirements


@dataclass(frozen=True)
class Count:
    """`num_hits` of `num_rows`."""

    num_hits: int
    num_rows: int

    def __post_init__(self) -> None:
        if self.num_rows < 1 or not 0 <= self.num_hits <= self.num_rows:
            raise ValueError(f"{self.num_hits} of {self.num_rows} is not a count of rows")

    @property
    def rate(self) -> float:
        """Share of hits."""
        return self.num_hits / self.num_rows

    def __str__(self) -> str:
        return f"{self.num_hits:,} of {self.num_rows:,}"


@dataclass(frozen=True)
class FalseAbstention:
    """In-bounds test rows refused by the guard, against what its calibration promised.

    `asked` is the rate, `num_calibration_rows` the rows behind the conformal threshold.
    """

    asked: float
    num_calibration_rows: int
    refused: Count


@dataclass(frozen=True)
class Measurements:
    """What was measured on the file that ships.

    `retention` has the confidence of the requirements. `latency_p95_upper_ms` is the
    distribution-free upper confidence bound of the 95th percentile `latency_p95_ms`, infinite
    where too few measurements give none: the requirement then does not hold.
    `repeat_agreement` counts bit-identical answers, `batch_agreement` equal labels alone and in
    a batch (None: answers are made one at a time). `out_of_bounds_refused` is None without
    out-of-bounds test texts, `false_abstention` is None without a guard. `valid` counts generated
    texts that are whole and as the schema asks, and extracted records with every required field.
    `label_retention`: by label of whole texts, which are held to the same share as `retention`.
    `general_retention`: of the accuracy that the teacher has after its first step, where it had
    steps. `peak_memory_bytes`, `cold_starts_ms`: of processes of their own.
    """

    retention: Interval
    size_bytes: int
    latency_p95_ms: float
    latency_p95_upper_ms: float
    repeat_agreement: Count
    batch_agreement: Count | None
    out_of_bounds_refused: Count | None = None
    false_abstention: FalseAbstention | None = None
    valid: Count | None = None
    label_retention: Mapping[str, Interval] = field(default_factory=dict)
    general_retention: Interval | None = None
    peak_memory_bytes: int | None = None
    cold_starts_ms: tuple[float, ...] = ()


def judge(
    requirements: Requirements, measured: Measurements, *, hops: Sequence[Hop] = ()
) -> list[Judgement]:
    """One judgement a requirement that the task states; `hops` adds the fidelity ledger.

    A requirement left out of the task is not judged. One that is stated but could not be
    measured does not hold.
    """
    judgements = [
        _retention("retention", requirements.retention, measured.retention, requirements),
        *(
            _retention(f"retention of {name}", requirements.retention, interval, requirements)
            for name, interval in measured.label_retention.items()
        ),
        _general_retention(requirements, measured),
        _size(requirements, measured),
        _latency(requirements, measured),
        judge_memory(requirements.memory_mb, measured.peak_memory_bytes),
        judge_cold_start(
            requirements.cold_start_ms, measured.cold_starts_ms, requirements.confidence
        ),
        _agreement("repeat agreement", requirements.repeat_agreement, measured.repeat_agreement),
        _batch_agreement(requirements, measured.batch_agreement),
        _valid(requirements, measured.valid),
        _out_of_bounds_recall(requirements, measured.out_of_bounds_refused),
        _false_abstention(requirements.confidence, measured.false_abstention),
        _fidelity(hops),
    ]
    return [judgement for judgement in judgements if judgement is not None]


def ships(judgements: Sequence[Judgement]) -> bool:
    """True only if there is something to judge and all of it holds."""
    return bool(judgements) and all(judgement.holds for judgement in judgements)


def reasons(judgements: Sequence[Judgement]) -> tuple[str, ...]:
    """A line for each requirement that does not hold."""
    return tuple(_why_not(judgement) for judgement in judgements if not judgement.holds)


def _why_not(judgement: Judgement) -> str:
    text = f"{judgement.requirement}: {judgement.required} required; {judgement.measured} measured"
    bound, basis = judgement.detail.get("bound"), judgement.detail.get("basis")
    return f"{text}; judged on {bound}, the {basis}" if bound else text


def _retention(
    name: str, required: float | None, interval: Interval, requirements: Requirements
) -> Judgement | None:
    if required is None:
        return None
    percent = f"{requirements.confidence:.0%}"
    return Judgement(
        name,
        f"at least {required:.2%}",
        f"{interval.value:.2%} ({interval.low:.2%} to {interval.high:.2%})",
        interval.low,
        interval.low >= required,
        {
            "bound": f"{interval.low:.2%}",
            "basis": f"lower end of the {percent} interval (paired bootstrap)",
            **interval.as_json(),
        },
    )


def _general_retention(requirements: Requirements, measured: Measurements) -> Judgement | None:
    if not isinstance(requirements, ClassificationRequirements):
        return None
    name, required = "general retention", requirements.general_retention
    if required is None or measured.general_retention is not None:
        interval = measured.general_retention
        return None if interval is None else _retention(name, required, interval, requirements)
    why = "the teacher had no step before the task's own rows"
    asked = f"at least {required:.2%}"
    return Judgement(name, asked, f"not measured: {why}", 0.0, False, {"basis": why})


def _size(requirements: Requirements, measured: Measurements) -> Judgement | None:
    if requirements.size_mb is None:
        return None
    size_mb = measured.size_bytes / 1e6
    return Judgement(
        "size",
        f"at most {requirements.size_mb:g} MB",
        f"{size_mb:.3f} MB ({measured.size_bytes:,} bytes)",
        size_mb,
        size_mb <= requirements.size_mb,
        {"bound": f"{size_mb:.3f} MB", "basis": "size itself: bytes on disk"},
    )


def _latency(requirements: Requirements, measured: Measurements) -> Judgement | None:
    if requirements.latency_p95_ms is None:
        return None
    upper, basis = measured.latency_p95_upper_ms, f"{requirements.confidence:.0%} upper bound"
    bounded = math.isfinite(upper)
    threads = f"{requirements.threads} thread{'s' if requirements.threads > 1 else ''}"
    return Judgement(
        "p95 latency",
        f"at most {requirements.latency_p95_ms:g} ms on {threads}",
        f"{measured.latency_p95_ms:.3f} ms",
        upper if bounded else measured.latency_p95_ms,
        bounded and upper <= requirements.latency_p95_ms,
        {
            "bound": f"{upper:.3f} ms" if bounded else "none: too few measurements",
            "basis": f"{basis} (distribution-free)",
        },
    )


def _agreement(name: str, required: float, count: Count) -> Judgement:
    """Judged on the share itself: every test row is asked, and 1.0 has no attainable bound."""
    return Judgement(
        name,
        f"at least {required:.2%}" if required < 1 else "every answer",
        f"{count.rate:.2%} ({count})",
        count.rate,
        count.rate >= required,
        {"bound": f"{count.rate:.2%}", "basis": "share itself: every row was asked"},
    )


def _batch_agreement(requirements: Requirements, count: Count | None) -> Judgement | None:
    if count is None or not isinstance(requirements, ClassificationRequirements):
        return None
    return _agreement("batch agreement", requirements.batch_agreement, count)


def _valid(requirements: Requirements, count: Count | None) -> Judgement | None:
    if isinstance(requirements, ClassificationRequirements) or requirements.valid is None:
        return None
    if count is None:
        raise ValueError("valid answers are required, and were not counted")
    low = rate_lower_bound(count.num_hits, count.num_rows, confidence=requirements.confidence)
    return Judgement(
        "valid answers",
        f"at least {requirements.valid:.2%}",
        f"{count.rate:.2%} ({count})",
        low,
        low >= requirements.valid,
        {
            "bound": f"{low:.2%}",
            "basis": f"one-sided {requirements.confidence:.0%} lower bound (Clopper-Pearson)",
        },
    )


def _out_of_bounds_recall(requirements: Requirements, count: Count | None) -> Judgement | None:
    required = requirements.out_of_bounds_recall
    if required is None:
        return None
    name, asked = "out-of-bounds recall", f"at least {required:.1%}"
    if count is None:
        why = "there are no out-of-bounds test texts"
        return Judgement(name, asked, f"not measured: {why}", 0.0, False, {"basis": why})
    low = rate_lower_bound(count.num_hits, count.num_rows, confidence=requirements.confidence)
    return Judgement(
        name,
        asked,
        f"{count.rate:.1%} ({count})",
        low,
        low >= required,
        {
            "bound": f"{low:.1%}",
            "basis": f"one-sided {requirements.confidence:.0%} lower bound (Clopper-Pearson)",
        },
    )


def _false_abstention(confidence: float, measured: FalseAbstention | None) -> Judgement | None:
    if measured is None:
        return None
    limit = false_abstention_limit(
        measured.asked, measured.num_calibration_rows, measured.refused.num_rows, confidence
    )
    count = measured.refused
    return Judgement(
        "false abstention",
        f"at most {measured.asked:.1%}, chance apart",
        f"{count.rate:.2%} ({count})",
        limit,
        count.rate <= limit,
        {
            "bound": f"{limit:.2%}",
            "basis": f"most that chance explains at {confidence:.0%} (conformal guarantee)",
            "upper_bound_of_rate": rate_upper_bound(
                count.num_hits, count.num_rows, confidence=confidence
            ),
        },
    )


def false_abstention_limit(
    rate: float, num_calibration_rows: int, num_test_rows: int, confidence: float
) -> float:
    """The largest share of test rows refused that the conformal guarantee still explains.

    With n exchangeable calibration rows without ties and k = ceil((n + 1)(1 - rate)), the number
    of refused test rows is beta-binomial with parameters (n + 1 - k, k) (Vovk 2012, arXiv
    1209.2673; Angelopoulos & Bates 2021, section 3.2). The limit is its `confidence` quantile
    as a share. A point limit of `rate` itself would fail every second honest guard.
    """
    from scipy.stats import betabinom

    n = num_calibration_rows
    k = conformal_rank(n, rate)
    if k > n:
        return 0.0
    return float(betabinom.ppf(confidence, num_test_rows, n + 1 - k, k)) / num_test_rows


def _fidelity(hops: Sequence[Hop]) -> Judgement | None:
    if not hops:
        return None
    first = next((hop for hop in hops if not hop.holds), None)
    share = sum(hop.holds for hop in hops) / len(hops)
    return Judgement(
        "fidelity",
        "every hop holds",
        f"all {len(hops)} hops hold" if first is None else f"{first.name} breaks: {first.note}",
        share,
        first is None,
        {"bound": f"{share:.0%}", "basis": "share of hops that meet their own bars"},
    )
