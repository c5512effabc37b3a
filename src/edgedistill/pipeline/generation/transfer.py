"""Stage `transfer`: what the teacher says of every token to be learned, once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill.core.events import Event
from edgedistill.core.generation_task import GenerationSpec
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.generation.dataset import PreparedConversations
from edgedistill.pipeline.generation.teacher import Teacher, sequences
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
    """The training rows with the teacher's likeliest next tokens, memory-mapped."""

    stage: StageResult
    rows: Any
    num_tokens: int
    bytes_per_token: int


def prepare_transfer(
    context: Context[GenerationSpec], data: PreparedConversations, teacher: Teacher
) -> TransferSet:
    """The teacher reads the training rows and leaves its top-k log-probabilities."""
    from edgedistill.models.teachers.topk_cache import TopKWriter, open_topk, topk_of

    spec = context.spec
    inputs = {
        "data": data.stage.fingerprint,
        "teacher": teacher.stage.fingerprint,
        "top_k": spec.distillation.top_k,
    }
    rows = sequences(teacher.encoder, data.rows.train, teacher.tokenizer.pad)

    def compute(folder: Path) -> None:
        import torch

        from edgedistill.train.tune.next_token import learned_logits

        model = teacher.load()
        writer = TopKWriter(
            folder, k=spec.distillation.top_k, vocabulary_size=len(teacher.tokenizer)
        )
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
    return TransferSet(stage, _with_signals(rows, stored), len(stored), stored.bytes_per_token)


def _with_signals(rows: Any, stored: Any) -> Any:
    from dataclasses import replace

    from edgedistill.core.protocols import Signal

    signals = {
        Signal.TOP_IDS: stored.ids,
        Signal.TOP_LOGPROBS: stored.logprobs,
        Signal.TOP_TAIL: stored.tail,
    }
    return replace(rows, signals=signals)
