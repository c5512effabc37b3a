"""Starts the worker, keeps it to its memory, and takes its answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgedistill
from edgedistill.core.errors import BudgetExceeded, BundleError
from edgedistill.runtime.control_group import ControlGroup
from edgedistill.runtime.resident_memory import peak_resident_bytes

_POLL_S = 0.01
DATA_FACTOR = 2
"""Memory that the kernel lets a process write to, over the limit of its resident memory, where no
control group can be made. Part of what may be written never is (stacks of threads, arenas): at the
limit itself, processes would be refused that stay below it."""


@dataclass(frozen=True)
class Outcome:
    """What became of a worker.

    `answer`: what it measured; empty if it was stopped. `peak_memory_bytes`: highest resident
    memory seen. `exceeded`: it went over the limit and, unless it was already done, was killed.
    `needed_bytes`: of one that went over, what it takes without a limit to load and to answer.
    `by_control_group`: the kernel kept the limit; else resident memory was watched.
    """

    answer: dict[str, Any]
    peak_memory_bytes: int
    exceeded: bool = False
    needed_bytes: int | None = None
    by_control_group: bool = False


def run_worker(
    request: Mapping[str, Any], *, memory_bytes: int | None = None, timeout_s: float = 600.0
) -> Outcome:
    """Run `edgedistill.runtime.worker` on a request in a process of its own.

    The limit is on resident memory, and the kernel's high-water mark of the process decides: it is
    looked at every 10 ms, and a peak between two looks is still found, only the kill comes late.
    What a process could take in the meantime is bounded by a control group with the same limit, or
    where none can be made by RLIMIT_DATA at twice the limit. RLIMIT_AS would count address space,
    of which ONNX Runtime maps several times what it touches.

    Nothing of the worker outlives the call, nor the death of this process.

    Raises:
        BundleError: the worker failed, and not for want of memory.
        BudgetExceeded: it took longer than `timeout_s`.
    """
    with _group(memory_bytes) as group:
        limited = dict(request)
        if memory_bytes is not None and group is None and sys.platform == "linux":
            limited["data_bytes"] = DATA_FACTOR * memory_bytes
        ended = _run(limited, memory_bytes, timeout_s, group)
    if ended.code == 0:
        answer = json.loads(ended.output)
        peak = max(ended.peak, int(answer["peak_memory_bytes"]))
        over = memory_bytes is not None and peak > memory_bytes
        return Outcome(answer, peak, over, peak if over else None, group is not None)
    if memory_bytes is None:
        raise BundleError(
            f"the measuring process failed: {ended.last_words or ended.code}",
            where=str(request.get("path", "edgedistill.runtime")),
        )
    # Libraries that are refused memory end in many ways (an import error, an abort, a crash), few
    # of which say so. Without the limit it fails for its own reason, or the limit was the reason.
    free = run_worker({**request, "num_samples": 0}, timeout_s=timeout_s)
    needed = max(ended.peak, free.peak_memory_bytes)
    return Outcome({}, ended.peak, True, needed, group is not None)


@dataclass(frozen=True)
class _Ended:
    code: int
    output: bytes
    last_words: str
    peak: int


def _run(
    request: Mapping[str, Any],
    memory_bytes: int | None,
    timeout_s: float,
    group: ControlGroup | None,
) -> _Ended:
    command = [sys.executable, "-m", "edgedistill.runtime.worker"]
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as told:
        asked.write(json.dumps({**request, "started": time.monotonic()}).encode())
        asked.seek(0)
        process = subprocess.Popen(
            group.command(command) if group else command,
            stdin=asked,
            stdout=subprocess.PIPE,
            stderr=told,
            env=_environment(int(request.get("threads") or 1)),
            process_group=0,
        )
        with process:
            try:
                peak = _watch(process, memory_bytes, time.monotonic() + timeout_s)
                output = process.stdout.read() if process.stdout else b""
            finally:
                _kill(process)
        told.seek(0)
        last = told.read().decode(errors="replace").strip().splitlines()[-1:]
    return _Ended(process.returncode, output, " ".join(last), peak)


def _watch(process: subprocess.Popen[bytes], memory_bytes: int | None, deadline: float) -> int:
    """Wait for the end, or make it where memory or time is over; the peak that was seen."""
    peak = 0
    while process.poll() is None:
        peak = max(peak, peak_resident_bytes(process.pid) or 0)
        if memory_bytes is not None and peak > memory_bytes:
            _kill(process)
            process.wait()
            break
        if time.monotonic() > deadline:
            raise BudgetExceeded("measuring took too long", fix="ask for fewer samples")
        time.sleep(_POLL_S)
    return peak


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The worker, and whatever it has started: they are one group of processes."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def _group(memory_bytes: int | None) -> Iterator[ControlGroup | None]:
    group = ControlGroup.make(memory_bytes) if memory_bytes is not None else None
    try:
        yield group
    finally:
        if group is not None:
            group.remove()


def _environment(threads: int) -> dict[str, str]:
    package = str(Path(edgedistill.__file__).parents[1])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return {**os.environ, **limits, "PYTHONPATH": os.pathsep.join(paths)}
