"""The small Protocols that methods satisfy: one file, one config, one catalogue line a method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np

from edgedistill.core.artefacts import Encoded
from edgedistill.core.signals import Signal as Signal

if TYPE_CHECKING:
    import torch
    from torch import nn


class ModelOutput(NamedTuple):
    """What every student and teacher returns, and every exported graph.

    `logits` float [batch, classes]; `features` float [batch, dim], the vector before the head.
    `label_logits` float [batch, values]: of a tagger that labels whole texts too, what it says of
    the values of its labels, label after label.
    """

    logits: torch.Tensor
    features: torch.Tensor
    label_logits: torch.Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """Inputs of one step.

    `input_ids`, `attention_mask` int64 [batch, seq]; `labels` int64 [batch], -1 where a text has
    none; `signals`: what the teacher said about these texts, by name, first axis batch.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    signals: Mapping[Signal, torch.Tensor] = field(default_factory=dict)

    def rows(self, values: torch.Tensor) -> torch.Tensor:
        """What is said of each of `labels`, of `values` [batch, …] that a model says of the batch:
        here of every text."""
        return values


GivenBatch = TypeVar("GivenBatch", covariant=True)
TakenBatch = TypeVar("TakenBatch", contravariant=True)


class TrainingData(Protocol[GivenBatch]):
    """What the one loop draws its batches from; they follow from (seed, epoch) alone.

    `batch_size` counts what the data counts: texts, or tokens of sequences.
    """

    def require(self, needs: frozenset[Signal]) -> None:
        """Raise MissingSignal unless every needed signal is here."""
        ...

    def num_batches(self, batch_size: int, seed: int, epoch: int) -> int:
        """How many batches `batches` gives for the same arguments."""
        ...

    def batches(
        self, batch_size: int, seed: int, epoch: int, device: torch.device
    ) -> Iterator[GivenBatch]: ...


class TrainingStep(Protocol[TakenBatch]):
    """One training method under the one loop: returns its loss terms; their sum is minimised."""

    @property
    def needs(self) -> frozenset[Signal]: ...

    def __call__(
        self, model: nn.Module, batch: TakenBatch, *, rng: torch.Generator
    ) -> Mapping[str, torch.Tensor]: ...


#: A method for classifiers.
Step: TypeAlias = TrainingStep[Batch]


class Exporter(Protocol):
    """Writes a model as one file, and can run what it wrote, so that parity is checkable."""

    def write(self, model: nn.Module, *, to: Path) -> Path: ...

    def run(self, artefact: Path, texts: Encoded, pad_id: int) -> tuple[np.ndarray, np.ndarray]: ...


class CompressionPass(Protocol):
    """Turns an artefact into a smaller or faster one; never edits its argument.

    `calibration`: inputs by name, one entry a run of the model.
    """

    needs_calibration: ClassVar[bool]

    def __call__(
        self, artefact: Path, *, to: Path, calibration: Sequence[Mapping[str, np.ndarray]]
    ) -> Path: ...
