"""Distillation between two vocabularies: probabilities by rank, where tokens begin together.

Universal logit distillation, Boizard et al. 2024, arXiv 2402.12030: with every token as far from
every other, the Wasserstein distance of two distributions is the sum of the differences of their
sorted probabilities, whatever the tokens are called. The paper pairs the tokens of two answers by
their number; here those are paired that begin at the same character.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedistill.core.protocols import Signal
from edgedistill.train.distill.chunked import CHUNK_SIZE, chunked_losses
from edgedistill.train.distill.row_losses import RowLoss, TrueTokens, logits_of, lowered
from edgedistill.train.sequences import SequenceBatch, SequenceSet
from edgedistill.train.tune.next_token import learned_states


def sorted_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum of |difference| of sorted probabilities [n, v] and [n, u], float [n]; between 0 and 2.

    The smaller vocabulary is filled up with tokens of probability 0.
    """
    widest = max(student.shape[-1], teacher.shape[-1])
    ranked = (
        functional.pad(rows.sort(dim=-1, descending=True).values, (0, widest - rows.shape[-1]))
        for rows in (student, teacher)
    )
    ours, theirs = ranked
    return (ours - theirs).abs().sum(-1)


class SortedTeacher:
    """That distance from a teacher of other tokens; 0 in rows of which the teacher says nothing.

    The others are weighed so that the mean over all rows is the mean over them.

    Args:
        hidden, head: [m, dt] and [u, dt] of the teacher, which gets no gradient.
        which: int64 [n], the teacher's row for each row of the batch; -1 for none.
    """

    def __init__(self, hidden: Tensor, head: Tensor, which: Tensor) -> None:
        self.hidden, self.head = lowered(hidden.detach()), lowered(head.detach())
        self.which = which
        self.weight = len(which) / max(1, int((which >= 0).sum()))

    def __call__(self, logits: Tensor, rows: slice) -> Tensor:
        which = self.which[rows]
        told = which >= 0
        with torch.no_grad():
            teacher = logits_of(self.hidden[which[told]], self.head).softmax(-1)
        values = logits.new_zeros(len(logits))
        values[told] = self.weight * sorted_distance(logits[told].softmax(-1), teacher)
        return values


class AlignedNextToken:
    """The terms `soft`, by rank where tokens are aligned, and `hard`, the student's true tokens.

    Args:
        teacher: a causal language model of transformers; gets no gradient and no dropout, and
            moves to where the batches are.
        rows: the examples of the student's set in the teacher's tokens; the signal `ALIGNED`
            counts its tokens, over all examples.
        hard_weight: in (0, 1), the share of the true tokens: ranks alone name no token.
    """

    needs: ClassVar[frozenset[Signal]] = frozenset({Signal.LABELS, Signal.ALIGNED})

    def __init__(
        self,
        teacher: nn.Module,
        rows: SequenceSet,
        *,
        hard_weight: float,
        chunk_size: int = CHUNK_SIZE,
    ) -> None:
        if not 0 < hard_weight < 1:
            raise ValueError(f"hard_weight must lie between 0 and 1, got {hard_weight}")
        self.teacher = teacher.eval().requires_grad_(False)
        self.rows, self.hard_weight, self.chunk_size = rows, hard_weight, chunk_size

    def __call__(
        self, model: nn.Module, batch: SequenceBatch, *, rng: torch.Generator
    ) -> Mapping[str, Tensor]:
        student: Any = model
        teacher: Any = self.teacher.to(batch.input_ids.device)
        hidden, targets = learned_states(model, batch)
        places = batch.signals[Signal.ALIGNED]
        which = torch.where(places >= 0, (places >= 0).cumsum(0) - 1, -1)
        said = self._states(teacher, places[places >= 0])
        soft = SortedTeacher(said, teacher.get_output_embeddings().weight, which)
        losses: dict[str, tuple[float, RowLoss]] = {
            "soft": (1.0 - self.hard_weight, soft),
            "hard": (self.hard_weight, TrueTokens(targets)),
        }
        head = student.get_output_embeddings().weight
        return chunked_losses(hidden, head, losses, self.chunk_size)

    @torch.no_grad()
    def _states(self, teacher: Any, places: Tensor) -> Tensor:
        """The states [m, dt] from which the teacher foretells its tokens at `places` [m]."""
        starts = torch.from_numpy(self.rows.texts.starts).to(places.device)
        owners = torch.searchsorted(starts, places, right=True) - 1
        examples, row = owners.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        if not len(examples):
            return starts.new_zeros((0, teacher.config.hidden_size), dtype=torch.float32)
        batch = self.rows.batch([[int(one)] for one in examples], places.device)
        output = teacher.get_decoder()(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask,
            position_ids=batch.position_ids, use_cache=False,
        )  # fmt: skip
        states: Tensor = output.last_hidden_state[row, places - starts[owners] - 1]
        return states
