"""Several teachers' answers as one, weighted text by text by how far their pulls agree.

What a teacher answers pulls the student's logits z: the gradient of T² KL(p_k ‖ softmax(z / T)),
with p_k what the teacher answers at temperature T, is T (softmax(z / T) - p_k), so that nothing
need be differentiated for it. Of teacher k with the given weight w_k the weight for a text is

    w_k max(cos(g_k, g), LEAST), over teachers in shares of 1,

with g_k its pull, and g the mean pull of all teachers, Σ w_k g_k in shares, or that of the label,
softmax(z) - onehot. Whom the others pull against is not heard. Where no pull is left, or all are
against g, the given weights hold. As the student learns, the weights change.

Du et al. 2020, "Agree to Disagree: Adaptive Ensemble Knowledge Distillation in Gradient Space"
(NeurIPS), look for a direction of descent that serves all teachers, by a quadratic programme a
batch; here each text has weights of its own, in closed form, of the gradients at its logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedistill.core.protocols import Signal
from edgedistill.train.distill.seen import Part, Seen, wide

#: The least that a teacher's agreement counts.
LEAST = 1e-6
#: Pulls of a smaller product of lengths are taken for none.
LEAST_LENGTHS = 1e-12


class Agreement:
    """A part on answers, whose answers to be learned are mixed anew in each step.

    Args:
        part: what is taught with the mixture in the place of the teacher's logits.
        weights: of the teachers, not all 0.
        temperature: at which the pulls are compared.
        by_labels: whether to compare with the label's pull, where a text has a label.
    """

    layers: ClassVar[tuple[tuple[int, int], ...]] = ()
    learned: ClassVar[nn.Module | None] = None

    def __init__(
        self, part: Part, weights: Sequence[float], *, temperature: float, by_labels: bool
    ) -> None:
        self.part, self.weights = part, list(weights)
        self.temperature, self.by_labels = temperature, by_labels

    @property
    def needs(self) -> frozenset[Signal]:
        """What the part needs, and what each teacher says."""
        return self.part.needs | {Signal.TEACHERS}

    def terms(self, seen: Seen) -> Mapping[str, Tensor]:
        """The terms of the part."""
        signals, student = seen.batch.signals, seen.output.logits.detach()
        labels = seen.batch.labels if self.by_labels else torch.full_like(seen.batch.labels, -1)
        answers = signals[Signal.TEACHERS]
        weights = answers.new_tensor(self.weights)
        share = agreement_shares(student, answers, weights, labels, self.temperature)
        target = mixed_answers(signals[Signal.LOGITS], answers, share)
        batch = replace(seen.batch, signals={**signals, Signal.LOGITS: target})
        return self.part.terms(replace(seen, batch=batch))


def agreement_shares(
    student: Tensor, answers: Tensor, weights: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """Each teacher's share in each text's mixture, [batch, teachers]; over teachers they sum to 1.

    Args:
        student: logits [batch, classes].
        answers: log-probabilities at temperature 1, [batch, teachers, classes].
        weights: [teachers], not negative, not all 0.
        labels: int64 [batch]; -1 where the text is compared with the mean of the teachers.
    """
    ours, theirs = wide(student), wide(answers)
    given = weights.to(theirs.dtype) / weights.sum().to(theirs.dtype)
    softened = functional.softmax(ours / temperature, dim=-1).unsqueeze(1)
    pulls = softened - functional.softmax(theirs / temperature, dim=-1)
    mean = (pulls * given[:, None]).sum(1)
    true = functional.one_hot(labels.clamp(min=0), ours.shape[-1]).to(ours.dtype)
    to_label = functional.softmax(ours, dim=-1) - true
    towards = torch.where((labels >= 0)[:, None], to_label, mean).unsqueeze(1)
    lengths = pulls.norm(dim=-1) * towards.norm(dim=-1)
    agreement = (pulls * towards).sum(-1) / lengths.clamp(min=LEAST_LENGTHS)
    heard: Tensor = given * agreement.clamp(min=LEAST)
    return heard / heard.sum(-1, keepdim=True)


def mixed_answers(logits: Tensor, answers: Tensor, share: Tensor) -> Tensor:
    """The mixture as logits [batch, classes], with the energy of `logits`.

    Args:
        logits: [batch, classes].
        answers: log-probabilities [batch, teachers, classes].
        share: [batch, teachers].
    """
    together = torch.logsumexp(share.log().unsqueeze(-1) + wide(answers), dim=1)
    return together + wide(logits).logsumexp(-1, keepdim=True)
