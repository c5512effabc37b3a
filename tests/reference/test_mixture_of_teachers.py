"""Mixtures of teachers' answers against plain probabilities, text by text, and their limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.train.distill.mixture import (
    above_chance,
    accuracy,
    certainty,
    completed,
    mixed,
    shares,
    told_of_labels,
)

ALONE = [[0], [1], [2]]


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max())
    return np.asarray(e / e.sum())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), num=st.integers(1, 6), by_text=st.booleans())
def test_a_mixture_by_hand(seed: int, num: int, by_text: bool) -> None:
    rng = np.random.default_rng(seed)
    first, second = 3 * rng.normal(size=(num, 3)), 3 * rng.normal(size=(num, 5))
    groups = [[3, 0], [], [1]]  # two classes are one label, one label is not known
    weights = rng.uniform(0.1, 2, 2)
    own = told_of_labels(first, ALONE)
    answers = [own, completed(told_of_labels(second, groups), own)]
    share = shares(list(weights), answers, by_text=by_text)
    logits = mixed(first, answers, share)
    for row in range(num):
        p, q = softmax(first[row]), softmax(second[row])
        known = np.array([q[3] + q[0], 0.0, q[1]])
        filled = known / known.sum() * (1 - p[1]) + np.array([0.0, p[1], 0.0])
        own_weights = weights.copy()
        if by_text:
            own_weights *= [1 + (x * np.log(x)).sum() / np.log(3) for x in (p, filled)]
        own_weights /= own_weights.sum()
        np.testing.assert_allclose(share[:, row], own_weights, rtol=1e-7)
        expected = own_weights[0] * p + own_weights[1] * filled
        np.testing.assert_allclose(softmax(logits[row]), expected, rtol=1e-7)
        # Of the first teacher's energy.
        assert np.log(np.exp(logits[row]).sum()) == pytest.approx(np.log(np.exp(first[row]).sum()))


def test_teachers_that_agree_are_mixed_into_the_first_ones_logits() -> None:
    first = np.random.default_rng(0).normal(size=(4, 3)) * 5 + 7
    answers = [told_of_labels(first, ALONE), told_of_labels(first - 100.0, ALONE)]
    for by_text in (False, True):
        share = shares([1.0, 3.0], answers, by_text=by_text)
        np.testing.assert_allclose(mixed(first, answers, share), first, rtol=1e-9)
        np.testing.assert_allclose(share, [[0.25] * 4, [0.75] * 4])


def test_a_teacher_of_no_weight_says_nothing_and_one_alone_says_all() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 5, 3))
    answers = [told_of_labels(x, ALONE) for x in (first, second)]
    np.testing.assert_allclose(mixed(first, answers, shares([2, 0], answers, by_text=False)), first)
    only = mixed(first, answers, shares([0, 2], answers, by_text=False))
    np.testing.assert_allclose(told_of_labels(only, ALONE), answers[1])


def test_the_surer_teacher_counts_more_and_none_where_all_are_at_a_loss() -> None:
    sure, lost = np.array([[9.0, 0.0, 0.0], [0.0] * 3]), np.zeros((2, 3))
    answers = [told_of_labels(x, ALONE) for x in (sure, lost)]
    np.testing.assert_allclose(certainty(answers[1]), 0.0, atol=1e-12)
    share = shares([1.0, 3.0], answers, by_text=True)
    assert share[0, 0] > 0.99
    # Nobody knows the second text: the weights that were given decide.
    np.testing.assert_allclose(share[:, 1], [0.25, 0.75])
    assert certainty(np.zeros((2, 1))).tolist() == [1.0, 1.0]


def test_extreme_logits_stay_finite() -> None:
    first = np.array([[1e4, -1e4, 0.0], [0.0, 0.0, -6e4]])
    second = np.array([[-6e4, 6e4, 0.0], [6e4, 0.0, 0.0]], np.float16)
    answers = [told_of_labels(x, ALONE) for x in (first, second)]
    logits = mixed(first, answers, shares([1, 1], answers, by_text=True))
    assert np.isfinite(logits).all()
    # Where one is sure of the first label and one of the second, both are as likely.
    assert logits[0, 0] == pytest.approx(logits[0, 1])
    assert mixed(first[:0], [x[:0] for x in answers], np.ones((2, 0))).shape == (0, 3)


def test_quality_is_what_lies_above_chance() -> None:
    answers = np.log(np.array([[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]]))
    assert above_chance(answers, np.array([0, 1, 2])) == pytest.approx(2 / 3)
    assert above_chance(answers, np.array([0, 0, 1])) == pytest.approx(0.0)
    assert above_chance(answers, np.array([1, 0, 1])) == 0.0
    # What a teacher does not know is not held against it: of two labels chance is a half.
    partial = told_of_labels(answers, [[0], [], [2]])
    targets = np.array([0, 1, 2])
    assert accuracy(partial, targets) == 1.0
    assert above_chance(partial, targets) == pytest.approx(0.5)
    assert accuracy(partial, np.array([1, 1, 1])) == above_chance(partial, np.array([1] * 3)) == 0.0
