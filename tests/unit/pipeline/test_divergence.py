"""KL of next tokens from the likeliest of them, against the sum over the whole vocabulary."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.pipeline.generation.divergence import Likeliest, divergence


def _top(logits: np.ndarray, num: int) -> list[dict[int, float]]:
    logprobs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    order = np.argsort(-logprobs, axis=1)[:, :num]
    return [
        {int(i): float(row[i]) for i in best} for row, best in zip(logprobs, order, strict=True)
    ]


def _whole(first: np.ndarray, second: np.ndarray) -> float:
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (first, second))
    return float((p * np.log(p / q)).sum(1).mean())


def test_with_all_tokens_it_is_the_divergence() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 5, 40))
    found = divergence(_top(first, 40), _top(second, 40))
    assert found == pytest.approx(_whole(first, second), rel=1e-4)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 39), st.floats(0.01, 8))
def test_fewer_tokens_never_say_more(seed: int, num: int, scale: float) -> None:
    first, second = np.random.default_rng(seed).normal(scale=scale, size=(2, 3, 40))
    found = divergence(_top(first, num), _top(second, num))
    assert 0.0 <= found <= _whole(first, second) + 1e-6


def test_the_same_is_zero_and_another_is_not() -> None:
    one: Likeliest = [{1: math.log(0.7), 2: math.log(0.2)}]
    other: Likeliest = [{1: math.log(0.2), 2: math.log(0.7)}]
    assert divergence(one, one) == 0.0
    by_hand = 0.7 * math.log(0.7 / 0.2) + 0.2 * math.log(0.2 / 0.7)
    assert divergence(one, other) == pytest.approx(by_hand)
    disjoint: Likeliest = [{3: math.log(0.9)}]
    assert divergence(one, disjoint) == 0.0  # nothing is named by both: one event, all the mass


@pytest.mark.parametrize(("one", "other"), [([], []), ([{1: 0.0}], [])])
def test_nothing_to_compare_is_refused(one: Likeliest, other: Likeliest) -> None:
    with pytest.raises(ValueError):
        divergence(one, other)
