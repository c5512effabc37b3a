"""Weights by agreement of pulls against gradients that autograd takes in float64, and limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.core.mixture import MixtureSpec
from edgedistill.core.protocols import Batch, ModelOutput, Signal
from edgedistill.train.distill.agreement import Agreement, agreement_shares, mixed_answers
from edgedistill.train.distill.logit_losses import softened_kl
from edgedistill.train.distill.mixture import mixed, shares
from edgedistill.train.distill.response import Response, ResponseConfig
from edgedistill.train.distill.seen import Seen


def log_softmax(logits: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(logits, dim=-1)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000), teachers=st.integers(1, 4), temperature=st.sampled_from([1.0, 3.0])
)
def test_shares_follow_the_gradients(seed: int, teachers: int, temperature: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    student = 2 * torch.randn(5, 4, generator=rng, dtype=torch.float64)
    answers = log_softmax(3 * torch.randn(5, teachers, 4, generator=rng, dtype=torch.float64))
    weights = torch.rand(teachers, generator=rng, dtype=torch.float64) + 0.1
    labels = torch.tensor([-1, 2, 0, -1, 3])
    found = agreement_shares(student, answers, weights, labels, temperature)
    for row in range(5):
        logits = student[row : row + 1].clone().requires_grad_()

        def pull(loss: torch.Tensor, logits: torch.Tensor = logits) -> np.ndarray:
            return np.asarray(torch.autograd.grad(loss, logits)[0][0])

        pulls = [pull(softened_kl(logits, answers[row, k][None], temperature))
                 for k in range(teachers)]  # fmt: skip
        given = np.asarray(weights / weights.sum())
        towards = np.average(pulls, axis=0, weights=given)
        if labels[row] >= 0:
            towards = pull(torch.nn.functional.cross_entropy(logits, labels[row : row + 1]))
        cosines = [
            g @ towards / np.linalg.norm(g) / np.linalg.norm(towards) for g in pulls
        ]  # fmt: skip
        expected = given * np.maximum(cosines, 1e-6)
        np.testing.assert_allclose(found[row], expected / expected.sum(), rtol=1e-6, atol=1e-9)


def test_a_teacher_that_the_others_pull_against_is_not_heard() -> None:
    student = torch.zeros(1, 3, dtype=torch.float64)
    answers = torch.tensor([[[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]]).double().log()
    none, weights = torch.tensor([-1]), torch.ones(3)
    share = agreement_shares(student, answers, weights, none, 1.0)[0]
    assert share[2] < 1e-5
    assert share[:2].min() > 0.4
    # The label knows better than the others.
    share = agreement_shares(student, answers, weights, torch.tensor([2]), 1.0)[0]
    assert share[2] > 0.999
    # A weight of 0 stays one.
    share = agreement_shares(student, answers, torch.tensor([1.0, 0.0, 1.0]), none, 1.0)[0]
    assert share[1] == 0


def test_where_nothing_pulls_or_all_pull_alike_the_given_weights_hold() -> None:
    student = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]])
    weights = torch.tensor([1.0, 3.0])
    none = torch.tensor([-1, -1])
    same = log_softmax(student)[:, None].repeat(1, 2, 1)
    other = log_softmax(-student)[:, None].repeat(1, 2, 1)
    for answers in (same, other):
        share = agreement_shares(student, answers, weights, none, 2.0)
        torch.testing.assert_close(share, torch.tensor([[0.25, 0.75]] * 2), atol=1e-4, rtol=0)
    one = agreement_shares(student, other[:, :1], weights[:1], none, 1.0)
    assert one.tolist() == [[1.0], [1.0]]
    # Both against the label.
    answers = torch.tensor([[[0.1, 0.1, 0.8], [0.1, 0.1, 0.8]]]).log()
    share = agreement_shares(torch.zeros(1, 3), answers, weights, torch.tensor([0]), 1.0)
    torch.testing.assert_close(share, torch.tensor([[0.25, 0.75]]))


def test_extreme_answers_stay_finite() -> None:
    student = torch.tensor([[6e4, -6e4], [0.0, 0.0]], dtype=torch.float16)
    answers = log_softmax(torch.tensor([[[-6e4, 6e4], [6e4, -6e4]]] * 2))
    share = agreement_shares(student, answers, torch.ones(2), torch.tensor([-1, 1]), 1.0)
    assert torch.isfinite(share).all()
    logits = mixed_answers(torch.tensor([[5.0, 1.0]] * 2), answers, share)
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(
        logits.logsumexp(-1), torch.tensor([5.0, 1.0]).logsumexp(0).repeat(2)
    )


@pytest.mark.parametrize("by_labels", [False, True])
def test_the_part_learns_the_mixture_and_its_gradient_is_that_of_a_fixed_target(
    by_labels: bool,
) -> None:
    rng = torch.Generator().manual_seed(4)
    student = torch.randn(6, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    answers = log_softmax(2 * torch.randn(6, 2, 3, generator=rng, dtype=torch.float64))
    first = torch.randn(6, 3, generator=rng, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, -1, -1, 0])
    signals = {Signal.LOGITS: first, Signal.TEACHERS: answers}
    ids = torch.ones(6, 2, dtype=torch.int64)
    output = ModelOutput(student, student)
    batch = Batch(ids, ids, labels, signals)
    seen = Seen(torch.nn.Identity(), batch, rng, output)
    response = Response(ResponseConfig(temperature=2.0, energy_weight=0.1, hard_weight=0.2))
    part = Agreement(response, [1.0, 2.0], temperature=2.0, by_labels=by_labels)
    assert part.needs == {Signal.LOGITS, Signal.TEACHERS}
    terms = part.terms(seen)

    asked = labels if by_labels else torch.full_like(labels, -1)
    share = agreement_shares(student.detach(), answers, torch.tensor([1.0, 2.0]), asked, 2.0)
    each = [np.asarray(answers[:, k]) for k in range(2)]
    target = torch.from_numpy(mixed(first.numpy(), each, np.asarray(share).T))
    fixed = Batch(ids, ids, labels, {Signal.LOGITS: target})
    expected = response.terms(Seen(torch.nn.Identity(), fixed, rng, output))
    assert terms.keys() == expected.keys()
    for name in terms:
        torch.testing.assert_close(terms[name], expected[name])
    ours, theirs = (
        torch.autograd.grad(sum(found.values()), student, retain_graph=True)[0]  # type: ignore[arg-type]
        for found in (terms, expected)
    )
    torch.testing.assert_close(ours, theirs)
    assert signals[Signal.LOGITS] is first


def test_equal_shares_are_the_static_mixture() -> None:
    rng = np.random.default_rng(0)
    first, other = rng.normal(size=(2, 4, 3))
    answers = [x - np.log(np.exp(x).sum(1, keepdims=True)) for x in (first, other)]
    static = mixed(first, answers, shares([1, 1], answers, by_text=False))
    ours = mixed_answers(
        torch.from_numpy(first), torch.from_numpy(np.stack(answers, 1)),
        torch.full((4, 2), 0.5, dtype=torch.float64),
    )  # fmt: skip
    np.testing.assert_allclose(ours, static)


def test_what_to_agree_with_is_for_agreement_alone() -> None:
    assert MixtureSpec(weighting="agreement", agree_with="labels").agree_with == "labels"
    with pytest.raises(ValueError, match="weighting agreement"):
        MixtureSpec(weighting="quality", agree_with="labels")
