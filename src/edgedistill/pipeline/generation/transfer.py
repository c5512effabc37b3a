"""Stage `transfer`: what the teacher says of every token to be learned, once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill.core.events import Event
from edgedistill.core.generation_task import GenerationSpec
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.generation.forecast import cache_bytes, require_cache_room
from edgedistill.pipeline.generation.teacher import Teacher, sequences
from edgedistill.pipeline.generation.teacher_texts import LearnedTexts
from edgedistill.pipeline.store import StageResult

ROOMS = (
    "models/language",
    "models/teachers/topk_cache",
    "tasks/generation",
    "train/sequences",
    "pipeline/generation/transfer",
)
#: Rows of a part: a killed run reads the last one again.
PART = 64


@dataclass(frozen=True)
class TransferSet:
    """What the student learns from, with the teacher's likeliest next tokens, memory-mapped.

    `texts`: the same as conversations. `stage`: None where no cache is asked for; `num_tokens`
    and `bytes_per_token` of the cache are 0 then.
    """

    texts: LearnedTexts
    rows: Any
    stage: StageResult | None = None
    num_tokens: int = 0
    bytes_per_token: int = 0

    @property
    def fingerprint(self) -> str:
        """Of the texts, and of what the teacher said of them."""
        return self.texts.fingerprint if self.stage is None else self.stage.fingerprint


def prepare_transfer(
    context: Context[GenerationSpec], teacher: Teacher, texts: LearnedTexts
) -> TransferSet:
    """The teacher reads the texts and leaves its top-k log-probabilities.

    Raises:
        StorageError: the cache would not fit the disk.
    """
    from edgedistill.models.teachers.topk_cache import TopKWriter, open_topk, topk_of

    spec = context.spec
    inputs = {
        "texts": texts.fingerprint,
        "teacher": teacher.stage.fingerprint,
        "top_k": spec.distillation.top_k,
    }
    rows = sequences(teacher.encoder, texts.rows, teacher.tokenizer.pad)
    if not spec.distillation.is_cached:
        return TransferSet(texts, rows)

    def compute(folder: Path) -> None:
        import torch

        from edgedistill.train.tune.next_token import learned_logits

        model = teacher.load()
        writer = TopKWriter(
            folder, k=spec.distillation.top_k, vocabulary_size=len(teacher.tokenizer)
        )
        missing = rows.num_learned - writer.num_tokens
        require_cache_room(folder, cache_bytes(spec, len(teacher.tokenizer), missing))
        device = torch.device("cpu")
        for start in range(writer.num_parts * PART, len(rows), PART):
            some = [[row] for row in range(start, min(start + PART, len(rows)))]
            with torch.inference_mode():
                logits, _ = learned_logits(model, rows.batch(some, device))
            writer.append(topk_of(logits, spec.distillation.top_k))
            if start // PART % 20 == 19:
                message = f"the teacher reads {len(rows):,} rows"
                context.listener(Event("transfer", "progress", message, start / len(rows)))
        writer.finish()

    stage = context.store.stage("transfer", inputs, compute, rooms=ROOMS)
    stored = open_topk(stage.folder)
    signalled = _with_signals(rows, stored)
    return TransferSet(texts, signalled, stage, len(stored), stored.bytes_per_token)


def _with_signals(rows: Any, stored: Any) -> Any:
    from dataclasses import replace

    from edgedistill.core.protocols import Signal

    signals = {
        Signal.TOP_IDS: stored.ids,
        Signal.TOP_LOGPROBS: stored.logprobs,
        Signal.TOP_TAIL: stored.tail,
    }
    return replace(rows, signals=signals)
