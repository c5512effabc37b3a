"""Everything a report shows, as frozen values that survive JSON.

Parts that a run does not have (no out-of-bounds examples, no controls, …) are None or empty.
Rates are shares in [0, 1]; texts are the user's own and unescaped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import ArrayLike

from edgedistill.core.artefacts import Interval, Judgement
from edgedistill.core.errors import DataError
from edgedistill.evaluate import verdict
from edgedistill.evaluate.fidelity import Hop
from edgedistill.evaluate.flips import FlipReport
from edgedistill.evaluate.metrics import CalibrationBins
from edgedistill.evaluate.report.ensemble import EnsembleSummary
from edgedistill.evaluate.report.field_quality import FieldsSummary, LabelQuality
from edgedistill.evaluate.report.forgetting import StepAbility
from edgedistill.evaluate.report.removal import Removal
from edgedistill.evaluate.report.strategies_tried import StrategiesTried
from edgedistill.evaluate.report.versions import Versions
from edgedistill.evaluate.robustness import RobustnessRow

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class FileSize:
    """One file of the bundle."""

    name: str
    size_bytes: int


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one text alone, by quantile; `p95_upper_ms` bounds the 95th from above."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    p95_upper_ms: float | None = None


@dataclass(frozen=True)
class Footprint:
    """What a model costs on the machine it was measured on; None: not measured.

    `latency` includes tokenization, `model_latency` does not. `samples_ms` are single
    measurements behind `latency`, for the plot (a few thousand are plenty). Of models that write:
    `first_token` is from the request to the first piece of text, `tokens_per_s` new tokens over
    the time of whole requests. `cold_starts_ms`: of each process that was started, until its first
    answer.
    """

    size_bytes: int
    latency: Latency
    model_latency: Latency | None = None
    throughput_per_s: float | None = None
    peak_memory_bytes: int | None = None
    files: tuple[FileSize, ...] = ()
    samples_ms: tuple[float, ...] = ()
    first_token: Latency | None = None
    tokens_per_s: float | None = None
    cold_starts_ms: tuple[float, ...] = ()


@dataclass(frozen=True)
class Shipped:
    """The bundle: its family, what was done to it, its footprint and the teacher's."""

    family: str
    description: str
    footprint: Footprint
    teacher: Footprint | None = None
    threads: int = 1
    machine: str = ""


@dataclass(frozen=True)
class ModelQuality:
    """One model on the test rows.

    `gain` is the shipped model's accuracy minus this one's, paired by row.
    """

    name: str
    role: Literal["shipped", "teacher", "undistilled", "linear", "other"]
    accuracy: Interval
    macro_f1: float
    retention: Interval | None = None
    gain: Interval | None = None


@dataclass(frozen=True)
class Quality:
    """Test rows, and every model scored on them.

    `score`, `second_score`: what `ModelQuality.accuracy` and `macro_f1` are, where the task is no
    classification.
    """

    num_rows: int
    models: tuple[ModelQuality, ...]
    score: str = "accuracy"
    second_score: str = "macro F1"


@dataclass(frozen=True)
class Candidate:
    """A student the search tried, scored on validation rows; `note`: why it was not taken."""

    name: str
    family: str
    accuracy: float
    size_bytes: int
    latency_p95_ms: float
    on_front: bool
    chosen: bool = False
    note: str = ""


@dataclass(frozen=True)
class PassOutcome:
    """A compression pass: what it did to size, p95 and validation accuracy; kept or declined."""

    name: str
    kept: bool
    reason: str
    size_before_bytes: int
    size_after_bytes: int
    latency_p95_before_ms: float | None = None
    latency_p95_after_ms: float | None = None
    accuracy_before: float | None = None
    accuracy_after: float | None = None


@dataclass(frozen=True)
class Curve:
    """Points of a line: x and y, equally long."""

    x: tuple[float, ...]
    y: tuple[float, ...]

    @classmethod
    def from_arrays(cls, x: ArrayLike, y: ArrayLike, *, max_points: int = 400) -> Curve:
        """At most `max_points` points of two vectors, both ends kept."""
        import numpy as np

        a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        if a.shape != b.shape or a.ndim != 1 or not len(a):
            raise ValueError(f"need two equally long, non-empty vectors, got {a.shape}, {b.shape}")
        kept = np.unique(np.linspace(0, len(a) - 1, min(len(a), max_points)).round().astype(int))
        return cls(tuple(a[kept].tolist()), tuple(b[kept].tolist()))


@dataclass(frozen=True)
class ScoreRow:
    """A guard score: AUROC on validation, bytes of its arrays, chosen or not."""

    name: str
    auroc: float | None
    array_bytes: int
    chosen: bool
    note: str = ""


@dataclass(frozen=True)
class OutOfBoundsGroup:
    """Out-of-bounds test texts of one kind (all, near, far): share refused, AUROC."""

    name: str
    num_rows: int
    recall: Interval
    auroc: float | None = None


@dataclass(frozen=True)
class Boundary:
    """The guard on the test rows.

    `groups`: all out-of-bounds texts first, parts of them after. `roc` belongs to all of them.
    `area` is under risk over coverage (AURC).
    """

    score: str
    reason: str
    asked_rate: float
    false_abstention: Interval | None
    scores: tuple[ScoreRow, ...] = ()
    groups: tuple[OutOfBoundsGroup, ...] = ()
    roc: Curve | None = None
    risk_coverage: Curve | None = None
    area: float | None = None
    note: str = ""


@dataclass(frozen=True)
class ReliabilityBin:
    """A bin of a reliability diagram that holds rows."""

    low: float
    high: float
    mean_confidence: float
    accuracy: float
    num_rows: int


@dataclass(frozen=True)
class CalibrationSummary:
    """Expected calibration error on the test rows, before and after temperature scaling."""

    temperature: float
    error_before: float
    error: float
    error_equal_mass: float
    bins: tuple[ReliabilityBin, ...] = ()


@dataclass(frozen=True)
class Answered:
    """An input, the answer that was expected, the answer that came (or why none came)."""

    text: str
    expected: str
    answered: str


@dataclass(frozen=True)
class EdgeCases:
    """The task's hard cases, scored apart; `failures` are examples. `title`, `rows`: what they are,
    where a task shows other answers here."""

    num_rows: int
    accuracy: Interval
    failures: tuple[Answered, ...] = ()
    title: str = "Edge cases"
    rows: str = "edge cases"


@dataclass(frozen=True)
class DataFinding:
    """Something the data report found, with a few examples; `count` 0 where it has no number."""

    severity: Literal["info", "warning", "error"]
    finding: str
    count: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingCurve:
    """A validation figure after each epoch of one training, and its loss terms as (name, mean by
    epoch), each with its weight."""

    name: str
    metric: str
    values: tuple[float, ...]
    terms: tuple[tuple[str, tuple[float, ...]], ...] = ()


@dataclass(frozen=True)
class StageTime:
    """Seconds of a stage; `reused` from an earlier run of the same inputs."""

    name: str
    seconds: float
    reused: bool = False


@dataclass(frozen=True)
class Making:
    """How the bundle came about: enough to do it again. Pairs are (name, value); `notes` are
    sentences."""

    seeds: tuple[int, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    fingerprints: tuple[tuple[str, str], ...] = ()
    stages: tuple[StageTime, ...] = ()
    curves: tuple[TrainingCurve, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportContent:
    """One report. `created` is an ISO 8601 time; `splits` are (name, rows), `skipped` are
    candidates that were not tried as (name, reason); `reach`: what binds where none meets all that
    is required."""

    task: str
    description: str
    created: str
    ships: bool
    requirements: tuple[Judgement, ...]
    reasons: tuple[str, ...] = ()
    confidence: float = 0.95
    shipped: Shipped | None = None
    quality: Quality | None = None
    fields: FieldsSummary | None = None
    labels: tuple[LabelQuality, ...] = ()
    ensemble: EnsembleSummary | None = None
    earlier_steps: tuple[StepAbility, ...] = ()
    ledger: tuple[Hop, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    reach: tuple[str, ...] = ()
    strategies: StrategiesTried | None = None
    passes: tuple[PassOutcome, ...] = ()
    versions: Versions | None = None
    removal: tuple[Removal, ...] = ()
    boundary: Boundary | None = None
    calibration: CalibrationSummary | None = None
    robustness: tuple[RobustnessRow, ...] = ()
    edge_cases: EdgeCases | None = None
    flips: FlipReport | None = None
    splits: tuple[tuple[str, int], ...] = ()
    data_findings: tuple[DataFinding, ...] = ()
    making: Making | None = None
    non_goals: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.ships and not verdict.ships(self.requirements):
            raise ValueError("a report cannot say SHIP unless every requirement holds")

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON; a number that is not finite raises ValueError with its place."""
        plain: dict[str, Any] = _adapter().dump_python(self, mode="json")
        _require_finite(plain, "report")
        return plain

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ReportContent:
        """The content that `as_json` gave; raises DataError if it is malformed or newer."""
        from pydantic import ValidationError

        version = value.get("schema_version")
        if version != SCHEMA_VERSION:
            raise DataError(
                f"report of schema {version!r}, this version reads {SCHEMA_VERSION}",
                fix="read it with the version that wrote it",
            )
        try:
            return _adapter().validate_python(value)
        except ValidationError as error:
            raise DataError(f"malformed report: {error}", fix="run the task again") from error


@cache
def _adapter() -> TypeAdapter[ReportContent]:
    from pydantic import TypeAdapter

    return TypeAdapter(ReportContent)


def _require_finite(value: Any, place: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place} is {value}: a report holds finite numbers")
    entries: dict[Any, Any] = {}
    if isinstance(value, dict):
        entries = value
    elif isinstance(value, list | tuple):
        entries = dict(enumerate(value))
    for key, entry in entries.items():
        _require_finite(entry, f"{place}.{key}")


def reliability_bins(bins: CalibrationBins) -> tuple[ReliabilityBin, ...]:
    """The bins that hold rows, as values of a report."""
    return tuple(
        ReliabilityBin(
            low=float(bins.edges[i]),
            high=float(bins.edges[i + 1]),
            mean_confidence=float(bins.mean_confidence[i]),
            accuracy=float(bins.accuracy[i]),
            num_rows=int(bins.num_rows[i]),
        )
        for i in range(len(bins.num_rows))
        if bins.num_rows[i]
    )
