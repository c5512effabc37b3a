"""Plain supervised learning: cross-entropy on the true labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from edgedistill.core.protocols import Batch, Signal


class Supervised:
    """Cross-entropy over the rows that have a label; also the control without distillation."""

    needs: ClassVar[frozenset[Signal]] = frozenset({Signal.LABELS})

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def __call__(
        self, model: nn.Module, batch: Batch, *, rng: torch.Generator
    ) -> Mapping[str, torch.Tensor]:
        logits = batch.rows(model(batch.input_ids, batch.attention_mask).logits)
        return {"cross_entropy": labelled_cross_entropy(logits, batch.labels, self.label_smoothing)}


def labelled_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Mean cross-entropy in fp32 over rows whose label is not -1; zero where there are none."""
    total = functional.cross_entropy(
        logits.float(), labels, ignore_index=-1, reduction="sum", label_smoothing=smoothing
    )
    return total / (labels >= 0).sum().clamp(min=1)
