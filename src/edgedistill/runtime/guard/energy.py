"""Negative log-sum-exp of the logits."""

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
