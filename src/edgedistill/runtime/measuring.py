"""Speed, measured so that it can be promised: warm, pinned, tails, bounds without assumptions.

Averages hide the tail that users feel; quantiles come from every single call, with the clock
around the whole of it.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np

from edgedistill.runtime.runner import Runner, Writer

BATCH_SIZES = (1, 8, 32)
CONFIDENCE = 0.95
MAX_MEASURING_S = 60.0
"""A slow model gets fewer samples rather than an hour."""

_BLOCK = 100
_NUM_WARM_UP = 200
_THROUGHPUT_S = 0.3


@dataclass(frozen=True)
class Latency:
    """Quantiles of one call in milliseconds.

    `p95_upper_ms`: upper confidence bound of the 95th percentile, None where the samples are
    too few for one.
    """

    p50_ms: float
    p95_ms: float
    p99_ms: float
    p95_upper_ms: float | None
    num_samples: int

    @classmethod
    def of(cls, samples_ms: np.ndarray, confidence: float = CONFIDENCE) -> Latency:
        """Summarise samples, float [n] in milliseconds."""
        p50, p95, p99 = (float(value) for value in np.percentile(samples_ms, [50, 95, 99]))
        upper = distribution_free_upper(samples_ms, 0.95, confidence)
        return cls(p50, p95, p99, upper if math.isfinite(upper) else None, len(samples_ms))


@dataclass(frozen=True)
class WritingSpeed:
    """How fast answers are written, one request at a time.

    `first_token`: from the request to the first piece of text. `tokens_per_s`: new tokens over the
    time of whole requests, reading the prompt included.
    """

    first_token: Latency
    tokens_per_s: float


class WritingClock:
    """Calls that write, each timed to its first piece and to its end.

    Args:
        write: as `Writer.write`.
    """

    def __init__(self, write: Callable[[str, Callable[[str], None]], int]) -> None:
        self._write = write
        self._taken: list[tuple[float, float, int]] = []

    def __call__(self, text: str) -> None:
        """Write one answer."""
        pieces: list[int] = []
        begun = time.perf_counter_ns()
        num = self._write(text, lambda _: pieces.append(time.perf_counter_ns()))
        whole = (time.perf_counter_ns() - begun) / 1e6
        self._taken.append(((pieces[0] - begun) / 1e6 if pieces else math.nan, whole, num))

    def speed(self, num_last: int) -> WritingSpeed | None:
        """Of the last calls, those without a text left out; None where there is none with one."""
        written = np.array([one for one in self._taken[-num_last:] if not math.isnan(one[0])])
        if not len(written):
            return None
        first, whole, num = written.T
        return WritingSpeed(Latency.of(first), 1000.0 * float(num.sum() / whole.sum()))


@dataclass(frozen=True)
class Speed:
    """What a bundle takes on this machine.

    `latency`: one text, everything included (checks, tokenizer, network, guard). `model_latency`:
    the network alone, on token ids. `throughput_per_s`: texts a second by batch size. `writing`:
    of bundles that write.
    """

    latency: Latency
    model_latency: Latency
    throughput_per_s: dict[int, float]
    writing: WritingSpeed | None = None


def distribution_free_upper(
    samples: np.ndarray | Sequence[float], quantile: float, confidence: float
) -> float:
    """Upper confidence bound of a quantile, for any distribution.

    The k-th smallest of n independent samples lies at or above the q-quantile with probability
    at least P(Binomial(n, q) ≤ k - 1); the bound is the smallest sample whose probability
    reaches `confidence` (David & Nagaraja 2003, "Order Statistics", 7.1).

    Args:
        samples: any order.
        quantile, confidence: in (0, 1).

    Returns:
        The bound; infinity where even the largest sample does not reach the confidence.
    """
    if not (0.0 < quantile < 1.0 and 0.0 < confidence < 1.0):
        raise ValueError(f"quantile {quantile} and confidence {confidence} must lie in (0, 1)")
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    num = len(ordered)
    if num == 0:
        return math.inf
    # log P(X = i) from log P(X = i - 1): exact enough, and no overflow for large n.
    i = np.arange(1, num + 1)
    steps = np.log((num - i + 1) / i) + math.log(quantile / (1.0 - quantile))
    log_mass = num * math.log1p(-quantile) + np.concatenate([[0.0], np.cumsum(steps)])
    at_most = np.cumsum(np.exp(log_mass))[:num]
    reached = np.flatnonzero(at_most >= confidence)
    return float(ordered[reached[0]]) if len(reached) else math.inf


def alternate_ms(
    callers: Sequence[Callable[[Any], object]],
    items: Sequence[Any],
    *,
    rounds: int = 2,
    max_s: float = MAX_MEASURING_S,
) -> list[np.ndarray]:
    """Milliseconds of every call, float64 [≤ rounds · num_items] for each caller.

    Callers take turns, A B A B …, in blocks of items long enough for each to get its weights
    into the cache, so that drift of a shared machine hits all alike. Each has a warm-up first.
    After `max_s` seconds no further block is begun; the first one always is.
    """
    for call in callers:
        for item in islice(cycle(items), _NUM_WARM_UP):
            call(item)
    samples: list[list[float]] = [[] for _ in callers]
    deadline = time.monotonic() + max_s
    for start in [start for _ in range(rounds) for start in range(0, len(items), _BLOCK)]:
        if samples[0] and time.monotonic() > deadline:
            break
        for call, taken in zip(callers, samples, strict=True):
            for item in items[start : start + _BLOCK]:
                begun = time.perf_counter_ns()
                call(item)
                taken.append((time.perf_counter_ns() - begun) / 1e6)
    return [np.array(taken) for taken in samples]


def block_sizes(num_samples: int, num_items: int) -> Iterator[int]:
    """Calls in each block of one caller of `alternate_ms`, in order."""
    taken = 0
    while taken < num_samples:
        size = min(_BLOCK, num_items - taken % num_items)
        yield size
        taken += size


def measure_speed(runner: Runner, texts: Sequence[str], *, num_samples: int = 2000) -> Speed:
    """Latency with and without tokenization, and throughput, on the CPUs this process may use.

    Args:
        runner: as loaded, with the number of threads to measure.
        texts: what is asked, in turn, as often as needed; at least one that reaches the network.
        num_samples: calls for each latency.
    """
    rounds = math.ceil(num_samples / len(texts))
    whole = alternate_ms([lambda text: runner.predict([text])], texts, rounds=rounds)[0]
    writing = None
    if isinstance(runner, Writer):
        clock = WritingClock(runner.write)
        writing = clock.speed(len(alternate_ms([clock], texts, rounds=rounds)[0]))
    call, inputs = runner.network_calls(texts)
    network = alternate_ms([call], inputs, rounds=rounds)[0]
    return Speed(
        latency=Latency.of(whole[:num_samples]),
        model_latency=Latency.of(network[:num_samples]),
        throughput_per_s={size: _throughput(runner, texts, size) for size in BATCH_SIZES},
        writing=writing,
    )


def _throughput(runner: Runner, texts: Sequence[str], batch_size: int) -> float:
    batches = [
        [texts[(start + i) % len(texts)] for i in range(batch_size)]
        for start in range(0, max(len(texts), batch_size), batch_size)
    ]
    done, begun = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < _THROUGHPUT_S:
        runner.predict(batches[done % len(batches)])
        done += 1
    return done * batch_size / elapsed


@contextmanager
def pinned(num_cpus: int) -> Iterator[tuple[int, ...]]:
    """Keep this thread on `num_cpus` CPUs while the block runs; yields them.

    Yields nothing where the system cannot pin, or has fewer CPUs than asked for.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield ()
        return
    before = os.sched_getaffinity(0)
    # The first CPU of a machine serves most of its interrupts: take the last ones.
    chosen = tuple(sorted(before)[-num_cpus:])
    if len(chosen) < num_cpus:
        yield ()
        return
    os.sched_setaffinity(0, chosen)
    try:
        yield chosen
    finally:
        os.sched_setaffinity(0, before)
