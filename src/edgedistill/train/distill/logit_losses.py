"""How far a student's logits are from its teacher's: losses of [batch, classes], in fp32 at least.

Each is a mean over texts. A temperature T softens both sides, and the loss is multiplied by T², so
that its slopes keep their size (Hinton et al. 2015, arXiv 1503.02531, section 2).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from edgedistill.train.distill.seen import wide


def softened_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(teacher ‖ student) of [batch, classes] logits at `temperature`, times temperature².

    Mean over the batch (`batchmean`, not over classes).
    """
    log_student = functional.log_softmax(wide(student) / temperature, dim=-1)
    log_teacher = functional.log_softmax(wide(teacher) / temperature, dim=-1)
    divergence = functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def logit_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of the logits, mean over texts and classes.

    Kim et al. 2021, arXiv 2105.08919, equation 4, divided by the number of classes. Unlike the
    divergence it sees a constant that is added to all logits, and so the energy.
    """
    return (wide(student) - wide(teacher)).square().mean()


def decoupled_kl(
    student: Tensor, teacher: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """The divergence in two parts: on the target class, and among all others; both times T².

    Zhao et al. 2022, arXiv 2203.08679, equation 7: with p the teacher's softened probability of
    the target, the first plus (1 - p) times the second, text by text, is the softened KL. Their
    decoupled distillation weighs the two freely instead, so that what a sure teacher knows of the
    other classes is not lost.

    Args:
        targets: int64 [batch], the class of each text.

    Returns:
        KL between (p, 1 - p) of teacher and student; KL between what the two say of the other
        classes, normalised without the target. The second is 0 where there are two classes.
    """
    is_target = functional.one_hot(targets, student.shape[-1]).bool()
    sides = [_decoupled(wide(each) / temperature, is_target) for each in (student, teacher)]
    (log_target, log_rest, log_others), (true_target, true_rest, true_others) = sides
    on_target = true_target.exp() * (true_target - log_target)
    on_target = on_target + true_rest.exp() * (true_rest - log_rest)
    among = (true_others.exp() * (true_others - log_others)).masked_fill(is_target, 0.0).sum(-1)
    return on_target.mean() * temperature**2, among.mean() * temperature**2


def _decoupled(logits: Tensor, is_target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities: of the target [b], of all others together [b], among the others [b, c]."""
    # Finite, so that a gradient through a masked place is 0 and not a nan.
    least = torch.finfo(logits.dtype).min / 4
    others = logits.masked_fill(is_target, least)
    rest = others.logsumexp(-1)
    total = logits.logsumexp(-1)
    target = logits.masked_fill(~is_target, 0.0).sum(-1)
    return target - total, rest - total, others - rest.unsqueeze(-1)


def energy_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the energies of [batch, classes] logits at temperature 1."""
    difference = wide(student).logsumexp(-1) - wide(teacher).logsumexp(-1)
    return difference.square().mean()
