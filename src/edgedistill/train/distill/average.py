"""The student's own running average as a second teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from edgedistill.core.protocols import Signal
from edgedistill.core.strategies import AverageSettings
from edgedistill.train.distill.logit_losses import softened_kl
from edgedistill.train.distill.seen import Seen


class Average:
    """Divergence from what the exponential average of the student's weights answers.

    Mean teachers, Tarvainen & Valpola 2017, arXiv 1703.01780, equation 2; the divergence
    is paid instead of the squared difference of probabilities. A student with dropout and its
    average draw their own noise, as there; others read the text as it is. The average is of the
    weights before the step at hand.
    """

    needs: ClassVar[frozenset[Signal]] = frozenset()
    layers: ClassVar[tuple[tuple[int, int], ...]] = ()
    inside: ClassVar[bool] = False
    learned: AveragedWeights | None = None

    def __init__(self, settings: AverageSettings) -> None:
        self.decay, self.temperature = settings.decay, settings.temperature

    def attach(self, student: nn.Module) -> None:
        """Begin the average with the student as it is."""
        self._student = student
        self.learned = AveragedWeights(student)

    def terms(self, seen: Seen) -> Mapping[str, Tensor]:
        """`answers`: mean over rows. One more reading of the batch, without a gradient."""
        assert self.learned is not None
        self.learned.update(self._student, self.decay)
        with torch.no_grad():
            inputs = (seen.batch.input_ids, seen.batch.attention_mask)
            output: Any = functional_call(self._student, self.learned.weights(), inputs)
        average = seen.batch.rows(output.logits)
        return {"answers": softened_kl(seen.logits, average, self.temperature)}


class AveragedWeights(nn.Module):
    """An average of a module's parameters, in buffers: a checkpoint keeps it, nothing trains it."""

    num_steps: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.names = [name for name, _ in model.named_parameters()]
        for place, parameter in enumerate(model.parameters()):
            self.register_buffer(str(place), parameter.detach().clone())
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))

    def weights(self) -> dict[str, Tensor]:
        """The average, by the parameters' names."""
        return {name: self.get_buffer(str(place)) for place, name in enumerate(self.names)}

    @torch.no_grad()
    def update(self, model: nn.Module, decay: float) -> None:
        """Take the present weights in. Of t earlier steps at most (1 + t) / (10 + t) is kept, so
        that the beginning is soon forgotten."""
        done = int(self.num_steps)
        kept = min(decay, (1 + done) / (10 + done))
        present = [parameter.detach() for parameter in model.parameters()]
        torch._foreach_lerp_(list(self.weights().values()), present, 1.0 - kept)
        self.num_steps += 1
