"""Prompts that the teacher answers for the student to learn: the rows', and those beyond them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgedistill.core.conversation import Turn
from edgedistill.core.errors import DataError
from edgedistill.core.generation_task import GenerationSpec
from edgedistill.data.augmentation import augment
from edgedistill.pipeline.generation.dataset import Conversations


@dataclass(frozen=True)
class Question:
    """A conversation without its last answer. `metadata` is what its row says about itself."""

    id: str
    prompt: tuple[Turn, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)


def questions_of(spec: GenerationSpec, rows: Conversations) -> tuple[Question, ...]:
    """What the teacher is asked: the training prompts, where the task wants its answers to them,
    then the prompts that have none, then those made from both.

    Raises:
        DataError: prompts are to be made, and no row has a single turn to make them from.
    """
    own = rows.train if spec.distillation.texts != "rows" else ()
    return (
        *(Question(row.id, row.prompt, row.metadata) for row in own),
        *(_question("unlabelled", number, text) for number, text in enumerate(rows.unlabelled)),
        *(_question("made", number, text) for number, text in enumerate(_made(spec, rows))),
    )


def _question(kind: str, number: int, text: str) -> Question:
    return Question(f"{kind}:{number + 1}", (Turn("user", text),))


def _made(spec: GenerationSpec, rows: Conversations) -> list[str]:
    """Prompts with words left out, joined of two, mistyped (`data/augmentation.py`)."""
    num = spec.distillation.augmentation.num_texts
    if not num:
        return []
    single = [row.prompt[0].content for row in rows.train if len(row.prompt) == 1]
    if not single:
        raise DataError(
            "no training row has a single turn, and prompts are made from such rows alone",
            where="distillation.augmentation.num_texts",
            fix="leave it out, or give prompts as data.unlabelled",
        )
    return augment([*single, *rows.unlabelled], num=num, seed=spec.seed)
