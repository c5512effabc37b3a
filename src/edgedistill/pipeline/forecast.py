"""What a run will take, before a second of it is spent: arithmetic on token counts and weights."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.core.task import TaskSpec

#: Share of a plain FP32 matrix product's rate that training and reading reach on short texts
#: (MiniLM on CLINC150, 2 cores: 0.95 in FP32, 1.2 in BF16, quiet; less beside other work).
EFFICIENCY = 0.8
#: Seconds for exports, compression, latency measurements, evaluation and report.
FIXED_S = 60.0
#: What students of a family cost, all presets and the control included, in readings of the
#: transfer set by the teacher.
FAMILY_COST = {"static": 1.0, "linear": 0.1, "small_transformer": 2.0, "truncated": 8.0}
#: Epochs that early stopping leaves of those allowed, on average.
EPOCH_SHARE = 0.9
#: Epochs of a student whose teacher reads along: the recipe's of those whose inside can be read.
LIVE_EPOCHS = 3


@dataclass(frozen=True)
class ExpectedInternals:
    """Bytes of what the teacher computes inside, and why it is not kept (empty: it is)."""

    size_bytes: int
    reason: str

    @property
    def fits(self) -> bool:
        """Whether it is kept."""
        return not self.reason


@dataclass(frozen=True)
class Forecast:
    """Seconds by stage, and the most memory and disk in bytes.

    `internals_bytes`: of the disk, what is kept of the teacher's inside.
    """

    seconds: dict[str, float]
    memory_bytes: int
    disk_bytes: int
    internals_bytes: int = 0

    @property
    def total_s(self) -> float:
        """Seconds of the whole run."""
        return sum(self.seconds.values())

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "total_s": self.total_s}


def num_taught(spec: TaskSpec, num_rows: int) -> int:
    """Texts of the transfer set that students learn from, out of so many training rows."""
    num = num_rows + spec.distillation.augmentation.num_texts
    return min(num, spec.distillation.num_texts or num)


def forecast(
    spec: TaskSpec | ExtractionSpec,
    config: Path,
    num_rows: int,
    tokens_a_text: float,
    inside: ExpectedInternals | None = None,
) -> Forecast:
    """Forecast of a run on this machine.

    Args:
        config: the teacher's config.json.
        num_rows: training rows.
        tokens_a_text: mean tokens of a training text.
        inside: what is to be kept of the teacher's inside; None where nothing is asked for.
    """
    shape = json.loads(config.read_text(encoding="utf-8"))
    hidden = int(shape.get("hidden_size", 768))
    layers = int(shape.get("num_hidden_layers", 12))
    inner = int(shape.get("intermediate_size", 4 * hidden))
    weights = layers * (4 * hidden * hidden + 2 * hidden * inner)
    table = int(shape.get("vocab_size", 30_000)) * hidden
    rate = matrix_rate() * EFFICIENCY
    forward = 2.0 * weights * tokens_a_text / rate  # seconds a text
    transfer = num_rows + spec.distillation.augmentation.num_texts
    # Frozen tables would not need it, but AdamW updates every row of a dense table.
    update = 12.0 * table * 4 / 8e9 * num_rows / spec.teacher.batch_size
    epochs = spec.teacher.num_epochs * EPOCH_SHARE
    seconds = {
        "data": 2.0 + num_rows * 2e-4,
        "teacher": epochs * (3.0 * forward * num_rows + update),
        "transfer": forward * transfer,
        "students": _student_cost(spec) * forward * transfer,
        "measuring and report": FIXED_S,
    }
    kept_bytes = 0
    if inside and isinstance(spec, TaskSpec):
        times = 1 if inside.fits else spec.distillation.num_epochs or LIVE_EPOCHS
        seconds["teacher's inside"] = times * forward * num_taught(spec, num_rows)
        kept_bytes = inside.size_bytes if inside.fits else 0
    parameters = weights + table
    memory = 700e6 + 16.0 * parameters + 64 * spec.input.max_tokens * hidden * layers * 40
    # Logits in half precision: of a text's labels, of which 150 are plenty, or of a token's tags.
    logits = 2 * 150.0
    if isinstance(spec, ExtractionSpec):
        logits = 2 * (1 + 2 * len(spec.output.fields)) * tokens_a_text
    disk = 4 * parameters * 6 + transfer * (logits + 4 * tokens_a_text) + 100e6 + kept_bytes
    return Forecast(seconds, int(memory), int(disk), kept_bytes)


def _student_cost(spec: TaskSpec | ExtractionSpec) -> float:
    """What the students cost, in readings of the transfer set by the teacher."""
    if isinstance(spec, ExtractionSpec):
        return FAMILY_COST[spec.student.family]
    family, distillation = spec.student.family, spec.distillation
    once = sum(FAMILY_COST.values()) if family == "auto" else FAMILY_COST[family]
    # Each part of this kind reads every batch twice more.
    views = 2 * sum(part.name == "consistency" for part in distillation.strategy)
    return once * distillation.generations * (1 + views)


def matrix_rate() -> float:
    """Floating-point operations a second of an FP32 matrix product on this machine, at its best
    of a few: a neighbour's work must not make the forecast a hundred times longer."""
    size, best = 512, float("inf")
    matrix = np.ones((size, size), np.float32)
    for _ in range(10):
        started = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best
