"""Quality of answers: accuracy, F1 by class, calibration error, ranking, selective prediction.

Targets and predictions are label indices, int [num_rows]; confidences lie in [0, 1].
An empty input raises ValueError: a figure over nothing would be a claim without a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall, F1 (float64 [num_classes]) and rows a class (int64 [num_classes]).

    A ratio with a zero denominator is 0, as in scikit-learn with `zero_division=0`.
    """

    precision: Floats
    recall: Floats
    f1: Floats
    support: Ints


@dataclass(frozen=True)
class CalibrationBins:
    """What a reliability diagram shows, a bin each: float64 [num_bins] and int64 [num_bins].

    `edges` [num_bins + 1] are confidences; mean confidence and accuracy of an empty bin are nan.
    """

    edges: Floats
    mean_confidence: Floats
    accuracy: Floats
    num_rows: Ints

    @property
    def error(self) -> float:
        """Expected calibration error: gap between confidence and accuracy, weighted by rows."""
        filled = self.num_rows > 0
        gaps = np.abs(self.mean_confidence[filled] - self.accuracy[filled])
        return float(np.average(gaps, weights=self.num_rows[filled]))


@dataclass(frozen=True)
class RiskCoverage:
    """Error among the answered rows (`risk`) as more rows are answered (`coverage`).

    Both float64 [num_points], most confident first. Rows of equal confidence enter together:
    no threshold can tell them apart. `thresholds[i]` is the least confidence answered.
    """

    coverage: Floats
    risk: Floats
    thresholds: Floats

    @property
    def area(self) -> float:
        """Area under the curve (AURC; Geifman & El-Yaniv 2017, arXiv 1705.08500), less is better.

        The mean over rows of the risk at which the row is first answered.
        """
        return float(np.sum(self.risk * np.diff(self.coverage, prepend=0.0)))

    def coverage_at_risk(self, max_risk: float) -> float:
        """Largest share of rows that can be answered with an error of at most `max_risk`."""
        allowed = self.coverage[self.risk <= max_risk]
        return float(allowed[-1]) if len(allowed) else 0.0


def _paired(targets: ArrayLike, predictions: ArrayLike) -> tuple[Ints, Ints]:
    a, b = np.asarray(targets, dtype=np.int64), np.asarray(predictions, dtype=np.int64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"need two equally long, non-empty vectors, got {a.shape} and {b.shape}")
    return a, b


def accuracy(targets: ArrayLike, predictions: ArrayLike) -> float:
    """Share of rows answered rightly."""
    a, b = _paired(targets, predictions)
    return float(np.mean(a == b))


def confusion(targets: ArrayLike, predictions: ArrayLike, num_classes: int) -> Ints:
    """Rows by (target, prediction), int64 [num_classes, num_classes]."""
    a, b = _paired(targets, predictions)
    if min(a.min(), b.min()) < 0 or max(a.max(), b.max()) >= num_classes:
        raise ValueError(f"label indices must lie in [0, {num_classes})")
    counts = np.bincount(a * num_classes + b, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def class_scores(targets: ArrayLike, predictions: ArrayLike, num_classes: int) -> ClassScores:
    """Precision, recall and F1 of every class."""
    table = confusion(targets, predictions, num_classes)
    hits = np.diag(table).astype(np.float64)
    support, predicted = table.sum(axis=1), table.sum(axis=0)
    return ClassScores(
        precision=hits / np.maximum(predicted, 1),
        recall=hits / np.maximum(support, 1),
        f1=2 * hits / np.maximum(support + predicted, 1),
        support=support,
    )


def macro_f1(targets: ArrayLike, predictions: ArrayLike, num_classes: int) -> float:
    """Mean F1 over the classes that occur among targets or predictions (as scikit-learn)."""
    table = confusion(targets, predictions, num_classes)
    occurs = (table.sum(axis=0) + table.sum(axis=1)) > 0
    return float(class_scores(targets, predictions, num_classes).f1[occurs].mean())


def calibration_bins(
    confidences: ArrayLike, correct: ArrayLike, *, num_bins: int = 15, equal_mass: bool = False
) -> CalibrationBins:
    """Sort rows into bins of confidence.

    Equal-width bins are those of Guo et al. 2017 (arXiv 1706.04599): (0, 1/num_bins], ….
    `equal_mass` cuts at quantiles instead (Nixon et al. 2019, arXiv 1904.01685); equal
    confidences share a bin, so that bins can be uneven or empty where many rows tie.
    """
    p, right = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=bool)
    if p.shape != right.shape or p.ndim != 1 or not len(p):
        raise ValueError(f"need two equally long, non-empty vectors, got {p.shape}, {right.shape}")
    if not (np.all(p >= 0) and np.all(p <= 1)):
        raise ValueError("confidences must lie in [0, 1]")
    edges = np.linspace(0, 1, num_bins + 1)
    if equal_mass:
        edges[1:-1] = np.quantile(p, edges[1:-1])
    index = np.searchsorted(edges[1:-1], p, side="left")
    num_rows = np.bincount(index, minlength=num_bins)
    sums = [np.bincount(index, weights=w, minlength=num_bins) for w in (p, right.astype(float))]
    with np.errstate(invalid="ignore"):
        means = [s / num_rows for s in sums]
    return CalibrationBins(edges, means[0], means[1], num_rows.astype(np.int64))


def expected_calibration_error(
    confidences: ArrayLike, correct: ArrayLike, *, num_bins: int = 15, equal_mass: bool = False
) -> float:
    """Mean gap between confidence and accuracy, in [0, 1]; see `calibration_bins`."""
    return calibration_bins(confidences, correct, num_bins=num_bins, equal_mass=equal_mass).error


def _scored(negatives: ArrayLike, positives: ArrayLike) -> tuple[Floats, Floats]:
    low, high = np.asarray(negatives, dtype=np.float64), np.asarray(positives, dtype=np.float64)
    if not len(low) or not len(high):
        raise ValueError("both groups need at least one score")
    if np.isnan(low).any() or np.isnan(high).any():
        raise ValueError("scores must not be nan")
    return low, high


@dataclass(frozen=True)
class Placements:
    """Where each row of two groups stands in the other (DeLong et al. 1988, Biometrics 44).

    `negatives`: share of the positives that score above each negative, float64 [n]. `positives`:
    share of the negatives that score below each positive, float64 [m]. Ties count a half. The
    mean of either is the AUROC.
    """

    negatives: Floats
    positives: Floats

    @property
    def area(self) -> float:
        """Chance that a random positive scores above a random negative."""
        return float(np.mean(self.positives))

    def difference_error(self, other: Placements) -> float:
        """Standard error of the difference of two AUROCs that were measured on the same rows."""
        pairs = ((self.negatives, other.negatives), (self.positives, other.positives))
        return float(np.sqrt(sum(np.var(a - b, ddof=1) / len(a) for a, b in pairs)))


def placements(negatives: ArrayLike, positives: ArrayLike) -> Placements:
    """Placements of the scores of two groups (in bounds, out of bounds), float [n] and [m]."""
    low, high = _scored(negatives, positives)
    return Placements(1.0 - _share_below(high, low), _share_below(low, high))


def _share_below(group: Floats, values: Floats) -> Floats:
    """Share of the group below each value, ties counting a half."""
    ordered = np.sort(group)
    below = np.searchsorted(ordered, values, side="left")
    not_above = np.searchsorted(ordered, values, side="right")
    return np.asarray((below + not_above) / (2 * len(ordered)))


def auroc(negatives: ArrayLike, positives: ArrayLike) -> float:
    """Chance that a random positive scores above a random negative, ties counting a half.

    Takes the scores of the two groups (in bounds, out of bounds), float [n] and [m]. This is the
    Mann-Whitney statistic over n·m, by average ranks (Hanley & McNeil 1982).
    """
    return placements(negatives, positives).area


def roc_curve(negatives: ArrayLike, positives: ArrayLike) -> tuple[Floats, Floats]:
    """False and true positive rates for every distinct threshold, strictest first.

    Both float64 [num_points], starting at (0, 0) and ending at (1, 1).
    """
    low, high = _scored(negatives, positives)
    thresholds = np.unique(np.concatenate([low, high]))[::-1]
    rates = [
        1 - np.searchsorted(np.sort(group), thresholds, side="left") / len(group)
        for group in (low, high)
    ]
    return np.concatenate([[0.0], rates[0]]), np.concatenate([[0.0], rates[1]])


def risk_coverage(confidences: ArrayLike, correct: ArrayLike) -> RiskCoverage:
    """Risk against coverage when the least confident rows are left unanswered.

    `confidences` may be any score that is higher for surer answers, float [num_rows].
    """
    score, right = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=bool)
    if score.shape != right.shape or score.ndim != 1 or not len(score):
        raise ValueError(f"need two equally long, non-empty vectors, got {score.shape}")
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    answered = last_of_tie + 1
    errors = np.cumsum(~right[order])[last_of_tie]
    return RiskCoverage(answered / len(score), errors / answered, ordered[last_of_tie])
