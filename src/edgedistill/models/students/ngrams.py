"""Hashing of neighbouring tokens, in integer arithmetic that every runtime repeats exactly."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bigram_buckets(rows: Tensor, num_buckets: int) -> Tensor:
    """Bucket of each token with the one before it, int64 [batch, seq].

    The first token of a text is paired with row 0. Sums of products with primes stay far below
    2**63 for any vocabulary.
    """
    before = F.pad(rows, (1, -1))
    return (rows * 7919 + before * 104_729) % num_buckets
