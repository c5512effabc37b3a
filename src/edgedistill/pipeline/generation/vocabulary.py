"""The vocabulary of a pretrained teacher, cut down to what its task uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgedistill.core.errors import ModelError
from edgedistill.core.files import write_bytes
from edgedistill.core.generation_task import GenerationSpec
from edgedistill.pipeline.generation.dataset import PreparedConversations
from edgedistill.pipeline.generation.teacher import TOKENIZER, encoder_of


def in_use(
    spec: GenerationSpec, data: PreparedConversations, model: Any, folder: Path
) -> tuple[Any, dict[str, int]]:
    """The model with the tokens of the training rows, and how many were kept of how many.

    Args:
        folder: holds the tokenizer, which is replaced.

    Raises:
        ModelError: the tokenizer is of a sort that cannot be cut, or would read a row otherwise.
    """
    from tokenizers import Tokenizer

    from edgedistill.models.language.pruning import prune_vocabulary, with_vocabulary

    encoder = encoder_of(folder, spec)
    rows = [encoder.encode(row).ids.tolist() for row in data.rows.train]
    before = Tokenizer.from_file(str(folder / TOKENIZER))
    pruned = prune_vocabulary(before, {i for row in rows for i in row})
    write_bytes(folder / TOKENIZER, pruned.tokenizer.to_str().encode())
    after = encoder_of(folder, spec)
    for row, ids in zip(data.rows.train, rows, strict=True):
        if [pruned.kept[i] for i in after.encode(row).ids.tolist()] != ids:
            raise ModelError(
                "a row is read by other tokens once those that no row uses are gone",
                where=row.id,
                fix="teacher.vocabulary: whole",
            )
    sizes = {"kept": len(pruned.kept), "of": before.get_vocab_size()}
    return with_vocabulary(model, pruned), sizes


def sentence(sizes: dict[str, int] | None) -> str | None:
    """What the report says of it; None where the vocabulary is whole."""
    if sizes is None:
        return None
    return (
        f"The vocabulary was cut from {sizes['of']:,} to {sizes['kept']:,} tokens: those of the "
        "training rows, and what spells all other texts."
    )
