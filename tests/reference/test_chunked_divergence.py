"""Losses in chunks against the plain ones: same value, same gradients, an eighth of the memory."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional

import edgedistill
from edgedistill.core.errors import ModelError
from edgedistill.train.distill.chunked import (
    chunked_cross_entropy,
    chunked_divergence,
    chunked_losses,
    chunked_topk_divergence,
)
from edgedistill.train.distill.divergences import DIVERGENCES
from edgedistill.train.distill.row_losses import TrueTokens


def plain(name: str, student: Tensor, teacher: Tensor, t: float) -> Tensor:
    """The definitions in probabilities, [n, v] logits to [n], written without the package."""
    q, p = (student / t).softmax(-1), (teacher / t).softmax(-1)

    def kl(a: Tensor, b: Tensor) -> Tensor:
        return (a * (a / b).log()).sum(-1)

    m, skewed = (p + q) / 2, 0.1 * p + 0.9 * q
    return t * t * {
        "forward_kl": lambda: kl(p, q),
        "reverse_kl": lambda: kl(q, p),
        "jensen_shannon": lambda: (kl(p, m) + kl(q, m)) / 2,
        "skewed_kl": lambda: kl(p, skewed),
    }[name]()  # fmt: skip


def made(n: int, d: int, v: int, kind: torch.dtype = torch.float32) -> list[Tensor]:
    """Student's hidden states and head, which learn, and a wider teacher's."""
    rng = torch.Generator().manual_seed(n)
    shapes = [(n, d), (v, d), (n, d + 3), (v, d + 3)]
    tensors = [torch.randn(*shape, generator=rng, dtype=kind) for shape in shapes]
    return [tensor.requires_grad_(i < 2) for i, tensor in enumerate(tensors)]


def require_same(
    loss: Callable[..., Tensor], naive: Callable[..., Tensor], given: list[Tensor]
) -> None:
    ours, theirs = loss(*given), naive(*given)
    torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=1e-5, atol=1e-7)
    wide = [tensor.detach().double().requires_grad_() for tensor in given[:2]]
    exact = torch.autograd.grad(naive(*wide, *(t.double() for t in given[2:])), wide)
    for found, expected in zip(torch.autograd.grad(3 * ours, given[:2]), exact, strict=True):
        error = (found - 3 * expected).norm() / expected.norm() / 3
        assert float(error) < 1e-5


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("chunk_size", [1, 5, 64])
def test_value_and_gradients(name: str, temperature: float, chunk_size: int) -> None:
    def naive(hidden: Tensor, head: Tensor, *teacher: Tensor) -> Tensor:
        logits = teacher[0] @ teacher[1].T
        return plain(name, hidden @ head.T, logits, temperature).mean()

    ours = partial(
        chunked_divergence, divergence=DIVERGENCES.load(name), temperature=temperature,
        chunk_size=chunk_size,
    )  # fmt: skip
    require_same(ours, naive, made(17, 6, 40))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_gradients_against_finite_differences(name: str) -> None:
    *student, states, words = made(3, 2, 5, torch.float64)

    def loss(hidden: Tensor, head: Tensor) -> Tensor:
        divergence = DIVERGENCES.load(name)
        return chunked_divergence(
            hidden, head, states, words, divergence=divergence, temperature=1.7, chunk_size=2
        )

    assert gradcheck(loss, tuple(student))


def test_a_frozen_head_gets_no_gradient_and_evaluation_keeps_none() -> None:
    hidden, head, *teacher = made(5, 3, 9)
    loss = chunked_divergence(hidden, head.detach(), *teacher, chunk_size=2)
    expected = torch.autograd.grad(chunked_divergence(hidden, head, *teacher), hidden)[0]
    torch.testing.assert_close(torch.autograd.grad(loss, hidden)[0], expected)
    with torch.no_grad():
        judged = chunked_divergence(hidden, head, *teacher, chunk_size=2)
    assert not judged.requires_grad
    assert judged.item() == pytest.approx(loss.item(), rel=1e-6)


def test_weights_are_those_of_a_weighted_mean() -> None:
    given, weights = made(6, 3, 9), torch.tensor([0.0, 1.0, 2.0, 0.0, 0.5, 3.0])

    def naive(hidden: Tensor, head: Tensor, *teacher: Tensor) -> Tensor:
        rows = plain("forward_kl", hidden @ head.T, teacher[0] @ teacher[1].T, 1.0)
        return (rows * weights).sum() / weights.sum()

    require_same(partial(chunked_divergence, weights=weights, chunk_size=4), naive, given)
    nothing = chunked_divergence(*given, weights=torch.zeros(6))
    assert nothing.item() == 0.0
    assert all((g == 0).all() for g in torch.autograd.grad(nothing, given[:2]))


def test_no_rows_cost_nothing() -> None:
    given = made(0, 3, 9)
    loss = chunked_divergence(*given)
    assert loss.item() == 0.0
    assert float(torch.autograd.grad(loss, given[1])[0].abs().sum()) == 0.0


def test_sure_models_of_opposite_mind_stay_finite() -> None:
    hidden, head, *teacher = made(4, 3, 9)
    for name in DIVERGENCES:
        loss = chunked_divergence(
            hidden * 1e3, head, teacher[0] * -1e3, teacher[1], divergence=DIVERGENCES.load(name)
        )
        assert torch.isfinite(loss)
        assert all(torch.isfinite(g).all() for g in torch.autograd.grad(loss, (hidden, head)))


def test_other_vocabularies_and_shapes_are_refused() -> None:
    hidden, head, states, words = made(4, 3, 9)
    with pytest.raises(ModelError, match=r"knows 9 tokens, the teacher speaks of 8") as caught:
        chunked_divergence(hidden, head, states, words[:8])
    assert "tokenizer" in str(caught.value)
    with pytest.raises(ValueError, match="teacher_hidden"):
        chunked_divergence(hidden, head, states[:3], words)
    with pytest.raises(ModelError, match="speaks of 12"):
        chunked_topk_divergence(
            hidden, head, torch.full((4, 1), 11), torch.zeros(4, 1), torch.full((4,), -9.0)
        )
    with pytest.raises(ValueError, match="weights"):
        chunked_divergence(hidden, head, states, words, weights=torch.ones(3))


@pytest.mark.parametrize("chunk_size", [1, 4, 100])
def test_cross_entropy(chunk_size: int) -> None:
    given = made(11, 5, 30)[:2]
    targets = torch.arange(11) * 2
    targets[[0, 3, 10]] = -100
    require_same(
        lambda *g: chunked_cross_entropy(*g, targets, chunk_size=chunk_size),
        lambda hidden, head: functional.cross_entropy(hidden @ head.T, targets),
        given,
    )
    nothing = chunked_cross_entropy(*given, torch.full((11,), -100))
    assert nothing.item() == 0.0
    assert (torch.autograd.grad(nothing, given[0])[0] == 0).all()


def topk_plain(name: str, student: Tensor, teacher: Tensor, ids: Tensor, t: float) -> Tensor:
    """Both merged to k + 1 probabilities, then softened by powers."""

    def merged(logits: Tensor) -> Tensor:
        p = logits.double().softmax(-1)
        inside = torch.zeros_like(p).scatter(-1, ids, 1.0)
        tail = (p * (1 - inside)).sum(-1, keepdim=True)
        outcomes = torch.cat([p.gather(-1, ids), tail], -1) ** (1 / t)
        return outcomes / outcomes.sum(-1, keepdim=True)

    return t * t * plain(name, merged(student).log(), merged(teacher).log(), 1.0)


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_topk_value_and_gradients(name: str, temperature: float) -> None:
    given = made(13, 6, 40)
    logprobs = (given[2] @ given[3].T).log_softmax(-1)
    top, ids = logprobs.topk(5)
    tail = torch.log1p(-top.exp().sum(-1))
    ours = partial(
        chunked_topk_divergence, divergence=DIVERGENCES.load(name), temperature=temperature,
        chunk_size=4,
    )  # fmt: skip
    require_same(
        lambda hidden, head, *_: ours(hidden, head, ids, top, tail),
        lambda hidden, head, states, words: topk_plain(
            name, hidden @ head.T, states @ words.T, ids, temperature
        ).mean(),
        given,
    )


def test_topk_of_all_tokens_is_the_whole_divergence() -> None:
    hidden, head, *teacher = made(4, 3, 9)
    top, ids = (teacher[0] @ teacher[1].T).log_softmax(-1).topk(9)
    tail = torch.full((4,), -torch.inf)
    found = chunked_topk_divergence(hidden, head, ids, top, tail, temperature=2.0)
    whole = chunked_divergence(hidden, head, *teacher, temperature=2.0)
    assert found.item() == pytest.approx(whole.item(), rel=1e-5)
    gradients = (torch.autograd.grad(loss, (hidden, head)) for loss in (found, whole))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_an_impossible_tail_and_a_certain_student_stay_finite() -> None:
    hidden = torch.tensor([[300.0, 0.0]], requires_grad=True)
    head = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], requires_grad=True)
    ids, logprobs = torch.tensor([[0]]), torch.tensor([[-1.0]])
    # The student's tail has log-probability -300, far below what 1 - p could tell from 0.
    loss = chunked_topk_divergence(hidden, head, ids, logprobs, torch.log1p(-logprobs.exp())[:, 0])
    p = math.exp(-1.0)
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert loss.item() == pytest.approx(300 * (1 - p) - entropy, rel=1e-6)
    (slope,) = torch.autograd.grad(loss, hidden)
    assert slope[0].tolist() == pytest.approx([1 - p, -(1 - p)], rel=1e-5)
    never = torch.tensor([-torch.inf])
    for name in DIVERGENCES:
        loss = chunked_topk_divergence(
            hidden, head, ids, torch.zeros(1, 1), never, divergence=DIVERGENCES.load(name)
        )
        assert torch.isfinite(loss)
        assert torch.isfinite(torch.autograd.grad(loss, hidden)[0]).all()


def test_losses_of_one_pass_have_the_gradient_of_their_sum() -> None:
    hidden, head, *_ = made(6, 3, 9)
    first, second = TrueTokens(torch.arange(6)), TrueTokens(torch.arange(6).flip(0))
    terms = chunked_losses(hidden, head, {"a": (0.3, first), "b": (0.7, second)}, 4)
    a = chunked_cross_entropy(hidden, head, first.targets)
    b = chunked_cross_entropy(hidden, head, second.targets)
    torch.testing.assert_close(terms["a"], 0.3 * a)
    torch.testing.assert_close(terms["b"], 0.7 * b)
    found = torch.autograd.grad(terms["a"] + terms["b"], (hidden, head), retain_graph=True)
    torch.testing.assert_close(found, torch.autograd.grad(0.3 * a + 0.7 * b, (hidden, head)))
    with pytest.raises(RuntimeError, match="add them up"):
        terms["a"].backward()


def test_autocast_computes_products_in_its_type_and_gives_gradients_of_the_weights() -> None:
    given = made(64, 16, 50)
    exact = torch.autograd.grad(chunked_divergence(*given), given[:2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = chunked_divergence(*given, chunk_size=16)
    assert loss.dtype is torch.float32
    for found, expected in zip(torch.autograd.grad(loss, given[:2]), exact, strict=True):
        assert found.dtype is torch.float32
        assert 1e-5 < float((found - expected).norm() / expected.norm()) < 0.03


def test_half_precision_weights_get_half_precision_gradients() -> None:
    given = [tensor.detach().bfloat16() for tensor in made(16, 8, 50)]
    given = [tensor.requires_grad_(i < 2) for i, tensor in enumerate(given)]
    exact = made(16, 8, 50)
    found = torch.autograd.grad(chunked_divergence(*given, chunk_size=4), given[:2])
    expected = torch.autograd.grad(chunked_divergence(*exact), exact[:2])
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype is torch.bfloat16
        assert float((ours - theirs).norm() / theirs.norm()) < 0.05


def test_only_the_gradients_are_kept_for_the_backward_pass() -> None:
    given = made(32, 4, 64)
    loss = chunked_divergence(*given, chunk_size=8)
    assert loss.grad_fn is not None
    chunks: Any = loss.grad_fn.next_functions[0][0]
    assert [tuple(kept.shape) for kept in chunks.saved_tensors] == [(32, 4), (64, 4), ()]


MEMORY = """
import torch
from pathlib import Path
from edgedistill.train.distill.chunked import chunked_divergence
from edgedistill.train.distill.divergences import forward_kl

torch.set_num_threads(1)
hidden, head = torch.randn(1024, 64, requires_grad=True), torch.randn(32_000, 64) / 8
head.requires_grad_()
states, words = torch.randn(1024, 64), torch.randn(32_000, 64) / 8

def peak():  # ru_maxrss would begin with what the parent, here the tests, holds
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])

def plain():
    student, teacher = (hidden @ head.T).log_softmax(-1), (states @ words.T).log_softmax(-1)
    return forward_kl(student, teacher).mean()

def chunked():
    return chunked_divergence(hidden, head, states, words, chunk_size=64)

torch.autograd.grad(chunked_divergence(hidden[:1], head[:9], states[:1], words[:9]), hidden)
found, peaks = [], [peak()]
for loss in (chunked, plain):  # the peak can only grow: the small one comes first
    value = loss()
    found.append((value.item(), *torch.autograd.grad(value, (hidden, head))))
    peaks.append(peak())
assert abs(found[0][0] - found[1][0]) < 1e-5 * found[1][0]
for ours, theirs in zip(found[0][1:], found[1][1:]):
    assert (ours - theirs).norm() < 1e-5 * theirs.norm()
print(peaks[1] - peaks[0], peaks[2] - peaks[0])
"""


def test_peak_memory_is_an_eighth_of_the_plain_one() -> None:
    source = str(Path(edgedistill.__file__).parents[1])
    # glibc keeps freed buffers of this size as holes; given back at once, what is resident is what
    # is in use.
    settings = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "1000000"}
    environment = {**os.environ, **settings, "PYTHONPATH": source}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    chunked_kib, plain_kib = map(int, done.stdout.split())
    assert plain_kib > 3 * 1024 * 32_000 * 4 / 1024  # it did hold several [n, v]
    assert 0 < chunked_kib <= plain_kib / 8, f"{chunked_kib / 1024:.0f} MiB"
