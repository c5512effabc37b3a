"""Several students as one network: they read a text in turn, and their answers are averaged.

The mean of distributions (a mixture of experts with fixed shares) or of logits (a product of
experts). One graph holds them all, so that what runs one student runs an ensemble.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from edgedistill.core.protocols import ModelOutput


class Ensemble(nn.Module):
    """A weighted mean of its members' answers; a member without weight is left out.

    forward: int64 [batch, seq] twice -> logits [batch, classes], features [batch, dim] of the
    member that weighs most.

    Distributions are averaged at temperature 1. Their logits are defined but for a constant of
    each text; it is chosen so that the energy is the mean of the members': out-of-bounds texts are
    told apart by it. Members that say the same are therefore averaged into what each says.

    Args:
        weights: one a member, not negative, of sum 1.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        weights: Sequence[float],
        average: Literal["probabilities", "logits"],
    ) -> None:
        super().__init__()
        kept = [(each, weight) for each, weight in zip(members, weights, strict=True) if weight > 0]
        self.members = nn.ModuleList(each for each, _ in kept)
        self.shares = [weight for _, weight in kept]
        self.average = average

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> ModelOutput:
        outputs = [member(input_ids, attention_mask) for member in self.members]
        first = outputs[self.shares.index(max(self.shares))]
        logits = torch.stack([output.logits for output in outputs])
        shares = torch.tensor(self.shares, dtype=logits.dtype, device=logits.device)[:, None, None]
        if self.average == "logits":
            return ModelOutput((shares * logits).sum(0), first.features)
        energies = logits.logsumexp(-1, keepdim=True)
        mixed = (shares.log() + logits - energies).logsumexp(0)
        return ModelOutput(mixed + (shares * energies).sum(0), first.features)
