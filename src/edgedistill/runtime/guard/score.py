"""What every out-of-bounds score satisfies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

import numpy as np

Arrays = Mapping[str, np.ndarray]
"""Fitted arrays of a score by name, as they stand in `guard.npz`."""


class Score(Protocol):
    """Tells how far outside the task an input lies; higher is further out.

    `arrays`: names of the fitted arrays it reads, none for scores that need no fitting.

    A score that is a function of the largest logit and of log Σ exp(logit - largest) may also
    have a static `from_softmax(peak, log_sum) -> float`: for one text the guard works these two
    out anyway, and the vectorised form would cost as much as the tokenizer.
    """

    arrays: ClassVar[tuple[str, ...]]

    @staticmethod
    def score(logits: np.ndarray, features: np.ndarray, arrays: Arrays) -> np.ndarray:
        """Scores float64 [n] of logits [n, classes] and features [n, dim]."""
        ...
