"""Plain fine-tuning of a language model: predict each learned token from those before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from edgedistill.core.protocols import Signal
from edgedistill.train.sequences import IGNORED, SequenceBatch, SequenceSet


class NextToken:
    """Mean cross-entropy over the learned tokens of a batch, in fp32."""

    needs: ClassVar[frozenset[Signal]] = frozenset({Signal.LABELS})

    def __call__(
        self, model: nn.Module, batch: SequenceBatch, *, rng: torch.Generator
    ) -> Mapping[str, torch.Tensor]:
        logits, targets = learned_logits(model, batch)
        total = functional.cross_entropy(logits.float(), targets, reduction="sum")
        return {"next_token": total / max(1, len(targets))}


def learned_logits(model: nn.Module, batch: SequenceBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """What a causal language model says where the next token is learned, and that token.

    The head, the largest product of a small model, is computed for those places alone.

    Returns:
        (logits [num_learned, vocabulary], targets int64 [num_learned]), in the order of
        `batch.signals`.
    """
    causal: Any = model
    hidden, targets = learned_states(model, batch)
    return causal.get_output_embeddings()(hidden), targets


def learned_states(model: nn.Module, batch: SequenceBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """The last hidden states where the next token is learned, and that token.

    Args:
        model: a causal language model of transformers, with adapters or without.

    Returns:
        (states [num_learned, hidden], targets int64 [num_learned]), rows one after the other,
        in the order of `batch.signals`.
    """
    causal: Any = model
    output = causal.get_decoder()(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask,
        position_ids=batch.position_ids, use_cache=False,
    )  # fmt: skip
    targets = batch.labels[:, 1:]
    learned = targets != IGNORED
    return output.last_hidden_state[:, :-1][learned], targets[learned]


@torch.inference_mode()
def mean_loss(model: nn.Module, data: SequenceSet, *, batch_size: int = 4096) -> float:
    """Mean negative log-likelihood of the learned tokens, in nats; its negative is a score.

    Raises:
        MissingSignal: no token is to be learned.
    """
    data.require(frozenset())
    was_training = model.training
    model.eval()
    device = next(iter(model.parameters())).device
    total = 0.0
    for batch in data.in_order(batch_size, device):
        logits, targets = learned_logits(model, batch)
        total += float(functional.cross_entropy(logits.float(), targets, reduction="sum"))
    model.train(was_training)
    return total / data.num_learned
