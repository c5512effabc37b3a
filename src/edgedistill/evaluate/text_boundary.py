"""Fits, chooses and calibrates the boundary of a generator."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgedistill.evaluate.calibration import ConformalThreshold, conformal_threshold
from edgedistill.evaluate.metrics import auroc
from edgedistill.runtime.generation.boundary import Kind, TextBoundary, pair_buckets

NUM_BUCKETS = 1 << 15


@dataclass(frozen=True)
class FittedBoundary:
    """The boundary for the bundle, and how it came about.

    `aurocs`: in-bounds against out-of-bounds validation prompts, by score; empty without such.
    """

    boundary: TextBoundary
    conformal: ConformalThreshold
    aurocs: Mapping[str, float]
    reason: str


def fit_surprisal(prompts: Sequence[np.ndarray], vocabulary_size: int) -> dict[str, np.ndarray]:
    """Counts of tokens and of neighbouring pairs in training prompts (token ids, int [n] each)."""
    tokens = np.zeros(vocabulary_size, np.int64)
    pairs = np.zeros(NUM_BUCKETS, np.int64)
    for ids in prompts:
        np.add.at(tokens, ids, 1)
        if len(ids):
            np.add.at(pairs, pair_buckets(np.asarray(ids), NUM_BUCKETS), 1)
    return {
        "tokens": np.minimum(tokens, np.iinfo(np.uint32).max).astype(np.uint32),
        "pairs": np.minimum(pairs, np.iinfo(np.uint16).max).astype(np.uint16),
    }


def fit_boundary(
    inside: Mapping[str, np.ndarray],
    outside: Mapping[str, np.ndarray],
    false_abstention_rate: float,
    arrays: Mapping[str, np.ndarray],
) -> FittedBoundary:
    """Choose the score that tells the validation prompts apart best, and set its threshold.

    Args:
        inside: scores of in-bounds validation prompts by kind, float [n].
        outside: of out-of-bounds validation prompts; empty arrays or none: `surprisal` is taken,
            which needs no answer and so costs nothing where it refuses.
        false_abstention_rate: share of in-bounds prompts that may be refused.
        arrays: of the bigram model.
    """
    aurocs = {kind: auroc(inside[kind], scores) for kind, scores in outside.items() if len(scores)}
    kind: Kind = "surprisal"
    reason = "surprisal: no out-of-bounds examples given"
    if aurocs:
        kind = "doubt" if aurocs["doubt"] > aurocs["surprisal"] else "surprisal"
        found = ", ".join(f"{name} {value:.4f}" for name, value in sorted(aurocs.items()))
        reason = f"{kind}: the best AUROC on out-of-bounds validation prompts ({found})"
    conformal = conformal_threshold(inside[kind], false_abstention_rate)
    # The largest float stands for infinity, which a bundle does not hold: both refuse nothing.
    threshold = sys.float_info.max if math.isinf(conformal.threshold) else conformal.threshold
    boundary = TextBoundary(
        kind, threshold, false_abstention_rate, arrays if kind == "surprisal" else {}
    )
    return FittedBoundary(boundary, conformal, aurocs, reason)
