"""The largest softmax probability, as its negative logarithm."""

# ruff: noqa: ARG004 (the signatures are those of the Protocol)

from __future__ import annotations

from typing import ClassVar

import numpy as np

from edgedistill.runtime.guard.logsumexp import log_sum_below_peak
from edgedistill.runtime.guard.score import Arrays


class MaxProbability:
    """-log max softmax(logits) (Hendrycks & Gimpel 2017, arXiv:1610.02136).

    The paper's score is the probability itself; the logarithm orders inputs alike and still
    tells apart those whose probability rounds to 1.
    """

    arrays: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def score(logits: np.ndarray, features: np.ndarray, arrays: Arrays) -> np.ndarray:
        """Scores float64 [n] of logits [n, classes]; features are not read."""
        return log_sum_below_peak(logits, np.maximum.reduce(logits, axis=1))

    @staticmethod
    def from_softmax(peak: float, log_sum: float) -> float:
        """The score of one text from `log_sum_below_peak`."""
        return log_sum
