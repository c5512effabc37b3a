"""Fits, chooses and calibrates the guard: the scores themselves belong to the runtime.

Which rows serve what:

* the arrays of a score are fitted on in-bounds training rows and out-of-bounds training rows;
* the score is chosen on in-bounds validation rows and out-of-bounds validation rows;
* the threshold and the temperature are set on in-bounds validation rows.

Where only one set of out-of-bounds examples exists it serves fit and choice by cross-fitting:
each of five parts is scored by a fit on the other four. Choosing among a handful of scores on
the rows that then set the threshold is a dependence, of an order far below the threshold's own
spread; the test rows see neither.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgedistill.evaluate.calibration import (
    ConformalThreshold,
    conformal_threshold,
    fit_temperature,
)
from edgedistill.evaluate.guard_arrays import (
    Arrays,
    Outputs,
    fit_feature_distance,
    fit_trained,
)
from edgedistill.evaluate.metrics import Placements, placements
from edgedistill.runtime.guard.boundary import Guard
from edgedistill.runtime.guard.catalogue import SCORES

LEAST_MARGIN = 0.003
"""A difference in AUROC that is not worth a larger bundle, however sure it is."""

LOW_RANK = 32
"""Directions kept by the small variants of the scores that read features."""

_NUM_FOLDS = 5


@dataclass(frozen=True)
class GuardRows:
    """Outputs of the model that ships, by the use of their rows; targets are label indices.

    In bounds: `train` (what the model learned from) and `validation`. Out of bounds: either,
    both or none of `out_of_bounds_train` and `out_of_bounds_validation`.
    """

    train: Outputs
    train_targets: np.ndarray
    validation: Outputs
    validation_targets: np.ndarray
    out_of_bounds_train: Outputs | None = None
    out_of_bounds_validation: Outputs | None = None

    def out_of_bounds(self) -> tuple[Outputs, ...]:
        """The sets of out-of-bounds rows that exist and are not empty."""
        sets = (self.out_of_bounds_train, self.out_of_bounds_validation)
        return tuple(rows for rows in sets if rows is not None and len(rows))


@dataclass(frozen=True)
class ScoreFit:
    """One candidate for the guard.

    `rank`: directions of feature space kept (None: all, or the score reads no features).
    `auroc`: in-bounds against out-of-bounds validation rows (None: could not be measured).
    `array_bytes`: what its arrays add to the bundle. `note`: why it was not measured.
    """

    kind: str
    rank: int | None
    auroc: float | None
    array_bytes: int
    chosen: bool = False
    note: str = ""


@dataclass(frozen=True)
class FittedGuard:
    """The guard for the bundle, and how it came about.

    `reason` says why this score; `conformal` what stands behind the threshold. With too few
    validation rows `conformal.threshold` is infinite and the guard's is the largest float: it
    refuses nothing.
    """

    guard: Guard
    conformal: ConformalThreshold
    scores: tuple[ScoreFit, ...]
    reason: str

    @property
    def array_bytes(self) -> int:
        """Bytes that the guard's arrays add to the bundle."""
        return _array_bytes(self.guard.kind, self.guard.arrays)


def fit_guard(
    rows: GuardRows,
    false_abstention_rate: float,
    *,
    kinds: Sequence[str] = tuple(SCORES),
    most_bytes: int | None = None,
    seed: int = 0,
) -> FittedGuard:
    """Fit every score of the runtime's catalogue, choose one, calibrate it.

    Chosen is the smallest score (bytes in the bundle, then AUROC) among those within one
    standard error of the best AUROC (Breiman et al. 1984, section 3.4.3), or `LEAST_MARGIN`: on a
    hundred out-of-bounds texts, a fitted score would otherwise win by luck. The error is that of
    the difference, on the same rows: two scores rank the same easy texts alike, and what they
    share says nothing about which is better. Without out-of-bounds examples nothing can be
    compared: the energy is taken, which beat maximum probability wherever both were measured
    (Liu et al. 2020, arXiv 2010.03759).

    Args:
        rows: outputs of the model that ships.
        false_abstention_rate: share of in-bounds inputs that may be refused, in (0, 1).
        kinds: names in the catalogue to consider.
        most_bytes: scores whose arrays take more are left out.
        seed: of the folds.
    """
    if not rows.out_of_bounds():
        guard, conformal = calibrate_guard(
            "energy", {}, rows.validation, rows.validation_targets, false_abstention_rate
        )
        only = ScoreFit("energy", None, None, 0, chosen=True, note="nothing to compare it on")
        return FittedGuard(guard, conformal, (only,), "energy: no out-of-bounds examples given")
    tried = [
        _fit_candidate(kind, rank, rows, most_bytes, seed)
        for kind in kinds
        for rank in _ranks(kind, rows.train.features.shape[1])
    ]
    best, chosen = _choose(tried)
    fits = tuple(replace(one.fit, chosen=one is chosen) for one in tried)
    guard, conformal = calibrate_guard(
        chosen.fit.kind,
        chosen.arrays,
        rows.validation,
        rows.validation_targets,
        false_abstention_rate,
    )
    return FittedGuard(guard, conformal, fits, _why(chosen, best))


@dataclass(frozen=True)
class _Tried:
    """A candidate with its arrays; `measured` is None where it cannot be chosen."""

    fit: ScoreFit
    arrays: Arrays
    measured: Placements | None = None

    def margin(self, best: Placements) -> float:
        """How far below the best AUROC it may lie and still count as equal."""
        if self.measured is None:
            return 0.0
        return max(LEAST_MARGIN, self.measured.difference_error(best))


def calibrate_guard(
    kind: str,
    arrays: Arrays,
    validation: Outputs,
    targets: np.ndarray,
    false_abstention_rate: float,
) -> tuple[Guard, ConformalThreshold]:
    """Set threshold and temperature of a score; again after anything that moves the outputs.

    Args:
        kind: name in the runtime's catalogue; `arrays`: what it was fitted to.
        validation: outputs of in-bounds rows that neither model nor score was fitted on.
        targets: their label indices, int [n].
        false_abstention_rate: share of in-bounds inputs that may be refused.
    """
    # The largest float stands for infinity, which a guard does not take: both refuse nothing.
    guard = Guard(
        kind,
        threshold=sys.float_info.max,
        temperature=fit_temperature(validation.logits, targets),
        false_abstention_rate=false_abstention_rate,
        arrays=arrays,
    )
    scores = guard.scores(validation.logits, validation.features)
    conformal = conformal_threshold(scores, false_abstention_rate)
    if math.isinf(conformal.threshold):
        return guard, conformal
    return replace(guard, threshold=conformal.threshold), conformal


def _ranks(kind: str, dim: int) -> tuple[int | None, ...]:
    reads_features = "whitening" in SCORES.load(kind).arrays
    return (None, LOW_RANK) if reads_features and dim > LOW_RANK else (None,)


def _fit_arrays(
    kind: str, rank: int | None, rows: GuardRows, outside: Outputs, seed: int
) -> Arrays:
    needed = SCORES.load(kind).arrays
    if "weights" in needed:
        return fit_trained(rows.train, rows.train_targets, outside, rank=rank, seed=seed)
    if "whitening" in needed:
        return fit_feature_distance(rows.train.features, rows.train_targets, rank)
    return {}


def _fit_candidate(
    kind: str, rank: int | None, rows: GuardRows, most_bytes: int | None, seed: int
) -> _Tried:
    """Fit on the fitting rows, measure on the choosing rows."""
    score = SCORES.load(kind).score
    inside, outside = rows.validation, rows.out_of_bounds()
    try:
        arrays = _fit_arrays(kind, rank, rows, outside[0], seed)
        if len(outside) == 1 and "weights" in arrays:
            measured = _cross_fitted(kind, rank, rows, seed)
        else:
            measured = placements(
                score(inside.logits, inside.features, arrays),
                score(outside[-1].logits, outside[-1].features, arrays),
            )
    except ValueError as error:
        return _Tried(ScoreFit(kind, rank, None, 0, note=str(error)), {})
    num_bytes = _array_bytes(kind, arrays)
    if most_bytes is not None and num_bytes > most_bytes:
        note = f"its {num_bytes:,} bytes are over the size asked for"
        return _Tried(ScoreFit(kind, rank, None, num_bytes, note=note), {})
    return _Tried(ScoreFit(kind, rank, measured.area, num_bytes), arrays, measured)


def _cross_fitted(kind: str, rank: int | None, rows: GuardRows, seed: int) -> Placements:
    """Each fold of the only out-of-bounds set is scored by a fit without it.

    An in-bounds row stands, on average over the folds, among the rows of each.
    """
    outside = rows.out_of_bounds()[0]
    if len(outside) < 2 * _NUM_FOLDS:
        raise ValueError(f"{len(outside)} out-of-bounds rows are too few to fit and to choose on")
    folds = np.random.default_rng(seed).permutation(len(outside)) % _NUM_FOLDS
    score = SCORES.load(kind).score
    negatives, positives = np.zeros(len(rows.validation)), np.zeros(len(outside))
    for fold in range(_NUM_FOLDS):
        is_held_out = folds == fold
        arrays = _fit_arrays(kind, rank, rows, outside.take(~is_held_out), seed)
        held_out = outside.take(is_held_out)
        found = placements(
            score(rows.validation.logits, rows.validation.features, arrays),
            score(held_out.logits, held_out.features, arrays),
        )
        positives[is_held_out] = found.positives
        negatives += found.negatives * is_held_out.mean()
    return Placements(negatives, positives)


def _choose(tried: Sequence[_Tried]) -> tuple[_Tried, _Tried]:
    """The best AUROC, and the smallest score whose AUROC is within its margin of the best."""
    measured = [(one, one.measured) for one in tried if one.measured is not None]
    if not measured:
        raise ValueError("no score could be measured")
    best, top = max(measured, key=lambda pair: pair[1].area)
    close = [
        (one.fit.array_bytes, -found.area, index)
        for index, (one, found) in enumerate(measured)
        if found.area >= top.area - one.margin(top)
    ]
    return best, measured[min(close)[2]][0]


def _why(chosen: _Tried, best: _Tried) -> str:
    fit = chosen.fit
    text = f"{fit.kind}: AUROC {fit.auroc:.4f} on out-of-bounds validation rows"
    if fit.auroc == best.fit.auroc or best.measured is None:
        return f"{text}, the best"
    margin = chosen.margin(best.measured)
    near = f"within {margin:.4f} of the best ({best.fit.kind}, {best.fit.auroc:.4f})"
    return f"{text}, {near} and smaller"


def _array_bytes(kind: str, arrays: Mapping[str, np.ndarray]) -> int:
    files = Guard(kind, 0.0, 1.0, 0.5, arrays).to_files()
    return len(files.get("guard.npz", b""))
