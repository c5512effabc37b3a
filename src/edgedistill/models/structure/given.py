"""What a structural pass is given beside the network and its settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from edgedistill.core.artefacts import Encoded
from edgedistill.models.inference import model_outputs
from edgedistill.models.students.bert_blocks import TransformerStudent
from edgedistill.models.students.vocabulary import KeptVocabulary

#: Texts that importance and likeness are measured on, and how many are read at once.
NUM_TEXTS = 512
BATCH = 16


@dataclass(frozen=True)
class Evidence:
    """Texts of the task, and the label that the whole model gives each, int64 ``[n]``."""

    texts: Encoded
    labels: Tensor
    pad_id: int

    @classmethod
    def of(cls, model: nn.Module, texts: Encoded, pad_id: int) -> Evidence:
        """Of `NUM_TEXTS` texts at most, spread evenly, and what ``model`` answers to them.

        The model's own answers, not those of people: they are what is to be kept.
        """
        rows = np.unique(np.linspace(0, len(texts) - 1, min(NUM_TEXTS, len(texts))).astype(int))
        spread = Encoded.from_lists([texts.part(row, row + 1).ids.tolist() for row in rows])
        logits, _ = model_outputs(model, spread, pad_id=pad_id)
        return cls(spread, torch.from_numpy(logits.argmax(axis=1)), pad_id)

    def batches(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(ids, mask, labels) of all texts, those of like length together."""
        order = np.argsort(self.texts.lengths, kind="stable")
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            ids, mask = map(torch.from_numpy, self.texts.padded(rows, self.pad_id))
            yield ids, mask, self.labels[torch.from_numpy(rows)]


@dataclass(frozen=True)
class Given:
    """The tokens that the task's texts use, and the evidence that importance rests on."""

    kept: KeptVocabulary
    evidence: Evidence


class StructuralPass(Protocol):
    """Makes a network with less structure; the one it is given is left as it is."""

    def __call__(
        self, network: TransformerStudent, settings: object, given: Given
    ) -> TransformerStudent: ...
