"""Distance of the features to the nearest class."""

# ruff: noqa: ARG004 (the signatures are those of the Protocol)

from __future__ import annotations

from typing import ClassVar

import numpy as np

from edgedistill.runtime.guard.score import Arrays


class FeatureDistance:
    """Mahalanobis distance to the nearest class mean (Lee et al. 2018, arXiv:1807.03888).

    Reads `whitening` [dim, k], with whitening · whiteningᵀ the inverse of the covariance shared
    by the classes, and `whitened_means` [classes, k], the class means times `whitening`: the
    product is stored so that a device need not repeat it for every text.
    """

    arrays: ClassVar[tuple[str, ...]] = ("whitening", "whitened_means")

    @staticmethod
    def score(logits: np.ndarray, features: np.ndarray, arrays: Arrays) -> np.ndarray:
        """Scores float64 [n] of features [n, dim]; logits are not read."""
        means = arrays["whitened_means"]
        whitened = features @ arrays["whitening"]
        squared = (
            np.einsum("nk,nk->n", whitened, whitened)[:, None]
            - 2.0 * (whitened @ means.T)
            + np.einsum("ck,ck->c", means, means)
        )
        # Rounding can push the square of a tiny distance below zero.
        nearest = np.maximum(np.minimum.reduce(squared, axis=1), 0.0)
        return np.asarray(np.sqrt(nearest), dtype=np.float64)
