"""Tokens as rows: what a classifier learns of a text, a tagger learns of every token.

Any `Step` for classifiers serves a tagger: of what the model answers to a batch of texts it takes
`batch.rows`, which here are the tokens with characters. Padding and special tokens are no rows, so
means over rows are means over real tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from edgedistill.core.artefacts import Encoded
from edgedistill.core.errors import MissingSignal
from edgedistill.core.protocols import Batch, Signal
from edgedistill.train.batches import SignalRows, epoch_order


@dataclass(frozen=True)
class TokenBatch(Batch):
    """Inputs of one step; `labels` int64 [rows] and the first axis of the teacher's logits count
    the tokens with characters (`is_content`, bool [batch, seq]), text after text.

    Of labels of whole texts, where there are any: `text_labels` int64 [batch, labels], -1 where a
    text has none; `text_logits` [batch, values], what the teacher says of them.
    """

    is_content: torch.Tensor = field(kw_only=True)
    text_labels: torch.Tensor | None = field(default=None, kw_only=True)
    text_logits: torch.Tensor | None = field(default=None, kw_only=True)

    def rows(self, values: torch.Tensor) -> torch.Tensor:
        """Of `values` [batch, seq, …] those of the tokens with characters, [rows, …]."""
        return values[self.is_content]


@dataclass(frozen=True)
class TokenSet:
    """Texts whose tokens a step may learn from.

    Arrays count tokens, in the order of `texts.ids`: `is_content` bool; `tags`, -1 where a token
    has none; `signals`, may be memory-mapped. `inside`: signals whose rows are texts. Of labels of
    whole texts, by text: `text_labels`, `text_logits` (see `TokenBatch`).
    """

    texts: Encoded
    is_content: np.ndarray
    tags: np.ndarray
    pad_id: int
    signals: Mapping[Signal, SignalRows] = field(default_factory=dict)
    inside: Mapping[Signal, SignalRows] = field(default_factory=dict)
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
            elif need not in self.signals and need not in self.inside:
                raise MissingSignal(f"this method needs the teacher's {need}, which are not here")

    def num_batches(self, batch_size: int, seed: int, epoch: int) -> int:
        """Batches an epoch, the same in every one."""
        return math.ceil(len(self) / batch_size)

    def batches(
        self, batch_size: int, seed: int, epoch: int, device: torch.device
    ) -> Iterator[TokenBatch]:
        """The batches of one epoch, of `batch_size` texts, on `device`."""
        for rows in epoch_order(self.texts.lengths, batch_size, seed, epoch):
            yield self.batch(rows, device)

    def batch(self, rows: np.ndarray, device: torch.device) -> TokenBatch:
        """The texts `rows`, int64 [m], as one batch on `device`."""
        ids, mask = self.texts.padded(rows, self.pad_id)
        tokens = np.concatenate(
            [np.arange(self.texts.starts[r], self.texts.starts[r + 1]) for r in rows]
        )
        content = mask.astype(bool)
        content[content] = self.is_content[tokens]
        kept = tokens[self.is_content[tokens]]
        drawn = {name: values[kept] for name, values in self.signals.items()}
        drawn |= {name: values[rows] for name, values in self.inside.items()}
        return TokenBatch(
            torch.from_numpy(ids).to(device),
            torch.from_numpy(mask).to(device),
            torch.from_numpy(self.tags[kept].astype(np.int64)).to(device),
            {
                name: torch.from_numpy(np.asarray(values, dtype=np.float32)).to(device)
                for name, values in drawn.items()
            },
            is_content=torch.from_numpy(content).to(device),
            text_labels=_of_texts(self.text_labels, rows, np.int64, device),
            text_logits=_of_texts(self.text_logits, rows, np.float32, device),
        )

    def by_text(self, values: np.ndarray) -> np.ndarray:
        """What is known of every token, by text, [n]: the mean over its tokens with characters."""
        texts = np.repeat(np.arange(len(self)), self.texts.lengths)[self.is_content]
        sums = np.bincount(texts, values[self.is_content], minlength=len(self))
        return np.asarray(sums / np.bincount(texts, minlength=len(self)).clip(min=1))


def _of_texts(
    values: np.ndarray | None, rows: np.ndarray, kind: Any, device: torch.device
) -> torch.Tensor | None:
    return None if values is None else torch.from_numpy(values[rows].astype(kind)).to(device)
