"""Losses over a large vocabulary in chunks of rows, without the logits of the whole batch.

Logits of n tokens over v words are the largest tensor of a small language model by far: 1,024
tokens and 32,000 words are 131 MB in float32, and a distillation step made of plain tensor
operations holds five of that size at its peak. Here the forward pass goes over chunks of rows,
computes a chunk's logits, its loss *and* the gradients that it sends to hidden states and head,
and forgets the chunk. At 64 rows a chunk and d = 64 that took 57 instead of 637 MiB; with the
holes that glibc keeps between buffers of this size, 117. Kept for the backward pass are those
gradients, [n, d] and [v, d]. The idea is that of Hsu et al. 2024 (Liger Kernel, arXiv 2410.10989),
who call it fused linear cross-entropy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from edgedistill.train.distill.divergences import Divergence, forward_kl
from edgedistill.train.distill.row_losses import (
    RowLoss,
    TopKTeacher,
    TrueTokens,
    WholeTeacher,
    logits_of,
    lowered,
    require_same_vocabulary,
)

#: Rows of a chunk. At 32,000 words a buffer of 128 rows is 16 MB.
CHUNK_SIZE = 128
#: Target of a position that has none.
IGNORED = -100


def chunked_divergence(
    student_hidden: Tensor,
    student_head: Tensor,
    teacher_hidden: Tensor,
    teacher_head: Tensor,
    *,
    divergence: Divergence = forward_kl,
    temperature: float = 1.0,
    chunk_size: int = CHUNK_SIZE,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean divergence over the rows of a student's and a teacher's next-token distributions.

    Args:
        student_hidden: [n, d], the states before the head; gets a gradient.
        student_head: [v, d]; gets a gradient.
        teacher_hidden: [n, dt]; gets none.
        teacher_head: [v, dt]; gets none.
        divergence: one of the catalogue `DIVERGENCES`.
        temperature: softens both; the loss is multiplied by its square.
        chunk_size: rows at a time.
        weights: [n], not negative: a weighted mean; 0 where all are 0.

    Raises:
        ModelError: the heads know different numbers of tokens.
        ValueError: the shapes do not fit.
    """
    require_same_vocabulary(len(student_head), len(teacher_head))
    _require_rows(student_hidden, teacher_hidden=teacher_hidden)
    loss = WholeTeacher(teacher_hidden, teacher_head, divergence, temperature)
    losses = {"divergence": (1.0, loss)}
    terms = chunked_losses(student_hidden, student_head, losses, chunk_size, weights)
    return terms["divergence"]


def chunked_topk_divergence(
    student_hidden: Tensor,
    student_head: Tensor,
    topk_ids: Tensor,
    topk_logprobs: Tensor,
    tail_logprob: Tensor,
    *,
    divergence: Divergence = forward_kl,
    temperature: float = 1.0,
    chunk_size: int = CHUNK_SIZE,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean divergence from a teacher of whom the top k tokens are known, over k + 1 outcomes.

    `topk_ids` int64 [n, k], `topk_logprobs` float [n, k], `tail_logprob` float [n]; see
    `TopKTeacher` for what they mean and `chunked_divergence` for the rest.

    Raises:
        ModelError: an id beyond the student's vocabulary.
        ValueError: the shapes do not fit.
    """
    _require_rows(student_hidden, topk_ids=topk_ids, topk_logprobs=topk_logprobs)
    _require_rows(student_hidden, tail_logprob=tail_logprob)
    loss = TopKTeacher(topk_ids, topk_logprobs, tail_logprob, divergence, temperature)
    losses = {"divergence": (1.0, loss)}
    terms = chunked_losses(student_hidden, student_head, losses, chunk_size, weights)
    return terms["divergence"]


def chunked_cross_entropy(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    *,
    chunk_size: int = CHUNK_SIZE,
    ignore_index: int = IGNORED,
) -> Tensor:
    """Mean cross-entropy of `hidden` [n, d] under `head` [v, d] with `targets` int64 [n].

    Rows whose target is `ignore_index` are dropped before any logits are computed; 0 where no
    row is left (PyTorch's own would be nan there).

    Raises:
        ValueError: the shapes do not fit.
    """
    _require_rows(hidden, targets=targets)
    kept = targets != ignore_index
    losses = {"cross_entropy": (1.0, TrueTokens(targets[kept]))}
    return chunked_losses(hidden[kept], head, losses, chunk_size)["cross_entropy"]


def chunked_losses(
    hidden: Tensor,
    head: Tensor,
    losses: Mapping[str, tuple[float, RowLoss]],
    chunk_size: int = CHUNK_SIZE,
    weights: Tensor | None = None,
) -> dict[str, Tensor]:
    """Several losses of the same logits, computed in one pass: a scalar each, by name.

    `losses` gives each its factor and what it costs a row; the scalar is factor times the mean
    over rows. One pass costs the head's products once, and gives one gradient, that of the sum:
    the scalars must be added up before the backward pass, which is refused otherwise.
    """
    if chunk_size < 1 or not losses:
        raise ValueError(f"need a loss and a chunk of one row at least, got {chunk_size}")
    if weights is None:
        weights = torch.ones(len(hidden), device=hidden.device)
    _require_rows(hidden, weights=weights)
    learns = torch.is_grad_enabled() and (hidden.requires_grad or head.requires_grad)
    values = _Chunks.apply(  # type: ignore[no-untyped-call]
        hidden, head, weights.detach(), tuple(losses.values()), chunk_size, learns
    )
    return dict(zip(losses, values.unbind(), strict=True))


def _require_rows(hidden: Tensor, **others: Tensor) -> None:
    for name, other in others.items():
        if hidden.ndim != 2 or len(other) != len(hidden):
            raise ValueError(
                f"hidden states [n, d] and {name} [n, …] do not fit: "
                f"{tuple(hidden.shape)} and {tuple(other.shape)}"
            )


class _Chunks(torch.autograd.Function):
    """Means [num_losses]; the gradient of their sum is computed on the way."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        weights: Tensor,
        losses: tuple[tuple[float, RowLoss], ...],
        chunk_size: int,
        learns: bool,
    ) -> Tensor:
        to_hidden, to_head = (
            torch.zeros_like(tensor, dtype=torch.promote_types(tensor.dtype, torch.float32))
            if learns and needed
            else None
            for tensor, needed in zip((hidden, head), ctx.needs_input_grad[:2], strict=True)
        )
        states, words = lowered(hidden), lowered(head)
        wide = torch.promote_types(hidden.dtype, torch.float32)
        sums = hidden.new_zeros(len(losses), dtype=wide)
        for start in range(0, len(hidden), chunk_size):
            rows = slice(start, min(start + chunk_size, len(hidden)))
            found, slopes = _chunk(states[rows], words, weights[rows], rows, losses, learns)
            sums += found
            if to_hidden is not None:
                to_hidden[rows] = slopes @ words
            if to_head is not None:
                _add_product(to_head, slopes.T, states[rows])
            del slopes
        total = weights.sum()
        scale = torch.where(total > 0, 1.0 / total, 0.0).to(sums.dtype)
        ctx.save_for_backward(to_hidden, to_head, scale)
        return sums * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        to_hidden, to_head, scale = ctx.saved_tensors
        if not bool((slope == slope[0]).all()):
            raise RuntimeError("losses of one pass have one gradient: add them up, then go back")
        factor = slope[0] * scale
        given = (None if each is None else each * factor for each in (to_hidden, to_head))
        return (*given, None, None, None, None)


def _chunk(
    states: Tensor,
    words: Tensor,
    weights: Tensor,
    rows: slice,
    losses: tuple[tuple[float, RowLoss], ...],
    learns: bool,
) -> tuple[Tensor, Tensor]:
    """A chunk's weighted sums [num_losses], and the slopes of their sum by the logits [c, v].

    Slopes have the type of the states; empty where nothing learns.
    """
    logits = logits_of(states, words)
    with torch.set_grad_enabled(learns):
        logits.requires_grad_(learns)
        each = [factor * (loss(logits, rows) * weights).sum() for factor, loss in losses]
        total = torch.stack(each).sum()
    sums = torch.stack([value.detach() for value in each])
    if not learns:
        return sums, states.new_empty(0)
    (slopes,) = torch.autograd.grad(total, logits)
    return sums, slopes.to(states.dtype)


def _add_product(to: Tensor, left: Tensor, right: Tensor) -> None:
    """`to` += `left` @ `right`; summed up in the type of `to`, whatever the product's."""
    if to.dtype is right.dtype:
        to.addmm_(left, right)
    else:
        to += left @ right
