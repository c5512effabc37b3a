"""A bundle on a small device: speed, memory, energy with few CPUs and little memory."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from edgedistill.core.errors import BundleError
from edgedistill.runtime.bundle import open_bundle
from edgedistill.runtime.energy import DEFAULT_WATTS, Energy
from edgedistill.runtime.manifest import GOLDEN
from edgedistill.runtime.measuring import Latency, Speed, WritingSpeed
from edgedistill.runtime.processes import LEAST_STARTS
from edgedistill.runtime.providers import CPU, providers_of
from edgedistill.runtime.resident_memory import peak_resident_bytes
from edgedistill.runtime.verification import golden_texts
from edgedistill.runtime.worker_process import DATA_FACTOR, Outcome, run_worker

NUM_SAMPLES = 2000


@dataclass(frozen=True)
class Limit:
    """A limit that was asked for: whether it was enforced, and how, or why it could not be."""

    what: str
    asked: str
    enforced: bool
    how: str


@dataclass(frozen=True)
class BenchResult:
    """What a bundle took in processes of its own.

    `cpus`: those that the measured process says it may use. `cold_starts_ms`: from starting each
    process to its first answer, `cold_start_ms` their median; `load_ms`, `first_answer_ms`: of the
    median start, imports and loading, and the first answer. `peak_memory_bytes`: resident, Python
    and libraries included. `exceeded`: it needed more memory than the limit, namely `needed_bytes`;
    figures it did not live to give are None. `limits`: how each was kept, and what could not be.
    """

    size_bytes: int
    threads: int
    cpus: tuple[int, ...]
    memory_limit_bytes: int | None
    exceeded: bool
    needed_bytes: int | None
    peak_memory_bytes: int
    cold_start_ms: float | None
    cold_starts_ms: tuple[float, ...]
    load_ms: float | None
    first_answer_ms: float | None
    speed: Speed | None
    energy: Energy | None
    limits: tuple[Limit, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def bench(
    path: str | Path,
    *,
    threads: int | None = None,
    cores: int | None = None,
    memory_mb: float | None = None,
    watts: float | None = None,
    provider: str = CPU,
    num_samples: int = NUM_SAMPLES,
    num_starts: int = LEAST_STARTS,
) -> BenchResult:
    """Measure a bundle on its own golden texts, in fresh processes under limits.

    Args:
        path: the bundle.
        threads: threads of the runtime; None takes the number stated in the bundle.
        cores: CPUs that the processes may use; None: as many as threads.
        memory_mb: limit of resident memory in 10^6 bytes; None: no limit.
        watts: power of one busy core, for the estimate of energy where nothing counts it; None
            takes `energy.DEFAULT_WATTS`.
        provider: as `load` takes it. Memory and energy are those of the processor alone.
        num_samples: calls for each latency.
        num_starts: processes that are started for the cold start, beside the one that is measured.

    Raises:
        BundleError: the bundle cannot be read or run. SpecError: a provider that is not there.
    """
    if provider != CPU:  # refused here: of a process that fails, only the words come back
        providers_of(provider)
    bundle = open_bundle(path)
    texts = golden_texts(bundle.files[GOLDEN])
    if not texts:
        raise BundleError("there are no golden examples", where=GOLDEN, fix="make the bundle again")
    threads = threads or bundle.manifest.threads
    memory_bytes = round(memory_mb * 1e6) if memory_mb is not None else None
    cpus, limit_of_cpus = _choose_cpus(cores or threads)
    common = {"path": str(path), "threads": threads, "cpus": cpus, "provider": provider}
    requests: list[dict[str, Any]] = [{"texts": texts[:1]}] * num_starts
    requests = [
        *requests,
        {"texts": texts, "num_samples": num_samples, "watts": watts or DEFAULT_WATTS},
    ]
    ended: list[Outcome] = []
    for request in requests:
        ended.append(run_worker({**common, **request}, memory_bytes=memory_bytes))
        if ended[-1].exceeded:
            break
    starts = sorted((one.answer for one in ended if one.answer), key=lambda a: a["cold_start_ms"])
    last, middle = ended[-1], starts[(len(starts) - 1) // 2] if starts else {}
    limits: tuple[Limit, ...] = (limit_of_cpus,)
    if memory_bytes is not None:
        limits += (_limit_of_memory(memory_bytes, by_group=last.by_control_group),)
    return BenchResult(
        size_bytes=bundle.model_bytes,
        threads=threads,
        cpus=tuple(last.answer.get("cpus", ())),
        memory_limit_bytes=memory_bytes,
        exceeded=last.exceeded,
        needed_bytes=last.needed_bytes,
        peak_memory_bytes=max(one.peak_memory_bytes for one in ended),
        cold_start_ms=median(a["cold_start_ms"] for a in starts) if starts else None,
        cold_starts_ms=tuple(one.answer["cold_start_ms"] for one in ended if one.answer),
        load_ms=middle.get("load_ms"),
        first_answer_ms=middle.get("first_answer_ms"),
        speed=_speed(last.answer["speed"]) if "speed" in last.answer else None,
        energy=Energy(**last.answer["energy"]) if "energy" in last.answer else None,
        limits=limits,
    )


def _choose_cpus(cores: int) -> tuple[list[int], Limit]:
    asked = f"{cores} core{'s' if cores > 1 else ''}"
    if not hasattr(os, "sched_getaffinity"):
        return [], Limit("CPUs", asked, False, "this system cannot pin a process")
    available = sorted(os.sched_getaffinity(0))
    if len(available) < cores:
        how = f"this process may use {len(available)}, and so does the bundle"
        return [], Limit("CPUs", asked, False, how)
    # The first CPU of a machine serves most of its interrupts: take the last ones.
    chosen = available[-cores:]
    how = f"pinned to {', '.join(map(str, chosen))}, which run as fast as ever"
    return chosen, Limit("CPUs", asked, True, how)


def _limit_of_memory(memory_bytes: int, *, by_group: bool) -> Limit:
    asked = f"{memory_bytes / 1e6:g} MB"
    watched = "resident peak watched every 10 ms, the process killed above the limit"
    if peak_resident_bytes(os.getpid()) is None:
        return Limit("memory", asked, False, "only compared with the peak at the end")
    if by_group:
        return Limit("memory", asked, True, f"control group; {watched}")
    how = f"{watched}; no control group can be made here: between two looks RLIMIT_DATA holds it"
    return Limit("memory", asked, True, f"{how}, at {DATA_FACTOR} times the limit")


def _speed(values: dict[str, Any]) -> Speed:
    writing = values["writing"]
    return Speed(
        latency=Latency(**values["latency"]),
        model_latency=Latency(**values["model_latency"]),
        throughput_per_s={int(k): v for k, v in values["throughput_per_s"].items()},
        writing=writing
        and WritingSpeed(Latency(**writing["first_token"]), writing["tokens_per_s"]),
    )
