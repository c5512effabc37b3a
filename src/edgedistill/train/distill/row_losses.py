"""What a chunk of a student's logits costs: against the true tokens, or against a teacher."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from edgedistill.core.errors import ModelError
from edgedistill.train.distill.divergences import Divergence, softened

#: Log-probability that stands for "never": e to it is 0 in double precision too, and 0 times it
#: is 0, where 0 times -inf would be nan.
NEVER = -1e4


class RowLoss(Protocol):
    """Loss of each row, float [c], differentiable in the student's `logits` [c, v].

    `rows` says which of the n rows of the batch these are. Logits are at least float32 and are
    not to be changed in place: other losses read them too.
    """

    def __call__(self, logits: Tensor, rows: slice) -> Tensor: ...


class TrueTokens:
    """Cross-entropy with the tokens that really follow, `targets` int64 [n]."""

    def __init__(self, targets: Tensor) -> None:
        self.targets = targets

    def __call__(self, logits: Tensor, rows: slice) -> Tensor:
        return functional.cross_entropy(logits, self.targets[rows], reduction="none")


class WholeTeacher:
    """Divergence from a teacher whose logits are made chunk by chunk, like the student's.

    `hidden` [n, dt] and `head` [v, dt] of the teacher, which gets no gradient.
    """

    def __init__(
        self, hidden: Tensor, head: Tensor, divergence: Divergence, temperature: float
    ) -> None:
        self.hidden, self.head = lowered(hidden.detach()), lowered(head.detach())
        self.divergence, self.temperature = divergence, temperature

    def __call__(self, logits: Tensor, rows: slice) -> Tensor:
        require_same_vocabulary(logits.shape[-1], len(self.head))
        with torch.no_grad():
            teacher = logits_of(self.hidden[rows], self.head)
            teacher = _normalised(teacher, self.temperature)
        student = _normalised(logits, self.temperature)
        return self.temperature**2 * self.divergence(student, teacher)


class TopKTeacher:
    """Divergence over k + 1 outcomes: the teacher's top k tokens, and one of all the others.

    `ids` int64 [n, k], no id twice in a row; `logprobs` float [n, k] and `tail` float [n] are the
    teacher's log-probabilities of these tokens and of all the others together, normalised anew
    here, since they may have been rounded. Merging outcomes can only lower a divergence: what the
    teacher thinks *within* the tail is lost. Where k is the whole vocabulary there is no tail,
    and its value is not read.

    The temperature softens the k + 1 outcomes: what mass the tail would have at another
    temperature cannot be told from its mass at 1.
    """

    def __init__(
        self,
        ids: Tensor,
        logprobs: Tensor,
        tail: Tensor,
        divergence: Divergence,
        temperature: float,
    ) -> None:
        self.ids, self.logprobs, self.tail = ids, logprobs.detach(), tail.detach()
        self.divergence, self.temperature = divergence, temperature
        self.num_needed = int(ids.max()) + 1 if ids.numel() else 0

    def __call__(self, logits: Tensor, rows: slice) -> Tensor:
        num_tokens = logits.shape[-1]
        if self.num_needed > num_tokens:
            require_same_vocabulary(num_tokens, self.num_needed)
        ids = self.ids[rows]
        student, teacher = logits.gather(-1, ids), self.logprobs[rows]
        if ids.shape[-1] < num_tokens:
            # The tail is summed up over its own tokens. 1 - (sum of the top k) would be nothing
            # but rounding error where the top k hold nearly everything.
            others: Tensor = _Others.apply(logits, ids)  # type: ignore[no-untyped-call]
            student = torch.cat([student, others], dim=-1)
            teacher = torch.cat([teacher, self.tail[rows, None].to(teacher.dtype)], dim=-1)
        teacher = teacher.to(logits.dtype).clamp(min=NEVER).log_softmax(-1)
        student = softened(student.log_softmax(-1), self.temperature)
        return self.temperature**2 * self.divergence(student, softened(teacher, self.temperature))


class _Others(torch.autograd.Function):
    """Log of the summed e^logits of all tokens but `ids`, [c, 1], with a gradient of one pass.

    What PyTorch derives copies the logits twice more and takes every exponential twice: a third
    of the 19 ms that the losses of 1,200 tokens over 1,024 words took.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ids: Tensor) -> Tensor:
        rest = logits.scatter(-1, ids, -torch.inf)
        # Where the others have no mass at all, -inf - (-inf) would be nan; they stay at 0.
        peak = rest.amax(-1, keepdim=True).clamp(min=torch.finfo(rest.dtype).min)
        parts = rest.sub_(peak).exp_()
        mass = parts.sum(-1, keepdim=True)
        ctx.save_for_backward(parts, mass)
        return mass.log() + peak

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        parts, mass = ctx.saved_tensors
        return parts * torch.where(mass > 0, slope / mass, 0.0), None


def logits_of(hidden: Tensor, head: Tensor) -> Tensor:
    """Logits [c, v] of hidden states [c, d] under a head [v, d], in float32 or better."""
    logits = hidden @ head.T
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _normalised(logits: Tensor, temperature: float) -> Tensor:
    """Log-probabilities; no copy of the logits is made for a temperature of 1."""
    return (logits if temperature == 1.0 else logits / temperature).log_softmax(-1)


def lowered(tensor: Tensor) -> Tensor:
    """Cast to autocast's type where autocast is on: once a batch instead of once a chunk."""
    device = tensor.device.type
    if tensor.dtype is torch.float32 and torch.is_autocast_enabled(device):
        return tensor.to(torch.get_autocast_dtype(device))
    return tensor


def require_same_vocabulary(num_student: int, num_teacher: int) -> None:
    """Raise ModelError unless both heads know equally many tokens."""
    if num_student != num_teacher:
        raise ModelError(
            f"the student's head knows {num_student:,} tokens, the teacher speaks of "
            f"{num_teacher:,}: token by token they cannot be compared",
            fix="give the student its teacher's tokenizer, or distil from texts alone",
        )
