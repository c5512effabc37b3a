"""What the parts of a distillation see of one batch, and what they promise to its step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from edgedistill.core.protocols import Batch, ModelOutput, Signal


@dataclass(frozen=True)
class Seen:
    """One batch, read once by the student for all parts.

    `output`: the student's answers. `student`: what it told of its inside, by layer. `teacher`:
    the same of the teacher, by the layers that were asked for. Shapes: see `models.internals`.
    """

    model: nn.Module
    batch: Batch
    rng: torch.Generator
    output: ModelOutput
    student: Mapping[Signal, Sequence[Tensor]] = field(default_factory=dict)
    teacher: Mapping[Signal, Mapping[int, Tensor]] = field(default_factory=dict)

    @property
    def logits(self) -> Tensor:
        """The student's answers, a row for each of the batch's labels."""
        return self.batch.rows(self.output.logits)

    @property
    def device(self) -> torch.device:
        """Where the batch is."""
        return self.batch.input_ids.device

    def pair(self, signal: Signal, student: int, teacher: int) -> tuple[Tensor, Tensor]:
        """A signal of a layer of the student and of one of the teacher, in fp32 at least."""
        return wide(self.student[signal][student]), wide(self.teacher[signal][teacher])


class Part(Protocol):
    """A strategy as part of a step: its loss terms, before the part's own weight.

    `needs`: signals of the teacher that come with the batch. `layers`: pairs (the student's, the
    teacher's) of layers whose `needs` are compared; none where the part looks at answers alone.
    `learned`: what is trained beside the student and not shipped.
    """

    @property
    def needs(self) -> frozenset[Signal]: ...

    @property
    def layers(self) -> Sequence[tuple[int, int]]: ...

    @property
    def learned(self) -> nn.Module | None: ...

    def terms(self, seen: Seen) -> Mapping[str, Tensor]: ...


@runtime_checkable
class OwnTeacher(Part, Protocol):
    """A part whose teacher is the student itself.

    `inside`: whether it reads layers of the student. `attach` shows it the student, before
    training; `learned` is there from then on.
    """

    @property
    def inside(self) -> bool: ...

    def attach(self, student: nn.Module) -> None: ...


def wide(values: Tensor) -> Tensor:
    """Half precisions as float32; float32 and float64 as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def token_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` [b, …, s] over the real tokens of `mask` [b, s] and all axes between.

    Every real token of the batch counts alike; 0 where there is none.
    """
    middle = values.shape[1:-1]
    weights = mask.to(values.dtype).reshape(len(mask), *(1 for _ in middle), -1)
    total = (values * weights).sum()
    return total / (mask.sum().to(values.dtype) * middle.numel()).clamp(min=1.0)
