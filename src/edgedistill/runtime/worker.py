"""Runs in a process of its own: loads a bundle, answers, measures; JSON in, JSON out.

    python -m edgedistill.runtime.worker < request.json

The request names `kind` alone, to load what runs bundles of a kind and nothing else; or `model`,
`tokenizer` and `ids`, to run a file that is no bundle yet; or `path` and `texts`. All take
`threads`, `cpus`, `data_bytes` (most memory that the kernel lets it write to) and `started` (clock
of the parent when it started this process); the last also `num_samples` (measure the speed with so
many calls) and `watts` (with it the energy, at that power of a busy core).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict
from typing import Any

from edgedistill.core.errors import EdgeDistillError
from edgedistill.runtime.resident_memory import peak_resident_bytes

_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


def work(request: dict[str, Any]) -> dict[str, Any]:
    """Carry out one request."""
    begun = time.monotonic()
    # Before numpy and ONNX Runtime are imported: their threads inherit it.
    _confine(request)
    from edgedistill.runtime.loading import RUNNERS, load

    if "kind" in request:
        RUNNERS.load(request["kind"])
    if "model" in request:
        _run_file(request)
    if "kind" in request or "model" in request:
        return {
            "cold_start_ms": 1000.0 * (time.monotonic() - request["started"]),
            "peak_memory_bytes": peak_resident_bytes(),
        }
    from edgedistill.runtime.providers import CPU

    runner = load(
        request["path"], threads=request.get("threads"), provider=request.get("provider", CPU)
    )
    loaded = time.monotonic()
    texts = request["texts"]
    runner.predict(texts[:1])
    ready = time.monotonic()
    answer: dict[str, Any] = {
        "load_ms": 1000.0 * (loaded - begun),
        "first_answer_ms": 1000.0 * (ready - loaded),
        "cold_start_ms": 1000.0 * (ready - request.get("started", begun)),
    }
    if request.get("num_samples"):
        from edgedistill.runtime.energy import measure_energy
        from edgedistill.runtime.measuring import measure_speed

        answer["speed"] = asdict(measure_speed(runner, texts, num_samples=request["num_samples"]))
        energy = measure_energy(lambda text: runner.predict([text]), texts, watts=request["watts"])
        answer["energy"] = asdict(energy)
    else:
        runner.predict(texts)
    if hasattr(os, "sched_getaffinity"):
        answer["cpus"] = sorted(os.sched_getaffinity(0))
    answer["peak_memory_bytes"] = peak_resident_bytes()
    return answer


def _run_file(request: dict[str, Any]) -> None:
    """A model file with its tokenizer beside it, on rows of token ids."""
    from pathlib import Path

    import numpy as np

    from edgedistill.runtime.networks import load_network
    from edgedistill.runtime.tokenizer import Tokenizer

    session = load_network(Path(request["model"]).read_bytes(), threads=request.get("threads") or 1)
    tokenizer = Tokenizer(Path(request["tokenizer"]).read_bytes())
    for ids in request["ids"]:
        row = np.array([ids], np.int64)
        session.run(row, np.ones_like(row))
    # Held until here, as a runner would hold it.
    del tokenizer


def _confine(request: dict[str, Any]) -> None:
    """Keep to the CPUs and the memory asked for, and to the life of the parent."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if request.get("cpus"):
        os.sched_setaffinity(0, request["cpus"])
    if request.get("data_bytes"):
        import resource

        most = resource.getrlimit(resource.RLIMIT_DATA)[1]
        asked = request["data_bytes"]
        kept = asked if most == resource.RLIM_INFINITY else min(asked, most)
        resource.setrlimit(resource.RLIMIT_DATA, (kept, kept))


if __name__ == "__main__":
    try:
        json.dump(work(json.load(sys.stdin)), sys.stdout)
    except EdgeDistillError as error:
        sys.exit(error.what)
    except MemoryError:
        sys.exit("out of memory")
