"""A running average of the weights: what training ends with, without the noise of its last steps.

Polynomial-decay averaging (Shamir and Zhang 2013, arXiv 1212.1824): after step t the average is
`(1 - (power + 1) / (t + power)) · average + (power + 1) / (t + power) · weights`. Its reach grows
with the run: the mean age of what it holds is 1 / (power + 2) of all steps so far, so one power
serves a run of a hundred steps and one of a hundred thousand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


class WeightAverage:
    """The average of the weights that are trained; without a `power` it does nothing.

    `torch.optim.swa_utils.AveragedModel` keeps a second module and averages frozen tables too,
    which costs a step of a frozen-table encoder a tenth of its time.
    """

    def __init__(self, model: nn.Module, power: float | None) -> None:
        self.power = power
        self.num_steps = 0
        trained = {} if power is None else dict(model.named_parameters())
        self._trained = {name: p for name, p in trained.items() if p.requires_grad}
        self._average = {name: p.detach().clone() for name, p in self._trained.items()}

    def update(self) -> None:
        """Take the weights after one more step in."""
        self.num_steps += 1
        if self.power is None or not self._average:
            return
        share = (self.power + 1.0) / (self.num_steps + self.power)
        weights = [p.detach() for p in self._trained.values()]
        with torch.no_grad():
            torch._foreach_lerp_(list(self._average.values()), weights, share)

    def restart(self) -> None:
        """Forget everything before the present weights: they were set back."""
        self.load({name: p.detach() for name, p in self._trained.items()}, 0)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights inside of this block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state(self) -> dict[str, torch.Tensor]:
        """The averaged weights by name, for a checkpoint (with `num_steps`)."""
        return self._average

    def load(self, average: Mapping[str, torch.Tensor], num_steps: int) -> None:
        """Go on from a checkpoint."""
        self.num_steps = num_steps
        for name, tensor in self._average.items():
            tensor.copy_(average[name])

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._trained.items():
            inside = parameter.detach().clone()
            parameter.copy_(self._average[name])
            self._average[name].copy_(inside)
