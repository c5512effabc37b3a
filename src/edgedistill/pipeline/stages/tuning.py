"""Fine-tuning of a teacher, step by step, and what earlier steps lose on the way."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.artefacts import Dataset
from edgedistill.core.events import Event
from edgedistill.core.files import read_json, write_json
from edgedistill.core.teachers import ClassifierTeacher
from edgedistill.data.step_rows import StepRows, load_steps
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.stages.dataset import QUARANTINE
from edgedistill.pipeline.stages.teacher import (
    CLASSIFIER,
    TRAINING,
    Teacher,
    hold_table,
    train_teacher,
)
from edgedistill.tasks.classification import TextEncoder, predicted

STEPS = "steps"
ABILITIES = "abilities.npz"
ABILITY_TEXTS = "ability_texts.json"


@dataclass(frozen=True)
class Course:
    """How a teacher is fine-tuned: its settings, the name of its stage, the task's own rows."""

    context: Context
    settings: ClassifierTeacher
    name: str
    dataset: Dataset
    encoder: TextEncoder


@dataclass(frozen=True)
class Ability:
    """What a teacher could do after a step, on the validation rows of that step.

    `data`: the step's file. `targets` int64 [n]; `before`, `after` bool [n]: which rows it got
    right after the step, and after its last one.
    """

    data: str
    texts: list[str]
    targets: np.ndarray
    before: np.ndarray
    after: np.ndarray
    num_left_out: int


@dataclass(frozen=True)
class _Lesson:
    """One step: rows to learn and to be scored on, most epochs, share of earlier rows. `data`: the
    step's file, empty for the task's own rows."""

    name: str
    data: str
    train: tuple[list[str], np.ndarray]
    validation: tuple[list[str], np.ndarray]
    num_epochs: int
    replay: float


def fine_tune(course: Course, source: Path, folder: Path) -> dict[str, Any]:
    """Fine-tune the encoder in `source` through all steps; the record of the last, with those of
    the `steps` before it."""
    import torch

    from edgedistill.models.teachers.encoder import new_classifier, save_classifier
    from edgedistill.train.replay import joined
    from edgedistill.train.tune.anchored import Anchored
    from edgedistill.train.tune.elastic import Anchor, Elastic, anchor_at
    from edgedistill.train.tune.supervised import Supervised

    settings, dataset, seed = course.settings, course.dataset, course.context.spec.seed
    rows = load_steps(
        settings.steps, course.context.spec, dataset, course.context.root, folder / QUARANTINE
    )
    lessons = _lessons(course, rows)
    torch.manual_seed(seed)
    model = new_classifier(source, len(dataset.labels))
    hold_table(model, settings)
    plain: Any = Supervised(label_smoothing=settings.label_smoothing)
    if settings.l2_sp:
        plain = Anchored(plain, model.encoder, settings.l2_sp)
    earlier, anchors = list[Any](), list[Anchor]()
    records, before = list[dict[str, Any]](), list[np.ndarray]()
    for number, lesson in enumerate(lessons):
        examples = _examples(course.encoder, lesson.train)
        step = Elastic(plain, model, anchors, settings.ewc) if anchors else plain
        place = folder if number == len(rows) else folder / STEPS / str(number)
        # One pull at a time: decay would draw the same weights towards 0.
        changes = {"weight_decay": 0.0} if settings.l2_sp or anchors else {}
        mixed = joined(earlier) if lesson.replay else None
        records.append(_learn(course, lesson, model, step, examples, mixed, place, changes))
        if number < len(rows):
            before.append(_right(course.encoder, model, lesson.validation))
            earlier.append(examples)
            if settings.ewc:
                rng = torch.Generator().manual_seed(seed)
                anchors.append(anchor_at(model, examples, rng))
    save_classifier(model, folder / CLASSIFIER, dataset.labels)
    if rows:
        after = [_right(course.encoder, model, each.validation) for each in lessons[:-1]]
        _keep_abilities(folder, lessons, rows, before, after)
        shutil.rmtree(folder / STEPS)
    return {**records[-1], **({"steps": records[:-1]} if rows else {})}


def abilities_of(teacher: Teacher) -> list[Ability]:
    """What the teacher could do after each of its steps; empty where it had none."""
    folder = teacher.stage.folder
    if not (folder / ABILITIES).exists():
        return []
    told = read_json(folder / ABILITY_TEXTS)
    with np.load(folder / ABILITIES) as arrays:
        return [
            Ability(
                each["data"], each["texts"], arrays[f"targets.{i}"], arrays[f"before.{i}"],
                arrays[f"after.{i}"], each["num_left_out"],
            )
            for i, each in enumerate(told)
        ]  # fmt: skip


def _lessons(course: Course, rows: Sequence[StepRows]) -> list[_Lesson]:
    """The steps, and the task's own rows as the last."""
    settings, dataset = course.settings, course.dataset
    index = {label: i for i, label in enumerate(dataset.labels)}

    def labelled(examples: Any) -> tuple[list[str], np.ndarray]:
        targets = np.array([index[each.label] for each in examples], np.int64)
        return [each.text for each in examples], targets

    lessons = [
        _Lesson(
            f"{course.name}, step {number}", step.data,
            labelled(each.train), labelled(each.validation), step.num_epochs, step.replay,
        )
        for number, (step, each) in enumerate(zip(settings.steps, rows, strict=True), start=1)
    ]  # fmt: skip
    train, validation = (
        (dataset.texts(split), dataset.targets(split)) for split in ("train", "validation")
    )
    last = _Lesson(course.name, "", train, validation, settings.num_epochs, settings.replay)
    return [*lessons, last]


def _learn(
    course: Course,
    lesson: _Lesson,
    model: Any,
    step: Any,
    examples: Any,
    earlier: Any,
    place: Path,
    changes: dict[str, float],
) -> dict[str, Any]:
    """Train `model` on one step, or find it as a killed run left it; the record of its training."""
    from safetensors.torch import load_file, save_file

    from edgedistill.train.replay import Replayed

    # Written last: a killed run begins with the step that it was at.
    if lesson.data and (place / TRAINING).exists():
        model.load_state_dict(load_file(place / "model.safetensors"))
        return dict(read_json(place / TRAINING))
    place.mkdir(parents=True, exist_ok=True)
    if lesson.data:
        course.context.listener(Event(lesson.name, "note", f"learns {lesson.data}"))
    record = train_teacher(
        course.context,
        course.settings.model_copy(update={"num_epochs": lesson.num_epochs}),
        model,
        step,
        examples if earlier is None else Replayed(examples, earlier, lesson.replay),
        score=_likelihood(course.encoder, lesson.validation, course.settings.label_smoothing),
        folder=place,
        name=lesson.name,
        **changes,
    )
    if lesson.data:
        state = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
        save_file(state, place / "model.safetensors")
        write_json(place / TRAINING, record)
    return record


def _examples(encoder: TextEncoder, rows: tuple[list[str], np.ndarray]) -> Any:
    from edgedistill.train.batches import TrainingSet

    return TrainingSet(encoder.encode(rows[0]), rows[1], encoder.pad_id)


def _likelihood(encoder: TextEncoder, rows: tuple[list[str], np.ndarray], smoothing: float) -> Any:
    """A function that scores a model: minus the loss it is trained with, on validation rows.

    The epoch that is kept is chosen by it: a few thousand texts count accuracy so coarsely that an
    early epoch may win by luck, whereas the loss uses every probability.
    """
    import torch

    from edgedistill.models.inference import model_outputs
    from edgedistill.train.tune.supervised import labelled_cross_entropy

    texts, targets = encoder.encode(rows[0]), torch.from_numpy(rows[1])

    def score(model: Any) -> float:
        logits, _ = model_outputs(model, texts, pad_id=encoder.pad_id)
        return -float(labelled_cross_entropy(torch.from_numpy(logits), targets, smoothing))

    return score


def _right(encoder: TextEncoder, model: Any, rows: tuple[list[str], np.ndarray]) -> np.ndarray:
    """Which rows a model gets right, bool [n]."""
    from edgedistill.models.inference import model_outputs

    logits, _ = model_outputs(model, encoder.encode(rows[0]), pad_id=encoder.pad_id)
    return np.asarray(predicted(logits) == rows[1])


def _keep_abilities(
    folder: Path,
    lessons: Sequence[_Lesson],
    rows: Sequence[StepRows],
    before: Sequence[np.ndarray],
    after: Sequence[np.ndarray],
) -> None:
    """Write what `abilities_of` reads."""
    told, arrays = [], dict[str, Any]()
    for i, (lesson, each) in enumerate(zip(lessons, rows, strict=False)):
        texts, arrays[f"targets.{i}"] = lesson.validation
        arrays[f"before.{i}"], arrays[f"after.{i}"] = before[i], after[i]
        told.append({"data": lesson.data, "texts": texts, "num_left_out": each.num_left_out})
    np.savez(folder / ABILITIES, **arrays)
    write_json(folder / ABILITY_TEXTS, told)
