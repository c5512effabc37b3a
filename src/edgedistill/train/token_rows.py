"""Tokens as rows: what a classifier learns of a text, a tagger learns of every token.

Any `Step` for classifiers serves a tagger under `OfTokens`: its model then answers a batch of texts
with one row of logits a token with characters. Padding and special tokens are no rows, so means
over rows are means over real tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from edgedistill.core.artefacts import Encoded
from edgedistill.core.errors import MissingSignal
from edgedistill.core.protocols import Batch, ModelOutput, Signal, Step
from edgedistill.train.batches import epoch_order


@dataclass(frozen=True)
class TokenBatch(Batch):
    """Inputs of one step; `labels` int64 [rows] and the first axis of `signals` count the tokens
    with characters (`is_content`, bool [batch, seq]), text after text. `text_labels` int64
    [batch, labels], -1 where a text has none, and `text_logits` [batch, values], what the teacher
    says of them: of labels of whole texts, where there are any."""

    is_content: torch.Tensor = field(kw_only=True)
    text_labels: torch.Tensor | None = field(default=None, kw_only=True)
    text_logits: torch.Tensor | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class TokenSet:
    """Texts whose tokens a step may learn from.

    Arrays count tokens, in the order of `texts.ids`: `is_content` bool; `tags`, -1 where a token
    has none; `signals`, may be memory-mapped. By text, of labels of whole texts: `text_labels`
    [n, labels], `text_logits` [n, values] (see `TokenBatch`).
    """

    texts: Encoded
    is_content: np.ndarray
    tags: np.ndarray
    pad_id: int
    signals: Mapping[Signal, np.ndarray] = field(default_factory=dict)
    text_labels: np.ndarray | None = None
    text_logits: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def require(self, needs: frozenset[Signal]) -> None:
        """Raise MissingSignal unless every needed signal is here."""
        for need in needs:
            if need is Signal.LABELS:
                if not (self.tags >= 0).any():
                    raise MissingSignal("this method needs spans, the data has none")
            elif need not in self.signals:
                raise MissingSignal(f"this method needs the teacher's {need}, which are not here")

    def num_batches(self, batch_size: int, seed: int, epoch: int) -> int:
        """Batches an epoch, the same in every one."""
        return math.ceil(len(self) / batch_size)

    def batches(
        self, batch_size: int, seed: int, epoch: int, device: torch.device
    ) -> Iterator[TokenBatch]:
        """The batches of one epoch, of `batch_size` texts, on `device`."""
        for rows in epoch_order(self.texts.lengths, batch_size, seed, epoch):
            ids, mask = self.texts.padded(rows, self.pad_id)
            tokens = np.concatenate(
                [np.arange(self.texts.starts[r], self.texts.starts[r + 1]) for r in rows]
            )
            content = mask.astype(bool)
            content[content] = self.is_content[tokens]
            kept = tokens[self.is_content[tokens]]
            yield TokenBatch(
                torch.from_numpy(ids).to(device),
                torch.from_numpy(mask).to(device),
                torch.from_numpy(self.tags[kept].astype(np.int64)).to(device),
                {
                    name: torch.from_numpy(np.asarray(values[kept], dtype=np.float32)).to(device)
                    for name, values in self.signals.items()
                },
                is_content=torch.from_numpy(content).to(device),
                text_labels=_of_texts(self.text_labels, rows, np.int64, device),
                text_logits=_of_texts(self.text_logits, rows, np.float32, device),
            )


def _of_texts(
    values: np.ndarray | None, rows: np.ndarray, kind: Any, device: torch.device
) -> torch.Tensor | None:
    return None if values is None else torch.from_numpy(values[rows].astype(kind)).to(device)


class OfTokens:
    """A method for classifiers, applied to every token as to a text."""

    def __init__(self, step: Step) -> None:
        self._step = step

    @property
    def needs(self) -> frozenset[Signal]:
        """What must come with the batches."""
        return self._step.needs

    def __call__(
        self, model: nn.Module, batch: TokenBatch, *, rng: torch.Generator
    ) -> Mapping[str, torch.Tensor]:
        return self._step(_TokenRows(model, batch.is_content), batch, rng=rng)


class _TokenRows(nn.Module):
    """A tagger whose logits are those of the tokens with characters, [rows, tags]."""

    def __init__(self, model: nn.Module, is_content: torch.Tensor) -> None:
        super().__init__()
        self.model = model
        self._is_content = is_content

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> ModelOutput:
        output = self.model(input_ids, attention_mask)
        logits: ModelOutput = output._replace(logits=output.logits[self._is_content])
        return logits
