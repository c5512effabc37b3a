"""The divergences by hand, at their limits, and as properties."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgedistill.train.distill.divergences import (
    DIVERGENCES,
    MIXING,
    forward_kl,
    jensen_shannon,
    reverse_kl,
    skewed_kl,
    softened,
)

LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=4, max_size=4)
HALF, QUARTER = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()


def test_values_by_hand() -> None:
    # teacher (1/2, 1/2), student (1/4, 3/4)
    forward = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    backward = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert forward_kl(QUARTER, HALF).item() == pytest.approx(forward, rel=1e-6)
    assert reverse_kl(QUARTER, HALF).item() == pytest.approx(backward, rel=1e-6)
    middle = (3 / 8, 5 / 8)
    to_teacher = 0.5 * math.log(0.5 / middle[0]) + 0.5 * math.log(0.5 / middle[1])
    to_student = 0.25 * math.log(0.25 / middle[0]) + 0.75 * math.log(0.75 / middle[1])
    expected = (to_teacher + to_student) / 2
    assert jensen_shannon(QUARTER, HALF).item() == pytest.approx(expected, rel=1e-5)
    # α = 0.2: the mix is 0.2 teacher + 0.8 student = (0.3, 0.7)
    expected = 0.5 * math.log(0.5 / 0.3) + 0.5 * math.log(0.5 / 0.7)
    assert skewed_kl(QUARTER, HALF, mix=0.2).item() == pytest.approx(expected, rel=1e-5)


def test_the_mix_is_the_share_of_the_teacher() -> None:
    # β = 0.2: 0.2 KL(teacher ‖ m) + 0.8 KL(student ‖ m), m = (0.3, 0.7)
    to_teacher = 0.5 * math.log(0.5 / 0.3) + 0.5 * math.log(0.5 / 0.7)
    to_student = 0.25 * math.log(0.25 / 0.3) + 0.75 * math.log(0.75 / 0.7)
    expected = 0.2 * to_teacher + 0.8 * to_student
    assert jensen_shannon(QUARTER, HALF, mix=0.2).item() == pytest.approx(expected, rel=1e-5)


def test_limits_of_the_mixes_are_the_two_kl() -> None:
    student, teacher = torch.randn(2, 5, 7, dtype=torch.float64).log_softmax(-1)
    forward, backward = forward_kl(student, teacher), reverse_kl(student, teacher)
    near = jensen_shannon(student, teacher, mix=1e-6) / 1e-6
    torch.testing.assert_close(near, forward, rtol=1e-3, atol=1e-4)
    near = jensen_shannon(student, teacher, mix=1 - 1e-6) / 1e-6
    torch.testing.assert_close(near, backward, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(skewed_kl(student, teacher, mix=1e-9), forward)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_temperature_softens_both_and_is_squared(name: str) -> None:
    divergence = DIVERGENCES.load(name)
    student, teacher = torch.randn(2, 5, 7).log_softmax(-1)
    at_3 = divergence((student / 3).log_softmax(-1), (teacher / 3).log_softmax(-1))
    torch.testing.assert_close(divergence(student, teacher, temperature=3.0), 9 * at_3)
    powers = teacher.double().exp() ** (1 / 3)
    expected = (powers / powers.sum(-1, keepdim=True)).log().float()
    torch.testing.assert_close(softened(teacher, 3.0), expected)


@settings(deadline=None)
@given(LOGITS, LOGITS, st.sampled_from(sorted(DIVERGENCES)))
def test_never_negative_and_bounded_where_promised(
    a: list[float], b: list[float], name: str
) -> None:
    student, teacher = (torch.tensor([each]).log_softmax(-1) for each in (a, b))
    divergence = DIVERGENCES.load(name)
    value = divergence(student, teacher).item()
    assert math.isfinite(value)
    assert value >= -1e-5
    assert abs(divergence(student, student).item()) < 1e-5
    if name in MIXING:
        assert value <= {"jensen_shannon": math.log(2), "skewed_kl": -math.log(0.1)}[name] + 1e-5


@settings(deadline=None)
@given(LOGITS, LOGITS, st.integers(1, 3))
def test_merging_outcomes_never_adds_divergence(a: list[float], b: list[float], cut: int) -> None:
    # What the k + 1 outcomes of a top-k teacher rest on (the data-processing inequality).
    whole = [torch.tensor([each], dtype=torch.float64).log_softmax(-1) for each in (a, b)]

    def merged(rows: Tensor) -> Tensor:
        return torch.cat([rows[:, :cut], rows[:, cut:].logsumexp(-1, keepdim=True)], -1)

    for name in DIVERGENCES:
        divergence = DIVERGENCES.load(name)
        assert divergence(*map(merged, whole)).item() <= divergence(*whole).item() + 1e-9


@pytest.mark.parametrize("name", sorted(MIXING))
@pytest.mark.parametrize("mix", [0.0, 1.0, -0.5, math.nan])
def test_no_mix_at_all_is_refused(name: str, mix: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        partial(DIVERGENCES.load(name), mix=mix)(HALF, QUARTER)


def test_rows_do_not_see_each_other() -> None:
    student, teacher = torch.randn(2, 4, 6).log_softmax(-1)
    for name in DIVERGENCES:
        values = DIVERGENCES.load(name)(student, teacher)
        alone = [DIVERGENCES.load(name)(student[[i]], teacher[[i]]).item() for i in range(4)]
        np.testing.assert_allclose(values.numpy(), alone, rtol=1e-6)
