"""Replay: a share of each batch is drawn from rows that were learned before."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from edgedistill.core.artefacts import Encoded
from edgedistill.core.protocols import Batch, Signal
from edgedistill.train.batches import TrainingSet, epoch_order


class Replayed:
    """A training set whose batches are filled up with earlier rows.

    An epoch is one pass over the new rows; batches keep their size, so there are more of them. The
    earlier rows come in turn, none again before all have come.

    Args:
        share: of each batch, in (0, 1); at least one row of each batch is an earlier one, and at
            least one is new.
    """

    def __init__(self, new: TrainingSet, earlier: TrainingSet, share: float) -> None:
        self.num_new, self.num_earlier, self.share = len(new), len(earlier), share
        self.examples = joined([new, earlier])

    def require(self, needs: frozenset[Signal]) -> None:
        """As a training set."""
        self.examples.require(needs)

    def num_replayed(self, batch_size: int) -> int:
        """Earlier rows of each batch."""
        return min(batch_size - 1, max(1, round(self.share * batch_size)))

    def num_batches(self, batch_size: int, seed: int, epoch: int) -> int:
        """Batches an epoch, the same in every one."""
        return math.ceil(self.num_new / (batch_size - self.num_replayed(batch_size)))

    def rows(self, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
        """Row numbers of each batch: of the new rows first, earlier ones counted after them."""
        num, lengths = self.num_replayed(batch_size), self.examples.texts.lengths
        new = epoch_order(lengths[: self.num_new], batch_size - num, seed, epoch)
        drawn = self._drawn(num * len(new), seed, epoch)
        # Long texts go with long ones: short batches stay short.
        drawn = drawn[np.argsort(lengths[drawn], kind="stable")].reshape(len(new), num)
        by_length = np.argsort([lengths[rows].max() for rows in new], kind="stable")
        place = np.argsort(by_length)
        return [np.concatenate([rows, drawn[place[i]]]) for i, rows in enumerate(new)]

    def batches(
        self, batch_size: int, seed: int, epoch: int, device: torch.device
    ) -> Iterator[Batch]:
        """The batches of one epoch on `device`."""
        for rows in self.rows(batch_size, seed, epoch):
            yield self.examples.batch(rows, device)

    def _drawn(self, num: int, seed: int, epoch: int) -> np.ndarray:
        """The earlier rows of an epoch: whole passes over them, and a part of one."""
        rng = np.random.default_rng((seed, epoch, 1))
        passes = math.ceil(num / self.num_earlier)
        order = np.concatenate([rng.permutation(self.num_earlier) for _ in range(passes)])
        return np.asarray(self.num_new + order[:num])


def joined(sets: Sequence[TrainingSet]) -> TrainingSet:
    """Labelled rows one set after the other."""
    ids = np.concatenate([each.texts.ids for each in sets])
    lengths = np.concatenate([each.texts.lengths for each in sets])
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    labels = np.concatenate([each.labels for each in sets])
    return TrainingSet(Encoded(ids, starts), labels, sets[0].pad_id)
