"""Confidence intervals: what a claim may say, given how many rows were measured.

Everything here is a share of right answers or a ratio of two such shares on the same rows.
Which rows a bootstrap resample holds then matters only through four counts: (teacher right,
student right), (teacher right, student wrong), (wrong, right), (wrong, wrong). Drawing rows with
replacement gives those counts a multinomial distribution with the observed shares. Drawing the
counts is therefore the very same paired bootstrap, not an approximation of it, and it costs
four numbers a resample whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgedistill.core.artefacts import Interval

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def _paired_right(reference: ArrayLike, candidate: ArrayLike) -> tuple[Bools, Bools]:
    a, b = np.asarray(reference, dtype=bool), np.asarray(candidate, dtype=bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"need two equally long, non-empty vectors, got {a.shape} and {b.shape}")
    return a, b


def _paired_bootstrap(
    reference: ArrayLike,
    candidate: ArrayLike,
    statistic: Callable[[Floats, Floats], Floats],
    confidence: float,
    num_resamples: int,
    seed: int,
) -> Interval:
    """Percentile interval of `statistic(reference accuracy, candidate accuracy)`."""
    a, b = _paired_right(reference, candidate)
    num_rows = len(a)
    cells = np.array([np.sum(a & b), np.sum(a & ~b), np.sum(~a & b), np.sum(~a & ~b)])
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(num_rows, cells / num_rows, size=num_resamples)
    resampled = statistic(
        (counts[:, 0] + counts[:, 1]) / num_rows, (counts[:, 0] + counts[:, 2]) / num_rows
    )
    value = float(statistic(np.array([a.mean()]), np.array([b.mean()]))[0])
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def retention_interval(
    teacher_right: ArrayLike,
    student_right: ArrayLike,
    *,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Student accuracy over teacher accuracy, by a paired bootstrap over rows.

    Takes what each answered rightly on the same rows, bool [num_rows]. Both are resampled
    together, so that rows hard for both cancel: the interval is far narrower than one from two
    separate accuracies. Percentile method (Efron & Tibshirani 1993, ch. 13). A resample in
    which the teacher has no right answer counts as if it had one.

    A student that loses no row of the teacher's gives a bootstrap that cannot show a loss, on ten
    rows as on ten thousand. Its lower bound is then at most the exact bound of a rate of which no
    failure was seen (Clopper & Pearson 1934) over the rows the teacher has right: about
    1 - 3.7 / num_rows at 95 %.

    Raises:
        ValueError: unequal or empty vectors, or a teacher that is never right.
    """
    if not np.any(teacher_right):
        raise ValueError("the teacher is right on no row: retention has no meaning")

    one_row = 1 / len(np.asarray(teacher_right))

    def ratio(teacher: Floats, student: Floats) -> Floats:
        return student / np.maximum(teacher, one_row)

    interval = _paired_bootstrap(
        teacher_right, student_right, ratio, confidence, num_resamples, seed
    )
    teacher, student = _paired_right(teacher_right, student_right)
    if np.any(teacher & ~student):
        return interval
    num_kept = int(teacher.sum())
    no_loss_seen = rate_lower_bound(num_kept, num_kept, confidence=0.5 + confidence / 2)
    return replace(interval, low=min(interval.low, no_loss_seen))


def accuracy_difference_interval(
    reference_right: ArrayLike,
    candidate_right: ArrayLike,
    *,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Candidate accuracy minus reference accuracy on the same rows, by a paired bootstrap."""
    return _paired_bootstrap(
        reference_right, candidate_right, lambda a, b: b - a, confidence, num_resamples, seed
    )


def _checked_counts(num_hits: int, num_rows: int) -> None:
    if num_rows < 1 or not 0 <= num_hits <= num_rows:
        raise ValueError(f"{num_hits} of {num_rows} is not a rate")


def wilson_interval(num_hits: int, num_rows: int, *, confidence: float = 0.95) -> Interval:
    """Two-sided score interval of a rate (Wilson 1927): close to nominal also near 0 and 1."""
    from scipy.special import ndtri

    _checked_counts(num_hits, num_rows)
    rate, z = num_hits / num_rows, float(ndtri(0.5 + confidence / 2))
    spread = z * np.sqrt(rate * (1 - rate) / num_rows + (z / (2 * num_rows)) ** 2)
    centre, scale = rate + z * z / (2 * num_rows), 1 + z * z / num_rows
    low, high = (centre - spread) / scale, (centre + spread) / scale
    return Interval(rate, max(0.0, min(low, rate)), min(1.0, max(high, rate)))


def clopper_pearson_interval(num_hits: int, num_rows: int, *, confidence: float = 0.95) -> Interval:
    """Two-sided exact interval of a rate (Clopper & Pearson 1934): never below nominal."""
    tail = (1 - confidence) / 2
    return Interval(
        num_hits / max(num_rows, 1),
        rate_lower_bound(num_hits, num_rows, confidence=1 - tail),
        rate_upper_bound(num_hits, num_rows, confidence=1 - tail),
    )


def rate_lower_bound(num_hits: int, num_rows: int, *, confidence: float = 0.95) -> float:
    """One-sided exact lower bound of a rate: at least this much, with the confidence."""
    _checked_counts(num_hits, num_rows)
    if num_hits == 0:
        return 0.0
    if num_hits == num_rows:
        # Closed form, so that comparing bundles on a device needs no SciPy.
        return float((1 - confidence) ** (1 / num_rows))
    from scipy.special import betaincinv

    return float(betaincinv(num_hits, num_rows - num_hits + 1, 1 - confidence))


def rate_upper_bound(num_hits: int, num_rows: int, *, confidence: float = 0.95) -> float:
    """One-sided exact upper bound of a rate: at most this much, with the confidence."""
    return 1 - rate_lower_bound(num_rows - num_hits, num_rows, confidence=confidence)
