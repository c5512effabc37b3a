"""Token sequences for language models: batches of so many tokens, no example sees another.

A row of a batch holds one example, with others of like length below it, or, packed, several one
after the other. For examples of 60 tokens, hidden size 256, one thread and fp32, a step over 2,048
tokens took 0.53 s with one example a row, 0.61 s with rows of 256 packed, and 2.2 s in a single
row: attention across examples is masked, but it is computed. So rows of one are the default;
packing pays where lengths differ more than 50 batches of them can even out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from edgedistill.core.artefacts import Encoded
from edgedistill.core.errors import DataError, MissingSignal
from edgedistill.core.protocols import Signal
from edgedistill.train.batches import POOL

#: The label of a token that is not learned.
IGNORED = -100


@dataclass(frozen=True)
class SequenceBatch:
    """Inputs of one step of a language model.

    `input_ids`, `labels`, `token_index` int64 [rows, seq]: a token, itself again where it is to be
    learned (else -100; the step shifts), and its index in the set's ids (-1 for padding).
    `position_ids` int64 [rows or 1, seq], from 0 in every example. `attention_mask` float32
    [rows or 1, 1, seq, seq], added to the attention's scores. `signals`: what the teacher said
    about the learned tokens, by name, in the order in which they stand, row by row.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    token_index: torch.Tensor
    signals: Mapping[Signal, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class SequenceSet:
    """What a language model may learn from; a batch size counts its tokens, padding included.

    `learned` bool [num_tokens]: True where a token is predicted from those before it; never an
    example's first. `signals`: arrays whose row k is about the k-th learned token, may be
    memory-mapped. `row_tokens`: examples are packed into rows of at most so many tokens; left
    out, each has a row of its own.
    """

    texts: Encoded
    learned: np.ndarray
    pad_id: int
    signals: Mapping[Signal, np.ndarray] = field(default_factory=dict)
    row_tokens: int | None = None

    def __post_init__(self) -> None:
        lengths = self.texts.lengths
        if self.learned.shape != self.texts.ids.shape or self.learned.dtype != bool:
            raise ValueError("learned: one truth value a token")
        if (lengths == 0).any():
            raise DataError("an example has no tokens", where=f"example {lengths.argmin() + 1}")
        if self.learned[self.texts.starts[:-1]].any():
            raise ValueError("the first token of an example has nothing to be predicted from")
        if any(len(rows) != self.num_learned for rows in self.signals.values()):
            raise ValueError("signals: one row a learned token")
        if self.row_tokens is not None and lengths.max(initial=0) > self.row_tokens:
            raise DataError(
                f"an example has {lengths.max()} tokens, a row holds {self.row_tokens}",
                where=f"example {lengths.argmax() + 1}",
                fix="shorten it, or allow longer rows",
            )

    @classmethod
    def from_lists(
        cls,
        rows: Sequence[Sequence[int]],
        learned: Sequence[Sequence[bool]],
        pad_id: int,
        *,
        row_tokens: int | None = None,
    ) -> SequenceSet:
        """Join lists of token ids and of whether each is learned; first tokens never are."""
        texts = Encoded.from_lists(rows)
        marks = np.fromiter((mark for row in learned for mark in row), dtype=bool)
        if [len(row) for row in rows] != [len(row) for row in learned]:
            raise ValueError("learned: one truth value a token")
        marks[texts.starts[:-1][texts.lengths > 0]] = False
        return cls(texts, marks, pad_id, row_tokens=row_tokens)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def num_learned(self) -> int:
        """Tokens that a loss is taken of."""
        return int(self.learned.sum())

    @cached_property
    def signal_rows(self) -> np.ndarray:
        """Row of each token in the signals, int64 [num_tokens]; of use for learned ones alone."""
        rows: np.ndarray = np.cumsum(self.learned) - 1
        return rows

    def require(self, needs: frozenset[Signal]) -> None:
        """Raise MissingSignal unless there is something to learn and every needed signal."""
        if not self.num_learned:
            raise MissingSignal("this method needs labels: no token of the data is to be learned")
        for need in needs - {Signal.LABELS}:
            if need not in self.signals:
                raise MissingSignal(f"this method needs the teacher's {need}, which are not here")

    def num_batches(self, batch_size: int, seed: int, epoch: int) -> int:
        """Batches of one epoch: examples meet others in each, so it varies a little."""
        return len(self._plan(batch_size, seed, epoch))

    def batches(
        self, batch_size: int, seed: int, epoch: int, device: torch.device
    ) -> Iterator[SequenceBatch]:
        """The batches of one epoch on `device`."""
        for rows in self._plan(batch_size, seed, epoch):
            yield self.batch(rows, device)

    def in_order(self, batch_size: int, device: torch.device) -> Iterator[SequenceBatch]:
        """Every example once, by length, for scoring and for the teacher's signals."""
        order = np.argsort(self.texts.lengths, kind="stable")
        for rows in _like_length(order, self.texts.lengths, batch_size):
            yield self.batch(rows, device)

    def batch(self, rows: Sequence[Sequence[int]], device: torch.device) -> SequenceBatch:
        """One batch whose row r holds the examples `rows[r]` one after the other."""
        starts, lengths = self.texts.starts, self.texts.lengths
        width = max(int(lengths[list(row)].sum()) for row in rows)
        index = np.full((len(rows), width), -1, dtype=np.int64)
        position, example = np.zeros_like(index), np.full_like(index, -1)
        for r, row in enumerate(rows):
            at = 0
            for i in row:
                span = np.arange(lengths[i])
                here = slice(at, at + len(span))
                index[r, here], position[r, here], example[r, here] = starts[i] + span, span, i
                at += len(span)
        real = index >= 0
        ids = np.where(real, self.texts.ids[index], self.pad_id).astype(np.int64)
        labels = np.where(real & self.learned[index], ids, IGNORED)
        mask = _causal_mask(torch.from_numpy(example), packed=any(len(row) > 1 for row in rows))
        if mask.shape[0] == 1:
            position = np.arange(width)[None, :]
        which = self.signal_rows[index[labels != IGNORED]]
        return SequenceBatch(
            input_ids=torch.from_numpy(ids).to(device),
            position_ids=torch.from_numpy(position).to(device),
            attention_mask=mask.to(device),
            labels=torch.from_numpy(labels).to(device),
            token_index=torch.from_numpy(index).to(device),
            signals={
                name: torch.from_numpy(np.asarray(values[which])).to(device)
                for name, values in self.signals.items()
            },
        )

    def _plan(self, batch_size: int, seed: int, epoch: int) -> list[list[list[int]]]:
        """Examples of each row of each batch of an epoch; every example once."""
        lengths = self.texts.lengths
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(len(lengths))
        pool = POOL * max(1, int(batch_size / max(1.0, lengths.mean()))) if len(order) else 1
        batches: list[list[list[int]]] = []
        for start in range(0, len(order), pool):
            part = order[start : start + pool]
            part = part[np.argsort(lengths[part], kind="stable")]
            if self.row_tokens is None:
                batches += _like_length(part, lengths, batch_size)
            else:
                rows = _packed(part[::-1], lengths, self.row_tokens)
                rows = [rows[i] for i in rng.permutation(len(rows))]
                many = max(1, batch_size // self.row_tokens)
                batches += [rows[i : i + many] for i in range(0, len(rows), many)]
        return [batches[i] for i in rng.permutation(len(batches))]


def _like_length(order: np.ndarray, lengths: np.ndarray, batch_size: int) -> list[list[list[int]]]:
    """Cut examples of rising length into batches of at most `batch_size` tokens, padding too."""
    batches: list[list[list[int]]] = []
    for i in order.tolist():
        if not batches or (len(batches[-1]) + 1) * lengths[i] > batch_size:
            batches.append([])
        batches[-1].append([i])
    return batches


def _packed(order: np.ndarray, lengths: np.ndarray, row_tokens: int) -> list[list[int]]:
    """Put each example, longest first, into the first row that still has room for it."""
    rows: list[list[int]] = []
    room = np.full(len(order), row_tokens)
    for i in order.tolist():
        row = int(np.argmax(room >= lengths[i]))
        if row == len(rows):
            rows.append([])
        rows[row].append(i)
        room[row] -= lengths[i]
    return rows


def _causal_mask(example: torch.Tensor, *, packed: bool) -> torch.Tensor:
    """Scores to add, float32: 0 for tokens of the same example up to this one, else the least.

    In rows of one example padding comes last, so causality alone hides it, and one mask does for
    all rows.
    """
    width = example.shape[1]
    seen = torch.ones(width, width, dtype=torch.bool).tril()[None]
    if packed:
        seen = seen & (example[:, :, None] == example[:, None, :])
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    return mask[:, None]
