"""Several strategies as one step: their weighted losses, of one reading of the batch, added up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgedistill.core.protocols import Batch, ModelOutput, Signal
from edgedistill.train.distill.seen import OwnTeacher, Part, Seen

#: How much of the running mean of a part's size is kept at each step.
MEMORY = 0.99
#: Sizes below this count as this: a part that is matched must not be blown up.
LEAST_SIZE = 1e-8

#: Reads what a batch lacks from the teacher, [b, layers, …] by signal.
LiveTeacher = Callable[[Batch], Mapping[Signal, Tensor]]


@dataclass(frozen=True)
class Weighted:
    """A part under its name, and its weight when training begins and when it ends."""

    name: str
    part: Part
    weight: float = 1.0
    final_weight: float | None = None

    def at(self, done: Tensor) -> Tensor:
        """The weight after the share `done` in [0, 1] of training."""
        final = self.weight if self.final_weight is None else self.final_weight
        return self.weight + (final - self.weight) * done


class Learner(nn.Module):
    """What the loop trains: the student, and beside it what serves its training alone.

    Answers as the student does; with `inside` it tells its inside too. The number of steps done
    and the running sizes of the losses are buffers, so that a checkpoint keeps them.
    """

    steps: Tensor
    sizes: Tensor

    def __init__(self, student: nn.Module, learned: Sequence[nn.Module], num_parts: int) -> None:
        super().__init__()
        self.student = student
        self.learned = nn.ModuleList(learned)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("sizes", torch.zeros(num_parts, dtype=torch.float64))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *, inside: bool = False) -> Any:
        """`ModelOutput`; with `inside`, a pair of it and the student's internals by layer."""
        if inside:
            student: Any = self.student
            return student.read(input_ids, attention_mask)
        return self.student(input_ids, attention_mask)


class Combined:
    """The weighted sum of its parts' terms, under one reading of each batch by the student.

    Args:
        parts: in the order of their terms.
        balance: whether each part is divided by a running mean of its own size before its weight
            applies. The mean is exponential, without a gradient, and includes the step itself.
            The ratio of a loss to its running mean is that of Groenendijk et al. 2020, arXiv
            2009.01717, equation 3; we leave out their coefficients of variation, since here
            people give the weights.
        num_steps: steps of the whole training, over which weights may change.
        layers: the teacher's layers that come with a batch, by signal, in order.
        live: where they do not come with the batch but are read in each step.
    """

    def __init__(
        self,
        parts: Sequence[Weighted],
        *,
        balance: bool = False,
        num_steps: int = 1,
        layers: Mapping[Signal, Sequence[int]] | None = None,
        live: LiveTeacher | None = None,
    ) -> None:
        self.parts = list(parts)
        self.names = _distinct([part.name for part in parts])
        self.balance, self.num_steps = balance, num_steps
        self.layers, self.live = layers or {}, live
        own = [each.part for each in self.parts if isinstance(each.part, OwnTeacher)]
        self.inside = bool(self.layers) or any(part.inside for part in own)

    @property
    def needs(self) -> frozenset[Signal]:
        """What must come with the batches."""
        needed = frozenset[Signal]().union(*(each.part.needs for each in self.parts))
        return needed - set(self.layers) if self.live else needed

    def learner(self, student: nn.Module) -> Learner:
        """What is trained in the student's place."""
        for each in self.parts:
            if isinstance(each.part, OwnTeacher):
                each.part.attach(student)
        learned = [each.part.learned for each in self.parts if each.part.learned is not None]
        return Learner(student, learned, len(self.parts))

    def __call__(
        self, model: nn.Module, batch: Batch, *, rng: torch.Generator
    ) -> Mapping[str, Tensor]:
        """The terms of all parts, `part/term`; `model` is a `Learner`."""
        learner: Any = model
        done = (learner.steps.double() / self.num_steps).clamp(max=1.0)
        learner.steps += 1
        seen = self._seen(model, batch, rng)
        terms = {}
        for place, (name, each) in enumerate(zip(self.names, self.parts, strict=True)):
            # Half precision is for the networks: comparing their insides would lose small
            # differences in it.
            half = torch.is_autocast_enabled(seen.device.type) and not each.part.layers
            with torch.autocast(seen.device.type, enabled=half):
                own = each.part.terms(seen)
            factor = each.at(done)
            if self.balance:
                factor = factor / self._size(learner, place, list(own.values()))
            for term, value in own.items():
                terms[f"{name}/{term}"] = value * factor.to(value.dtype)
        return terms

    def _seen(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Seen:
        if not self.inside:
            return Seen(model, batch, rng, model(batch.input_ids, batch.attention_mask))
        output, student = model(batch.input_ids, batch.attention_mask, inside=True)
        signals = self.live(batch) if self.live else batch.signals
        teacher = {
            signal: dict(zip(layers, signals[signal].unbind(1), strict=True))
            for signal, layers in self.layers.items()
        }
        return Seen(model, batch, rng, ModelOutput(*output), student, teacher)

    def _size(self, learner: Any, place: int, values: Sequence[Tensor]) -> Tensor:
        """The running mean of a part's size, this step included."""
        size = torch.stack([value.detach() for value in values]).sum().abs()
        learner.sizes[place] = MEMORY * learner.sizes[place] + (1.0 - MEMORY) * size.double()
        # Begun at 0, the mean is too small by this at first (Kingma & Ba 2014, section 3).
        mean = learner.sizes[place] / (1.0 - MEMORY ** learner.steps.double())
        found: Tensor = mean.clamp(min=LEAST_SIZE)
        return found


def _distinct(names: Sequence[str]) -> list[str]:
    """Names, each later one of the same numbered from 2."""
    return [
        name if (before := names[:place].count(name)) == 0 else f"{name}-{before + 1}"
        for place, name in enumerate(names)
    ]
