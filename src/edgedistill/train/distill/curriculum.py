"""A curriculum: texts in order of difficulty, of which more are opened as the student stalls.

Bengio et al. 2009, "Curriculum learning" (ICML), opens texts by a plan. Here the plan is the latest
that a part may be opened at, and a student that comes no closer to what it is to answer, on
validation texts, opens the next one before: what is open has nothing more to teach.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from scipy.special import log_softmax
from torch import Tensor, nn

from edgedistill.core.artefacts import Encoded
from edgedistill.core.protocols import Batch, Signal
from edgedistill.core.strategies import CurriculumSpec
from edgedistill.train.batches import epoch_order
from edgedistill.train.distill.mixture import certainty


class Pace(nn.Module):
    """How many parts are open, epoch by epoch. Kept in buffers, so that a checkpoint keeps it."""

    opened: Tensor
    epochs: Tensor
    closest: Tensor

    def __init__(self, settings: CurriculumSpec, num_epochs: int) -> None:
        super().__init__()
        self.num_parts = settings.parts
        self.planned_epochs = settings.all_by * num_epochs
        self.register_buffer("opened", torch.ones((), dtype=torch.int64))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))
        self.register_buffer("closest", torch.full((), -math.inf, dtype=torch.float64))

    def tell(self, score: float) -> bool:
        """Take in how close the student came in an epoch, higher is closer; returns whether more
        is open in the next: a part where it came no closer than before, and what is planned."""
        before = int(self.opened)
        self.epochs += 1
        planned = 1 + int((self.num_parts - 1) * int(self.epochs) / self.planned_epochs)
        stalls = not score > float(self.closest)
        self.opened.fill_(min(self.num_parts, max(planned, before + int(stalls))))
        self.closest.fill_(max(float(self.closest), score))
        return int(self.opened) > before


class Examples(Protocol):
    """Texts to learn from, of which any may be drawn."""

    @property
    def texts(self) -> Encoded: ...

    def require(self, needs: frozenset[Signal]) -> None: ...

    def num_batches(self, batch_size: int, seed: int, epoch: int) -> int: ...

    def batch(self, rows: np.ndarray, device: torch.device) -> Batch: ...


class Curriculum:
    """A training set of which the parts that are open are drawn.

    An epoch is as long as without it, so that rates and weights keep their plan: open texts come
    as often as fit, and the rest is drawn from them at random. With all parts open it is the
    training set itself, batch by batch.

    Args:
        difficulty: [n], the least first; equal ones in the order of the texts.
    """

    def __init__(self, examples: Examples, difficulty: np.ndarray, pace: Pace) -> None:
        self.examples, self.pace = examples, pace
        self.order = np.argsort(difficulty, kind="stable")

    def require(self, needs: frozenset[Signal]) -> None:
        """As the training set."""
        self.examples.require(needs)

    def num_batches(self, batch_size: int, seed: int, epoch: int) -> int:
        """As the training set."""
        return self.examples.num_batches(batch_size, seed, epoch)

    def rows(self, seed: int, epoch: int) -> np.ndarray:
        """The texts of an epoch, ascending, int64 [n]."""
        num = len(self.order)
        num_open = math.ceil(num * int(self.pace.opened) / self.pace.num_parts)
        is_open = self.order[:num_open]
        rng = np.random.default_rng((seed, epoch))
        rest = rng.choice(is_open, num % num_open, replace=False)
        return np.sort(np.concatenate([np.tile(is_open, num // num_open), rest]))

    def batches(
        self, batch_size: int, seed: int, epoch: int, device: torch.device
    ) -> Iterator[Batch]:
        """The batches of one epoch on `device`."""
        rows = self.rows(seed, epoch)
        for places in epoch_order(self.examples.texts.lengths[rows], batch_size, seed, epoch):
            yield self.examples.batch(rows[places], device)

    def followed(
        self, score: Callable[[Any], float], tell: Callable[[str], None]
    ) -> Callable[[Any], float]:
        """The score of an epoch, which sets the pace of the next; `tell` gets news of it."""

        def scored(model: Any) -> float:
            value = score(model)
            if self.pace.tell(value):
                tell(f"opens {int(self.pace.opened)} of {self.pace.num_parts} parts of the texts")
            return value

        return scored


def unsureness(answers: np.ndarray) -> np.ndarray:
    """How unsure the answers to be learned are, [n]: entropy of logits [n, classes]."""
    return -certainty(log_softmax(np.asarray(answers, np.float64), axis=1))


def distance(student: np.ndarray, answers: np.ndarray, temperature: float) -> np.ndarray:
    """KL(answers ‖ student) of logits [n, classes] at `temperature`, of each text, [n]."""
    ours, theirs = (
        log_softmax(np.asarray(logits, np.float64) / temperature, axis=1)
        for logits in (student, answers)
    )
    return np.asarray((np.exp(theirs) * (theirs - ours)).sum(1))
