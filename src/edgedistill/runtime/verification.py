"""Golden examples: what a bundle answered when it was made, and whether it still does."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.errors import BundleError
from edgedistill.runtime.bundle import open_bundle
from edgedistill.runtime.loading import runner_of
from edgedistill.runtime.manifest import GOLDEN
from edgedistill.runtime.providers import CPU
from edgedistill.runtime.runner import Runner


@dataclass(frozen=True)
class Mismatch:
    """A golden example that is answered otherwise on this machine.

    `expected`, `answered`: label or text, or the reason of an abstention.
    """

    text: str
    expected: str
    answered: str
    logit_difference: float


@dataclass(frozen=True)
class Verification:
    """Whether a bundle keeps its promise on this machine.

    `max_logit_difference`: largest absolute difference over all golden examples.
    `most_mismatches`: golden examples that may differ: a generated text can turn on the last bit
    of a kernel. `unlisted`: files beside the bundle's own that no digest covers.
    """

    num_files: int
    num_examples: int
    mismatches: tuple[Mismatch, ...]
    max_logit_difference: float
    tolerance: float
    unlisted: tuple[str, ...]
    most_mismatches: int = 0

    @property
    def holds(self) -> bool:
        """Every file as hashed and the golden examples answered as recorded."""
        return len(self.mismatches) <= self.most_mismatches

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON; a difference that is not finite becomes null."""
        values = {"holds": self.holds, **asdict(self)}
        for place in (values, *values["mismatches"]):
            for key in ("max_logit_difference", "logit_difference"):
                if not math.isfinite(place.get(key, 0.0)):
                    place[key] = None
        return values


def golden_examples(runner: Runner, texts: Sequence[str]) -> bytes:
    """The contents of `golden.jsonl`: texts with the answers of now, asked one at a time."""
    rows = [runner.golden_row(text) for text in texts]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def golden_texts(content: bytes) -> list[str]:
    """The texts of `golden.jsonl`."""
    return [str(row["text"]) for row in _rows(content)]


def verify(path: str | Path, *, threads: int | None = None, provider: str = CPU) -> Verification:
    """Check every hash, then run every golden example on this machine.

    Args:
        threads, provider: as `load` takes them.

    Raises:
        BundleError: a file is damaged, missing, or the bundle does not run at all.
        SpecError: a provider that is not there, or that this bundle cannot use.
    """
    bundle = open_bundle(path)
    runner = runner_of(bundle, threads=threads, provider=provider)
    rows = _rows(bundle.files[GOLDEN])
    if not rows:
        raise BundleError("there are no golden examples", where=GOLDEN, fix="make the bundle again")
    tolerance = bundle.manifest.golden_tolerance
    differences, mismatches = [], []
    for row in rows:
        mismatch = _compared(runner, row)
        differences.append(mismatch.logit_difference)
        # `not <=` so that a difference that is not a number counts.
        same = mismatch.answered == mismatch.expected
        if not same or not mismatch.logit_difference <= tolerance:
            mismatches.append(mismatch)
    return Verification(
        num_files=len(bundle.manifest.files),
        num_examples=len(rows),
        mismatches=tuple(mismatches),
        max_logit_difference=float(np.max(differences)),
        tolerance=tolerance,
        unlisted=bundle.unlisted,
        most_mismatches=0 if "label" in rows[0] else int(tolerance * len(rows)),
    )


def _compared(runner: Runner, row: dict[str, Any]) -> Mismatch:
    found = runner.predict([row["text"]])[0]
    expected = row["label"] if "label" in row else row["answer"]
    return Mismatch(
        text=row["text"],
        expected=expected if expected is not None else f"abstains: {row['reason']}",
        answered=found.answer if found.answer is not None else f"abstains: {found.reason}",
        logit_difference=runner.golden_difference(row),
    )


def _rows(content: bytes) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in content.decode().split("\n") if line]
        classified, generated = {"text", "label", "reason", "logits"}, {"text", "answer", "reason"}
        if all(classified <= row.keys() or generated <= row.keys() for row in rows):
            return rows
    except (ValueError, AttributeError) as error:
        raise BundleError(f"not JSON Lines: {error}", where=GOLDEN) from error
    raise BundleError(
        "a row lacks text, reason, or its answer (label and logits)",
        where=GOLDEN,
        fix="make the bundle again",
    )
