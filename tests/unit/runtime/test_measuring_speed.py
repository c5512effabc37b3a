"""Latency, throughput, comparison."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import numpy as np
import pytest

from edgedistill.core.errors import DataError
from edgedistill.runtime.bundle import Bundle
from edgedistill.runtime.classification import Classifier
from edgedistill.runtime.comparing import compare
from edgedistill.runtime.measuring import (
    Latency,
    alternate_ms,
    distribution_free_upper,
    measure_speed,
    pinned,
)
from small_bundle import TEXTS, make_bundle, make_guard, make_manifest


def test_bound_of_a_quantile_by_hand() -> None:
    # P(Binomial(5, 0.5) <= 3) = 26/32 = 0.8125, P(... <= 4) = 31/32: the fourth, the fifth.
    samples = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert distribution_free_upper(samples, 0.5, 0.80) == 4.0
    assert distribution_free_upper(samples, 0.5, 0.82) == 5.0


def test_too_few_samples_give_no_bound() -> None:
    assert distribution_free_upper(np.ones(58), 0.95, 0.95) == math.inf
    assert distribution_free_upper(np.ones(59), 0.95, 0.95) == 1.0
    assert distribution_free_upper([], 0.95, 0.95) == math.inf
    assert Latency.of(np.ones(58)).p95_upper_ms is None


def test_a_bound_covers_the_quantile_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    truth = math.log(1 / 0.05)
    covered = [distribution_free_upper(rng.exponential(size=300), 0.95, 0.9) >= truth
               for _ in range(2000)]  # fmt: skip
    assert 0.89 <= np.mean(covered) <= 0.96


@pytest.mark.parametrize(("quantile", "confidence"), [(0.0, 0.9), (1.0, 0.9), (0.9, 1.0)])
def test_a_senseless_bound_is_refused(quantile: float, confidence: float) -> None:
    with pytest.raises(ValueError, match="must lie"):
        distribution_free_upper([1.0], quantile, confidence)


def test_latency_quantiles_are_those_of_the_samples() -> None:
    latency = Latency.of(np.arange(1.0, 1002.0))
    assert (latency.p50_ms, latency.p95_ms, latency.p99_ms) == (501.0, 951.0, 991.0)
    assert latency.p95_upper_ms is not None
    assert 955 < latency.p95_upper_ms < 970


def test_callers_take_turns_in_blocks_after_a_warm_up() -> None:
    calls: list[str] = []
    timed = alternate_ms(
        [lambda _: calls.append("A"), lambda _: calls.append("B")], range(150), rounds=2
    )
    warm = calls.index("B")
    measured = "".join(calls[2 * warm :])
    assert warm >= 100
    assert measured == ("A" * 100 + "B" * 100 + "A" * 50 + "B" * 50) * 2
    assert [len(samples) for samples in timed] == [300, 300]


def test_times_are_milliseconds_of_the_call() -> None:
    timed = alternate_ms([lambda _: time.sleep(0.002)], [1], rounds=3)[0]
    assert 2.0 <= timed.min() < 20.0


def test_no_new_block_is_begun_after_the_time_is_up() -> None:
    timed = alternate_ms([lambda _: None], range(100), rounds=50, max_s=0.0)[0]
    assert len(timed) == 100


def test_pinning_is_undone() -> None:
    before = os.sched_getaffinity(0)
    with pinned(1) as cpus:
        assert os.sched_getaffinity(0) == set(cpus)
        assert len(cpus) == 1
    assert os.sched_getaffinity(0) == before
    with pinned(10_000) as cpus:
        assert cpus == ()


def test_speed_of_a_classifier(classifier: Classifier) -> None:
    speed = measure_speed(classifier, list(TEXTS), num_samples=100)
    assert speed.latency.num_samples == 100
    assert 0 < speed.model_latency.p50_ms < speed.latency.p50_ms < 50
    assert set(speed.throughput_per_s) == {1, 8, 32}
    assert min(speed.throughput_per_s.values()) > 20


def test_two_bundles_on_the_same_rows(bundle: Bundle, tmp_path: Path) -> None:
    strict = make_bundle(
        tmp_path / "strict", manifest=make_manifest(name="strict"), guard=make_guard(threshold=-9.0)
    )
    rows = [
        {"text": "where is my parcel", "label": "track"},
        {"text": "stop it now", "label": "cancel"},
        {"text": "i want my money back", "label": "track"},
        {"text": "please cancel my order"},
    ]
    result = compare(bundle.path, strict.path, rows, num_timed=40)
    assert (result.num_rows, result.num_labelled) == (4, 3)
    assert result.first.accuracy == pytest.approx(2 / 3)
    assert result.second.accuracy == pytest.approx(1 / 3)
    assert (result.first.abstention_rate, result.second.abstention_rate) == (0.0, 0.5)
    assert result.agreement == 0.5
    assert result.size_ratio == 1.0
    assert result.speed_ratio == result.second.latency.p50_ms / result.first.latency.p50_ms
    assert result.second.name == "strict"
    json.dumps(result.as_json(), allow_nan=False)


def test_without_labels_there_is_no_accuracy(bundle: Bundle) -> None:
    result = compare(bundle.path, bundle.path, [{"text": TEXTS[0]}], num_timed=10)
    assert result.first.accuracy is None
    assert result.agreement == 1.0


def test_nothing_to_compare_on_is_an_error(bundle: Bundle) -> None:
    with pytest.raises(DataError, match="no rows"):
        compare(bundle.path, bundle.path, [])
