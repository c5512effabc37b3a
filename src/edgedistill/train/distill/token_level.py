"""Distillation of language models token by token: the teacher's next-token distributions, mixed
with the tokens that really follow (Kim & Rush 2016, arXiv 1606.07947, word level)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from edgedistill.models.teachers.topk_cache import TopK
from edgedistill.train.distill.chunked import CHUNK_SIZE, IGNORED, chunked_losses
from edgedistill.train.distill.divergences import DIVERGENCES, MIXING, Divergence
from edgedistill.train.distill.row_losses import (
    RowLoss,
    TopKTeacher,
    TrueTokens,
    WholeTeacher,
    require_same_vocabulary,
)


class TokenLevelConfig(BaseModel):
    """`divergence`: a name of the catalogue; `mix` in (0, 1): the teacher's share in the mix of
    those that have one, None for their default; `temperature` softens both distributions;
    `hard_weight` in [0, 1] is the share of the true tokens in the loss; `chunk_size`: positions
    whose logits exist at a time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    divergence: str = "forward_kl"
    mix: float | None = Field(default=None, gt=0, lt=1)
    temperature: float = Field(default=1.0, gt=0)
    hard_weight: float = Field(default=0.5, ge=0, le=1)
    chunk_size: int = Field(default=CHUNK_SIZE, ge=1)

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.divergence not in DIVERGENCES:
            raise ValueError(f"divergence is one of: {', '.join(sorted(DIVERGENCES))}")
        if self.mix is not None and self.divergence not in MIXING:
            raise ValueError(f"mix is for {', '.join(sorted(MIXING))} only")
        return self

    def compared_by(self) -> Divergence:
        """The divergence with its mix."""
        options = {} if self.mix is None else {"mix": self.mix}
        return partial(DIVERGENCES.load(self.divergence), **options)


@dataclass(frozen=True)
class LiveTeacher:
    """A teacher that has just read the batch: `hidden` float [..., dt], `head` float [v, dt]."""

    hidden: Tensor
    head: Tensor


@dataclass(frozen=True)
class OfflineTopK:
    """What a teacher said before training: `ids` int64 and `logprobs` float [..., k], `tail`
    float [...], the log-probability of all other tokens together."""

    ids: Tensor
    logprobs: Tensor
    tail: Tensor

    @classmethod
    def of(cls, stored: TopK) -> Self:
        """From rows of the cache, one a position."""
        return cls(
            torch.from_numpy(stored.ids.astype("int64")),
            torch.from_numpy(stored.logprobs.astype("float32")),
            torch.from_numpy(stored.tail.astype("float32")),
        )


def token_level_terms(
    student_hidden: Tensor,
    student_head: Tensor,
    targets: Tensor,
    teacher: OfflineTopK | LiveTeacher,
    config: TokenLevelConfig,
) -> Mapping[str, Tensor]:
    """The loss terms `soft` (teacher) and `hard` (true tokens), each a mean over positions.

    A term whose share is 0 is left out, and not computed. Both come from one pass over the
    logits and must be added up before the backward pass, as the training loop does.

    Args:
        student_hidden: [..., d], state i being the one that foretells target i.
        student_head: [v, d].
        targets: int64 [...], the tokens that follow; positions of -100 (padding, prompts) are
            dropped before any logits are computed, the teacher's as well.
        teacher: of the same positions.
        config: shares, divergence, temperature.

    Raises:
        ModelError: student and teacher have other vocabularies.
        ValueError: teacher, student and targets speak of unequal numbers of positions.
    """
    said = teacher.hidden if isinstance(teacher, LiveTeacher) else teacher.ids
    if not targets.shape == student_hidden.shape[:-1] == said.shape[:-1]:
        raise ValueError(
            f"positions do not fit: targets {tuple(targets.shape)}, "
            f"student {tuple(student_hidden.shape)}, teacher {tuple(said.shape)}"
        )
    kept = targets != IGNORED
    losses: dict[str, tuple[float, RowLoss]] = {}
    if config.hard_weight < 1:
        soft = _of_teacher(teacher, kept, len(student_head), config)
        losses["soft"] = (1.0 - config.hard_weight, soft)
    if config.hard_weight > 0:
        losses["hard"] = (config.hard_weight, TrueTokens(targets[kept]))
    return chunked_losses(student_hidden[kept], student_head, losses, config.chunk_size)


def _of_teacher(
    teacher: OfflineTopK | LiveTeacher, kept: Tensor, num_tokens: int, config: TokenLevelConfig
) -> RowLoss:
    divergence = config.compared_by()
    if isinstance(teacher, LiveTeacher):
        require_same_vocabulary(num_tokens, len(teacher.head))
        return WholeTeacher(teacher.hidden[kept], teacher.head, divergence, config.temperature)
    return TopKTeacher(
        teacher.ids[kept], teacher.logprobs[kept], teacher.tail[kept], divergence,
        config.temperature,
    )  # fmt: skip
