"""Several bundles on the same rows: quality, agreement, size, speed in turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.errors import DataError
from edgedistill.runtime.bundle import Bundle, open_bundle
from edgedistill.runtime.loading import runner_of
from edgedistill.runtime.manifest import MANIFEST
from edgedistill.runtime.measuring import CONFIDENCE, Latency, alternate_ms, block_sizes, pinned
from edgedistill.runtime.runner import Answer, Runner

NUM_TIMED = 2000
#: Where a row may say what is right: a label, a text, a record.
EXPECTED = ("label", "response", "record")
_LEAST_BLOCKS = 6
_NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class SpeedUp:
    """How many times faster than the first: median of the ratios of p50 by block of calls, with the
    bounds of a bootstrap over blocks; None where there are too few."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Side:
    """One of several bundles.

    `label`: its name, or its path where others have the same name. `accuracy`: share of the rows
    that say what is right answered so, an abstention counting as wrong; None without such rows.
    `abstention_rate`: share of all rows not answered. `agreement`: share of rows with the same
    answer as the first bundle, or both without one. `times_smaller`: bytes of the first over its
    own. `failed`: what its own verdict found not to hold. `right`: of each row that says what is
    right. `samples_ms`: every timed call.
    """

    label: str
    path: str
    name: str
    size_bytes: int
    times_smaller: float
    latency: Latency
    times_faster: SpeedUp
    accuracy: float | None
    abstention_rate: float
    agreement: float
    failed: tuple[str, ...]
    right: tuple[bool, ...]
    samples_ms: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON, without the values of single rows and calls."""
        values = asdict(self)
        return {k: v for k, v in values.items() if k not in ("right", "samples_ms")}


@dataclass(frozen=True)
class Comparison:
    """What bundles do on the same rows; the first is what the others are compared with."""

    num_rows: int
    num_labelled: int
    threads: int
    sides: tuple[Side, ...]


def compare(
    paths: Sequence[str | Path],
    rows: Sequence[Mapping[str, Any]],
    *,
    threads: int | None = None,
    num_timed: int = NUM_TIMED,
) -> Comparison:
    """Run bundles on `rows` ({"text", optional "label", "response" or "record"}), timed A B A B.

    Args:
        paths: the bundles, or folders of runs; the original first.
        rows: what to ask; at least one.
        threads: for all; None takes the number stated in the first.
        num_timed: timed calls of each.

    Raises:
        BundleError: one cannot be read or run. DataError: there are no rows.
    """
    if not rows:
        raise DataError("no rows to compare on", fix="a JSON Lines file with a 'text' in each row")
    bundles = [open_bundle(_bundle_in(Path(path))) for path in paths]
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
    expected = [(i, known) for i, row in enumerate(rows) if (known := _expected(row)) is not None]
    names = [bundle.manifest.name for bundle in bundles]
    blocks = list(block_sizes(len(timed[0]), len(texts)))
    sides = []
    for bundle, found, samples in zip(bundles, answers, timed, strict=True):
        right = tuple(_is_right(found[i].answer, known) for i, known in expected)
        name = bundle.manifest.name
        sides.append(Side(
            label=name if names.count(name) == 1 else str(bundle.path),
            path=str(bundle.path),
            name=name,
            size_bytes=bundle.model_bytes,
            times_smaller=bundles[0].model_bytes / bundle.model_bytes,
            latency=Latency.of(samples),
            times_faster=speed_up(timed[0], samples, blocks),
            accuracy=float(np.mean(right)) if right else None,
            abstention_rate=float(np.mean([answer.abstained for answer in found])),
            agreement=_agreement(answers[0], found),
            failed=_failed(bundle),
            right=right,
            samples_ms=tuple(samples.tolist()),
        ))  # fmt: skip
    return Comparison(len(rows), len(expected), threads, tuple(sides))


def speed_up(first: np.ndarray, other: np.ndarray, blocks: Sequence[int]) -> SpeedUp:
    """How many times faster `other` is than `first`, both timed in turn, block by block.

    Blocks stand beside each other in time, so that what slows the machine down slows both: it
    cancels in each ratio, and what is left is how far the ratios scatter.

    Args:
        first, other: milliseconds of every call, in order. blocks: calls in each block.
    """
    ends = np.cumsum(blocks)
    ratios = np.array([
        np.median(first[end - size : end]) / np.median(other[end - size : end])
        for end, size in zip(ends, blocks, strict=True)
    ])  # fmt: skip
    value = float(np.median(ratios))
    if len(ratios) < _LEAST_BLOCKS:
        return SpeedUp(value)
    drawn = np.random.default_rng(0).integers(len(ratios), size=(_NUM_RESAMPLES, len(ratios)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.median(ratios[drawn], axis=1), [tail, 1 - tail])
    return SpeedUp(value, float(low), float(high))


def _bundle_in(path: Path) -> Path:
    """A bundle, or that of a run's folder."""
    inner = path / "bundle"
    return inner if (inner / MANIFEST).is_file() and not (path / MANIFEST).exists() else path


def _caller(runner: Runner) -> Callable[[Any], object]:
    return lambda text: runner.predict([text])


def _expected(row: Mapping[str, Any]) -> Any:
    return next((row[key] for key in EXPECTED if row.get(key) is not None), None)


def _is_right(answer: str | None, expected: Any) -> bool:
    """Whether an answer is what a row says, white space around and the form of JSON apart."""
    if answer is None:
        return False
    if isinstance(expected, dict | list):
        try:
            return bool(json.loads(answer) == expected)
        except ValueError:
            return False
    return answer.strip() == str(expected).strip()


def _agreement(first: Sequence[Answer], other: Sequence[Answer]) -> float:
    return float(np.mean([a.answer == b.answer for a, b in zip(first, other, strict=True)]))


def _failed(bundle: Bundle) -> tuple[str, ...]:
    judgements = bundle.manifest.requirements
    return tuple(str(j.get("requirement")) for j in judgements if not j.get("holds", True))
