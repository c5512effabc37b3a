"""What the guard is fitted with, against scikit-learn."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression

from edgedistill.evaluate.guard_arrays import (
    class_whitening,
    fit_feature_distance,
    fit_logistic,
    shrunk_covariance,
)
from edgedistill.runtime.guard.feature_distance import FeatureDistance


@pytest.mark.parametrize(("num_rows", "dim"), [(500, 10), (20, 40)])
def test_shrunk_covariance(num_rows: int, dim: int) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(num_rows, dim)) * np.linspace(0.2, 3, dim)
    expected = LedoitWolf(assume_centered=True).fit(rows).covariance_
    np.testing.assert_allclose(shrunk_covariance(rows), expected, rtol=1e-9, atol=1e-12)


def test_distance_is_the_mahalanobis_distance_to_the_nearest_mean() -> None:
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 3, 400)
    features = rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6)) + targets[:, None] * 4
    fresh = rng.normal(size=(50, 6)) * 5
    means = np.stack([features[targets == c].mean(axis=0) for c in range(3)])
    model = LedoitWolf(assume_centered=True).fit(features - means[targets])
    expected = np.min([np.sqrt(model.mahalanobis(fresh - mean)) for mean in means], axis=0)
    whitening, centres = class_whitening(features, targets)
    exact = {"whitening": whitening, "whitened_means": centres @ whitening}
    logits = np.zeros((50, 3))
    found = FeatureDistance.score(logits, fresh, exact)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    # Eight bits of few entries; rows rank as before.
    near = FeatureDistance.score(logits, fresh, fit_feature_distance(features, targets))
    np.testing.assert_allclose(near, expected, rtol=0.06)
    assert spearmanr(near, expected).statistic > 0.995


def test_logistic() -> None:
    rng = np.random.default_rng(2)
    columns = rng.normal(size=(900, 4))
    positive = rng.random(900) < 1 / (1 + np.exp(3 - columns @ [2.0, -1.0, 0.5, 0.0]))
    reference = LogisticRegression(class_weight="balanced", C=1.0, tol=1e-10, max_iter=1000)
    reference.fit(columns, positive)
    weights, bias = fit_logistic(columns, positive)
    np.testing.assert_allclose(weights, reference.coef_[0], atol=1e-3)
    assert bias == pytest.approx(reference.intercept_[0], abs=1e-3)
