"""Metrics against scikit-learn, ties and missing classes included."""

import numpy as np
import pytest
from sklearn import metrics as reference

from edgedistill.evaluate.metrics import (
    auroc,
    class_scores,
    confusion,
    macro_f1,
    placements,
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


def test_placements_are_shares_of_pairs() -> None:
    rng = np.random.default_rng(3)
    low, high = rng.integers(0, 9, 40).astype(float), rng.integers(3, 12, 25).astype(float)
    pairs = (low[:, None] < high) + 0.5 * (low[:, None] == high)
    found = placements(low, high)
    np.testing.assert_allclose(found.negatives, pairs.mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(found.positives, pairs.mean(axis=0), atol=1e-12)
    assert found.area == pytest.approx(pairs.mean(), abs=1e-12)


def test_error_of_a_difference_is_that_of_new_rows() -> None:
    """Two scores that share most of their noise: 2,000 fresh samples tell the true spread."""
    rng = np.random.default_rng(0)

    def scores(num: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
        shared = rng.normal(shift, 1.0, num)
        return shared + rng.normal(0, 0.3, num), shared + rng.normal(0, 0.5, num)

    differences, errors = [], []
    for _ in range(2000):
        (low_a, low_b), (high_a, high_b) = scores(300, 0.0), scores(80, 1.5)
        a, b = placements(low_a, high_a), placements(low_b, high_b)
        differences.append(a.area - b.area)
        errors.append(a.difference_error(b))
    assert np.mean(errors) == pytest.approx(np.std(differences), rel=0.06)
    assert a.difference_error(a) == 0.0
