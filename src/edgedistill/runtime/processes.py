"""A bundle in fresh processes: what they take of memory, and how long until the first answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from edgedistill.runtime.manifest import TOKENIZER
from edgedistill.runtime.worker_process import run_worker

LEAST_STARTS = 5


@dataclass(frozen=True)
class ProcessCosts:
    """Of fresh processes that load a bundle and answer: Python, numpy and the runtime count, as
    they would on a device.

    `peak_memory_bytes`: most resident memory of any of them. `cold_starts_ms`: from starting each
    process to its first answer, the bundle's files in the page cache.
    """

    peak_memory_bytes: int
    cold_starts_ms: tuple[float, ...]


def process_costs(path: str | Path, texts: Sequence[str], *, num_starts: int = 1) -> ProcessCosts:
    """Start processes of their own, because this one may hold a teacher.

    Args:
        path: the bundle.
        texts: what the first process answers; the further ones answer the first of them.
        num_starts: how many processes.
    """
    requests = [{"path": str(path), "texts": list(texts)}]
    requests += [{"path": str(path), "texts": [texts[0]]}] * (num_starts - 1)
    ended = [run_worker(request) for request in requests]
    return ProcessCosts(
        max(one.peak_memory_bytes for one in ended),
        tuple(float(one.answer["cold_start_ms"]) for one in ended),
    )


def process_floor(kind: str, *, num_starts: int = 3) -> ProcessCosts:
    """The same of processes that load what runs bundles of a kind, and no bundle."""
    ended = [run_worker({"kind": kind}) for _ in range(num_starts)]
    return ProcessCosts(
        min(one.peak_memory_bytes for one in ended),
        tuple(float(one.answer["cold_start_ms"]) for one in ended),
    )


def file_peak_bytes(
    model: Path,
    tokenizer: bytes,
    rows: Sequence[Sequence[int]],
    *,
    threads: int,
    memory_bytes: int,
) -> int:
    """Most resident memory of a process that runs an ONNX file which is no bundle yet.

    Args:
        model: the file. tokenizer: as packed in a bundle.
        rows: token ids, run one row at a time.
        memory_bytes: the process is held to so much; what needs more says how much.
    """
    with TemporaryDirectory() as folder:
        packed = Path(folder) / TOKENIZER
        packed.write_bytes(tokenizer)
        ended = run_worker(
            {
                "model": str(model),
                "tokenizer": str(packed),
                "ids": [list(map(int, row)) for row in rows],
                "threads": threads,
            },
            memory_bytes=memory_bytes,
        )
    return ended.needed_bytes or ended.peak_memory_bytes


def num_starts_for(confidence: float) -> int:
    """Starts whose median has an upper bound at this confidence, whatever their distribution.

    The largest of n lies above the median with probability 1 - 2^-n (at 95 %: 5 starts).
    """
    return max(LEAST_STARTS, math.ceil(-math.log2(1.0 - confidence)))
