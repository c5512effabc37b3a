"""A logistic model over a few statistics of the outputs, trained on out-of-bounds examples."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from edgedistill.runtime.guard.feature_distance import FeatureDistance
from edgedistill.runtime.guard.logsumexp import log_sum_below_peak
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
    peak = np.maximum.reduce(logits, axis=1)
    log_sum = log_sum_below_peak(logits, peak)
    num_classes = logits.shape[1]
    result = np.empty((len(logits), len(STATISTICS)))
    result[:, 0] = -(peak + log_sum)
    result[:, 1] = -peak
    result[:, 2] = log_sum
    result[:, 3] = peak - np.partition(logits, num_classes - 2, axis=1)[:, num_classes - 2]
    centred = logits - np.add.reduce(logits, axis=1, dtype=np.float64, keepdims=True) / num_classes
    result[:, 4] = np.sqrt(np.add.reduce(centred * centred, axis=1) / num_classes)
    result[:, 5] = np.sqrt(np.add.reduce(np.square(features, dtype=np.float64), axis=1))
    result[:, 6] = FeatureDistance.score(logits, features, arrays)
    return result
