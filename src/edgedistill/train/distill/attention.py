"""Attention distillation: match which token looks at which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from edgedistill.core.errors import SpecError
from edgedistill.core.protocols import Signal
from edgedistill.core.strategies import AttentionSettings
from edgedistill.models.internals import NetworkShape
from edgedistill.train.distill.layer_map import layer_pairs
from edgedistill.train.distill.seen import Seen, token_mean


class Attention:
    """Distance of attention maps, row by row, over real tokens, heads and pairs of layers.

    Zagoruyko & Komodakis 2016, arXiv 1612.03928; maps of transformers in TinyBERT, Jiao et al.
    2019, arXiv 1909.10351, equation 7 (squared differences, there before the softmax) and MiniLM,
    Wang et al. 2020, arXiv 2002.10957, equation 6 (divergence). `nearest` is our own: where heads
    were dropped or built anew, their numbers mean nothing.
    """

    needs: ClassVar[frozenset[Signal]] = frozenset({Signal.ATTENTIONS})
    learned: ClassVar[nn.Module | None] = None

    def __init__(
        self, settings: AttentionSettings, student: NetworkShape, teacher: NetworkShape
    ) -> None:
        alike = student.num_heads == teacher.num_heads
        self.heads = settings.heads or ("pairs" if alike else "mean")
        if self.heads == "pairs" and not alike:
            raise SpecError(
                f"heads: {student.num_heads} of the student and {teacher.num_heads} of the "
                "teacher cannot be paired",
                fix="mean, nearest, or leave heads out",
            )
        self.loss = settings.loss
        self.layers = layer_pairs(settings.layers, student.num_layers, teacher.num_layers)

    def terms(self, seen: Seen) -> Mapping[str, Tensor]:
        """`maps`: mean over pairs of layers, heads, and all real tokens that look."""
        mask = seen.batch.attention_mask
        distances = []
        for student, teacher in self.layers:
            ours, theirs = seen.pair(Signal.ATTENTIONS, student, teacher)
            theirs = distributions(theirs, mask)
            if self.heads == "mean":
                ours, theirs = ours.mean(1, keepdim=True), theirs.mean(1, keepdim=True)
            elif self.heads == "nearest":
                theirs = theirs[:, nearest_heads(ours.detach(), theirs, mask, self.loss)]
            distances.append(token_mean(_DISTANCES[self.loss](ours, theirs), mask))
        return {"maps": torch.stack(distances).mean()}


def distributions(maps: Tensor, mask: Tensor) -> Tensor:
    """Attention maps [b, heads, s, s] of which each row sums to 1 over real tokens, 0 elsewhere.

    Kept in half precision, a map's rows sum to 1 within a thousandth only.
    """
    kept = maps * mask.to(maps.dtype)[:, None, None, :]
    return kept / kept.sum(-1, keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)


def row_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher ‖ student) of maps [b, heads, s, s], of every row: [b, heads, s]."""
    least = torch.finfo(student.dtype).tiny
    log_ratio = teacher.clamp(min=least).log() - student.clamp(min=least).log()
    return (teacher * log_ratio).sum(-1)


def row_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of maps, summed over the tokens looked at: [b, heads, s].

    A sum, not a mean: a row sums to 1 however long the text.
    """
    return (student - teacher).square().sum(-1)


def nearest_heads(student: Tensor, teacher: Tensor, mask: Tensor, loss: str) -> Tensor:
    """For each head of the student the teacher's that is nearest over the batch, int64 [heads]."""
    real = mask.to(student.dtype)[:, None, :]
    # One head of the student against all of the teacher's at a time: [b, teacher's heads, s].
    sums = [
        (_DISTANCES[loss](student[:, head : head + 1], teacher) * real).sum((0, 2))
        for head in range(student.shape[1])
    ]
    return torch.stack(sums).argmin(-1)


_DISTANCES = {"kl": row_divergence, "mse": row_difference}
