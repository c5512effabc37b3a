"""Metrics against scikit-learn, ties and missing classes included."""

import numpy as np
import pytest
from sklearn import metrics as reference

from edgedistill.evaluate.metrics import (
    auroc,
    auroc_standard_error,
    class_scores,
    confusion,
    macro_f1,
    roc_curve,
)


@pytest.mark.parametrize("seed", range(5))
def test_class_scores(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets, predictions = rng.integers(0, 7, 200), rng.integers(0, 6, 200)
    scores = class_scores(targets, predictions, 8)
    precision, recall, f1, support = reference.precision_recall_fscore_support(
        targets, predictions, labels=range(8), zero_division=0
    )
    np.testing.assert_allclose(scores.precision, precision)
    np.testing.assert_allclose(scores.recall, recall)
    np.testing.assert_allclose(scores.f1, f1)
    np.testing.assert_array_equal(scores.support, support)
    assert macro_f1(targets, predictions, 8) == pytest.approx(
        reference.f1_score(targets, predictions, average="macro", zero_division=0)
    )
    np.testing.assert_array_equal(
        confusion(targets, predictions, 8),
        reference.confusion_matrix(targets, predictions, labels=range(8)),
    )


@pytest.mark.parametrize("decimals", [1, 2, 8])
def test_auroc_and_curve(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    low, high = rng.normal(0, 1, 300).round(decimals), rng.normal(1, 1, 200).round(decimals)
    truth, scores = np.repeat([0, 1], [300, 200]), np.concatenate([low, high])
    assert auroc(low, high) == pytest.approx(reference.roc_auc_score(truth, scores), abs=1e-12)
    expected = reference.roc_curve(truth, scores, drop_intermediate=False)
    np.testing.assert_allclose(roc_curve(low, high), expected[:2], atol=1e-12)


def test_auroc_standard_error_is_that_of_resampled_exponential_scores() -> None:
    rng = np.random.default_rng(0)
    areas = [auroc(rng.exponential(size=300), rng.exponential(3.0, size=80)) for _ in range(2000)]
    expected = auroc_standard_error(float(np.mean(areas)), 300, 80)
    assert expected == pytest.approx(np.std(areas), rel=0.06)
