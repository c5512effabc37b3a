"""How right extracted spans are: exact and partial F1, by field and over all, whole records.

A span is (field, start, end); those of a text are a set. Exact: the same field and the same
characters, as CoNLL-2003 and seqeval (Nakayama 2018) count them. Partial: the same field and at
least one character in common, each span in one pair at most (MUC-5's partial matches, counted
whole).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill.core.artefacts import Interval
from edgedistill.core.errors import VerificationFailed
from edgedistill.evaluate.generation_metrics import FieldCounts, paired_ratio_interval

LabelledSpan = tuple[str, int, int]
Spans = Sequence[Set[LabelledSpan]]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class FieldScore:
    """One field over all texts; `num_expected` gold spans. `partial_f1` counts overlaps."""

    name: str
    precision: float
    recall: float
    f1: float
    partial_f1: float
    num_expected: int


def exact_counts(predicted: Spans, expected: Spans) -> FieldCounts:
    """Right, predicted and expected spans of each text.

    Raises:
        ValueError: unequal or empty sequences.
    """
    return _counts(predicted, expected, lambda found, wanted: len(found & wanted))


def partial_counts(predicted: Spans, expected: Spans) -> FieldCounts:
    """The same, where a predicted span that overlaps one of its field is right.

    Raises:
        ValueError: unequal or empty sequences.
    """
    return _counts(predicted, expected, _num_overlaps)


def field_scores(
    predicted: Spans, expected: Spans, fields: Iterable[str]
) -> tuple[FieldScore, ...]:
    """Precision, recall and F1 of every field; a ratio over nothing is 0, as in seqeval."""
    found = []
    for name in fields:
        pair = (_of_field(predicted, name), _of_field(expected, name))
        exact, partial = exact_counts(*pair), partial_counts(*pair)
        num = int(exact.num_expected.sum())
        found.append(
            FieldScore(name, exact.precision, exact.recall, exact.f1, partial.f1, num)
        )  # fmt: skip
    return tuple(found)


def whole_records(predicted: Spans, expected: Spans) -> Bools:
    """Which texts have exactly the expected spans, bool [num_rows]."""
    _require_pairs(predicted, expected)
    return np.array([set(a) == set(b) for a, b in zip(predicted, expected, strict=True)])


def retention(
    teacher: FieldCounts, student: FieldCounts, *, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Student's micro F1 over the teacher's on the same texts (see `paired_ratio_interval`).

    Raises:
        VerificationFailed: a teacher that finds no span.
    """
    if not teacher.num_right.any():
        raise VerificationFailed(
            "the teacher finds no span of the test texts: what a student keeps of that has no "
            "meaning",
            where="teacher",
            fix="train it longer (teacher.num_epochs), or give it more rows",
        )
    return paired_ratio_interval(teacher, student, confidence=confidence, seed=seed)


def f1_interval(
    counts: FieldCounts, *, confidence: float = 0.95, num_resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Micro F1 with its percentile interval, by a bootstrap over texts."""
    return f1_gain(None, counts, confidence=confidence, num_resamples=num_resamples, seed=seed)


def f1_gain(
    reference: FieldCounts | None,
    candidate: FieldCounts,
    *,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """The candidate's micro F1 minus the reference's (None: minus nothing) on the same texts.

    Paired percentile bootstrap over texts; texts of like counts are drawn together, which is the
    same bootstrap (see `intervals`).
    """
    first = candidate if reference is None else reference
    columns = [
        part
        for counts in (first, candidate)
        for part in (counts.num_right, counts.num_predicted, counts.num_expected)
    ]
    kinds, frequencies = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(candidate), frequencies / len(candidate), size=num_resamples)

    def gain(sums: NDArray[np.int64]) -> Floats:
        before, after = (_f1(sums[:, part : part + 3]) for part in (0, 3))
        return after if reference is None else after - before

    tail = (1 - confidence) / 2
    low, high = np.quantile(gain(drawn @ kinds), [tail, 1 - tail])
    return Interval(float(gain((frequencies @ kinds)[None])[0]), float(low), float(high))


def _f1(sums: NDArray[np.int64]) -> Floats:
    right, predicted, expected = sums.T
    return np.asarray(2 * right / np.maximum(1, predicted + expected), dtype=np.float64)


def _counts(
    predicted: Spans,
    expected: Spans,
    num_right: Callable[[Set[LabelledSpan], Set[LabelledSpan]], int],
) -> FieldCounts:
    _require_pairs(predicted, expected)
    rows = [
        (num_right(found, wanted), len(found), len(wanted))
        for found, wanted in zip(predicted, expected, strict=True)
    ]
    return FieldCounts(*np.array(rows, dtype=np.int64).T.copy())


def _num_overlaps(found: Set[LabelledSpan], wanted: Set[LabelledSpan]) -> int:
    """Pairs of overlapping spans of one field, each span in one pair, as many as can be.

    Spans of one field do not overlap each other, so taking them in their order finds the most.
    """
    num = 0
    for name in {span[0] for span in found}:
        ours, theirs = (
            sorted(span[1:] for span in spans if span[0] == name) for spans in (found, wanted)
        )
        a = b = 0
        while a < len(ours) and b < len(theirs):
            if ours[a][0] < theirs[b][1] and theirs[b][0] < ours[a][1]:
                num, a, b = num + 1, a + 1, b + 1
            elif ours[a][1] <= theirs[b][0]:
                a += 1
            else:
                b += 1
    return num


def _of_field(spans: Spans, name: str) -> list[Set[LabelledSpan]]:
    return [{span for span in row if span[0] == name} for row in spans]


def _require_pairs(predicted: Spans, expected: Spans) -> None:
    if len(predicted) != len(expected) or not expected:
        raise ValueError(
            f"need two equally long, non-empty lists, got {len(predicted)} and {len(expected)}"
        )
