"""Decoding in transformers: greedy, the reference that a shipped runtime is compared with; and
samples, which a student in training learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from edgedistill.core.errors import ModelError


@torch.inference_mode()
def greedy_ids(
    model: Any, prompt_ids: Sequence[int], *, max_new_tokens: int, end_id: int
) -> list[int]:
    """The likeliest continuation, one prompt alone; the end token included if it came."""
    prompt = torch.tensor([list(prompt_ids)])
    found = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=end_id,
        pad_token_id=end_id,
    )
    ids: list[int] = found[0, prompt.shape[1] :].tolist()
    return ids


@torch.no_grad()
def sampled_ids(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    end_id: int,
    rng: torch.Generator,
) -> list[list[int]]:
    """A continuation of each prompt, drawn from all tokens at temperature 1, side by side.

    Prompts are padded at the left, and a new token reads keys and values of those before it from
    a cache. The same prompts, weights and state of `rng` (on the CPU) give the same continuations.

    Args:
        prompts: of one token at least. end_id: what ends a continuation; included if it came.

    Raises:
        ModelError: the model gives no probabilities.
    """
    device = next(model.parameters()).device
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[end_id] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    real = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    ids, real = ids.to(device), real.to(device)
    positions, cache = (real.cumsum(1) - 1).clamp(min=0), None
    is_open, written = torch.ones(len(prompts), dtype=torch.bool), list[torch.Tensor]()
    while len(written) < max_new_tokens and is_open.any():
        said = model(
            input_ids=ids, attention_mask=real, position_ids=positions, past_key_values=cache,
            use_cache=True, logits_to_keep=1,
        )  # fmt: skip
        chances = said.logits[:, -1].float().softmax(-1).cpu()
        if not chances.isfinite().all():
            raise ModelError(
                "what the model says of the next token is not a number",
                fix="lower the learning rate, or use precision fp32",
            )
        drawn = torch.multinomial(chances, 1, generator=rng)
        written.append(drawn)
        is_open &= drawn[:, 0] != end_id
        ids, cache = drawn.to(device), said.past_key_values
        real = torch.cat([real, torch.ones_like(ids)], dim=1)
        positions = positions[:, -1:] + 1
    return [_through(row, end_id) for row in torch.cat(written, dim=1).tolist()]


def _through(ids: list[int], end_id: int) -> list[int]:
    """The ids up to the first end, that one included."""
    return ids[: ids.index(end_id) + 1] if end_id in ids else ids


@torch.inference_mode()
def log_probabilities(model: Any, ids: Sequence[int]) -> np.ndarray:
    """Natural log-probability of each id given those before it, float32 [len(ids) - 1]."""
    tokens = torch.tensor([list(ids)])
    logits = model(input_ids=tokens).logits[0, :-1].float()
    chosen = logits.log_softmax(-1).gather(-1, tokens[0, 1:, None])[:, 0]
    return np.asarray(chosen.numpy(), dtype=np.float32)


@torch.inference_mode()
def likeliest(model: Any, ids: Sequence[int], num: int) -> list[dict[int, float]]:
    """Log-probabilities by id of the `num` likeliest tokens in place of each id but the first,
    and of that id itself."""
    tokens = torch.tensor([list(ids)])
    logprobs = model(input_ids=tokens).logits[0, :-1].float().log_softmax(-1)
    top = logprobs.topk(min(num, logprobs.shape[-1]))
    own = logprobs.gather(-1, tokens[0, 1:, None])
    names = torch.cat([top.indices, tokens[0, 1:, None]], dim=1).tolist()
    values = torch.cat([top.values, own], dim=1).tolist()
    return [dict(zip(*pair, strict=True)) for pair in zip(names, values, strict=True)]
