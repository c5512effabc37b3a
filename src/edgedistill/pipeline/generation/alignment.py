"""Student and teacher with other tokens: where these begin together, and what is learned there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedistill.core.errors import ModelError
from edgedistill.core.protocols import Signal
from edgedistill.pipeline.generation.teacher import sequences
from edgedistill.tasks.generation.aligning import AnswerReader, aligned

if TYPE_CHECKING:
    from edgedistill.pipeline.generation.student import Ground


def aligned_method(ground: Ground, *, chunk_size: int) -> tuple[Any, Any]:
    """The training step, and the rows in the student's tokens with their places in the teacher's.

    Raises:
        DataError: a row that has too many of the student's tokens.
        ModelError: not one token of the student's begins where one of the teacher's does.
    """
    from edgedistill.train.distill.cross_tokenizer import AlignedNextToken

    theirs, ours, texts = ground.teacher, ground.reader, ground.transfer.texts.rows
    rows = sequences(ours.encoder, texts, ours.tokenizer.pad)
    teacher_rows = ground.transfer.rows
    readers = AnswerReader(ours.encoder), AnswerReader(theirs.encoder)
    places = np.full(len(rows.learned), -1, dtype=np.int64)
    for number, row in enumerate(texts):
        found = aligned(*(reader.starts(row) for reader in readers))
        here = slice(rows.texts.starts[number], rows.texts.starts[number + 1])
        places[here] = np.where(found >= 0, found + teacher_rows.texts.starts[number], -1)
    learned = places[rows.learned]
    if not (learned >= 0).any():
        raise ModelError(
            "no token of the student's begins where one of the teacher's does, so that they cannot "
            "be compared",
            where="distillation.tokens",
            fix="another student.source, or a student.vocabulary_size",
        )
    step = AlignedNextToken(
        theirs.load(),
        teacher_rows,
        hard_weight=ground.context.spec.distillation.hard_weight,
        chunk_size=chunk_size,
    )
    return step, replace(rows, signals={Signal.ALIGNED: learned})


def share_of(rows: Any) -> dict[str, int] | None:
    """How many learned tokens are aligned, of how many; None where nothing is to be aligned."""
    places = rows.signals.get(Signal.ALIGNED)
    if places is None:
        return None
    return {"aligned": int((places >= 0).sum()), "of": len(places)}


def sentence(share: dict[str, int] | None) -> str | None:
    """What the report says of it."""
    if share is None:
        return None
    return (
        f"Student and teacher have other tokens: of {share['of']:,} that the student learns, "
        f"{share['aligned']:,} begin where one of the teacher's does, and are compared by rank. "
        "How many tokens of their answers are equal, and how far apart they are token by token, "
        "cannot be told."
    )
