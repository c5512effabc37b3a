"""Losses on logits against float64 arithmetic in numpy, their limits, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from edgedistill.core.protocols import Batch, ModelOutput, Signal
from edgedistill.train.distill.consistency import symmetric_divergence, view
from edgedistill.train.distill.logit_losses import decoupled_kl, logit_mse, softened_kl
from edgedistill.train.distill.response import Response, ResponseConfig
from edgedistill.train.distill.seen import Seen


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return float((p * (np.log(p) - np.log(q))).sum())


def decoupled_by_hand(
    student: np.ndarray, teacher: np.ndarray, targets: np.ndarray, temperature: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A text at a time: on the target, among the others, the teacher's belief in the target."""
    on_target, among, belief = [], [], []
    for z, v, target in zip(student, teacher, targets, strict=True):
        q, p = softmax(z / temperature), softmax(v / temperature)
        others = np.arange(len(z)) != target
        # Summed, for 1 - p of a p next to 1 has lost its digits.
        rest_p, rest_q = p[others].sum(), q[others].sum()
        on_target.append(kl(np.array([p[target], rest_p]), np.array([q[target], rest_q])))
        among.append(kl(softmax(v[others] / temperature), softmax(z[others] / temperature)))
        belief.append(p[target])
    return np.array(on_target), np.array(among), np.array(belief)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), num_texts=st.integers(1, 5), num_classes=st.integers(2, 9),
    temperature=st.sampled_from([0.5, 1.0, 2.0, 7.0]),
)  # fmt: skip
def test_decoupled_parts_by_hand_and_their_sum(
    seed: int, num_texts: int, num_classes: int, temperature: float
) -> None:
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(size=(2, num_texts, num_classes)) * 3
    targets = rng.integers(0, num_classes, num_texts)
    on_target, among, belief = decoupled_by_hand(student, teacher, targets, temperature)
    found = decoupled_kl(
        torch.tensor(student), torch.tensor(teacher), torch.tensor(targets), temperature
    )
    assert float(found[0]) == pytest.approx(on_target.mean() * temperature**2, rel=1e-9, abs=1e-12)
    assert float(found[1]) == pytest.approx(among.mean() * temperature**2, rel=1e-9, abs=1e-12)
    # Zhao et al. 2022, equation 7: put together again, text by text, they are the plain loss.
    whole = (on_target + (1 - belief) * among).mean() * temperature**2
    plain = softened_kl(torch.tensor(student), torch.tensor(teacher), temperature)
    assert float(plain) == pytest.approx(whole, rel=1e-9, abs=1e-12)


def test_among_two_classes_there_are_no_others() -> None:
    student, teacher = torch.randn(2, 6, 2, dtype=torch.float64)
    on_target, among = decoupled_kl(student, teacher, torch.tensor([0, 1, 0, 1, 0, 1]), 2.0)
    assert float(among) == 0.0
    assert float(on_target) == pytest.approx(float(softened_kl(student, teacher, 2.0)))


def test_logit_mse_by_hand_ties_included() -> None:
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 5, 7))
    teacher[2] = 1.5  # every class alike
    expected = ((student - teacher) ** 2).sum() / 35
    assert float(logit_mse(torch.tensor(student), torch.tensor(teacher))) == pytest.approx(expected)


def test_divergence_at_high_temperature_is_half_the_mse_of_centred_logits() -> None:
    # Hinton et al. 2015, section 2.1: T² KL nears Σ (z - v)² / 2N for centred logits.
    rng = np.random.default_rng(1)
    student, teacher = rng.normal(size=(2, 4, 6))
    centred = [torch.tensor(x - x.mean(1, keepdims=True)) for x in (student, teacher)]
    limit = float(logit_mse(*centred)) / 2
    errors = [
        abs(float(softened_kl(torch.tensor(student), torch.tensor(teacher), t)) - limit)
        for t in (1e2, 1e3, 1e4)
    ]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
    assert errors[2] < 1e-3 * limit


@pytest.mark.parametrize("num_texts", [1, 3])
def test_identical_answers_cost_nothing(num_texts: int) -> None:
    logits = 4 * torch.randn(num_texts, 5)
    targets = torch.zeros(num_texts, dtype=torch.int64)
    values = [*decoupled_kl(logits, logits, targets, 3.0), logit_mse(logits, logits)]
    values.append(symmetric_divergence(logits, logits))
    assert all(float(value) == pytest.approx(0.0, abs=1e-6) for value in values)


def test_extreme_logits_have_finite_values_and_gradients() -> None:
    teacher = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])
    student = torch.tensor([[-1e4, 1e4, 0.0], [-1e4, 1e4, 0.0]], requires_grad=True)
    total = torch.stack(decoupled_kl(student, teacher, torch.tensor([0, 1]), 1.0)).sum()
    total.backward()
    assert torch.isfinite(total)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_gradients_against_finite_differences() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(3, 4, dtype=torch.float64)
    student = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 3, 1])
    assert gradcheck(lambda z: softened_kl(z, teacher, 2.0), (student,))
    assert gradcheck(lambda z: logit_mse(z, teacher), (student,))
    assert gradcheck(lambda z: decoupled_kl(z, teacher, targets, 2.0), (student,))
    second = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(symmetric_divergence, (student, second))


def response_terms(config: ResponseConfig, labels: list[int]) -> dict[str, float]:
    torch.manual_seed(0)
    logits, teacher = torch.randn(2, 3, 4, dtype=torch.float64)
    ids = torch.ones(3, 2, dtype=torch.int64)
    batch = Batch(ids, ids, torch.tensor(labels), {Signal.LOGITS: teacher})
    seen = Seen(torch.nn.Identity(), batch, torch.Generator(), ModelOutput(logits, logits))
    return {name: float(value) for name, value in Response(config).terms(seen).items()}


def test_without_a_label_the_target_is_what_the_teacher_answers() -> None:
    config = ResponseConfig(loss="decoupled", target_weight=2.0, non_target_weight=0.5)
    torch.manual_seed(0)
    logits, teacher = torch.randn(2, 3, 4, dtype=torch.float64)
    answered = teacher.argmax(-1).tolist()
    assert response_terms(config, [-1, -1, -1]) == response_terms(config, answered)
    assert response_terms(config, [(answered[0] + 1) % 4, -1, -1]) != response_terms(
        config, answered
    )
    targets = torch.tensor(answered)
    on_target, among = decoupled_kl(logits, teacher, targets, config.temperature)
    assert response_terms(config, answered) == {
        "target": pytest.approx(2.0 * float(on_target)),
        "non_target": pytest.approx(0.5 * float(among)),
    }


def test_labels_take_their_share_of_every_loss() -> None:
    for loss in ("kl", "mse", "decoupled"):
        config = ResponseConfig(loss=loss)  # type: ignore[arg-type]
        plain = response_terms(config, [0, 1, -1])
        mixed = response_terms(config.model_copy(update={"hard_weight": 0.25}), [0, 1, -1])
        assert mixed.pop("hard") > 0
        assert mixed == {name: pytest.approx(0.75 * value) for name, value in plain.items()}


def test_views_drop_tokens_never_the_first_and_never_add_padding() -> None:
    mask = (torch.arange(40) < torch.tensor([[40], [25], [1]])).long()
    rng = torch.Generator().manual_seed(0)
    views = torch.stack([view(mask, 0.3, rng) for _ in range(300)])
    assert views.dtype is mask.dtype
    assert bool((views <= mask).all())
    assert bool((views[:, :, 0] == 1).all())
    dropped = 1 - views[:, 0, 1:].double().mean()
    assert float(dropped) == pytest.approx(0.3, abs=0.02)
    assert len({tuple(v[0].tolist()) for v in views}) > 290


def test_symmetric_divergence_by_hand() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(2, 4, 5)) * 2
    p, q = softmax(first), softmax(second)
    expected = 0.5 * (kl(p, q) + kl(q, p)) / 4
    found = symmetric_divergence(torch.tensor(first), torch.tensor(second))
    assert float(found) == pytest.approx(expected)
    swapped = symmetric_divergence(torch.tensor(second), torch.tensor(first))
    assert float(swapped) == pytest.approx(expected)
