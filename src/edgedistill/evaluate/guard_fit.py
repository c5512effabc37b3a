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
from edgedistill.evaluate.metrics import auroc, auroc_standard_error
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
    seed: int = 0,
) -> FittedGuard:
    """Fit every score of the runtime's catalogue, choose one, calibrate it.

    Chosen is the smallest score (bytes in the bundle, then AUROC) among those within one
    standard error (at least `LEAST_MARGIN`) of the best AUROC (Breiman et al. 1984, section
    3.4.3): on a hundred out-of-bounds texts, a fitted score would otherwise win by luck. Without
    out-of-bounds examples nothing can be compared: the energy is taken, which beat maximum
    probability wherever both were measured (Liu et al. 2020, arXiv 2010.03759).

    Args:
        rows: outputs of the model that ships.
        false_abstention_rate: share of in-bounds inputs that may be refused, in (0, 1).
        kinds: names in the catalogue to consider.
        seed: of the folds.
    """
    if not rows.out_of_bounds():
        guard, conformal = calibrate_guard(
            "energy", {}, rows.validation, rows.validation_targets, false_abstention_rate
        )
        only = ScoreFit("energy", None, None, 0, chosen=True, note="nothing to compare it on")
        return FittedGuard(guard, conformal, (only,), "energy: no out-of-bounds examples given")
    fits, arrays = [], []
    for kind in kinds:
        for rank in _ranks(kind, rows.train.features.shape[1]):
            fit, fitted = _fit_candidate(kind, rank, rows, seed)
            fits.append(fit)
            arrays.append(fitted)
    margin = _margin(fits, len(rows.validation), len(rows.out_of_bounds()[-1]))
    best = _choose(fits, margin)
    fits[best] = replace(fits[best], chosen=True)
    guard, conformal = calibrate_guard(
        fits[best].kind,
        arrays[best],
        rows.validation,
        rows.validation_targets,
        false_abstention_rate,
    )
    return FittedGuard(guard, conformal, tuple(fits), _why(fits, best, margin))


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
    kind: str, rank: int | None, rows: GuardRows, seed: int
) -> tuple[ScoreFit, Arrays]:
    """Fit on the fitting rows, measure on the choosing rows."""
    score = SCORES.load(kind).score
    inside, outside = rows.validation, rows.out_of_bounds()
    try:
        arrays = _fit_arrays(kind, rank, rows, outside[0], seed)
        if len(outside) == 1 and "weights" in arrays:
            measured = _cross_fitted_auroc(kind, rank, rows, seed)
        else:
            measured = auroc(
                score(inside.logits, inside.features, arrays),
                score(outside[-1].logits, outside[-1].features, arrays),
            )
    except ValueError as error:
        return ScoreFit(kind, rank, None, 0, note=str(error)), {}
    return ScoreFit(kind, rank, measured, _array_bytes(kind, arrays)), arrays


def _cross_fitted_auroc(kind: str, rank: int | None, rows: GuardRows, seed: int) -> float:
    """Mean AUROC of the folds of the only out-of-bounds set, each scored by a fit without it."""
    outside = rows.out_of_bounds()[0]
    if len(outside) < 2 * _NUM_FOLDS:
        raise ValueError(f"{len(outside)} out-of-bounds rows are too few to fit and to choose on")
    folds = np.random.default_rng(seed).permutation(len(outside)) % _NUM_FOLDS
    score, found = SCORES.load(kind).score, []
    for fold in range(_NUM_FOLDS):
        arrays = _fit_arrays(kind, rank, rows, outside.take(folds != fold), seed)
        held_out = outside.take(folds == fold)
        inside = score(rows.validation.logits, rows.validation.features, arrays)
        found.append(auroc(inside, score(held_out.logits, held_out.features, arrays)))
    return float(np.average(found, weights=np.bincount(folds)))


def _margin(fits: Sequence[ScoreFit], num_inside: int, num_outside: int) -> float:
    """How far below the best AUROC a score may lie and still count as equal."""
    measured = [fit.auroc for fit in fits if fit.auroc is not None]
    if not measured:
        raise ValueError("no score could be measured")
    return max(LEAST_MARGIN, auroc_standard_error(max(measured), num_inside, num_outside))


def _choose(fits: Sequence[ScoreFit], margin: float) -> int:
    """Index of the smallest score whose AUROC is within the margin of the best."""
    measured = [(i, fit.auroc) for i, fit in enumerate(fits) if fit.auroc is not None]
    best = max(value for _, value in measured)
    close = [(fits[i].array_bytes, -value, i) for i, value in measured if value >= best - margin]
    return min(close)[2]


def _why(fits: Sequence[ScoreFit], chosen: int, margin: float) -> str:
    best = max((fit for fit in fits if fit.auroc is not None), key=lambda fit: fit.auroc or 0.0)
    fit = fits[chosen]
    text = f"{fit.kind}: AUROC {fit.auroc:.4f} on out-of-bounds validation rows"
    if fit.auroc == best.auroc:
        return f"{text}, the best"
    near = f"within {margin:.4f} of the best ({best.kind}, {best.auroc:.4f})"
    return f"{text}, {near} and smaller"


def _array_bytes(kind: str, arrays: Mapping[str, np.ndarray]) -> int:
    files = Guard(kind, 0.0, 1.0, 0.5, arrays).to_files()
    return len(files.get("guard.npz", b""))
