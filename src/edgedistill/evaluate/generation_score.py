"""One figure for generated answers by the task's metric, and intervals of ratios and gains.

An abstention (None) is an answer without a word: it counts as wrong, never as left out.

How words are found follows the references, which every model of a comparison shares: where most
of their letters are of a script without spaces (Japanese, Chinese, Thai, …), BLEU and ROUGE count
characters, so that segmented and unsegmented texts score alike and no dictionary's version does
(sacrebleu's `ja-mecab` needs one); else BLEU parts by `13a` and ROUGE by runs of letters and
digits. chrF counts characters in every language. Exact match compares records as JSON and short
answers by `text_words.plain_answer`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.core.artefacts import Interval
from edgedistill.core.errors import VerificationFailed
from edgedistill.core.generation_task import Metric
from edgedistill.evaluate.generation_metrics import (
    FieldCounts,
    exact_match,
    field_counts,
    paired_ratio_interval,
    parse_record,
)
from edgedistill.evaluate.intervals import retention_interval
from edgedistill.evaluate.text_overlap import (
    ScoreSamples,
    bleu_of_samples,
    chrf_of_samples,
    rouge_rows,
)
from edgedistill.evaluate.text_words import lacks_spaces, plain_answer

Answers = Sequence[str | None]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
NUM_RESAMPLES = 10_000
SAMPLES_AT_ONCE = 500


def score(metric: Metric, answers: Answers, expected: Sequence[str]) -> float:
    """The metric over all rows, 0 to 1.

    Raises:
        ValueError: unequal or empty sequences.
    """
    rows = np.arange(len(expected))[None]
    return float(resampled(metric, answers, expected, rows)[0])


def resampled(
    metric: Metric, answers: Answers, expected: Sequence[str], rows: NDArray[np.int64]
) -> Floats:
    """The metric over each of several samples, float64 [num_samples].

    Args:
        rows: row numbers, [num_samples, num_drawn].

    Raises:
        ValueError: unequal or empty sequences.
    """
    return _scorer(metric, answers, expected)(rows)


def retention(
    metric: Metric,
    teacher: Answers,
    student: Answers,
    expected: Sequence[str],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Student's score over the teacher's on the same rows, by a paired bootstrap over rows.

    Fields and whole answers have the bound for losses that were not seen (see
    `intervals.retention_interval`); a corpus metric has no rows to lose, so none.

    Raises:
        VerificationFailed: a teacher that scores 0.
    """
    if score(metric, teacher, expected) == 0.0:
        raise VerificationFailed(
            "the teacher has no test row right: what a student keeps of that has no meaning",
            where=f"metric {metric}",
            fix="train the teacher longer, or give it more rows",
        )
    if metric == "field_f1":
        counts = (_counts(answers, expected) for answers in (teacher, student))
        return paired_ratio_interval(*counts, confidence=confidence, seed=seed)
    if metric == "exact_match":
        right = (right_answers(metric, answers, expected) for answers in (teacher, student))
        return retention_interval(*right, confidence=confidence, seed=seed)
    return _paired(
        metric, teacher, student, expected, lambda a, b: b / np.maximum(a, 1e-9), confidence, seed
    )


def gain(
    metric: Metric,
    reference: Answers,
    candidate: Answers,
    expected: Sequence[str],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Candidate's score minus the reference's on the same rows, by a paired bootstrap."""
    return _paired(metric, reference, candidate, expected, lambda a, b: b - a, confidence, seed)


def interval(
    metric: Metric, answers: Answers, expected: Sequence[str], *, confidence: float = 0.95,
    seed: int = 0,
) -> Interval:  # fmt: skip
    """The score with its bootstrap interval over rows."""
    return _paired(metric, answers, answers, expected, lambda _, b: b, confidence, seed)


def right_answers(metric: Metric, answers: Answers, expected: Sequence[str]) -> Bools:
    """Which answers are wholly right, bool [num_rows].

    `field_f1`: the same record. `exact_match`: the same record, or the same short answer but for
    case, punctuation and articles. Metrics of wording: the same text but for white space around.

    Raises:
        ValueError: unequal or empty sequences.
    """
    if metric == "field_f1":
        return exact_match(_records(answers), _records(expected))
    if metric == "exact_match":
        return exact_match([_plain(a) for a in answers], [_plain(text) for text in expected])
    return exact_match(list(answers), list(expected))


def _plain(answer: str | None) -> Any:
    if answer is None:
        return None
    record = parse_record(answer)
    return plain_answer(answer) if record is None else record


def _paired(
    metric: Metric,
    first: Answers,
    second: Answers,
    expected: Sequence[str],
    statistic: Callable[[Floats, Floats], Floats],
    confidence: float,
    seed: int,
) -> Interval:
    """Percentile interval (Efron & Tibshirani 1993, ch. 13); both are resampled together."""
    a, b = _scorer(metric, first, expected), _scorer(metric, second, expected)
    num_rows, rng = len(expected), np.random.default_rng(seed)
    rows = np.arange(num_rows)[None]
    value = float(statistic(a(rows), b(rows))[0])
    found = []
    for _ in range(NUM_RESAMPLES // SAMPLES_AT_ONCE):
        drawn = rng.integers(num_rows, size=(SAMPLES_AT_ONCE, num_rows))
        found.append(statistic(a(drawn), b(drawn)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(found), [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def _scorer(
    metric: Metric, answers: Answers, expected: Sequence[str]
) -> Callable[[NDArray[np.int64]], Floats]:
    """A function from row numbers [num_samples, num_rows] to a score a sample."""
    if len(answers) != len(expected) or not len(expected):
        raise ValueError(f"{len(answers)} answers for {len(expected)} rows")
    if metric == "field_f1":
        return _field_f1(answers, expected)
    if metric == "exact_match":
        right = right_answers(metric, answers, expected).astype(float)
        return lambda rows: right[rows].mean(axis=1)
    return _corpus(metric, ["" if a is None else a for a in answers], list(expected))


def _field_f1(answers: Answers, expected: Sequence[str]) -> Callable[[NDArray[np.int64]], Floats]:
    counts = _counts(answers, expected)
    both = counts.num_predicted + counts.num_expected
    return lambda rows: 2.0 * counts.num_right[rows].sum(1) / np.maximum(1, both[rows].sum(1))


def _counts(answers: Answers, expected: Sequence[str]) -> FieldCounts:
    return field_counts(_records(answers), _records(expected))


def _records(texts: Answers) -> list[dict[str, Any] | None]:
    return [None if text is None else parse_record(text) for text in texts]


def _corpus(metric: Metric, answers: Sequence[str], expected: Sequence[str]) -> ScoreSamples:
    by_character = lacks_spaces(expected)
    if metric == "bleu":
        return bleu_of_samples(answers, expected, tokenizer="char" if by_character else "13a")
    if metric == "chrf":
        return chrf_of_samples(answers, expected)
    of_row = rouge_rows(answers, expected, tokenizer="char" if by_character else "word")[:, 2]
    return lambda rows: of_row[rows].mean(axis=1)
