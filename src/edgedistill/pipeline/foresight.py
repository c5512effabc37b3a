"""Everything that can be known of a valid task without training anything, by its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgedistill.core.errors import BudgetExceeded
from edgedistill.core.extraction_task import ExtractionSpec, FurtherTagger
from edgedistill.core.generation_task import GenerationSpec
from edgedistill.core.task import TaskSpec
from edgedistill.core.teachers import FurtherTeacher
from edgedistill.data.inspection import inspect
from edgedistill.data.loading import load_dataset
from edgedistill.data.step_rows import load_steps
from edgedistill.models.teachers.sources import (
    TOKENIZER,
    require_labels,
    require_tags,
    resolve_teacher,
)
from edgedistill.pipeline.compressible import require_compressible, require_reachable
from edgedistill.pipeline.forecast import ExpectedInternals, Forecast, forecast, num_taught
from edgedistill.pipeline.generation.dataset import load_conversations, require_llm
from edgedistill.pipeline.generation.forecast import (
    forecast_cache_bytes,
    forecast_generation,
    require_cache_room,
)
from edgedistill.pipeline.generation.pretrained import find_bases
from edgedistill.pipeline.generation.questions import questions_of
from edgedistill.pipeline.generation.rounding import require_rows_to_fit
from edgedistill.pipeline.rungs import planned_trainings, require_rows, rungs_of
from edgedistill.pipeline.stages.further import find_further
from edgedistill.pipeline.strategy import StrategySpec, is_default, require_fitting, teacher_shape
from edgedistill.tasks.classification import TextEncoder


@dataclass(frozen=True)
class CheckResult:
    """A valid task, what its data looks like, what a run will take, and what is tight about it."""

    spec: TaskSpec | GenerationSpec | ExtractionSpec
    inspection: Any
    forecast: Forecast
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Read:
    """What reading a task's data told: the report on it, tokens of each training text int [rows],
    rows."""

    report: Any
    lengths: np.ndarray
    num_train: int
    num_validation: int


def foresee(spec: TaskSpec | GenerationSpec | ExtractionSpec, root: Path) -> CheckResult:
    """Inspect a task's data and teacher, and forecast its run; `root`: the folder of its file."""
    if isinstance(spec, GenerationSpec):
        return check_generation(spec, root)
    if isinstance(spec, ExtractionSpec):
        return check_extraction(spec, root)
    return check_classification(spec, root)


def check_classification(spec: TaskSpec, root: Path) -> CheckResult:
    """Of a task of classification."""
    with TemporaryDirectory() as scratch:
        quarantine = Path(scratch) / "quarantine.jsonl"
        dataset = load_dataset(spec, root=root, quarantine=quarantine)
        steps, *_ = [
            load_steps(settings.steps, spec, dataset, root, quarantine)
            for settings in (spec.teacher, *spec.teachers)
        ]
    source = resolve_teacher(spec.teacher.source, root=root, sha256=spec.teacher.sha256)
    if spec.teacher.num_epochs == 0:
        require_labels(source, dataset.labels)
    require_compressible(spec, source)
    further, left_out = find_further(spec, root, dataset.labels)
    encoder = TextEncoder(source / TOKENIZER, spec.input.max_tokens)
    report = inspect(dataset, spec, count_tokens=encoder.count)
    encoded = encoder.encode(dataset.texts("train"))
    require_reachable(spec, source, encoder, encoded.ids, len(dataset.labels))
    read = Read(report, encoded.lengths, len(dataset.train), len(dataset.validation))
    return _foreseen(spec, source, read, further, left_out, [len(rows.train) for rows in steps])


def _foreseen(
    spec: TaskSpec | ExtractionSpec,
    source: Path,
    read: Read,
    further: Sequence[tuple[FurtherTeacher | FurtherTagger, Path]],
    left_out: Sequence[str],
    num_step_rows: Sequence[int] = (),
) -> CheckResult:
    """What a task on an encoder will take, and what to be warned of."""
    inside = None if is_default(spec) else expected_internals(spec, source, read.lengths)
    if spec.distillation.search is not None:
        require_rows(read.num_validation)
    trainings = expected_trainings(spec, source, read.num_train)
    expected = forecast(
        spec,
        source / "config.json",
        read.num_train,
        float(read.lengths.mean()),
        inside,
        [(settings, folder / "config.json") for settings, folder in further],
        trainings,
        num_step_rows,
    )
    warnings = [*left_out, inside.reason] if inside and inside.reason else left_out
    warnings = [*warnings, *search_warnings(spec, expected, trainings)]
    return CheckResult(spec, read.report, expected, (*warnings, *budget_warnings(spec, expected)))


def expected_trainings(spec: StrategySpec, source: Path, num_rows: int) -> float:
    """What `strategy: auto` would try, in whole trainings of the student; 0 without it.

    Raises:
        MissingSignal: the student can follow no strategy.
    """
    from edgedistill.pipeline.search import candidates_of
    from edgedistill.pipeline.stages.trials import options_of, planned_epochs

    if spec.distillation.search is None:
        return 0.0
    (candidate,) = candidates_of(spec)
    options, _ = options_of(spec, candidate, source)
    num_epochs = planned_epochs(spec, candidate, num_taught(spec, num_rows))
    return planned_trainings(len(options), rungs_of(num_epochs))


def search_warnings(spec: StrategySpec, expected: Forecast, trainings: float) -> list[str]:
    """Whether `strategy: auto` will have to leave something out."""
    search = spec.distillation.search
    whole_s = trainings * expected.seconds["students"]
    limit_s = search.seconds(spec.budget.wall_time_minutes) if search else whole_s
    if whole_s <= limit_s:
        return []
    return [
        f"trying every strategy would take about {whole_s / 60:.0f} minutes, "
        f"distillation.search has {limit_s / 60:.0f}: it tries what fits, and says what did not"
    ]


def expected_internals(
    spec: StrategySpec, source: Path, lengths: np.ndarray
) -> ExpectedInternals | None:
    """What of the teacher's inside a run would keep; None where the strategy asks for none.

    Args:
        lengths: tokens of each training text; the texts made from them are taken to be as long.

    Raises:
        MissingSignal, SpecError: student or teacher cannot tell what the strategy compares.
    """
    from edgedistill.models.internals_cache import internals_bytes
    from edgedistill.pipeline.search import assistants_of, candidates_of
    from edgedistill.pipeline.stages.ensemble import members_of
    from edgedistill.pipeline.stages.internals import reason_against
    from edgedistill.pipeline.stages.trials import layers_tried

    candidates, others = candidates_of(spec), assistants_of(spec)
    if isinstance(spec, TaskSpec):
        others = [*members_of(spec), *others]
    require_fitting(spec, candidates, others, source)
    layers = layers_tried(spec, candidates, others, source)
    if not layers:
        return None
    size_bytes = internals_bytes(layers, teacher_shape(source), lengths)
    size_bytes = round(size_bytes * num_taught(spec, len(lengths)) / len(lengths))
    # Where `run` writes unless it is told otherwise.
    return ExpectedInternals(size_bytes, reason_against(size_bytes, Path("runs")))


def check_extraction(spec: ExtractionSpec, root: Path) -> CheckResult:
    """The same for an extraction task."""
    from edgedistill.pipeline.extraction.dataset import encoder_of, load_documents
    from edgedistill.pipeline.extraction.further import find_further as find_taggers
    from edgedistill.pipeline.extraction.heads import output_names
    from edgedistill.pipeline.search import candidates_of

    candidates_of(spec)
    source = resolve_teacher(spec.teacher.source, root=root, sha256=spec.teacher.sha256)
    encoder = encoder_of(spec, source)
    with TemporaryDirectory() as scratch:
        rows, report = load_documents(spec, root, encoder, quarantine=Path(scratch))
    names = output_names(encoder_of(spec, source, rows.labels))
    if spec.teacher.num_epochs == 0:
        require_tags(source, names)
    require_compressible(spec, source)
    texts = encoder.encode(rows.train).texts
    require_reachable(spec, source, encoder.encoder, texts.ids, len(names))
    further, left_out = find_taggers(spec, root, encoder.encoder)
    read = Read(report, texts.lengths, len(rows.train), len(rows.validation))
    return _foreseen(spec, source, read, further, left_out)


def check_generation(spec: GenerationSpec, root: Path) -> CheckResult:
    """The same for a generation task."""
    require_llm(spec)
    with TemporaryDirectory() as scratch:
        rows, report = load_conversations(spec, root, quarantine=Path(scratch))
    require_rows_to_fit(spec, len(rows.train))
    bases = find_bases(spec, root, rows.train)
    turns = [turn for row in rows.train for turn in row.turns]
    characters = sum(len(turn.content) for turn in turns)
    answered = sum(len(turn.content) for turn in turns if turn.role == "assistant")
    num_own = len(rows.train) if spec.distillation.texts != "rows" else 0
    share_more = (len(questions_of(spec, rows)) - num_own) / len(rows.train)
    # Where `run` writes unless it is told otherwise.
    require_cache_room(Path("runs"), forecast_cache_bytes(spec, answered, bases, share_more))
    expected = forecast_generation(spec, characters, answered, len(rows.test), bases, share_more)
    return CheckResult(spec, report, expected, tuple(budget_warnings(spec, expected)))


def budget_warnings(
    spec: TaskSpec | GenerationSpec | ExtractionSpec, expected: Forecast
) -> list[str]:
    """What of the budget looks tight; memory that cannot suffice is refused.

    Raises:
        BudgetExceeded: the teacher alone needs more memory than the budget has.
    """
    memory_gb = expected.memory_bytes / 1e9
    if memory_gb > spec.budget.memory_gb:
        raise BudgetExceeded(
            f"the teacher needs about {memory_gb:.1f} GB to train, "
            f"the budget is {spec.budget.memory_gb:g} GB",
            where="budget.memory_gb",
            fix="raise the budget, or choose a smaller teacher",
        )
    from edgedistill.pipeline.search import is_asked_for

    minutes = expected.total_s / 60
    if minutes > spec.budget.wall_time_minutes:
        is_search = not isinstance(spec, GenerationSpec) and not is_asked_for(spec)
        what = "the search will stop early" if is_search else "it may not do"
        return [
            f"about {minutes:.0f} minutes are forecast, the budget is "
            f"{spec.budget.wall_time_minutes:g}: {what}"
        ]
    return []
