"""Out-of-bounds scores and the guard around them."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Mapping

import numpy as np
import pytest

from edgedistill.core.errors import BundleError
from edgedistill.runtime.guard.boundary import Guard
from edgedistill.runtime.guard.catalogue import SCORES
from edgedistill.runtime.guard.trained import STATISTICS, statistics

LOGIT_SCORES = ("energy", "max_logit", "max_probability")
NUM_CLASSES, DIM = 5, 4


def some_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "whitening": rng.normal(size=(DIM, DIM)).astype(np.float32),
        "whitened_means": rng.normal(size=(NUM_CLASSES, DIM)).astype(np.float32),
        "centre": rng.normal(size=len(STATISTICS)).astype(np.float32),
        "scale": rng.uniform(1, 2, size=len(STATISTICS)).astype(np.float32),
        "weights": rng.normal(size=len(STATISTICS)).astype(np.float32),
        "bias": np.array([0.5], dtype=np.float32),
    }


def some_outputs(num: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    logits = rng.normal(scale=4, size=(num, NUM_CLASSES)).astype(np.float32)
    return logits, rng.normal(size=(num, DIM)).astype(np.float32)


def guard_of(kind: str, arrays: Mapping[str, np.ndarray] | None = None, **changes: float) -> Guard:
    values = {"threshold": 0.0, "temperature": 1.7, "false_abstention_rate": 0.05, **changes}
    return Guard(kind, **values, arrays=some_arrays() if arrays is None else arrays)


def test_the_catalogue_is_not_empty() -> None:
    assert set(SCORES) == {*LOGIT_SCORES, "feature_distance", "trained"}


@pytest.mark.parametrize("kind", SCORES)
def test_every_score_gives_one_finite_number_a_row(kind: str) -> None:
    logits, features = some_outputs()
    scores = guard_of(kind).scores(logits, features)
    assert scores.shape == (40,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert len(set(scores.tolist())) == 40


@pytest.mark.parametrize("kind", SCORES)
def test_one_text_is_judged_as_among_others(kind: str) -> None:
    logits, features = some_outputs()
    guard = guard_of(kind)
    judged = [guard.judge(logits[i : i + 1], features[i : i + 1]) for i in range(len(logits))]
    best, scores, confidences = map(np.array, zip(*judged, strict=True))
    assert (best == logits.argmax(axis=1)).all()
    np.testing.assert_allclose(scores, guard.scores(logits, features), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(confidences, guard.confidences(logits), rtol=1e-12)


@pytest.mark.parametrize("kind", LOGIT_SCORES)
def test_logits_without_a_favourite_score_higher(kind: str) -> None:
    clear, vague = [[9.0, 0.0, 0.0]], [[1.0, 0.9, 0.8]]
    none = np.zeros((1, 1))
    score = SCORES.load(kind).score
    assert score(np.array(vague), none, {}) > score(np.array(clear), none, {})


def test_energy_of_hand_worked_logits() -> None:
    logits = np.log(np.array([[1.0, 2.0, 5.0], [4.0, 4.0, 8.0]]))
    scores = SCORES.load("energy").score(logits, logits, {})
    np.testing.assert_allclose(scores, [-math.log(8), -math.log(16)], rtol=1e-14)


@pytest.mark.parametrize("kind", LOGIT_SCORES)
def test_huge_logits_do_not_overflow(kind: str) -> None:
    logits = np.array([[1e30, 0.0], [-1e30, -1e30], [3e4, 3e4]], dtype=np.float32)
    guard = guard_of(kind, {})
    assert np.isfinite(guard.scores(logits, logits)).all()
    np.testing.assert_allclose(guard.confidences(logits), [1.0, 0.5, 0.5])


def test_certainties_that_round_to_one_are_still_told_apart() -> None:
    logits = np.array([[50.0, 20.0], [50.0, 15.0]], dtype=np.float64)
    scores = SCORES.load("max_probability").score(logits, logits, {})
    assert scores[0] > scores[1] > 0


def test_feature_distance_is_the_mahalanobis_distance_to_the_nearest_mean() -> None:
    rng = np.random.default_rng(3)
    features, means = rng.normal(size=(20, DIM)), rng.normal(size=(3, DIM))
    covariance = np.cov(rng.normal(size=(DIM, 50)) * [[1], [2], [3], [4]])
    whitening = np.linalg.cholesky(np.linalg.inv(covariance))
    arrays = {"whitening": whitening, "whitened_means": means @ whitening}
    differences = features[:, None] - means
    squared = np.einsum("ncd,de,nce->nc", differences, np.linalg.inv(covariance), differences)
    scores = SCORES.load("feature_distance").score(np.zeros((20, 3)), features, arrays)
    np.testing.assert_allclose(scores, np.sqrt(squared.min(axis=1)), rtol=1e-9)


def test_a_feature_on_a_mean_has_distance_zero() -> None:
    means = np.full((2, DIM), 1e3, dtype=np.float32)
    arrays = {"whitening": np.eye(DIM, dtype=np.float32), "whitened_means": means}
    scores = SCORES.load("feature_distance").score(np.zeros((2, 2)), means, arrays)
    assert (scores == 0).all()


def test_statistics_are_what_their_names_say() -> None:
    logits, features = some_outputs()
    arrays = some_arrays()
    columns = dict(zip(STATISTICS, statistics(logits, features, arrays).T, strict=True))
    for kind in (*LOGIT_SCORES, "feature_distance"):
        expected = SCORES.load(kind).score(logits, features, arrays)
        np.testing.assert_allclose(columns[kind], expected, rtol=1e-12)
    ordered = np.sort(logits, axis=1)
    np.testing.assert_allclose(columns["margin"], ordered[:, -1] - ordered[:, -2], rtol=1e-6)
    np.testing.assert_allclose(columns["logit_spread"], logits.std(axis=1), rtol=1e-5)
    np.testing.assert_allclose(columns["feature_norm"], np.linalg.norm(features, axis=1), rtol=1e-6)


def test_the_trained_score_is_the_log_odds() -> None:
    logits, features = some_outputs()
    arrays = some_arrays()
    standard = (statistics(logits, features, arrays) - arrays["centre"]) / arrays["scale"]
    expected = (standard * arrays["weights"]).sum(axis=1) + 0.5
    np.testing.assert_allclose(guard_of("trained").scores(logits, features), expected, rtol=1e-6)


def test_confidence_is_the_tempered_softmax() -> None:
    logits = np.array([[2.0, 0.0, -2.0]])
    tempered = np.exp(logits / 1.7)
    expected = tempered.max() / tempered.sum()
    np.testing.assert_allclose(guard_of("energy", {}).confidences(logits), [expected])


def test_a_guard_reads_back_as_written() -> None:
    guard = guard_of("trained", threshold=-1.25)
    files = guard.to_files()
    again = Guard.from_files(files)
    assert (again.kind, again.threshold, again.temperature, again.false_abstention_rate) == (
        "trained", -1.25, 1.7, 0.05,
    )  # fmt: skip
    assert again.to_files() == files
    logits, features = some_outputs()
    assert (again.scores(logits, features) == guard.scores(logits, features)).all()


def test_a_score_without_arrays_adds_no_file() -> None:
    assert set(guard_of("energy", {}).to_files()) == {"guard.json"}


@pytest.mark.parametrize(
    ("kind", "changes", "complaint"),
    [
        ("horoscope", {}, "unknown score"),
        ("energy", {"temperature": 0.0}, "temperature"),
        ("energy", {"temperature": math.nan}, "temperature"),
        ("energy", {"threshold": math.nan}, "threshold"),
    ],
)
def test_a_senseless_guard_is_refused(kind: str, changes: dict[str, float], complaint: str) -> None:
    with pytest.raises(BundleError, match=complaint):
        guard_of(kind, **changes)


def test_missing_arrays_are_named() -> None:
    arrays = some_arrays()
    del arrays["whitening"]
    with pytest.raises(BundleError, match="whitening"):
        guard_of("feature_distance", arrays)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"score": "energy"}', b"\xff"])
def test_a_malformed_guard_file_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match="malformed"):
        Guard.from_files({"guard.json": content})


def test_pickled_arrays_are_refused() -> None:
    files = guard_of("energy", {}).to_files()
    stream = io.BytesIO()
    np.savez(stream, evil=np.array([{"code": 1}], dtype=object))
    for content in (stream.getvalue(), pickle.dumps([1, 2])):
        with pytest.raises(BundleError, match="cannot be read"):
            Guard.from_files({**files, "guard.npz": content})
