"""What a structural pass is given beside the network and its settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgedistill.core.artefacts import Encoded
from edgedistill.core.protocols import ModelOutput
from edgedistill.models.inference import model_outputs, tagger_outputs
from edgedistill.models.students.bert_blocks import TransformerStudent
from edgedistill.models.students.vocabulary import KeptVocabulary

#: Texts that importance and likeness are measured on, and how many are read at once.
NUM_TEXTS = 512
BATCH = 16
#: Stands for no answer, as in PyTorch's own losses.
UNASKED = -100


@dataclass(frozen=True)
class Tagged:
    """What a tagger answers for. `counts`: bool [num_tokens] of some texts, which tokens have a
    tag; `columns`: of each label of whole texts, where its values stand; `weights`: of the loss of
    the tags, then of each label's."""

    counts: np.ndarray
    columns: tuple[slice, ...] = ()
    weights: tuple[float, ...] = (1.0,)


@dataclass(frozen=True)
class EvidenceBatch:
    """Texts that are read at once, and the answers that are to be kept: `labels` int64 ``[b]``, of
    a tagger ``[b, s]``, UNASKED where a token has no tag; `values` int64 ``[b, labels]``."""

    ids: Tensor
    mask: Tensor
    labels: Tensor
    values: Tensor
    tagged: Tagged | None

    def loss(self, output: ModelOutput) -> Tensor:
        """Mean cross-entropy a text; of a tagger a token, and a text for each label, weighted."""
        classes = output.logits.shape[-1]
        loss = _cross_entropy(output.logits.reshape(-1, classes), self.labels.reshape(-1))
        if self.tagged is None:
            return loss
        own, *others = self.tagged.weights
        loss = own * loss
        for place, (columns, weight) in enumerate(zip(self.tagged.columns, others, strict=True)):
            assert output.label_logits is not None
            answers = output.label_logits[:, columns]
            loss = loss + weight * _cross_entropy(answers, self.values[:, place])
        return loss


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over the rows that have a target; 0 where none has."""
    total = F.cross_entropy(logits, targets, ignore_index=UNASKED, reduction="sum")
    return total / (targets != UNASKED).sum().clamp(min=1)


@dataclass(frozen=True)
class Evidence:
    """Texts of the task, and what the whole model answers: the label of each text, int64 ``[n]``;
    of a tagger the tag of each token, ``[num_tokens]``, UNASKED where it has none, and in `values`
    the value of each label of whole texts, ``[n, labels]``."""

    texts: Encoded
    labels: np.ndarray
    pad_id: int
    values: np.ndarray
    tagged: Tagged | None = None

    @classmethod
    def of(
        cls, model: nn.Module, texts: Encoded, pad_id: int, tagged: Tagged | None = None
    ) -> Evidence:
        """Of `NUM_TEXTS` texts at most, spread evenly, and what ``model`` answers to them.

        The model's own answers, not those of people: they are what is to be kept.

        Args:
            tagged: of a tagger, and of these texts.
        """
        rows = np.unique(np.linspace(0, len(texts) - 1, min(NUM_TEXTS, len(texts))).astype(int))
        spread = Encoded.from_lists([texts.part(row, row + 1).ids.tolist() for row in rows])
        if tagged is None:
            logits, _ = model_outputs(model, spread, pad_id=pad_id)
            return cls(spread, logits.argmax(axis=1), pad_id, np.zeros((len(rows), 0), np.int64))
        logits, _, said = tagger_outputs(model, spread, pad_id=pad_id)
        asked = np.concatenate(
            [tagged.counts[texts.starts[row] : texts.starts[row + 1]] for row in rows]
        )
        labels = np.where(asked, logits.argmax(axis=1), UNASKED)
        best = [said[:, columns].argmax(axis=1) for columns in tagged.columns]
        values = np.stack(best, axis=1) if best else np.zeros((len(rows), 0), np.int64)
        return cls(spread, labels, pad_id, values, tagged)

    def batches(self) -> Iterator[EvidenceBatch]:
        """All texts, those of like length together."""
        order = np.argsort(self.texts.lengths, kind="stable")
        tags = Encoded(self.labels, self.texts.starts) if self.tagged else None
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            ids, mask = self.texts.padded(rows, self.pad_id)
            labels = tags.padded(rows, UNASKED)[0] if tags else self.labels[rows]
            yield EvidenceBatch(
                torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(labels),
                torch.from_numpy(self.values[rows]), self.tagged,
            )  # fmt: skip


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
