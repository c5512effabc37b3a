"""A logistic model over a few statistics of the outputs, trained on out-of-bounds examples."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from edgedistill.runtime.guard.energy import Energy
from edgedistill.runtime.guard.feature_distance import FeatureDistance
from edgedistill.runtime.guard.max_logit import MaxLogit
from edgedistill.runtime.guard.max_probability import MaxProbability
from edgedistill.runtime.guard.score import Arrays

STATISTICS = (
    "energy",
    "max_logit",
    "max_probability",
    "margin",
    "logit_spread",
    "feature_norm",
    "feature_distance",
)
"""Columns of `statistics`, in order."""


class Trained:
    """Log-odds of being out of bounds: ((statistics - centre) / scale) · weights + bias.

    Reads `centre`, `scale`, `weights` [len(STATISTICS)], `bias` [1], and the arrays of
    `FeatureDistance`.
    """

    arrays: ClassVar[tuple[str, ...]] = (
        "centre",
        "scale",
        "weights",
        "bias",
        *FeatureDistance.arrays,
    )

    @staticmethod
    def score(logits: np.ndarray, features: np.ndarray, arrays: Arrays) -> np.ndarray:
        """Scores float64 [n] of logits [n, classes] and features [n, dim]."""
        standard = (statistics(logits, features, arrays) - arrays["centre"]) / arrays["scale"]
        return np.asarray(standard @ arrays["weights"] + arrays["bias"][0], dtype=np.float64)


def statistics(logits: np.ndarray, features: np.ndarray, arrays: Arrays) -> np.ndarray:
    """What the logistic model sees, float64 [n, len(STATISTICS)].

    The first three and the last are the scores of those names; `margin` is the largest logit
    less the second, `logit_spread` the standard deviation of a text's logits, `feature_norm`
    the Euclidean length of its features.
    """
    second, first = np.partition(logits, -2, axis=1)[:, -2:].T
    return np.stack(
        [
            Energy.score(logits, features, arrays),
            MaxLogit.score(logits, features, arrays),
            MaxProbability.score(logits, features, arrays),
            (first - second).astype(np.float64),
            logits.std(axis=1, dtype=np.float64),
            np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64)),
            FeatureDistance.score(logits, features, arrays),
        ],
        axis=1,
    )
