"""On-policy distillation: the student answers, the teacher says what it thinks of each token.

Generalised knowledge distillation, Agarwal et al. 2023 (GKD), arXiv 2306.13649: a student that
learns from given texts alone meets its own mistakes only when it is used. In a share of the
batches (their λ) it therefore learns from answers of its own; no gradient goes through the
drawing of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from edgedistill.core.protocols import Signal, TrainingStep
from edgedistill.models.language.decoding import sampled_ids
from edgedistill.train.distill.next_token import LiveNextToken
from edgedistill.train.distill.token_level import TokenLevelConfig
from edgedistill.train.sequences import IGNORED, SequenceBatch, SequenceSet

#: Tokens that a batch's samples may take, padding included, times those of the batch itself:
#: where answers may be far longer than they are, fewer of its prompts are answered.
ROOM = 2


@dataclass(frozen=True)
class Sampling:
    """How the student answers.

    `share`: of the batches, in [0, 1]; `max_new_tokens`: an answer is cut there; `max_tokens`:
    of a prompt and such an answer together, longer prompts are left out.
    """

    share: float
    max_new_tokens: int
    max_tokens: int
    end_id: int
    pad_id: int


class OnPolicy:
    """Another step, but in a share of the batches the student's own answers to their prompts.

    Such a batch has one term, `on_policy`: the divergence from the teacher over all tokens of the
    answers, without true tokens, for there are none. An answer that ends at once is one token, its
    end; one that never ends is learned up to where it is cut.

    Everything random follows from `rng`, of which each batch takes two numbers, whatever it does:
    the draws of a batch depend on the epoch and its number, not on how long answers before it were.

    Args:
        usual: what other batches are learned by.
        teacher: a causal language model with the student's vocabulary, see `LiveNextToken`.
        config: divergence and temperature; its `hard_weight` has no meaning for samples.
        sampling: how often, and within which limits. Batches hold one example a row.
    """

    def __init__(
        self,
        usual: TrainingStep[SequenceBatch],
        teacher: nn.Module,
        config: TokenLevelConfig,
        sampling: Sampling,
    ) -> None:
        self.usual, self.sampling = usual, sampling
        self.judged = LiveNextToken(teacher, config.model_copy(update={"hard_weight": 0.0}))

    @property
    def needs(self) -> frozenset[Signal]:
        """What the other step needs."""
        return self.usual.needs

    def __call__(
        self, model: nn.Module, batch: SequenceBatch, *, rng: torch.Generator
    ) -> Mapping[str, torch.Tensor]:
        chance, seed = torch.rand((), generator=rng), torch.randint(1 << 62, (), generator=rng)
        prompts = self._fitting(batch) if chance < self.sampling.share else []
        if not prompts:
            return self.usual(model, batch, rng=rng)
        answered = self.answered(model, batch, prompts, torch.Generator().manual_seed(int(seed)))
        return {"on_policy": self.judged(model, answered, rng=rng)["soft"]}

    def answered(
        self,
        model: nn.Module,
        batch: SequenceBatch,
        prompts: list[list[int]],
        rng: torch.Generator,
    ) -> SequenceBatch:
        """As many of the prompts as there is room for, each with an answer that is learned."""
        limits = self.sampling
        widest = max(map(len, prompts)) + limits.max_new_tokens
        many = max(1, ROOM * batch.input_ids.numel() // widest)
        chosen = torch.randperm(len(prompts), generator=rng)[:many].sort().values.tolist()
        asked = [prompts[i] for i in chosen]
        was_training = model.training
        model.eval()
        # Autocast would keep the weights that it casts here, without gradient, for the loss.
        with torch.autocast(batch.input_ids.device.type, enabled=False):
            answers = sampled_ids(
                model, asked, max_new_tokens=limits.max_new_tokens, end_id=limits.end_id, rng=rng
            )
        model.train(was_training)
        rows = SequenceSet.from_lists(
            [prompt + answer for prompt, answer in zip(asked, answers, strict=True)],
            [
                [False] * len(prompt) + [True] * len(answer)
                for prompt, answer in zip(asked, answers, strict=True)
            ],
            limits.pad_id,
        )
        return rows.batch([[row] for row in range(len(rows))], batch.input_ids.device)

    def _fitting(self, batch: SequenceBatch) -> list[list[int]]:
        room = self.sampling.max_tokens - self.sampling.max_new_tokens
        return [prompt for prompt in prompts_of(batch) if len(prompt) <= room]


def prompts_of(batch: SequenceBatch) -> list[list[int]]:
    """Of each row what stands before its last answer: the last tokens in a row that are learned.

    Raises:
        ValueError: a row holds several examples.
    """
    if (batch.attention_mask[..., 0] != 0).any():
        raise ValueError("rows of one example are needed: none is told from the next one")
    prompts = []
    for ids, labels in zip(batch.input_ids.tolist(), batch.labels.tolist(), strict=True):
        last = len(ids) - 1
        while last >= 0 and labels[last] == IGNORED:
            last -= 1
        while last >= 0 and labels[last] != IGNORED:
            last -= 1
        if last >= 0:
            prompts.append(ids[: last + 1])
    return prompts
