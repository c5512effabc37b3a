"""Runs in a process of its own: loads a bundle, answers, measures; JSON in, JSON out.

    python -m edgedistill.runtime.worker < request.json

The request names `path`, `texts`, and optionally `threads`, `cpus`, `num_samples` (measure the
speed with so many calls) and `started` (clock of the parent when it started this process).
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from typing import Any

from edgedistill.core.errors import EdgeDistillError
from edgedistill.runtime.resident_memory import peak_resident_bytes


def work(request: dict[str, Any]) -> dict[str, Any]:
    """Carry out one request."""
    begun = time.monotonic()
    # Before numpy and ONNX Runtime are imported: their threads inherit it.
    if request.get("cpus"):
        os.sched_setaffinity(0, request["cpus"])
    from edgedistill.runtime.loading import load

    runner = load(request["path"], threads=request.get("threads"))
    texts = request["texts"]
    runner.predict(texts[:1])
    ready = time.monotonic()
    answer: dict[str, Any] = {
        "load_ms": 1000.0 * (ready - begun),
        "cold_start_ms": 1000.0 * (ready - request.get("started", begun)),
    }
    if request.get("num_samples"):
        from edgedistill.runtime.measuring import measure_speed

        answer["speed"] = asdict(measure_speed(runner, texts, num_samples=request["num_samples"]))
    else:
        runner.predict(texts)
    answer["peak_memory_bytes"] = peak_resident_bytes()
    return answer


if __name__ == "__main__":
    try:
        json.dump(work(json.load(sys.stdin)), sys.stdout)
    except EdgeDistillError as error:
        sys.exit(error.what)
