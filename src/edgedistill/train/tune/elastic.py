"""Protection against forgetting: what earlier rows need is held, the rest may move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedistill.core.protocols import Batch, Signal, Step
from edgedistill.train.batches import TrainingSet

#: Texts that the importance of the weights is measured on, spread over the rows.
NUM_TEXTS = 256


@dataclass(frozen=True)
class Anchor:
    """Weights as earlier rows left them, and how much these need each: by name."""

    weights: Mapping[str, Tensor]
    importance: Mapping[str, Tensor]


class Elastic:
    """A step with the term `elastic`: `strength` / 2 times the squared distance from each anchor,
    every weight counted by its importance.

    Elastic weight consolidation, Kirkpatrick et al. 2017, arXiv 1612.00796, equation 3, with one
    penalty for each earlier set of rows.
    """

    def __init__(
        self, step: Step, model: nn.Module, anchors: Sequence[Anchor], strength: float
    ) -> None:
        self.step, self.strength = step, strength
        moving = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._held = [
            (moving[name], anchor.weights[name], importance)
            for anchor in anchors
            for name, importance in anchor.importance.items()
        ]

    @property
    def needs(self) -> frozenset[Signal]:
        """As the step."""
        return self.step.needs

    def __call__(
        self, model: nn.Module, batch: Batch, *, rng: torch.Generator
    ) -> Mapping[str, Tensor]:
        """The step's terms and `elastic`."""
        return {
            **self.step(model, batch, rng=rng), "elastic": self.strength / 2 * self.distance()
        }  # fmt: skip

    def distance(self) -> Tensor:
        """Squared distance from the anchors, by importance."""
        # Training may move the model to a device after the step was made: follow it, once.
        self._held = [(p, w.to(p.device), i.to(p.device)) for p, w, i in self._held]
        return torch.stack([(i * (p - w).square()).sum() for p, w, i in self._held]).sum()


def anchor_at(model: nn.Module, examples: TrainingSet, rng: torch.Generator) -> Anchor:
    """The weights as they are, with the importance that these rows give them."""
    weights = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    num = min(NUM_TEXTS, len(examples))
    rows = np.linspace(0, len(examples) - 1, num).astype(int)
    return Anchor(weights, diagonal_fisher(model, examples, rows, rng))


def diagonal_fisher(
    model: nn.Module, examples: TrainingSet, rows: np.ndarray, rng: torch.Generator
) -> dict[str, Tensor]:
    """The diagonal of the Fisher information of the weights that train, by name.

    The mean over texts of the squared slope of log p(label | text). Labels are drawn from what
    the model answers: true ones would give another quantity, the empirical Fisher, which is no
    curvature (Kunstner et al. 2019, arXiv 1905.12558).

    Args:
        rows: int64 [n], each text is read alone.
    """
    device = next(iter(model.parameters())).device
    moving = {name: p for name, p in model.named_parameters() if p.requires_grad}
    totals = {name: torch.zeros_like(p) for name, p in moving.items()}
    was_training = model.training
    model.eval()
    for row in rows:
        batch = examples.batch(np.array([row]), device)
        logits = model(batch.input_ids, batch.attention_mask).logits
        told = logits.detach().double().softmax(1).cpu()
        drawn = torch.multinomial(told, 1, generator=rng)[:, 0].to(device)
        surprise = functional.cross_entropy(logits, drawn)
        slopes = torch.autograd.grad(surprise, list(moving.values()), allow_unused=True)
        for total, slope in zip(totals.values(), slopes, strict=True):
            if slope is not None:
                total += slope.square()
    model.train(was_training)
    return {name: total / len(rows) for name, total in totals.items()}
