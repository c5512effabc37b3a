"""Distillation of a language model: the teacher's next tokens, read once or anew each step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from edgedistill.core.protocols import Signal
from edgedistill.train.distill.row_losses import require_same_vocabulary
from edgedistill.train.distill.token_level import (
    LiveTeacher,
    OfflineTopK,
    TokenLevelConfig,
    token_level_terms,
)
from edgedistill.train.sequences import SequenceBatch
from edgedistill.train.tune.next_token import learned_states


class OfflineNextToken:
    """The terms of `token_level_terms` where a token is learned."""

    needs: ClassVar[frozenset[Signal]] = frozenset(
        {Signal.LABELS, Signal.TOP_IDS, Signal.TOP_LOGPROBS, Signal.TOP_TAIL}
    )

    def __init__(self, config: TokenLevelConfig) -> None:
        self.config = config

    def __call__(
        self, model: nn.Module, batch: SequenceBatch, *, rng: torch.Generator
    ) -> Mapping[str, torch.Tensor]:
        causal: Any = model
        hidden, targets = learned_states(model, batch)
        teacher = OfflineTopK(
            batch.signals[Signal.TOP_IDS].long(),
            batch.signals[Signal.TOP_LOGPROBS].float(),
            batch.signals[Signal.TOP_TAIL],
        )
        head = causal.get_output_embeddings().weight
        return token_level_terms(hidden, head, targets, teacher, self.config)


class LiveNextToken:
    """The same terms with the teacher in the loop, and all of its tokens.

    Needs no room on the disk, and the teacher's time in every epoch.

    Args:
        teacher: a causal language model of transformers, with the student's vocabulary; it gets
            no gradient and no dropout, and moves to where the batches are.
        config: shares, divergence, temperature.

    A call raises ModelError where student and teacher have other vocabularies.
    """

    needs: ClassVar[frozenset[Signal]] = frozenset({Signal.LABELS})

    def __init__(self, teacher: nn.Module, config: TokenLevelConfig) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        self.config = config

    def __call__(
        self, model: nn.Module, batch: SequenceBatch, *, rng: torch.Generator
    ) -> Mapping[str, torch.Tensor]:
        student: Any = model
        teacher: Any = self.teacher.to(batch.input_ids.device)
        head = student.get_output_embeddings().weight
        teacher_head = teacher.get_output_embeddings().weight
        # Before the teacher reads: of ids beyond its table nothing good would come.
        require_same_vocabulary(len(head), len(teacher_head))
        hidden, targets = learned_states(model, batch)
        with torch.no_grad():
            said, _ = learned_states(teacher, batch)
        return token_level_terms(
            hidden, head, targets, LiveTeacher(said, teacher_head), self.config
        )
