"""The task file's section `distillation` of kind `generation`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgedistill.core.task import AugmentationSpec, Section


class TokenDistillation(Section):
    """What the student learns from the teacher: its texts, its distribution over the next token."""

    texts: Literal["rows", "teacher", "both"] = "rows"
    """Which answers the student learns: the rows' own; `teacher`: what the teacher answers to the
    same prompts (sequence-level distillation); `both`: the rows', and the teacher's where it
    answers otherwise."""
    teacher: Literal["cached", "live"] = "cached"
    """`cached`: the teacher reads the answers once, and its likeliest tokens are kept on disk;
    `live`: it reads them anew in every epoch, with all its tokens, and nothing is kept."""
    tokens: Literal["same", "aligned"] = "same"
    """`same`: student and teacher have one vocabulary. `aligned`: they have two; where tokens of
    both begin at the same character of an answer, their probabilities are compared by rank, not by
    token (universal logit distillation). Needs `teacher: live`."""
    divergence: Literal["forward_kl", "reverse_kl", "jensen_shannon", "skewed_kl"] = "forward_kl"
    """What is minimised."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Softening of both distributions."""
    hard_weight: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Weight of the true next token against the teacher's distribution."""
    top_k: Annotated[int, Field(ge=1, le=1024)] = 64
    """Tokens whose log-probabilities are kept of the teacher, beside the mass of the others."""
    on_policy: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the batches in which the student answers the prompts itself, and learns what the
    teacher says of its answers, read live; goes with `reverse_kl` or `jensen_shannon`."""
    augmentation: AugmentationSpec = AugmentationSpec(num_texts=0)
    """Prompts made from those of a single turn; the teacher answers them as it does
    `data.unlabelled`."""

    @model_validator(mode="after")
    def _teacher_is_heard(self) -> TokenDistillation:
        if self.on_policy and self.hard_weight == 1:
            raise ValueError(
                "on_policy learns what the teacher says of the student's answers, and hard_weight "
                "1 leaves the teacher out: lower it, or leave on_policy out"
            )
        return self

    @model_validator(mode="after")
    def _by_rank(self) -> TokenDistillation:
        if not self.is_aligned:
            return self
        if self.teacher != "live":
            raise ValueError("tokens aligned needs all of the teacher's tokens: set teacher: live")
        if not 0 < self.hard_weight < 1:
            raise ValueError(
                "tokens aligned needs a hard_weight between 0 and 1: probabilities by rank tell "
                "how sure the teacher is, the true tokens tell of what"
            )
        unused = {"divergence", "temperature", "top_k", "on_policy"} & self.model_fields_set
        if unused:
            raise ValueError(
                f"tokens aligned has no use for {' and '.join(sorted(unused))}: leave it out"
            )
        return self

    @property
    def is_aligned(self) -> bool:
        """Whether student and teacher have other tokens."""
        return self.tokens == "aligned"

    @property
    def is_cached(self) -> bool:
        """Whether the teacher's distributions are asked for and kept on disk."""
        return self.teacher == "cached" and self.hard_weight < 1
