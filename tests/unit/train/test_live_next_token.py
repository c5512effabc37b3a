"""Distillation with the teacher in the loop: the whole divergence, and what a cache keeps of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

import small_llama
from edgedistill.core.errors import ModelError
from edgedistill.core.protocols import Signal
from edgedistill.models.teachers.topk_cache import topk_of
from edgedistill.train.distill.divergences import forward_kl
from edgedistill.train.distill.next_token import LiveNextToken, OfflineNextToken
from edgedistill.train.distill.row_losses import TopKTeacher
from edgedistill.train.distill.token_level import TokenLevelConfig
from edgedistill.train.sequences import SequenceBatch, SequenceSet
from edgedistill.train.tune.next_token import learned_logits

RNG = torch.Generator()


@pytest.fixture(scope="module")
def teacher() -> Any:
    return small_llama.make_model(width=64)


@pytest.fixture
def student() -> Any:
    return small_llama.make_model(width=32).train()


@pytest.fixture
def batch() -> SequenceBatch:
    ids = [small_llama.make_tokenizer().encode(text).ids[:40] for text in small_llama.TEXTS]
    learned = [[i >= len(row) // 2 for i in range(len(row))] for row in ids]
    rows = SequenceSet.from_lists(ids, learned, small_llama.PAD)
    return rows.batch([[row] for row in range(len(ids))], torch.device("cpu"))


def gradients(model: Any, step: Any, batch: SequenceBatch) -> tuple[dict[str, float], Any]:
    model.zero_grad()
    terms = step(model, batch, rng=RNG)
    torch.stack(list(terms.values())).sum().backward()
    return {name: term.item() for name, term in terms.items()}, {
        name: values.grad.clone() for name, values in model.named_parameters()
    }


def test_it_is_the_divergence_written_out(teacher: Any, student: Any, batch: SequenceBatch) -> None:
    config = TokenLevelConfig(hard_weight=0.3, temperature=2.0, chunk_size=7)
    terms, found = gradients(student, LiveNextToken(teacher, config), batch)
    student.zero_grad()
    ours, targets = learned_logits(student, batch)
    with torch.no_grad():
        theirs, _ = learned_logits(teacher, batch)
    soft = functional.kl_div(
        (ours / 2).log_softmax(-1), (theirs / 2).log_softmax(-1), log_target=True,
        reduction="batchmean",
    )  # fmt: skip
    hard = functional.cross_entropy(ours, targets)
    (0.7 * 4 * soft + 0.3 * hard).backward()
    assert terms["soft"] == pytest.approx(0.7 * 4 * soft.item(), rel=1e-4)
    assert terms["hard"] == pytest.approx(0.3 * hard.item(), rel=1e-4)
    for name, values in student.named_parameters():
        torch.testing.assert_close(found[name], values.grad, rtol=1e-3, atol=1e-5)


def test_a_cache_of_all_tokens_says_the_same(
    teacher: Any, student: Any, batch: SequenceBatch
) -> None:
    config = TokenLevelConfig(hard_weight=0.0)
    live, its = gradients(student, LiveNextToken(teacher, config), batch)
    with torch.inference_mode():
        logits, _ = learned_logits(teacher, batch)
    stored = topk_of(logits, logits.shape[1])
    signals = {
        Signal.TOP_IDS: torch.from_numpy(stored.ids.astype("int64")),
        Signal.TOP_LOGPROBS: torch.from_numpy(stored.logprobs),
        Signal.TOP_TAIL: torch.from_numpy(stored.tail),
    }
    cached, theirs = gradients(student, OfflineNextToken(config), replace(batch, signals=signals))
    assert live["soft"] > 0.1
    assert cached["soft"] == pytest.approx(live["soft"], rel=2e-3)  # half precision on disk
    for name, slopes in its.items():
        torch.testing.assert_close(theirs[name], slopes, rtol=2e-2, atol=2e-4)


def test_the_teacher_stays_as_it_was(student: Any, batch: SequenceBatch) -> None:
    teacher = small_llama.make_model(attention_dropout=0.5).train()
    before = {name: values.clone() for name, values in teacher.named_parameters()}
    step = LiveNextToken(teacher, TokenLevelConfig())
    first, second = (gradients(student, step, batch)[0] for _ in range(2))
    assert first == second  # without dropout of the teacher's
    for name, values in teacher.named_parameters():
        assert values.grad is None
        assert torch.equal(values, before[name])


def test_nothing_is_to_be_learned_from_oneself(student: Any, batch: SequenceBatch) -> None:
    step = LiveNextToken(small_llama.make_model(width=32), TokenLevelConfig(hard_weight=0.0))
    assert gradients(student, step, batch)[0]["soft"] == pytest.approx(0.0, abs=1e-5)


def test_another_vocabulary_is_refused(student: Any, batch: SequenceBatch) -> None:
    num_tokens = small_llama.make_tokenizer().get_vocab_size()
    for other in (num_tokens - 60, num_tokens + 1):
        step = LiveNextToken(small_llama.make_model(vocab_size=other), TokenLevelConfig())
        with pytest.raises(ModelError, match="cannot be compared"):
            step(student, batch, rng=RNG)


def test_a_tail_without_mass_has_no_slope() -> None:
    logits = torch.tensor([[2.0, 1.0, -torch.inf, -torch.inf], [2.0, 1.0, 0.0, -1.0]])
    logits.requires_grad_()
    ids, said = torch.tensor([[0, 1], [0, 1]]), torch.tensor([[-0.5, -1.5], [-0.5, -1.5]])
    tail = torch.tensor([-torch.inf, -2.0])
    loss = TopKTeacher(ids, said, tail, forward_kl, 1.0)(logits, slice(0, 2))
    # The other logits are part of no outcome in the first row, of one in the second.
    (slopes,) = torch.autograd.grad(loss[0] + loss[1], logits)
    assert slopes[0, 2:].tolist() == [0.0, 0.0]
    wanted = logits[1].detach().softmax(-1)
    teacher = torch.cat([said[1], tail[1:]]).softmax(-1)
    torch.testing.assert_close(slopes[1, :2], wanted[:2] - teacher[:2])
    others = wanted[2:].sum() - teacher[2]
    torch.testing.assert_close(slopes[1, 2:], others * wanted[2:] / wanted[2:].sum())
