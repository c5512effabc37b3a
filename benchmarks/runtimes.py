"""What runs a student fastest: runtimes, ONNX Runtime's levels, transformer fusions, torch.compile.

python benchmarks/runtimes.py            writes docs/results/runtimes.md and .json
python benchmarks/runtimes.py --quick    a network of toy sizes and few texts, writes nothing

Three layers of all-MiniLM-L6-v2 with the tokens of CLINC150, untrained (weights change no time), on
100 of its validation texts, one text a call, tokenization left out, one thread. All cases take
turns in one process; a speed-up is a ratio of medians of one round, its bounds the extremes over
the rounds. What is not installed is skipped and named. How files are made: runtime_cases.py.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.pipeline.packaging import machine, versions
from edgedistill.runtime.measuring import alternate_ms
from results import Result, write_results
from runtime_cases import Case, Cases, real_network, toy_network

COMMAND = "python benchmarks/runtimes.py"
NUM_TEXTS, NUM_ROUNDS = 100, 7
#: Enough for every round on a busy machine.
MOST_S = 400.0
#: A runtime or a step of the export is worth its trouble from here on.
WORTH, STEP_WORTH = 1.2, 1.05
#: Claim, the case, what it is held against, the bar.
CLAIMS = (
    ("LiteRT INT8 over ONNX Runtime dynamic INT8", "LiteRT INT8", "ORT dynamic INT8", WORTH),
    ("LiteRT INT4 over ONNX Runtime INT4 by groups", "LiteRT INT4", "ORT group INT4", WORTH),
    ("LiteRT over ONNX Runtime, full precision", "LiteRT fp32", "ORT fp32", WORTH),
    ("OpenVINO over ONNX Runtime, full precision", "OpenVINO fp32", "ORT fp32", WORTH),
    ("OpenVINO over ONNX Runtime, dynamic INT8", "OpenVINO dynamic INT8", "ORT dynamic INT8",
     WORTH),
    ("TensorRT over ONNX Runtime on the CPU, full precision", "TensorRT fp32", "ORT fp32", WORTH),
    ("transformer fusions before the session's own, full precision", "ORT fp32, fused",
     "ORT fp32", STEP_WORTH),
    ("transformer fusions, then dynamic INT8", "ORT fused, then dynamic INT8", "ORT dynamic INT8",
     STEP_WORTH),
    ("dynamic INT8, then transformer fusions", "ORT dynamic INT8, fused", "ORT dynamic INT8",
     STEP_WORTH),
    ("INT4 by groups, then transformer fusions", "ORT group INT4, fused", "ORT group INT4",
     STEP_WORTH),
    ("torch.compile over torch", "torch.compile fp32", "torch fp32", STEP_WORTH),
    ("ONNX Runtime over torch.compile, full precision", "ORT fp32", "torch.compile fp32", 1.0),
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        network, rows = toy_network() if quick else real_network(NUM_TEXTS)
        cases = Cases(network, rows, Path(folder), compiles=not quick).all()
    measured = [each for each in cases if isinstance(each, Case)]
    skipped = [each for each in cases if not isinstance(each, Case)]
    times = _times(measured, rows, 1 if quick else NUM_ROUNDS)
    differences = _differences(measured, rows)
    results = _results(times)
    table = _table(measured, times, differences)
    for line in (*table, *(f"skipped: {each}" for each in skipped)):
        print(line)
    for each in results:
        print(f"{each.claim}: {each.value:.2f} ({each.low:.2f} … {each.high:.2f}), {each.bar}")
    if not quick:
        write_results("runtimes", "Runtimes side by side", results, _notes(table, skipped, rows))
    return 0


def _times(cases: list[Case], rows: list[list[int]], num_rounds: int) -> dict[str, np.ndarray]:
    """Median milliseconds of each case in each round."""
    taken = alternate_ms([case.call for case in cases], rows, rounds=num_rounds, max_s=MOST_S)
    whole = min(len(each) for each in taken) // len(rows)
    return {
        case.name: np.median(each[: whole * len(rows)].reshape(whole, -1), axis=1)
        for case, each in zip(cases, taken, strict=True)
    }


def _differences(cases: list[Case], rows: list[list[int]]) -> dict[str, float]:
    """Largest difference of any logit from torch's, over the spread of torch's logits."""
    exact = np.concatenate([cases[0].call(ids) for ids in rows])
    return {
        case.name: float(
            np.abs(np.concatenate([case.call(ids) for ids in rows]) - exact).max() / exact.std()
        )
        for case in cases
    }


def _results(times: dict[str, np.ndarray]) -> list[Result]:
    found = []
    for claim, name, against, bar in CLAIMS:
        if name in times and against in times:
            ratios = times[against] / times[name]
            value = float(np.median(ratios))
            found.append(
                Result(claim, value, float(ratios.min()), float(ratios.max()), "times",
                       f"≥ {bar}", value >= bar, [0], COMMAND, machine())
            )  # fmt: skip
    return found


def _table(
    cases: list[Case], times: dict[str, np.ndarray], differences: dict[str, float]
) -> list[str]:
    lines = ["| case | MB | p50 ms | largest difference of a logit | how |",
             "| --- | --- | --- | --- | --- |"]  # fmt: skip
    for case in cases:
        size = f"{case.size_bytes / 1e6:.2f}" if case.size_bytes else ""
        lines.append(
            f"| {case.name} | {size} | {np.median(times[case.name]):.3f} "
            f"| {differences[case.name]:.2g} σ | {case.how} |"
        )
    return lines


def _notes(table: list[str], skipped: list[str], rows: list[list[int]]) -> list[str]:
    lengths = np.array([len(ids) for ids in rows])
    installed: dict[str, Any] = versions()
    return [
        f"{len(rows)} texts of {lengths.min()} to {lengths.max()} tokens, {lengths.mean():.1f} on "
        "average. Differences are of logits of an untrained head, in their standard deviations: "
        "they show that a file computes the same, not what rounding costs a trained student. The "
        "machine was shared: compare ratios, which were taken in turns, not milliseconds.",
        "",
        *table,
        "",
        *(f"- Skipped: {each}." for each in skipped),
        "",
        f"Versions: `{json.dumps(installed)}`.",
    ]


if __name__ == "__main__":
    raise SystemExit(main())
