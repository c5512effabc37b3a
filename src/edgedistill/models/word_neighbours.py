"""Words that lie near each other in a model's token table."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK = 1024


@torch.no_grad()
def nearest_words(
    table: Tensor, token_of_word: Mapping[str, int], *, num: int
) -> dict[str, tuple[str, ...]]:
    """Of each word the `num` others whose rows have the highest cosine with its own, best first.

    Args:
        table: [v, h].
        token_of_word: the row of each word; words of the same row are no neighbours of each other.
    """
    words = list(token_of_word)
    if not words:
        return {}
    rows = torch.tensor([token_of_word[word] for word in words], device=table.device)
    unit = F.normalize(table.detach()[rows].float(), dim=1)
    found: dict[str, tuple[str, ...]] = {}
    for start in range(0, len(words), _CHUNK):
        cosines = unit[start : start + _CHUNK] @ unit.T
        is_same = rows[start : start + _CHUNK, None] == rows[None, :]
        values, places = (
            cosines.masked_fill(is_same, -2.0).sort(descending=True, stable=True, dim=1)
        )  # fmt: skip
        for own, near, cosine in zip(
            words[start : start + _CHUNK], places[:, :num].tolist(), values[:, :num].tolist(),
            strict=True,
        ):  # fmt: skip
            found[own] = tuple(
                words[i] for i, value in zip(near, cosine, strict=True) if value >= -1.5
            )
    return found
