"""What a run will take, before a second of it is spent: arithmetic on token counts and weights."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from edgedistill.core.compression import CompressSpec
from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.core.task import TaskSpec
from edgedistill.core.teachers import ClassifierTeacher, TeacherSpec
from edgedistill.pipeline.pass_options import MOST_TRIALS
from edgedistill.pipeline.rungs import ETA, num_kept

#: Share of a plain FP32 matrix product's rate that training and reading reach on short texts
#: (MiniLM on CLINC150, 2 cores: 0.95 in FP32, 1.2 in BF16, quiet; less beside other work).
EFFICIENCY = 0.8
#: Seconds for exports, compression, latency measurements, evaluation and report.
FIXED_S = 60.0
#: What students of a family cost, all presets and the control included, in readings of the
#: transfer set by the teacher.
FAMILY_COST = {"static": 1.0, "linear": 0.1, "small_transformer": 2.0, "truncated": 8.0}
#: The same of the teacher under a sequence of passes: half of it is trained and read.
COMPRESSED_COST = 8.0
#: Seconds of one trial of a sequence beside its training: export, passes on the file, measuring.
TRIAL_S = 15.0
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


@dataclass(frozen=True)
class _Network:
    """What an encoder's shape says of its cost; `weights` without the token table."""

    hidden: int
    layers: int
    weights: int
    table: int

    @classmethod
    def of(cls, config: Path) -> Self:
        """From its config.json."""
        shape = json.loads(config.read_text(encoding="utf-8"))
        hidden = int(shape.get("hidden_size", 768))
        layers = int(shape.get("num_hidden_layers", 12))
        inner = int(shape.get("intermediate_size", 4 * hidden))
        weights = layers * (4 * hidden * hidden + 2 * hidden * inner)
        return cls(hidden, layers, weights, int(shape.get("vocab_size", 30_000)) * hidden)

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.weights + self.table

    def forward_s(self, rate: float) -> float:
        """Seconds to read a text, at `rate` operations a second and token."""
        return 2.0 * self.weights / rate

    def fine_tuning_s(self, settings: TeacherSpec, num_rows: int, rate: float) -> float:
        """Seconds of fine-tuning on so many rows."""
        # Frozen tables would not need it, but AdamW updates every row of a dense table.
        update = 12.0 * self.table * 4 / 8e9 * num_rows / settings.batch_size
        epochs = settings.num_epochs * EPOCH_SHARE
        return epochs * (3.0 * self.forward_s(rate) * num_rows + update)

    def training_bytes(self, max_tokens: int) -> float:
        """Memory that its fine-tuning takes."""
        return 16.0 * self.parameters + 64 * max_tokens * self.hidden * self.layers * 40


def num_taught(spec: TaskSpec | ExtractionSpec, num_rows: int) -> int:
    """Texts of the transfer set that students learn from, out of so many training rows."""
    num = num_rows + spec.distillation.augmentation.most_texts
    return min(num, spec.distillation.num_texts or num)


def forecast(
    spec: TaskSpec | ExtractionSpec,
    config: Path,
    num_rows: int,
    tokens_a_text: float,
    inside: ExpectedInternals | None = None,
    further: Sequence[tuple[TeacherSpec, Path]] = (),
    trainings: float = 0.0,
    step_rows: Sequence[int] = (),
) -> Forecast:
    """Forecast of a run on this machine.

    Args:
        config: the teacher's config.json.
        num_rows: training rows.
        tokens_a_text: mean tokens of a training text.
        inside: what is to be kept of the teacher's inside; None where nothing is asked for.
        further: settings and config.json of each further teacher that is there.
        trainings: of the student, that trying strategies would take if nothing limited it.
        step_rows: training rows of each step of the teacher's fine-tuning before the task's own.
    """
    network = _Network.of(config)
    rate = matrix_rate() * EFFICIENCY / tokens_a_text
    forward = network.forward_s(rate)
    transfer = num_rows + spec.distillation.augmentation.most_texts
    seconds = {
        "data": 2.0 + num_rows * 2e-4,
        "teacher": _teacher_s(network, spec.teacher, num_rows, step_rows, rate),
        "transfer": forward * transfer,
        "students": _student_cost(spec) * forward * transfer,
        "measuring and report": FIXED_S,
    }
    if spec.distillation.search is not None:
        limit_s = spec.distillation.search.seconds(spec.budget.wall_time_minutes)
        seconds["trying strategies"] = min(limit_s, trainings * seconds["students"])
    if spec.compress and spec.compress.search:
        limit_s = spec.compress.search.seconds(spec.budget.wall_time_minutes)
        most = MOST_TRIALS * (TRIAL_S + COMPRESSED_COST * forward * transfer / ETA)
        seconds["trying sequences"] = min(limit_s, most)
    kept_bytes = 0
    if inside:
        times = 1 if inside.fits else spec.distillation.num_epochs or LIVE_EPOCHS
        seconds["teacher's inside"] = times * forward * num_taught(spec, num_rows)
        kept_bytes = inside.size_bytes if inside.fits else 0
    others = [(settings, _Network.of(path)) for settings, path in further]
    if others:
        seconds["further teachers"] = sum(
            each.fine_tuning_s(settings, num_rows, rate) + each.forward_s(rate) * transfer
            for settings, each in others
        )
    networks = [network, *(each for _, each in others)]
    memory = 700e6 + max(each.training_bytes(spec.input.max_tokens) for each in networks)
    # Logits in half precision: of a text's labels, of which 150 are plenty, or of a token's tags.
    logits = 2 * 150.0 * len(networks)
    if isinstance(spec, ExtractionSpec):
        logits = 2 * (1 + 2 * len(spec.output.fields)) * tokens_a_text * len(networks)
        logits += 2 * 150.0 * len(spec.output.labels) * len(networks)
    disk = 4 * sum(each.parameters for each in networks) * 6 + 100e6 + kept_bytes
    disk += transfer * (logits + 4 * tokens_a_text)
    return Forecast(seconds, int(memory), int(disk), kept_bytes)


def _teacher_s(
    network: _Network, settings: TeacherSpec, num_rows: int, step_rows: Sequence[int], rate: float
) -> float:
    """Seconds of fine-tuning through all steps; replayed rows make an epoch longer."""
    if not isinstance(settings, ClassifierTeacher) or not step_rows:
        return network.fine_tuning_s(settings, num_rows, rate)
    seconds = network.fine_tuning_s(settings, round(num_rows / (1 - settings.replay)), rate)
    for step, num in zip(settings.steps, step_rows, strict=True):
        settings_of_step = settings.model_copy(update={"num_epochs": step.num_epochs})
        seconds += network.fine_tuning_s(settings_of_step, round(num / (1 - step.replay)), rate)
    return seconds


def _student_cost(spec: TaskSpec | ExtractionSpec) -> float:
    """What the students cost, in readings of the transfer set by the teacher."""
    family, distillation = spec.student.family, spec.distillation
    once = sum(FAMILY_COST.values()) if family == "auto" else _family_cost(family)
    if spec.compress and spec.compress.is_of_teacher:
        once = COMPRESSED_COST * _num_compressed(spec.compress)
    if isinstance(spec, TaskSpec) and (together := spec.student.ensemble):
        # The members, and one that learns from them.
        once *= together.num_members + (together.ships != "ensemble")
        once += sum(_family_cost(member.family) for member in together.others)
    # What a part reads every batch more often: twice; once, without the way back.
    names = [part.name for part in distillation.strategy]
    views = 2 * names.count("consistency") + names.count("average") / 3
    assistants = sum(_family_cost(assistant.family) for assistant in distillation.assistants)
    return (once * distillation.generations + assistants) * (1 + views)


def _num_compressed(compress: CompressSpec) -> int:
    """Sequences that are trained to the end."""
    if compress.search:
        return num_kept(MOST_TRIALS)
    return 1 if compress.passes else len(compress.recipes)


def _family_cost(family: str) -> float:
    return FAMILY_COST.get(family, COMPRESSED_COST)


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
