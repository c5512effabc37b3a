"""Vocabulary pruning: which tokens keep a row, and which row every other token is read as."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK = 4096


@dataclass(frozen=True)
class KeptVocabulary:
    """Kept tokens of a tokenizer with ``v`` ids.

    Attributes:
        token_ids: Full ids of the kept tokens, ascending, int64 ``[k]``.
        vocabulary_map: Row (0 to ``k - 1``) of each full id, int16 (int32 for many rows) ``[v]``.
    """

    token_ids: Tensor
    vocabulary_map: Tensor


def used_tokens(
    texts: Iterable[np.ndarray | list[int]], *, vocabulary_size: int, min_count: int = 1
) -> np.ndarray:
    """Full ids that occur at least ``min_count`` times, ascending."""
    counts = np.zeros(vocabulary_size, np.int64)
    for ids in texts:
        np.add.at(counts, np.asarray(ids, np.int64), 1)
    return np.flatnonzero(counts >= min_count)


def keep_tokens(table: Tensor, kept: Iterable[int], special: Iterable[int]) -> KeptVocabulary:
    """Keep ``kept`` and ``special``; each other token is read as its nearest kept neighbour.

    Args:
        table: The teacher's token table ``[v, h]``: near means a high cosine in it.
        kept: Full ids to keep.
        special: Full ids that are kept but are nobody's neighbour (padding, unknown, ...).
    """
    specials = sorted(set(special))
    words = torch.tensor(sorted(set(kept) - set(specials)), dtype=torch.long)
    ids = torch.cat([words, torch.tensor(specials, dtype=torch.long)]).sort().values
    row_of_word = torch.searchsorted(ids, words)
    unit = F.normalize(table.detach().float(), dim=1)
    nearest = [row_of_word[(part @ unit[words].T).argmax(1)] for part in torch.split(unit, _CHUNK)]
    rows = torch.cat(nearest)
    rows[ids] = torch.arange(len(ids))
    return KeptVocabulary(ids, rows.to(torch.int16 if len(ids) < 2**15 else torch.int32))
