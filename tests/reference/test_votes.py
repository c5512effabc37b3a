"""Weights of a vote: against a search of the whole simplex, by slopes, and in their limits."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from torch import nn

from edgedistill.core.protocols import ModelOutput
from edgedistill.models.students.ensemble import Ensemble
from edgedistill.train.distill.vote import averaged, loss_of_weights, vote_weights

AVERAGES = ("probabilities", "logits")


def answers(seed: int, *, members: int = 3, rows: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Logits of members that are each good at another share of the texts, and the labels."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 4, rows)
    skill = rng.uniform(0, 2.5, (members, rows))
    logits = rng.normal(0, 1, (members, rows, 4))
    logits[:, np.arange(rows), targets] += skill
    return logits, targets


def plain_loss(logits: np.ndarray, targets: np.ndarray, weights: np.ndarray, average: str) -> float:
    """Written out, not by logarithms of sums."""
    if average == "logits":
        told = softmax(np.einsum("m,mnc->nc", weights, logits), axis=1)
    else:
        told = np.einsum("m,mnc->nc", weights, softmax(logits, axis=2))
    return float(-np.log(told[np.arange(len(targets)), targets]).mean())


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_point_of_a_grid_is_likelier(seed: int, average: str) -> None:
    logits, targets = answers(seed)
    found = vote_weights(logits, targets, average)
    assert found.sum() == pytest.approx(1.0)
    steps = [(a / 50, b / 50, 1 - (a + b) / 50) for a, b in product(range(51), repeat=2)
             if a + b <= 50]  # fmt: skip
    on_grid = min(plain_loss(logits, targets, np.array(w), average) for w in steps)
    # What weighs less than a hundredth is left out, which may cost next to nothing.
    assert plain_loss(logits, targets, found, average) <= on_grid + 1e-4


def test_averaged_probabilities_agree_with_expectation_maximisation() -> None:
    logits, targets = answers(5, members=4, rows=80)
    p = softmax(logits, axis=2)[:, np.arange(80), targets]
    weights = np.full(4, 0.25)
    for _ in range(20_000):
        weights = (weights[:, None] * p / (weights @ p)).mean(1)
    weights[weights < 0.01] = 0.0
    found = vote_weights(logits, targets, "probabilities")
    np.testing.assert_allclose(found, weights / weights.sum(), atol=1e-3)


@pytest.mark.parametrize("average", AVERAGES)
def test_slopes_by_finite_differences(average: str) -> None:
    logits, targets = answers(3)
    loss, weights = loss_of_weights(logits, targets, average), np.array([0.5, 0.3, 0.2])
    value, slope = loss(weights)
    assert value == pytest.approx(plain_loss(logits, targets, weights, average), rel=1e-12)
    for member in range(3):
        step = np.zeros(3)
        step[member] = 1e-6
        by_difference = (loss(weights + step)[0] - loss(weights - step)[0]) / 2e-6
        assert slope[member] == pytest.approx(by_difference, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(AVERAGES), st.integers(1, 5))
def test_a_vote_is_no_worse_than_its_best_member(seed: int, average: str, members: int) -> None:
    logits, targets = answers(seed, members=members, rows=25)
    weights = vote_weights(logits, targets, average)
    alone = [plain_loss(logits, targets, np.eye(members)[i], average) for i in range(members)]
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1.0)
    # Left out are shares below a hundredth: log(1 / 0.99) for each is the most that this costs.
    assert plain_loss(logits, targets, weights, average) <= min(alone) + 0.01 * members


def test_limits_of_a_vote() -> None:
    logits, targets = answers(7, members=1)
    for average in AVERAGES:
        same = np.concatenate([logits, logits, logits])
        np.testing.assert_allclose(vote_weights(same, targets, average), [1 / 3] * 3)
        np.testing.assert_allclose(averaged(same, np.full(3, 1 / 3), average), logits[0])
        # A member that is always wrong gets nothing.
        wrong = -5 * np.eye(4)[targets]
        good = 5 * np.eye(4)[targets]
        np.testing.assert_array_equal(vote_weights(np.stack([wrong, good]), targets, average),
                                      [0, 1])  # fmt: skip
        for broken in (np.full((2, 3, 4), np.nan), np.zeros((2, 0, 4))):
            with pytest.raises(ValueError, match="weights need"):
                vote_weights(broken, np.zeros(broken.shape[1], np.int64), average)


def test_one_sure_member_does_not_overflow() -> None:
    logits = np.array([[[0.0, 6e4]], [[-6e4, 0.0]]])
    for average in AVERAGES:
        assert np.isfinite(averaged(logits, np.array([0.5, 0.5]), average)).all()
        assert vote_weights(logits, np.array([1]), average).sum() == pytest.approx(1.0)


class Says(nn.Module):
    """A student with a table of answers."""

    def __init__(self, seed: int, dim: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.table, self.own = nn.Embedding(9, 4).double(), nn.Embedding(9, dim).double()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> ModelOutput:
        mask = attention_mask[..., None]
        return ModelOutput(
            5 * (self.table(input_ids) * mask).sum(1), (self.own(input_ids) * mask).sum(1)
        )


@pytest.mark.parametrize("average", AVERAGES)
def test_the_network_is_the_weighted_mean(average: str) -> None:
    members = [Says(seed, dim) for seed, dim in enumerate((2, 3, 5))]
    ids = torch.randint(0, 9, (6, 4), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(4) < torch.tensor([[4], [1], [2], [3], [4], [1]])).long()
    weights = np.array([0.3, 0.7, 0.0])
    together = Ensemble(members, weights.tolist(), average)  # type: ignore[arg-type]
    output = together(ids, mask)
    told = np.stack([each(ids, mask).logits.detach().numpy() for each in members])
    np.testing.assert_allclose(output.logits.detach(), averaged(told[:2], weights[:2], average))
    # Features are those of the member that weighs most; who weighs nothing is not there.
    torch.testing.assert_close(output.features, members[1](ids, mask).features)
    assert len(together.members) == 2
    expected = plain(told, weights, average)
    np.testing.assert_allclose(softmax(output.logits.detach().numpy(), axis=1), expected)
    # The energy is the mean of the energies of the members, for distributions.
    if average == "probabilities":
        energy = output.logits.logsumexp(1).detach().numpy()
        theirs = np.log(np.exp(told).sum(2))
        np.testing.assert_allclose(energy, weights @ theirs)


def plain(told: np.ndarray, weights: np.ndarray, average: str) -> np.ndarray:
    """The mean distribution, written out."""
    if average == "logits":
        return np.exp(log_softmax(np.einsum("m,mnc->nc", weights, told), axis=1))
    return np.einsum("m,mnc->nc", weights, softmax(told, axis=2))
