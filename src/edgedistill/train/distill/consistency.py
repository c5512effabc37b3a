"""Consistency: the same answer to two views of a text, without any teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from edgedistill.core.protocols import Signal
from edgedistill.core.strategies import ConsistencySettings
from edgedistill.train.distill.logit_losses import softened_kl
from edgedistill.train.distill.seen import Seen


class Consistency:
    """Mean of both divergences between the answers to two views of each text.

    R-Drop, Liang et al. 2021, arXiv 2106.14448, equation 2. There two dropout masks make the
    views; transformer students have no dropout, so here each view leaves out tokens of its own.
    What a view leaves out, no other token of it sees; a tagger is still asked for its tag.
    """

    needs: ClassVar[frozenset[Signal]] = frozenset()
    layers: ClassVar[tuple[tuple[int, int], ...]] = ()
    learned: ClassVar[nn.Module | None] = None

    def __init__(self, settings: ConsistencySettings) -> None:
        self.token_dropout = settings.token_dropout

    def terms(self, seen: Seen) -> Mapping[str, Tensor]:
        """`views`: mean over rows. One more reading of the batch, twice as large."""
        ids, mask = seen.batch.input_ids, seen.batch.attention_mask
        views = [view(mask, self.token_dropout, seen.rng) for _ in range(2)]
        logits = seen.model(torch.cat([ids, ids]), torch.cat(views)).logits
        first, second = (seen.batch.rows(each) for each in logits.chunk(2))
        return {"views": symmetric_divergence(first, second)}


def view(mask: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """The mask [b, s] without a share of its tokens; the first of each text stays."""
    drawn = torch.rand(mask.shape, generator=rng)
    drawn[:, 0] = 1.0
    return mask * (drawn >= share).to(mask)


def symmetric_divergence(first: Tensor, second: Tensor) -> Tensor:
    """Half of KL(first ‖ second) + KL(second ‖ first) of [batch, classes] logits, over texts."""
    return 0.5 * (softened_kl(first, second, 1.0) + softened_kl(second, first, 1.0))
