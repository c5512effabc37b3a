"""Bundles in processes of their own: limits that hold, clear words, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import edgedistill
from edgedistill.core.errors import BudgetExceeded, BundleError
from edgedistill.runtime.bundle import Bundle
from edgedistill.runtime.limits import bench
from edgedistill.runtime.manifest import MODEL, TOKENIZER
from edgedistill.runtime.processes import file_peak_bytes, num_starts_for, process_costs
from edgedistill.runtime.resident_memory import peak_resident_bytes
from edgedistill.runtime.worker_process import run_worker
from small_bundle import TEXTS, make_bundle

ONE_CPU = [sorted(os.sched_getaffinity(0))[-1]]


def workers() -> list[int]:
    """Processes that are workers, zombies apart."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"edgedistill.runtime.worker" in command:
            found.append(int(folder.name))
    return found


def test_bench_in_processes_of_its_own(bundle: Bundle) -> None:
    result = bench(bundle.path, threads=1, memory_mb=1000, num_samples=100, num_starts=2)
    assert not result.exceeded
    assert result.needed_bytes is None
    assert result.memory_limit_bytes == 1_000_000_000
    assert 20e6 < result.peak_memory_bytes < 1e9
    assert len(result.cold_starts_ms) == 3
    assert result.cold_start_ms == sorted(result.cold_starts_ms)[1]
    assert result.load_ms is not None
    assert result.first_answer_ms is not None
    assert 1 < result.load_ms < result.cold_start_ms
    assert 0 < result.first_answer_ms < result.cold_start_ms - result.load_ms
    assert result.speed is not None
    assert result.speed.latency.num_samples == 100
    assert result.energy is not None
    assert 0 < result.energy.joules < 1
    # What the process itself says of its affinity.
    assert result.cpus == tuple(ONE_CPU)
    assert [(limit.what, limit.enforced) for limit in result.limits] == [
        ("CPUs", True), ("memory", True),
    ]  # fmt: skip
    json.dumps(result.as_json(), allow_nan=False)


def test_a_bundle_over_its_memory_is_stopped_and_needs_what_it_takes_freely(
    bundle: Bundle,
) -> None:
    result = bench(bundle.path, memory_mb=15, num_samples=10_000_000)
    assert result.exceeded
    assert result.peak_memory_bytes > 15e6
    assert (result.speed, result.energy, result.cold_start_ms) == (None, None, None)
    freely = process_costs(bundle.path, TEXTS).peak_memory_bytes
    assert result.needed_bytes == pytest.approx(freely, rel=0.15)
    assert workers() == []


def test_memory_grabbed_at_once_is_refused_by_the_kernel() -> None:
    # As the worker confines itself; 500 MB would be there before anybody looks.
    code = (
        "from edgedistill.runtime.worker import _confine\n"
        "_confine({'data_bytes': 200_000_000})\n"
        "import numpy as np\n"
        "np.ones(10_000_000)\n"
        "print('fits', flush=True)\n"
        "np.ones(62_500_000)\n"
    )
    source = str(Path(edgedistill.__file__).parents[1])
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": source, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ended.stdout == b"fits\n"
    assert b"MemoryError" in ended.stderr


def test_a_bundle_that_fails_by_itself_is_not_said_to_lack_memory(tmp_path: Path) -> None:
    broken = make_bundle(tmp_path / "broken", replaced={MODEL: b"no model"})
    with pytest.raises(BundleError, match="measuring process failed"):
        run_worker({"path": str(broken.path), "texts": ["x"]}, memory_bytes=2**30)


def test_more_cores_than_there_are_is_said_not_to_be_enforced(bundle: Bundle) -> None:
    available = sorted(os.sched_getaffinity(0))
    result = bench(bundle.path, cores=len(available) + 1, num_samples=20, num_starts=0)
    assert not result.limits[0].enforced
    assert f"may use {len(available)}" in result.limits[0].how
    assert result.cpus == tuple(available)
    assert len(result.cold_starts_ms) == 1


def test_threads_share_the_cores_that_they_are_given(bundle: Bundle) -> None:
    result = bench(bundle.path, threads=2, cores=1, num_samples=20, num_starts=0)
    assert (result.threads, result.cpus) == (2, tuple(ONE_CPU))


def test_a_failing_worker_tells_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle here"):
        run_worker({"path": str(tmp_path / "absent"), "texts": ["x"]})


def test_a_worker_that_takes_too_long_is_stopped(bundle: Bundle) -> None:
    request = {
        "path": str(bundle.path), "texts": list(TEXTS), "num_samples": 10_000_000, "watts": 1.0,
    }  # fmt: skip
    with pytest.raises(BudgetExceeded, match="too long"):
        run_worker(request, timeout_s=0.2)
    assert workers() == []


def test_a_worker_dies_with_whoever_started_it(bundle: Bundle) -> None:
    code = (
        "from edgedistill.runtime.limits import bench\n"
        f"bench({str(bundle.path)!r}, num_starts=0, num_samples=10**7)"
    )
    source = str(Path(edgedistill.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": source}
    ) as parent:
        deadline = time.monotonic() + 300
        # Once it has read the bundle, it has long bound itself to its parent.
        while not any((peak_resident_bytes(one) or 0) > 40e6 for one in workers()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        parent.send_signal(signal.SIGKILL)
    while workers():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_costs_are_those_of_fresh_processes(bundle: Bundle) -> None:
    ballast = np.ones(40_000_000)  # 320 MB in this process
    assert (peak_resident_bytes() or 0) > 320e6
    costs = process_costs(bundle.path, TEXTS, num_starts=2)
    assert 20e6 < costs.peak_memory_bytes < 250e6
    assert len(costs.cold_starts_ms) == 2
    assert min(costs.cold_starts_ms) > 1
    del ballast


def test_a_file_that_is_no_bundle_yet_says_what_it_needs(bundle: Bundle) -> None:
    model, tokenizer = bundle.path / MODEL, bundle.files[TOKENIZER]
    wide = file_peak_bytes(model, tokenizer, [[2, 3, 4]], threads=1, memory_bytes=10**9)
    assert 20e6 < wide < 250e6
    narrow = file_peak_bytes(model, tokenizer, [[2, 3, 4]], threads=1, memory_bytes=15_000_000)
    assert narrow == pytest.approx(wide, rel=0.15)
    with pytest.raises(BundleError, match="measuring process failed"):
        file_peak_bytes(model, b"no tokenizer", [[2]], threads=1, memory_bytes=10**9)


def test_starts_are_enough_for_a_bound_of_their_median() -> None:
    assert [num_starts_for(c) for c in (0.5, 0.95, 0.99, 0.999)] == [5, 5, 7, 10]


def test_the_peak_of_a_process_that_is_gone_is_unknown() -> None:
    assert peak_resident_bytes(2**22 + 1) is None
