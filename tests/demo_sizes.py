"""Sizes, candidates and versions of the invented report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgedistill.core.artefacts import Interval
from edgedistill.evaluate.report.content import (
    Candidate,
    FileSize,
    Footprint,
    Latency,
    PassOutcome,
)
from edgedistill.evaluate.report.versions import Version, Versions


def demo_footprints(rng: np.random.Generator) -> tuple[Footprint, Footprint]:
    samples = 0.068 + rng.gamma(2.2, 0.009, 3000)
    p50, p95, p99 = np.quantile(samples, [0.5, 0.95, 0.99])
    student = Footprint(
        1_843_211,
        Latency(float(p50), float(p95), float(p99), float(p95) + 0.002),
        Latency(0.061, 0.088, 0.107),
        28_400.0,
        71_300_000,
        (
            FileSize("model.onnx", 1_377_902),
            FileSize("tokenizer.json", 455_120),
            FileSize("guard.json", 142),
            FileSize("manifest.json", 6_310),
            FileSize("golden.jsonl", 3_737),
        ),
        tuple(samples.tolist()),
        cold_starts_ms=(231.0, 244.0, 238.0, 252.0, 236.0),
    )
    teacher = Footprint(
        90_870_000, Latency(3.15, 3.78, 4.4), Latency(3.09, 3.71, 4.3), 410.0, 412_000_000,
        samples_ms=tuple((2.9 + rng.gamma(2.0, 0.2, 1000)).tolist()),
    )  # fmt: skip
    return student, teacher


def demo_candidates() -> tuple[Candidate, ...]:
    rows = [
        ("truncated 3 layers", "truncated", 0.957, 7.6e6, 0.86, True, "larger than 2 MB"),
        ("small 2x256", "small transformer", 0.951, 3.3e6, 0.54, True, "larger than 2 MB"),
        (
            "small 1x192",
            "small transformer",
            0.941,
            2.6e6,
            0.33,
            False,
            "static 128+conv is better",
        ),
        ("static 128+conv", "static", 0.9475, 1.84e6, 0.12, True, ""),
        ("static 128", "static", 0.939, 1.75e6, 0.062, True, "0.9 points below the chosen"),
        ("static 64", "static", 0.928, 3.5e5, 0.055, True, "retention out of reach"),
        ("small 2x128", "small transformer", 0.936, 1.2e6, 0.21, True, "p95 above 0.15 ms"),
        ("linear control", "linear", 0.927, 2.9e7, 0.41, False, "larger and worse than static 64"),
    ]
    return tuple(
        Candidate(name, family, accuracy, int(size), p95, front, name == "static 128+conv", note)
        for name, family, accuracy, size, p95, front, note in rows
    )


def demo_versions() -> Versions:
    """Three versions of every candidate, the second of which is its best."""
    rows = []
    for c in demo_candidates():
        sizes = (3.6 * c.size_bytes, c.size_bytes, 0.8 * c.size_bytes)
        scores = (c.accuracy + 0.001, c.accuracy, c.accuracy - 0.008)
        for number, name in enumerate(("full precision", "int8_tables", "int8_tables + static")):
            kept = number == 1
            rows.append(Version(
                of=c.name, passes=name, size_bytes=int(sizes[number]),
                p50_ms=c.latency_p95_ms * (0.9, 0.6, 0.5)[number],
                p95_ms=c.latency_p95_ms * (1.5, 1.0, 0.8)[number],
                times_faster=(1.0, 1.5, 1.8)[number], score=scores[number],
                agreement=(1.0, 0.996, 0.975)[number], least_agreement=0.985,
                retention=None if not number else Interval(
                    scores[number] / scores[0], scores[number] / scores[0] - 0.004, 1.001
                ),
                kept=kept, chosen=kept and c.chosen,
            ))  # fmt: skip
    steps = (("full precision", 6_640_000), ("int8_tables", 2_310_000), ("static_int8", 1_843_211))
    costs = [(-row.score, row.size_bytes, row.p95_ms) for row in rows]
    rows = [
        replace(row, on_front=not any(
            other != own and all(a <= b for a, b in zip(other, own, strict=True))
            for other in costs
        ))
        for row, own in zip(rows, costs, strict=True)
    ]  # fmt: skip
    return Versions(tuple(rows), "teacher", 90_870_000, 3.78, 0.963, steps)


def demo_passes() -> tuple[PassOutcome, ...]:
    return (
        PassOutcome(
            "vocabulary pruning",
            True,
            "64% fewer bytes for 0.1 points",
            11_900_000,
            4_280_000,
            0.13,
            0.13,
            0.9490,
            0.9481,
        ),
        PassOutcome(
            "int8 embeddings",
            True,
            "57% fewer bytes, no loss that the interval shows",
            4_280_000,
            1_843_211,
            0.13,
            0.12,
            0.9481,
            0.9475,
        ),
        PassOutcome(
            "dynamic int8",
            False,
            "slower: 0.19 ms against 0.12 ms, as the products are too small to pay",
            1_843_211,
            1_801_004,
            0.12,
            0.19,
            0.9475,
            0.9470,
        ),
    )
