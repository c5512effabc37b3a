"""The distillation loss against arithmetic written out, and its gradient against differences."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from edgedistill.train.distill.response import energy_difference, softened_kl
from edgedistill.train.tune.supervised import labelled_cross_entropy


def by_hand(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    def softmax(x: np.ndarray) -> np.ndarray:
        e = np.exp(x - x.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    p, q = softmax(teacher / temperature), softmax(student / temperature)
    return float((p * (np.log(p) - np.log(q))).sum(1).mean() * temperature**2)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_value(temperature: float) -> None:
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 5, 7)) * 3
    value = softened_kl(torch.tensor(student), torch.tensor(teacher), temperature)
    assert float(value) == pytest.approx(by_hand(student, teacher, temperature), rel=1e-5)


def test_equal_logits_cost_nothing_and_duplicated_batches_cost_the_same() -> None:
    logits = torch.randn(4, 6)
    other = torch.randn(4, 6)
    assert float(softened_kl(logits, logits, 2.0)) == pytest.approx(0.0, abs=1e-6)
    doubled = softened_kl(torch.cat([logits, logits]), torch.cat([other, other]), 2.0)
    assert float(doubled) == pytest.approx(float(softened_kl(logits, other, 2.0)), rel=1e-5)


def test_extreme_logits_stay_finite() -> None:
    value = softened_kl(torch.tensor([[1e4, -1e4]]), torch.tensor([[-1e4, 1e4]]), 1.0)
    assert torch.isfinite(value)


def test_gradient_at_high_temperature_is_that_of_matching_logits() -> None:
    # Hinton et al. 2015, equation 4: for large T, T² · dKL/dz = (z - v) / N for centred logits.
    torch.manual_seed(0)
    z, v = torch.randn(1, 5, dtype=torch.float64), torch.randn(1, 5, dtype=torch.float64)
    z, v = (z - z.mean()).requires_grad_(), v - v.mean()
    softened_kl(z, v, 1000.0).backward()
    assert z.grad is not None
    torch.testing.assert_close(z.grad, ((z - v) / 5).detach(), rtol=0.02, atol=1e-4)


def test_gradient_against_finite_differences() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(3, 4, dtype=torch.float64)

    def loss(student: torch.Tensor) -> torch.Tensor:
        log_q = torch.log_softmax(student / 2.0, -1)
        p = torch.softmax(teacher / 2.0, -1)
        return (p * (p.log() - log_q)).sum(-1).mean() * 4.0

    student = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(loss, (student,))
    ours = torch.autograd.grad(softened_kl(student, teacher, 2.0), student)[0]
    theirs = torch.autograd.grad(loss(student), student)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_rows_without_label_do_not_count() -> None:
    logits = torch.randn(4, 3)
    labels = torch.tensor([0, -1, 2, -1])
    expected = torch.nn.functional.cross_entropy(logits[[0, 2]], labels[[0, 2]])
    assert float(labelled_cross_entropy(logits, labels)) == pytest.approx(float(expected), rel=1e-6)
    assert float(labelled_cross_entropy(logits, torch.full((4,), -1))) == 0.0


def test_energy_difference_by_hand_and_what_the_divergence_does_not_see() -> None:
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 5, 7)) * 3
    expected = np.mean((np.log(np.exp(student).sum(1)) - np.log(np.exp(teacher).sum(1))) ** 2)
    found = energy_difference(torch.tensor(student), torch.tensor(teacher))
    assert float(found) == pytest.approx(expected, rel=1e-5)
    shifted = torch.tensor(teacher + 2.0)
    assert float(softened_kl(shifted, torch.tensor(teacher), 2.0)) == pytest.approx(0.0, abs=1e-5)
    assert float(energy_difference(shifted, torch.tensor(teacher))) == pytest.approx(4.0, rel=1e-5)
