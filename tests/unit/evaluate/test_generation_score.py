"""Scores of generated answers and the intervals of their ratios."""

from __future__ import annotations

import numpy as np
import pytest

from edgedistill.core.errors import VerificationFailed
from edgedistill.core.generation_task import Metric
from edgedistill.evaluate.generation_metrics import field_counts, paired_ratio_interval
from edgedistill.evaluate.generation_score import gain, interval, retention, score

EXPECTED = ['{"a":1,"b":"x"}', '{"a":2}', '{"a":3,"c":["y","z"]}'] * 20
WORSE = ['{"a":1,"b":"q"}', '{"a":2}', None] * 20


def test_field_f1_by_hand() -> None:
    assert score("field_f1", EXPECTED, EXPECTED) == 1.0
    # Right 1 + 1 of 2 + 1 predicted, 2 + 1 + 3 expected.
    assert score("field_f1", WORSE, EXPECTED) == pytest.approx(2 * 2 / (3 + 6))


def test_retention_agrees_with_the_bootstrap_of_counts() -> None:
    rng = np.random.default_rng(1)
    teacher = [e if rng.random() < 0.9 else '{"a":0}' for e in EXPECTED]
    student = [e if rng.random() < 0.8 else None for e in EXPECTED]
    found = retention("field_f1", teacher, student, EXPECTED)
    import json

    def records(texts: list[str | None]) -> list[object]:
        return [None if t is None else json.loads(t) for t in texts]

    truth = records(list(EXPECTED))
    other = paired_ratio_interval(
        field_counts(records(list(teacher)), truth), field_counts(records(student), truth)
    )
    assert found.value == pytest.approx(other.value)
    assert found.low == pytest.approx(other.low, abs=0.01)
    assert found.high == pytest.approx(other.high, abs=0.01)


@pytest.mark.parametrize("metric", ["field_f1", "exact_match", "bleu", "chrf", "rouge_l"])
def test_a_perfect_answer_scores_one_and_an_abstention_loses(metric: Metric) -> None:
    texts = ["the cat sat on the mat today", "a dog barked at the red door"] * 3
    if metric == "field_f1":
        texts = ['{"a":1}', '{"b":2}'] * 3
    assert score(metric, texts, texts) == pytest.approx(1.0)
    assert score(metric, [None, *texts[1:]], texts) < 1.0
    assert gain(metric, [None, *texts[1:]], texts, texts).value > 0
    bounds = interval(metric, texts, texts)
    assert bounds.low == pytest.approx(1.0)


@pytest.mark.parametrize("metric", ["field_f1", "exact_match"])
def test_no_loss_seen_on_few_rows_is_no_proof_of_none(metric: Metric) -> None:
    found = retention(metric, EXPECTED, EXPECTED, EXPECTED)
    assert found.value == 1.0
    assert found.low < 0.97


def test_a_teacher_without_a_right_row_is_told() -> None:
    with pytest.raises(VerificationFailed, match="no test row right"):
        retention("field_f1", [None] * len(EXPECTED), EXPECTED, EXPECTED)


def test_unequal_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="answers for"):
        score("bleu", ["a"], ["a", "b"])
    with pytest.raises(ValueError, match="answers for"):
        score("bleu", [], [])
