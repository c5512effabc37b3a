"""Two bundles on the same rows: quality, agreement, size, speed in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.errors import DataError
from edgedistill.runtime.bundle import open_bundle
from edgedistill.runtime.loading import runner_of
from edgedistill.runtime.measuring import Latency, alternate_ms, pinned
from edgedistill.runtime.runner import Answer, Runner

NUM_TIMED = 2000


@dataclass(frozen=True)
class Side:
    """One of two bundles.

    `accuracy`: share of the labelled rows answered with their label, an abstention counting as
    wrong; None without labels. `abstention_rate`: share of all rows not answered.
    """

    path: str
    name: str
    size_bytes: int
    accuracy: float | None
    abstention_rate: float
    latency: Latency


@dataclass(frozen=True)
class Comparison:
    """What two bundles do on the same rows.

    `agreement`: share of rows with the same label or both without one. `speed_ratio`: p50 of the
    second over p50 of the first, above 1 where the first is faster; `size_ratio` likewise.
    """

    num_rows: int
    num_labelled: int
    first: Side
    second: Side
    agreement: float
    speed_ratio: float
    size_ratio: float

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def compare(
    first: str | Path,
    second: str | Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    threads: int | None = None,
    num_timed: int = NUM_TIMED,
) -> Comparison:
    """Run both bundles on `rows` ({"text", optional "label"}) and time them A B A B.

    Args:
        first, second: the bundles.
        rows: what to ask; at least one.
        threads: for both; None takes the number stated in the first.
        num_timed: timed calls of each.

    Raises:
        BundleError: one cannot be read or run. DataError: there are no rows.
    """
    if not rows:
        raise DataError("no rows to compare on", fix="a JSON Lines file with a 'text' in each row")
    bundles = [open_bundle(path) for path in (first, second)]
    threads = threads or bundles[0].manifest.threads
    runners = [runner_of(bundle, threads=threads) for bundle in bundles]
    texts = [row["text"] for row in rows]
    answers = [runner.predict(texts) for runner in runners]
    with pinned(threads):
        timed = alternate_ms(
            [_caller(runner) for runner in runners],
            texts,
            rounds=-(-num_timed // len(texts)),
        )
    labelled = [(i, row["label"]) for i, row in enumerate(rows) if row.get("label") is not None]
    sides = [
        Side(
            path=str(bundle.path),
            name=bundle.manifest.name,
            size_bytes=bundle.model_bytes,
            accuracy=_accuracy(predictions, labelled),
            abstention_rate=float(np.mean([p.abstained for p in predictions])),
            latency=Latency.of(samples),
        )
        for bundle, predictions, samples in zip(bundles, answers, timed, strict=True)
    ]
    return Comparison(
        num_rows=len(rows),
        num_labelled=len(labelled),
        first=sides[0],
        second=sides[1],
        agreement=float(np.mean([a.answer == b.answer for a, b in zip(*answers, strict=True)])),
        speed_ratio=sides[1].latency.p50_ms / sides[0].latency.p50_ms,
        size_ratio=sides[1].size_bytes / sides[0].size_bytes,
    )


def _caller(runner: Runner) -> Callable[[Any], object]:
    return lambda text: runner.predict([text])


def _accuracy(predictions: Sequence[Answer], labelled: Sequence[tuple[int, Any]]) -> float | None:
    if not labelled:
        return None
    return float(np.mean([predictions[i].answer == label for i, label in labelled]))
