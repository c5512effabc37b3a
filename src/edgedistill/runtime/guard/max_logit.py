"""The largest logit, negated."""

# ruff: noqa: ARG004 (the signatures are those of the Protocol)

from __future__ import annotations

from typing import ClassVar

import numpy as np

from edgedistill.runtime.guard.score import Arrays


class MaxLogit:
    """-max logit (Hendrycks et al. 2019, arXiv:1911.11132)."""

    arrays: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def score(logits: np.ndarray, features: np.ndarray, arrays: Arrays) -> np.ndarray:
        """Scores float64 [n] of logits [n, classes]; features are not read."""
        return np.asarray(-np.maximum.reduce(logits, axis=1), dtype=np.float64)

    @staticmethod
    def from_softmax(peak: float, log_sum: float) -> float:
        """The score of one text from its largest logit."""
        return -peak
