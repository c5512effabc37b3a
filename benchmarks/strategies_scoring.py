"""One model of a task scored on one split, straight from its training: no export, no rounding.

Whatever the kind, a row is three counts: right, given and expected answers. Their F1 is the
accuracy where each row has one answer.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.errors import ModelError
from edgedistill.evaluate.generation_metrics import FieldCounts, field_counts, parse_record
from edgedistill.evaluate.span_metrics import exact_counts
from edgedistill.models.teachers.sources import TOKENIZER
from edgedistill.pipeline import classification
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.extraction import course as extraction
from edgedistill.pipeline.extraction.outputs import GoldTexts, said_by_module
from edgedistill.pipeline.generation import course as generation
from edgedistill.pipeline.generation import student as writers
from edgedistill.pipeline.generation.artefact import write_file
from edgedistill.pipeline.generation.serving import ask, prompts_of
from edgedistill.pipeline.search import candidates_of
from edgedistill.pipeline.stages.any_ground import AnyGround
from edgedistill.pipeline.stages.dataset import prepare_data
from edgedistill.pipeline.stages.student import load_student, train_student
from edgedistill.pipeline.stages.teacher import CLASSIFIER, prepare_teacher
from edgedistill.tasks.classification import predicted
from strategies_catalogue import Role

#: Stages that a student costs, beyond those that every student of a task needs.
OWN_STAGES = ("student", "control", "assistant", "internals", "mixture", "answers")


@dataclass(frozen=True)
class Scored:
    """`counts`: right, given and expected answers of each row, int64 [rows, 3]. `seconds`: what
    the student cost, beside teacher and transfer set."""

    counts: np.ndarray
    seconds: float


def score(context: Context[Any], role: Role, split: str) -> Scored:
    """Train the task's student, or find it trained, and score it on a split.

    Raises:
        SpecError, MissingSignal: the strategy does not fit the task.
        ModelError: a second teacher was left out.
    """
    counts = KINDS[context.spec.kind](context, role, split)
    seconds = sum(s.seconds for s in context.store.results if s.name.startswith(OWN_STAGES))
    return Scored(counts, seconds)


def _classification(context: Context[Any], role: Role, split: str) -> np.ndarray:
    ground = classification.prepare_ground(context)
    dataset = ground.data.dataset
    if role == "teacher":
        logits, _ = ground.transfer.outputs(split)
    else:
        texts = ground.encoder.encode(dataset.texts(split))
        logits = ground.logits(_student(ground, role), texts)
    right = predicted(logits) == dataset.targets(split)
    return np.stack([right, np.ones_like(right), np.ones_like(right)], axis=1).astype(np.int64)


def _extraction(context: Context[Any], role: Role, split: str) -> np.ndarray:
    ground = extraction.prepare_ground(context)
    model = ground.load_teacher() if role == "teacher" else _student(ground, role)
    gold = GoldTexts(ground.data.rows.split(split), ground.teacher)
    return _stacked(exact_counts(gold.found(said_by_module(model, gold).tags), gold.spans))


def _student(ground: AnyGround, role: Role) -> Any:
    """The student, trained as its role says, in evaluation mode."""
    # A run goes on without a teacher that fails; a comparison may not.
    failed = [note for note in ground.answers.notes if note.startswith("Further teacher")]
    if failed:
        raise ModelError(failed[0])
    (candidate,) = candidates_of(ground.context.spec)
    return load_student(ground, train_student(ground, candidate, distilled=role == "student"))


def _generation(context: Context[Any], role: Role, split: str) -> np.ndarray:
    """By the task's grammar, in the runtime of the bundle, in half precision."""
    ground = generation.prepare_ground(context)
    if role == "teacher":
        model = ground.teacher.load()
    else:
        model = writers.train_student(ground, distilled=role == "student").load()
    rows = getattr(ground.data.rows, split)
    file = context.folder / "asked.gguf"
    write_file(ground, ground.reader, model, file, "f16")
    try:
        answers = ask(ground, ground.reader, file, prompts_of(ground.reader, rows)).answers
    finally:
        file.unlink()
    return _stacked(field_counts(_records(answers), _records([row.response for row in rows])))


KINDS = {
    "classification": _classification, "extraction": _extraction, "generation": _generation,
}  # fmt: skip


def classifier_folder(context: Context[Any]) -> Path:
    """Fine-tune the teacher of a classification task, or find it: a folder for `teachers`."""
    teacher = prepare_teacher(context, prepare_data(context))

    def compute(folder: Path) -> None:
        shutil.copytree(teacher.stage.folder / CLASSIFIER, folder, dirs_exist_ok=True)
        shutil.copyfile(teacher.stage.folder / TOKENIZER, folder / TOKENIZER)

    inputs = {"teacher": teacher.stage.fingerprint}
    return context.store.stage("teacher-folder", inputs, compute, rooms=()).folder


def _stacked(counts: FieldCounts) -> np.ndarray:
    columns = [counts.num_right, counts.num_predicted, counts.num_expected]
    return np.stack(columns, axis=1).astype(np.int64)


def _records(texts: Sequence[str | None]) -> list[dict[str, Any] | None]:
    return [None if text is None else parse_record(text) for text in texts]
