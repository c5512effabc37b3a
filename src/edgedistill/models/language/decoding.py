"""Greedy decoding in transformers: the reference that a shipped runtime is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


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
