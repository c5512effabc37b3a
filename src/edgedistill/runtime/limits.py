"""A bundle on a small device: its speed and memory with few CPUs and little memory."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedistill.core.errors import BundleError
from edgedistill.runtime.bundle import open_bundle
from edgedistill.runtime.manifest import GOLDEN
from edgedistill.runtime.measuring import Latency, Speed, WritingSpeed
from edgedistill.runtime.resident_memory import peak_resident_bytes
from edgedistill.runtime.verification import golden_texts
from edgedistill.runtime.worker_process import run_worker

NUM_SAMPLES = 2000


@dataclass(frozen=True)
class BenchResult:
    """What a bundle took in a process of its own.

    `cold_start_ms`: from starting the process to the first answer; `load_ms`: of that, imports,
    loading and the first answer. `peak_memory_bytes`: resident, Python and libraries included.
    `exceeded`: it needed more memory than the limit; figures it did not live to give are None.
    `limits`: how each limit was kept, and what could not be.
    """

    size_bytes: int
    threads: int
    memory_limit_bytes: int | None
    exceeded: bool
    peak_memory_bytes: int
    cold_start_ms: float | None
    load_ms: float | None
    speed: Speed | None
    limits: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def bench(
    path: str | Path,
    *,
    threads: int | None = None,
    memory_mb: float | None = None,
    num_samples: int = NUM_SAMPLES,
) -> BenchResult:
    """Measure a bundle on its own golden texts, in a fresh process under limits.

    Args:
        path: the bundle.
        threads: threads and CPUs; None takes the number stated in the bundle.
        memory_mb: limit of resident memory in 10^6 bytes; None: no limit.
        num_samples: calls for each latency.

    Raises:
        BundleError: the bundle cannot be read or run.
    """
    bundle = open_bundle(path)
    texts = golden_texts(bundle.files[GOLDEN])
    if not texts:
        raise BundleError("there are no golden examples", where=GOLDEN, fix="make the bundle again")
    threads = threads or bundle.manifest.threads
    memory_bytes = round(memory_mb * 1e6) if memory_mb is not None else None
    cpus, notes = _choose_cpus(threads)
    if memory_bytes is not None:
        notes += (_memory_note(),)
    outcome = run_worker(
        {
            "path": str(path),
            "texts": texts,
            "threads": threads,
            "cpus": cpus,
            "num_samples": num_samples,
        },
        memory_bytes=memory_bytes,
    )
    answer = outcome.answer
    return BenchResult(
        size_bytes=bundle.model_bytes,
        threads=threads,
        memory_limit_bytes=memory_bytes,
        exceeded=outcome.exceeded,
        peak_memory_bytes=outcome.peak_memory_bytes,
        cold_start_ms=answer.get("cold_start_ms"),
        load_ms=answer.get("load_ms"),
        speed=_speed(answer["speed"]) if "speed" in answer else None,
        limits=notes,
    )


def _choose_cpus(threads: int) -> tuple[list[int], tuple[str, ...]]:
    if not hasattr(os, "sched_getaffinity"):
        return [], ("CPUs: not enforced, this system cannot pin a process",)
    available = sorted(os.sched_getaffinity(0))
    if len(available) < threads:
        return [], (f"CPUs: {threads} threads share {len(available)}, all this process may use",)
    # The first CPU of a machine serves most of its interrupts: take the last ones.
    chosen = available[-threads:]
    return chosen, (f"CPUs: pinned to {', '.join(map(str, chosen))}",)


def _memory_note() -> str:
    if peak_resident_bytes(os.getpid()) is None:
        return "memory: not enforced, only compared with the peak at the end"
    return "memory: resident peak watched every 10 ms, the process killed above the limit"


def _speed(values: dict[str, Any]) -> Speed:
    writing = values["writing"]
    return Speed(
        latency=Latency(**values["latency"]),
        model_latency=Latency(**values["model_latency"]),
        throughput_per_s={int(k): v for k, v in values["throughput_per_s"].items()},
        writing=writing
        and WritingSpeed(Latency(**writing["first_token"]), writing["tokens_per_s"]),
    )
