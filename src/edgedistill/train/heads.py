"""Several heads on one reading of a text: tags of its tokens, and labels of the whole.

Each head learns by a method for classifiers; the parts are those of one step (`distill.combined`),
so that their weights, and the balance of their sizes, are those of strategies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from edgedistill.core.protocols import Batch, ModelOutput, Signal, Step
from edgedistill.train.distill.seen import Seen
from edgedistill.train.token_rows import TokenBatch


class AnswersPart:
    """A method by itself as a part: it is given what the batch was read as, and reads nothing."""

    layers: ClassVar[tuple[tuple[int, int], ...]] = ()
    learned: ClassVar[nn.Module | None] = None

    def __init__(self, step: Step) -> None:
        self._step = step

    @property
    def needs(self) -> frozenset[Signal]:
        """As the method."""
        return self._step.needs

    def terms(self, seen: Seen) -> Mapping[str, torch.Tensor]:
        """As the method."""
        return self._step(_Read(seen.output), seen.batch, rng=seen.rng)


class LabelPart(AnswersPart):
    """The same for one label of whole texts.

    Args:
        place: of the label among all. columns: of its values among those of all.
    """

    def __init__(self, step: Step, place: int, columns: slice) -> None:
        super().__init__(step)
        self._place, self._columns = place, columns

    def terms(self, seen: Seen) -> Mapping[str, torch.Tensor]:
        """As the method; rows are texts."""
        batch, answers = seen.batch, seen.output.label_logits
        assert isinstance(batch, TokenBatch)
        assert batch.text_labels is not None
        assert answers is not None
        signals = {}
        if batch.text_logits is not None:
            signals[Signal.LOGITS] = batch.text_logits[:, self._columns]
        labels = batch.text_labels[:, self._place]
        texts = Batch(batch.input_ids, batch.attention_mask, labels, signals)
        read = ModelOutput(answers[:, self._columns], seen.output.features)
        return self._step(_Read(read), texts, rng=seen.rng)


class _Read(nn.Module):
    """A model that has answered already."""

    def __init__(self, output: ModelOutput) -> None:
        super().__init__()
        self._output = output

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> ModelOutput:
        return self._output
