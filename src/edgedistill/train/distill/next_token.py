"""Offline distillation of a language model: the teacher's likeliest next tokens, read once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from edgedistill.core.protocols import Signal
from edgedistill.train.distill.token_level import OfflineTopK, TokenLevelConfig, token_level_terms
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
