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
from edgedistill.runtime.classification import Classifier
from edgedistill.runtime.loading import runner_of
from edgedistill.runtime.manifest import GOLDEN


@dataclass(frozen=True)
class Mismatch:
    """A golden example that is answered otherwise on this machine.

    `expected`, `answered`: label, or the reason of an abstention.
    """

    text: str
    expected: str
    answered: str
    logit_difference: float


@dataclass(frozen=True)
class Verification:
    """Whether a bundle keeps its promise on this machine.

    `max_logit_difference`: largest absolute difference over all golden examples.
    `unlisted`: files beside the bundle's own that no digest covers.
    """

    num_files: int
    num_examples: int
    mismatches: tuple[Mismatch, ...]
    max_logit_difference: float
    tolerance: float
    unlisted: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Every file as hashed and every golden example answered as recorded."""
        return not self.mismatches

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON; a difference that is not finite becomes null."""
        values = {"holds": self.holds, **asdict(self)}
        for place in (values, *values["mismatches"]):
            for key in ("max_logit_difference", "logit_difference"):
                if not math.isfinite(place.get(key, 0.0)):
                    place[key] = None
        return values


def golden_examples(classifier: Classifier, texts: Sequence[str]) -> bytes:
    """The contents of `golden.jsonl`: texts with the answers and the logits of now.

    A row is {"text", "label" (null if abstained), "reason" (null if answered), "logits"}.
    """
    rows = [
        {
            "text": text,
            "label": prediction.label,
            "reason": prediction.reason,
            "logits": [float(f"{value:.7g}") for value in classifier.logits([text])[0]],
        }
        # One at a time, as they will be verified.
        for text, prediction in ((text, classifier.predict([text])[0]) for text in texts)
    ]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def golden_texts(content: bytes) -> list[str]:
    """The texts of `golden.jsonl`."""
    return [str(row["text"]) for row in _rows(content)]


def verify(path: str | Path, *, threads: int | None = None) -> Verification:
    """Check every hash, then run every golden example on this machine.

    Raises:
        BundleError: a file is damaged, missing, or the bundle does not run at all.
    """
    bundle = open_bundle(path)
    classifier = runner_of(bundle, threads=threads)
    rows = _rows(bundle.files[GOLDEN])
    if not rows:
        raise BundleError("there are no golden examples", where=GOLDEN, fix="make the bundle again")
    tolerance = bundle.manifest.golden_tolerance
    differences, mismatches = [], []
    for row in rows:
        mismatch = _compared(classifier, row)
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
    )


def _compared(classifier: Classifier, row: dict[str, Any]) -> Mismatch:
    text = row["text"]
    prediction = classifier.predict([text])[0]
    expected = np.asarray(row["logits"], dtype=np.float64)
    logits = classifier.logits([text])[0]
    difference = (
        float(np.abs(logits - expected).max()) if expected.shape == logits.shape else float("inf")
    )
    return Mismatch(
        text=text,
        expected=row["label"] if row["label"] is not None else f"abstains: {row['reason']}",
        answered=prediction.label
        if prediction.label is not None
        else f"abstains: {prediction.reason}",
        logit_difference=difference,
    )


def _rows(content: bytes) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in content.decode().split("\n") if line]
        if all({"text", "label", "reason", "logits"} <= row.keys() for row in rows):
            return rows
    except (ValueError, AttributeError) as error:
        raise BundleError(f"not JSON Lines: {error}", where=GOLDEN) from error
    raise BundleError(
        "a row lacks text, label, reason or logits", where=GOLDEN, fix="make the bundle again"
    )
