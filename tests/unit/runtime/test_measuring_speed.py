"""Latency and throughput."""

from __future__ import annotations

import math
import os
import time

import numpy as np
import pytest

from edgedistill.runtime.classification import Classifier
from edgedistill.runtime.measuring import (
    Latency,
    alternate_ms,
    block_sizes,
    distribution_free_upper,
    measure_speed,
    pinned,
)
from small_bundle import TEXTS


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


@pytest.mark.parametrize(("num_items", "rounds"), [(150, 2), (100, 3), (7, 4), (300, 1)])
def test_blocks_are_those_in_which_callers_took_turns(num_items: int, rounds: int) -> None:
    order: list[str] = []
    timed = alternate_ms(
        [lambda _: order.append("A"), lambda _: order.append("B")], range(num_items), rounds=rounds
    )
    measured = "".join(order[-2 * len(timed[0]) :])
    blocks = list(block_sizes(len(timed[0]), num_items))
    assert measured == "".join("A" * size + "B" * size for size in blocks)


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
