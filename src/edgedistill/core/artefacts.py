"""What the stages hand to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Example:
    """One row: a unique id, the input, and its label (None where it has none)."""

    id: str
    text: str
    label: str | None = None


@dataclass(frozen=True)
class Dataset:
    """The validated rows of a task.

    `labels` is the closed list of answers, in the order of the model's outputs.
    `out_of_bounds` maps train, validation and test to texts that must be refused.
    `num_quarantined` counts the malformed rows that were set aside in reading.
    """

    labels: tuple[str, ...]
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    unlabelled: tuple[Example, ...] = ()
    edge_cases: tuple[Example, ...] = ()
    out_of_bounds: dict[str, tuple[Example, ...]] = field(default_factory=dict)
    num_quarantined: int = 0

    def targets(self, split: str) -> np.ndarray:
        """Label indices of a split, int64 [num_rows]."""
        index = {label: i for i, label in enumerate(self.labels)}
        return np.array([index[e.label or ""] for e in getattr(self, split)], dtype=np.int64)

    def texts(self, split: str) -> list[str]:
        """Inputs of a split."""
        return [example.text for example in getattr(self, split)]


@dataclass(frozen=True)
class Encoded:
    """Token ids of many texts without padding.

    Text i is `ids[starts[i]:starts[i + 1]]`; `ids` int32 [num_tokens], `starts` int64 [n + 1].
    """

    ids: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens a text, int64 [n]."""
        return np.diff(self.starts)

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[int]]) -> Encoded:
        """Pack lists of token ids."""
        starts = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=starts[1:])
        ids = np.fromiter((i for row in rows for i in row), dtype=np.int32, count=int(starts[-1]))
        return cls(ids, starts)

    def part(self, start: int, stop: int) -> Encoded:
        """The texts from `start` up to, not including, `stop`."""
        starts = self.starts[start : stop + 1]
        return Encoded(self.ids[starts[0] : starts[-1]], starts - starts[0])

    def padded(self, rows: np.ndarray, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
        """The texts `rows` as (input_ids, attention_mask), int64 [len(rows), longest]."""
        lengths = self.lengths[rows]
        width = int(lengths.max(initial=1))
        mask = np.arange(width)[None, :] < lengths[:, None]
        input_ids = np.full((len(rows), width), pad_id, dtype=np.int64)
        input_ids[mask] = np.concatenate(
            [self.ids[self.starts[r] : self.starts[r + 1]] for r in rows] or [self.ids[:0]]
        )
        return input_ids, mask.astype(np.int64)


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided confidence bounds."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        """Plain numbers for JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Judgement:
    """One requirement, what was measured, and whether the bound that counts meets it."""

    requirement: str
    required: str
    measured: str
    bound: float
    holds: bool
    detail: dict[str, Any] = field(default_factory=dict)
