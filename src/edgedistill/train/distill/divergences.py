"""How far a student's next-token distribution is from its teacher's, row by row.

Every function takes log-probabilities of the same outcomes, `student` and `teacher` float
[n, outcomes], and gives one value a row, float [n], differentiable in the student. They must be
finite, as `log_softmax` makes them: a probability of exactly 0 has no slope to learn from.

`temperature` T softens both, p^(1/T) normalised anew, and the value is multiplied by T², so that
slopes keep their size whatever T is (Hinton et al. 2015, arXiv 1503.02531, section 2).
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from edgedistill.core.catalogue import Catalogue

DIVERGENCES = Catalogue(
    "divergence",
    {
        "forward_kl": "edgedistill.train.distill.divergences:forward_kl",
        "reverse_kl": "edgedistill.train.distill.divergences:reverse_kl",
        "jensen_shannon": "edgedistill.train.distill.divergences:jensen_shannon",
        "skewed_kl": "edgedistill.train.distill.divergences:skewed_kl",
    },
)
#: Those that compare with a mix of student and teacher, and so take the share `mix`.
MIXING = frozenset({"jensen_shannon", "skewed_kl"})


class Divergence(Protocol):
    """What the catalogue holds; a `mix` is bound with `functools.partial`."""

    def __call__(self, student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor: ...


def forward_kl(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """KL(teacher ‖ student): the student must cover all that the teacher holds likely.

    Hinton et al. 2015, arXiv 1503.02531; token by token Kim & Rush 2016, arXiv 1606.07947,
    who call it word-level distillation.
    """
    student, teacher = softened(student, temperature), softened(teacher, temperature)
    return temperature**2 * _kl(teacher, student)


def reverse_kl(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """KL(student ‖ teacher): the student must say nothing that the teacher holds unlikely.

    A student too small to be like its teacher everywhere then keeps to the largest modes. Gu et
    al. 2023 (MiniLLM), arXiv 2306.08543; there it is taken over whole texts that
    the student samples, here token by token over the texts of the batch.
    """
    student, teacher = softened(student, temperature), softened(teacher, temperature)
    return temperature**2 * _kl(student, teacher)


def jensen_shannon(
    student: Tensor, teacher: Tensor, *, mix: float = 0.5, temperature: float = 1.0
) -> Tensor:
    """β KL(teacher ‖ m) + (1-β) KL(student ‖ m) with m = β teacher + (1-β) student, β = `mix`.

    Generalised Jensen-Shannon divergence, Agarwal et al. 2023 (GKD), arXiv 2306.13649; at most
    ln 2 at temperature 1. Divided by β it nears the forward KL as β nears 0, divided by 1-β the
    reverse KL as β nears 1; like the paper we do not divide. `mix` must lie between 0 and 1.
    """
    student, teacher = softened(student, temperature), softened(teacher, temperature)
    middle = _mixed(student, teacher, mix)
    value = mix * _kl(teacher, middle) + (1.0 - mix) * _kl(student, middle)
    return temperature**2 * value


def skewed_kl(
    student: Tensor, teacher: Tensor, *, mix: float = 0.1, temperature: float = 1.0
) -> Tensor:
    """KL(teacher ‖ α teacher + (1-α) student), α = `mix`: a forward KL of bounded slope.

    Skew KL divergence, Ko et al. 2024 (DistiLLM), arXiv 2402.03898, with their default α.
    At temperature 1 at most -ln α, however wrong the student is. `mix` must lie between 0 and 1.
    """
    student, teacher = softened(student, temperature), softened(teacher, temperature)
    return temperature**2 * _kl(teacher, _mixed(student, teacher, mix))


def softened(rows: Tensor, temperature: float) -> Tensor:
    """Log-probabilities at `temperature`, from logits or log-probabilities [n, outcomes].

    At temperature 1 the rows as they are: log-probabilities need no second normalisation.
    """
    return rows if temperature == 1.0 else (rows / temperature).log_softmax(-1)


def _kl(of: Tensor, against: Tensor) -> Tensor:
    return (of.exp() * (of - against)).sum(-1)


def _mixed(student: Tensor, teacher: Tensor, mix: float) -> Tensor:
    """Log-probabilities of the mix in which the teacher has the share `mix`."""
    if not 0.0 < mix < 1.0:
        raise ValueError(f"mix must lie between 0 and 1, got {mix}")
    return torch.logaddexp(teacher + math.log(mix), student + math.log1p(-mix))
