"""Starts the worker, watches its memory, and takes its answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgedistill
from edgedistill.core.errors import BudgetExceeded, BundleError
from edgedistill.runtime.resident_memory import peak_resident_bytes

_POLL_S = 0.01


@dataclass(frozen=True)
class Outcome:
    """What became of a worker.

    `answer`: what it measured; empty if it was stopped. `peak_memory_bytes`: highest resident
    memory seen. `exceeded`: it went over the limit and, unless it was already done, was killed.
    """

    answer: dict[str, Any]
    peak_memory_bytes: int
    exceeded: bool = False


def run_worker(
    request: Mapping[str, Any], *, memory_bytes: int | None = None, timeout_s: float = 600.0
) -> Outcome:
    """Run `edgedistill.runtime.worker` on a request in a process of its own.

    The limit is on resident memory. RLIMIT_AS would count address space, of which ONNX Runtime
    maps several times what it touches, and a control group needs rights that a user may not
    have. So the kernel's high-water mark of the process is watched: a peak between two looks
    is still found, only the kill comes up to 10 ms late.

    Raises:
        BundleError: the worker failed.
        BudgetExceeded: it took longer than `timeout_s`.
    """
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as told:
        asked.write(json.dumps({**request, "started": time.monotonic()}).encode())
        asked.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-m", "edgedistill.runtime.worker"],
            stdin=asked,
            stdout=subprocess.PIPE,
            stderr=told,
            env=_environment(int(request.get("threads") or 1)),
        )
        with process:
            try:
                peak, exceeded = _watch(process, memory_bytes, time.monotonic() + timeout_s)
                output = process.stdout.read() if process.stdout else b""
            finally:
                process.kill()
        if exceeded and process.returncode != 0:
            return Outcome({}, peak, exceeded=True)
        if process.returncode != 0:
            told.seek(0)
            last = told.read().decode(errors="replace").strip().splitlines()[-1:]
            raise BundleError(
                f"the measuring process failed: {' '.join(last) or process.returncode}",
                where=str(request["path"]),
            )
    answer = json.loads(output)
    peak = max(peak, int(answer["peak_memory_bytes"]))
    return Outcome(answer, peak, exceeded=memory_bytes is not None and peak > memory_bytes)


def _watch(
    process: subprocess.Popen[bytes], memory_bytes: int | None, deadline: float
) -> tuple[int, bool]:
    peak = 0
    while process.poll() is None:
        peak = max(peak, peak_resident_bytes(process.pid) or 0)
        if memory_bytes is not None and peak > memory_bytes:
            process.kill()
            process.wait()
            return peak, True
        if time.monotonic() > deadline:
            raise BudgetExceeded("measuring took too long", fix="ask for fewer samples")
        time.sleep(_POLL_S)
    return peak, False


def _environment(threads: int) -> dict[str, str]:
    package = str(Path(edgedistill.__file__).parents[1])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return {**os.environ, **limits, "PYTHONPATH": os.pathsep.join(paths)}
