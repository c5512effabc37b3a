"""Token-level distillation: shares, dropped positions, teachers live and from the cache."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from edgedistill.core.errors import ModelError
from edgedistill.models.teachers.topk_cache import topk_of
from edgedistill.train.distill import token_level
from edgedistill.train.distill.chunked import chunked_cross_entropy, chunked_divergence
from edgedistill.train.distill.divergences import DIVERGENCES
from edgedistill.train.distill.token_level import (
    LiveTeacher,
    OfflineTopK,
    TokenLevelConfig,
    token_level_terms,
)

BATCH, LENGTH, WIDTH, VOCABULARY = 2, 7, 4, 30


@pytest.fixture
def student() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    return hidden, torch.randn(VOCABULARY, WIDTH, requires_grad=True)


@pytest.fixture
def teacher() -> LiveTeacher:
    torch.manual_seed(1)
    return LiveTeacher(torch.randn(BATCH, LENGTH, 6), torch.randn(VOCABULARY, 6))


@pytest.fixture
def targets() -> Tensor:
    targets = torch.arange(BATCH * LENGTH).reshape(BATCH, LENGTH)
    targets[0, :3] = targets[1, 5:] = -100
    return targets


def summed(terms: object) -> Tensor:
    assert isinstance(terms, dict)
    return torch.stack(list(terms.values())).sum()


def test_terms_are_the_two_losses_by_their_shares(student, teacher, targets) -> None:  # type: ignore[no-untyped-def]
    config = TokenLevelConfig(
        divergence="jensen_shannon", mix=0.3, temperature=2.0, hard_weight=0.25, chunk_size=4
    )
    terms = token_level_terms(*student, targets, teacher, config)
    hidden, head = student
    kept = targets != -100
    soft = chunked_divergence(
        hidden[kept], head, teacher.hidden[kept], teacher.head, temperature=2.0,
        divergence=config.compared_by(),
    )  # fmt: skip
    hard = chunked_cross_entropy(hidden.reshape(-1, WIDTH), head, targets.reshape(-1))
    torch.testing.assert_close(dict(terms), {"soft": 0.75 * soft, "hard": 0.25 * hard})
    found = torch.autograd.grad(summed(terms), student)
    expected = torch.autograd.grad(0.75 * soft + 0.25 * hard, student)
    torch.testing.assert_close(found, expected)
    assert (found[0][~kept] == 0).all()


def test_dropped_positions_are_never_looked_at(student, teacher, targets) -> None:  # type: ignore[no-untyped-def]
    hidden, head = student
    dropped = targets == -100
    poisoned = hidden.detach().clone()
    poisoned[dropped] = torch.nan
    spoken = teacher.hidden.clone()
    spoken[dropped] = torch.nan
    found = token_level_terms(
        poisoned, head, targets, LiveTeacher(spoken, teacher.head), TokenLevelConfig()
    )
    expected = token_level_terms(hidden, head, targets, teacher, TokenLevelConfig())
    torch.testing.assert_close(dict(found), dict(expected))


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_term_without_share_is_not_computed(student, teacher, targets, weight: float) -> None:  # type: ignore[no-untyped-def]
    unknown = OfflineTopK(*(torch.zeros(BATCH, LENGTH, 0),) * 2, torch.zeros(BATCH, LENGTH))
    given = unknown if weight == 1.0 else teacher
    terms = token_level_terms(*student, targets, given, TokenLevelConfig(hard_weight=weight))
    assert list(terms) == (["hard"] if weight == 1.0 else ["soft"])


def test_a_batch_of_padding_costs_nothing(student, teacher, targets) -> None:  # type: ignore[no-untyped-def]
    terms = token_level_terms(*student, torch.full_like(targets, -100), teacher, TokenLevelConfig())
    loss = summed(terms)
    assert loss.item() == 0.0
    assert all((g == 0).all() for g in torch.autograd.grad(loss, student))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_cached_teacher_of_all_tokens_is_the_live_one(student, teacher, targets, name) -> None:  # type: ignore[no-untyped-def]
    logits = (teacher.hidden @ teacher.head.T).reshape(-1, VOCABULARY)
    stored = OfflineTopK.of(topk_of(logits, VOCABULARY))
    offline = OfflineTopK(
        stored.ids.reshape(BATCH, LENGTH, -1),
        stored.logprobs.reshape(BATCH, LENGTH, -1),
        stored.tail.reshape(BATCH, LENGTH),
    )
    config = TokenLevelConfig(divergence=name, hard_weight=0.0)
    found = token_level_terms(*student, targets, offline, config)["soft"]
    expected = token_level_terms(*student, targets, teacher, config)["soft"]
    assert found.item() == pytest.approx(expected.item(), rel=2e-3)  # half precision


def test_few_tokens_of_a_teacher_teach_most_of_it(student, teacher, targets) -> None:  # type: ignore[no-untyped-def]
    logits = (teacher.hidden @ teacher.head.T).reshape(-1, VOCABULARY)
    hidden, head = (tensor.detach().reshape(-1, tensor.shape[-1]) for tensor in student)
    config = TokenLevelConfig(hard_weight=0.0)
    learnt = hidden.clone().requires_grad_()
    optimiser = torch.optim.Adam([learnt], lr=0.1)
    live = LiveTeacher(teacher.hidden.reshape(-1, 6), teacher.head)
    flat = torch.zeros(BATCH * LENGTH, dtype=torch.int64)
    before = token_level_terms(hidden, head, flat, live, config)["soft"].item()
    offline = OfflineTopK.of(topk_of(logits, 8))
    for _ in range(60):
        optimiser.zero_grad()
        summed(token_level_terms(learnt, head, flat, offline, config)).backward()
        optimiser.step()
    assert token_level_terms(learnt, head, flat, live, config)["soft"].item() < before / 2


def test_a_teacher_of_other_words_or_positions_is_refused(student, teacher, targets) -> None:  # type: ignore[no-untyped-def]
    other = LiveTeacher(teacher.hidden, teacher.head[:-1])
    with pytest.raises(ModelError, match="30 tokens"):
        token_level_terms(*student, targets, other, TokenLevelConfig())
    short = LiveTeacher(teacher.hidden[:, 1:], teacher.head)
    with pytest.raises(ValueError, match="positions do not fit"):
        token_level_terms(*student, targets, short, TokenLevelConfig())


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"divergence": "os:system"}, "one of: forward_kl"),
        ({"divergence": "forward_kl", "mix": 0.5}, "jensen_shannon, skewed_kl only"),
        ({"temperature": 0.0}, "greater than 0"),
        ({"hard_weight": 1.5}, "less than or equal to 1"),
        ({"chunk_size": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        TokenLevelConfig.model_validate(wrong)


def test_the_divergence_gets_its_mix() -> None:
    rows = torch.randn(2, 3, 5).log_softmax(-1)
    found = TokenLevelConfig(divergence="skewed_kl", mix=0.4).compared_by()(*rows)
    torch.testing.assert_close(found, DIVERGENCES.load("skewed_kl")(*rows, mix=0.4))
    assert not torch.allclose(found, token_level.TokenLevelConfig().compared_by()(*rows))
