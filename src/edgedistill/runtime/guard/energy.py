"""Negative log-sum-exp of the logits."""

# ruff: noqa: ARG004 (the signatures are those of the Protocol)

from __future__ import annotations

from typing import ClassVar

import numpy as np

from edgedistill.runtime.guard.logsumexp import logsumexp
from edgedistill.runtime.guard.score import Arrays


class Energy:
    """-log Σ exp(logit), the free energy at temperature 1 (Liu et al. 2020, arXiv:2010.03759)."""

    arrays: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def score(logits: np.ndarray, features: np.ndarray, arrays: Arrays) -> np.ndarray:
        """Scores float64 [n] of logits [n, classes]; features are not read."""
        return -logsumexp(logits)

    @staticmethod
    def from_softmax(peak: float, log_sum: float) -> float:
        """The score of one text from its largest logit and `log_sum_below_peak`."""
        return -(peak + log_sum)
