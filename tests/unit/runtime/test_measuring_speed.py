"""Latency, throughput, limits, comparison."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import numpy as np
import pytest

from edgedistill.core.errors import BudgetExceeded, BundleError, DataError
from edgedistill.runtime.bundle import Bundle
from edgedistill.runtime.classification import Classifier
from edgedistill.runtime.comparing import compare
from edgedistill.runtime.limits import bench
from edgedistill.runtime.measuring import (
    Latency,
    alternate_ms,
    distribution_free_upper,
    measure_speed,
    peak_memory_bytes,
    pinned,
)
from edgedistill.runtime.resident_memory import peak_resident_bytes
from edgedistill.runtime.worker_process import run_worker
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


def test_bench_in_a_process_of_its_own(bundle: Bundle) -> None:
    result = bench(bundle.path, threads=1, memory_mb=1000, num_samples=100)
    assert not result.exceeded
    assert result.memory_limit_bytes == 1_000_000_000
    assert 20e6 < result.peak_memory_bytes < 1e9
    assert result.load_ms is not None
    assert result.cold_start_ms is not None
    assert 1 < result.load_ms < result.cold_start_ms < 60_000
    assert result.speed is not None
    assert result.speed.latency.num_samples == 100
    assert [note.split(":")[0] for note in result.limits] == ["CPUs", "memory"]
    json.dumps(result.as_json(), allow_nan=False)


def test_a_process_over_its_memory_is_stopped_and_says_so(bundle: Bundle) -> None:
    begun = time.monotonic()
    result = bench(bundle.path, memory_mb=15, num_samples=10_000_000)
    assert result.exceeded
    assert result.peak_memory_bytes > 15e6
    assert result.speed is None
    assert time.monotonic() - begun < 30


def test_more_threads_than_cpus_are_said_not_to_be_pinned(bundle: Bundle) -> None:
    too_many = len(os.sched_getaffinity(0)) + 1
    result = bench(bundle.path, threads=too_many, num_samples=20)
    assert "share" in result.limits[0]


def test_a_failing_worker_tells_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle here"):
        run_worker({"path": str(tmp_path / "absent"), "texts": ["x"]})


def test_a_worker_that_takes_too_long_is_stopped(bundle: Bundle) -> None:
    request = {"path": str(bundle.path), "texts": list(TEXTS), "num_samples": 10_000_000}
    with pytest.raises(BudgetExceeded, match="too long"):
        run_worker(request, timeout_s=0.2)


def test_peak_memory_is_that_of_a_fresh_process(bundle: Bundle) -> None:
    ballast = np.ones(40_000_000)  # 320 MB in this process
    assert (peak_resident_bytes() or 0) > 320e6
    assert 20e6 < peak_memory_bytes(bundle.path, TEXTS) < 250e6
    del ballast


def test_the_peak_of_a_process_that_is_gone_is_unknown() -> None:
    assert peak_resident_bytes(2**22 + 1) is None


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
