"""Feature distillation: match the teacher's hidden states, token by token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedistill.core.errors import SpecError
from edgedistill.core.protocols import Signal
from edgedistill.core.strategies import FeatureSettings
from edgedistill.models.internals import NetworkShape
from edgedistill.train.distill.layer_map import layer_pairs
from edgedistill.train.distill.seen import Seen, token_mean


class Feature:
    """Distance of the student's states from its teacher's, over real tokens and pairs of layers.

    FitNets, Romero et al. 2014, arXiv 1412.6550; for encoders PKD, Sun et al. 2019, arXiv
    1908.09355, and TinyBERT, Jiao et al. 2019, arXiv 1909.10351, equation 8. Where the widths
    differ, a linear map for each pair leads from the student's states to the teacher's; it is
    trained along and stays in the factory. Differs from PKD, which compares the first token alone
    and states of length 1: our students read the mean of all tokens.
    """

    needs: ClassVar[frozenset[Signal]] = frozenset({Signal.STATES})

    def __init__(
        self, settings: FeatureSettings, student: NetworkShape, teacher: NetworkShape
    ) -> None:
        self.loss = settings.loss
        self.layers = layer_pairs(settings.layers, student.num_layers, teacher.num_layers)
        narrow, broad = student.hidden_size, teacher.hidden_size
        if settings.project is False and narrow != broad:
            raise SpecError(
                f"project: states of width {narrow} cannot be compared with {broad} as they are",
                fix="leave project out",
            )
        self.learned: nn.ModuleList | None = None
        if settings.project or narrow != broad:
            self.learned = nn.ModuleList(nn.Linear(narrow, broad) for _ in self.layers)

    def terms(self, seen: Seen) -> Mapping[str, Tensor]:
        """`states`: mean over pairs of layers, and over all real tokens of the batch."""
        distances = []
        for place, (student, teacher) in enumerate(self.layers):
            ours, theirs = seen.pair(Signal.STATES, student, teacher)
            if self.learned is not None:
                ours = self.learned[place](ours)
            values = _DISTANCES[self.loss](ours, theirs)
            distances.append(token_mean(values, seen.batch.attention_mask))
        return {"states": torch.stack(distances).mean()}


def squared(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference, mean over the width: [b, s, d] twice gives [b, s]."""
    return (student - teacher).square().mean(-1)


def angular(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine, between 0 and 2: [b, s, d] twice gives [b, s]; 1 where a vector is 0."""
    return 1.0 - functional.cosine_similarity(student, teacher, dim=-1)


_DISTANCES = {"mse": squared, "cosine": angular}
