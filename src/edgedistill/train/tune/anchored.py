"""Protection against forgetting: fine-tuning is held back by a pull to the pretrained weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgedistill.core.protocols import Batch, Signal, Step


class Anchored:
    """A step with the term `anchor`: `weight` / 2 times the squared distance from the start.

    L2-SP, Li et al. 2018, arXiv 1802.01483, equation 4, without their second term, an ordinary
    decay of what is new: here that is one linear head.

    Args:
        pretrained: the part of the model that is held; its weights as they are now are the start.
            Frozen ones are not counted.
    """

    def __init__(self, step: Step, pretrained: nn.Module, weight: float) -> None:
        self.step, self.weight = step, weight
        self._held = [p for p in pretrained.parameters() if p.requires_grad]
        self._start = [p.detach().clone() for p in self._held]

    @property
    def needs(self) -> frozenset[Signal]:
        """As the step."""
        return self.step.needs

    def __call__(
        self, model: nn.Module, batch: Batch, *, rng: torch.Generator
    ) -> Mapping[str, Tensor]:
        """The step's terms and `anchor`."""
        return {**self.step(model, batch, rng=rng), "anchor": self.weight / 2 * self.distance()}

    def distance(self) -> Tensor:
        """Squared distance of the weights from the start."""
        # Training may move the model to a device after the step was made: follow it, once.
        self._start = [s.to(p.device) for s, p in zip(self._start, self._held, strict=True)]
        pairs = zip(self._held, self._start, strict=True)
        return torch.stack([(p - start).square().sum() for p, start in pairs]).sum()
