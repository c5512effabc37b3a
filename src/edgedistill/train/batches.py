"""Batches of like length, in an order that follows from (seed, epoch) alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from edgedistill.core.artefacts import Encoded
from edgedistill.core.errors import MissingSignal
from edgedistill.core.protocols import Batch, Signal

#: Texts are shuffled, then sorted by length within pools of this many batches.
POOL = 50


class SignalRows(Protocol):
    """A signal by text: an array of first axis n, or what gives the rows asked for as one."""

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


@dataclass(frozen=True)
class TrainingSet:
    """What a step may learn from.

    `labels` int64 [n], -1 where a text has none; `signals` may be memory-mapped.
    """

    texts: Encoded
    labels: np.ndarray
    pad_id: int
    signals: Mapping[Signal, SignalRows] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)

    def require(self, needs: frozenset[Signal]) -> None:
        """Raise MissingSignal unless every needed signal is here."""
        for need in needs:
            if need is Signal.LABELS:
                if not (self.labels >= 0).any():
                    raise MissingSignal("this method needs labels, the data has none")
            elif need not in self.signals:
                raise MissingSignal(f"this method needs the teacher's {need}, which are not here")

    def num_batches(self, batch_size: int, seed: int, epoch: int) -> int:
        """Batches an epoch, the same in every one."""
        return math.ceil(len(self) / batch_size)

    def batches(
        self, batch_size: int, seed: int, epoch: int, device: torch.device
    ) -> Iterator[Batch]:
        """The batches of one epoch on `device`."""
        for rows in epoch_order(self.texts.lengths, batch_size, seed, epoch):
            yield self.batch(rows, device)

    def by_text(self, values: np.ndarray) -> np.ndarray:
        """What is known of every row, [n], by text: each is one row."""
        return values

    def batch(self, rows: np.ndarray, device: torch.device) -> Batch:
        """The texts `rows`, int64 [m], as one batch on `device`."""
        ids, mask = self.texts.padded(rows, self.pad_id)
        return Batch(
            torch.from_numpy(ids).to(device),
            torch.from_numpy(mask).to(device),
            torch.from_numpy(self.labels[rows]).to(device),
            {
                name: torch.from_numpy(np.asarray(values[rows], dtype=np.float32)).to(device)
                for name, values in self.signals.items()
            },
        )


def epoch_order(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Row numbers of each batch: every row once, batches of like length, order shuffled."""
    rng = np.random.default_rng((seed, epoch))
    rows = rng.permutation(len(lengths))
    batches: list[np.ndarray] = []
    for start in range(0, len(rows), POOL * batch_size):
        pool = rows[start : start + POOL * batch_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]
