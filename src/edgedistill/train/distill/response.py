"""Response distillation: match the teacher's softened distribution (Hinton et al. 2015,
arXiv 1503.02531, section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.nn import functional

from edgedistill.core.protocols import Batch, Signal
from edgedistill.train.tune.supervised import labelled_cross_entropy


class ResponseConfig(BaseModel):
    """`temperature` softens both distributions; `hard_weight` in [0, 1] is the share of the
    true labels in the loss."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(default=2.0, gt=0)
    hard_weight: float = Field(default=0.0, ge=0, le=1)


class Response:
    """KL divergence from the teacher at temperature T, times T², mixed with cross-entropy."""

    needs: ClassVar[frozenset[Signal]] = frozenset({Signal.LOGITS})

    def __init__(self, config: ResponseConfig) -> None:
        self.config = config

    def __call__(
        self, model: nn.Module, batch: Batch, *, rng: torch.Generator
    ) -> Mapping[str, torch.Tensor]:
        logits = model(batch.input_ids, batch.attention_mask).logits
        soft = softened_kl(logits, batch.signals[Signal.LOGITS], self.config.temperature)
        terms = {"soft": (1.0 - self.config.hard_weight) * soft}
        if self.config.hard_weight > 0:
            hard = labelled_cross_entropy(logits, batch.labels)
            terms["hard"] = self.config.hard_weight * hard
        return terms


def softened_kl(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL(teacher ‖ student) of [batch, classes] logits at `temperature`, times temperature².

    Mean over the batch (`batchmean`, not over classes), in fp32.
    """
    log_student = functional.log_softmax(student.float() / temperature, dim=-1)
    log_teacher = functional.log_softmax(teacher.float() / temperature, dim=-1)
    divergence = functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return divergence * temperature**2
