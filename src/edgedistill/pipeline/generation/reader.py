"""Stage `vocabulary`: how a student with tokens of its own reads and writes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgedistill.core.generation_task import GenerationSpec
from edgedistill.models.language.pretrained import TOKENIZER_FILES, PretrainedLlama
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.generation.dataset import PreparedConversations
from edgedistill.pipeline.generation.teacher import (
    TOKENIZER,
    encoder_of,
    learned_tokenizer,
    marks_of,
)
from edgedistill.tasks.generation.encoding import ConversationEncoder

ROOMS = (
    "models/language",
    "tasks/generation",
    "pipeline/generation/reader",
    "pipeline/generation/teacher",
)


class Reader(Protocol):
    """How a model reads and writes: conversations to ids, and its vocabulary with its marks."""

    @property
    def encoder(self) -> ConversationEncoder: ...

    @property
    def tokenizer(self) -> Any: ...


@dataclass(frozen=True)
class OwnReader:
    """A student's own; `fingerprint` of the stage that made it."""

    encoder: ConversationEncoder
    tokenizer: Any
    fingerprint: str


def prepare_reader(
    context: Context[GenerationSpec],
    data: PreparedConversations,
    base: PretrainedLlama | None,
) -> OwnReader | None:
    """A vocabulary learned from the training rows, or that of the student's pretrained `base`;
    None where the student shares its teacher's."""
    spec = context.spec
    if not spec.distillation.is_aligned:
        return None
    inputs = {
        "data": data.stage.fingerprint,
        "size": spec.student.vocabulary_size,
        "base": base.digests() if base else None,
        "template": spec.template,
    }

    def compute(folder: Path) -> None:
        if base is None:
            size = spec.student.vocabulary_size or 0
            learned_tokenizer(spec, data, size).save(folder / TOKENIZER)
            return
        for name in TOKENIZER_FILES:
            if (base.folder / name).is_file():
                shutil.copyfile(base.folder / name, folder / name)

    stage = context.store.stage("vocabulary", inputs, compute, rooms=ROOMS)
    encoder = encoder_of(stage.folder, spec)
    return OwnReader(encoder, _tokenizer(encoder, spec, base), stage.fingerprint)


def _tokenizer(
    encoder: ConversationEncoder, spec: GenerationSpec, base: PretrainedLlama | None
) -> Any:
    from edgedistill.models.language.tokenizer import LanguageTokenizer

    if base is None:
        return LanguageTokenizer.with_marks(encoder.tokenizer, marks_of(spec.template))
    end, pad = encoder.end_id(), base.config.get("pad_token_id")
    return LanguageTokenizer(
        encoder.tokenizer, bos=base.config.get("bos_token_id"), end=end,
        pad=end if pad is None or pad < 0 else pad, num_rows=base.num_rows,
    )  # fmt: skip
