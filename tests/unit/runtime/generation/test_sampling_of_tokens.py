"""The next token: the likeliest, or drawn by the probabilities it should have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax as reference
from scipy.stats import chisquare

from edgedistill.runtime.generation.sampling import Sampler, log_softmax

LOGITS = np.log(np.array([0.4, 0.05, 0.3, 0.2, 0.05], np.float32))


def sampler(temperature: float = 1.0, top_p: float = 1.0, seed: int = 0) -> Sampler:
    return Sampler(temperature, top_p, np.random.default_rng(seed))


def test_the_likeliest_and_of_equals_the_first() -> None:
    assert sampler(0.0).choose(np.array([1.0, 3.0, 3.0, -np.inf])) == 1


@pytest.mark.parametrize(
    ("temperature", "top_p", "expected"),
    [
        (1.0, 1.0, [0.4, 0.05, 0.3, 0.2, 0.05]),
        (1.0, 0.65, [4 / 7, 0, 3 / 7, 0, 0]),
        (1.0, 0.75, [4 / 9, 0, 3 / 9, 2 / 9, 0]),
        (0.5, 1.0, np.array([16, 0.25, 9, 4, 0.25]) / 29.5),
        (1.0, 0.1, [1, 0, 0, 0, 0]),
    ],
)
def test_tokens_come_as_often_as_they_should(
    temperature: float, top_p: float, expected: list[float]
) -> None:
    drawing, share = sampler(temperature, top_p), np.array(expected)
    counts = np.bincount([drawing.choose(LOGITS) for _ in range(4000)], minlength=5)
    assert not counts[share == 0].any()
    if (share > 0).sum() > 1:
        assert chisquare(counts[share > 0], 4000 * share[share > 0]).pvalue > 1e-3


def test_a_seed_says_the_same_everywhere() -> None:
    drawing = sampler(seed=7)
    assert [drawing.choose(LOGITS) for _ in range(12)] == [2, 3, 3, 0, 0, 3, 0, 3, 3, 2, 0, 0]


FINITE = st.floats(-1e4, 1e4, width=32)


@given(
    logits=arrays(np.float32, st.integers(1, 20), elements=FINITE | st.just(np.float32(-np.inf))),
    temperature=st.sampled_from([0.0, 1e-300, 1e-3, 1.0, 1e300]),
    top_p=st.sampled_from([1e-9, 0.5, 1.0]),
)
def test_what_is_forbidden_is_never_drawn(
    logits: np.ndarray, temperature: float, top_p: float
) -> None:
    if np.isneginf(logits).all():
        return
    drawing = sampler(temperature, top_p)
    assert all(np.isfinite(logits[drawing.choose(logits)]) for _ in range(5))


@given(arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 9)), elements=FINITE))
def test_log_probabilities_are_those_of_scipy(logits: np.ndarray) -> None:
    np.testing.assert_allclose(
        log_softmax(logits), reference(logits.astype(np.float64), axis=-1), rtol=1e-9, atol=1e-9
    )
