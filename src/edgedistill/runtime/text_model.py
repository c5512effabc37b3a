"""Texts in, logits and features out: tokenizer, batching and network of a bundle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgedistill.runtime.networks import Network
from edgedistill.runtime.tokenizer import Tokenizer

BATCH_SIZE = 32


class TextModel:
    """Runs the network on token ids, one text at a time or in padded batches.

    Safe to call from several threads.

    Args:
        session, tokenizer: of one bundle.
        batching: `single` or `padded` (see `Manifest`).
        pad_id: fills shorter rows.
        max_tokens: tokens that the network can read.
    """

    def __init__(
        self, session: Network, tokenizer: Tokenizer, *, batching: str, pad_id: int, max_tokens: int
    ) -> None:
        self.tokenizer = tokenizer
        self.session = session
        self.is_padded = batching == "padded"
        self._pad_id = pad_id
        self._max_tokens = max_tokens
        # Cut to length for every text, so that the path of one text allocates no mask.
        self._ones = np.ones((1, max_tokens), dtype=np.int64)

    def run_one(self, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Logits [1, classes] and features [1, dim] of 1 to `max_tokens` token ids."""
        return self.session.run(np.array([ids], dtype=np.int64), self._ones[:, : len(ids)])

    def run_all(self, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same of a tagger, and its logits of labels of whole texts [1, values], in one pass
        (see `Session.run_all`)."""
        return self.session.run_all(np.array([ids], dtype=np.int64), self._ones[:, : len(ids)])

    def run_many(self, rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Logits [n, classes] and features [n, dim] of n ≥ 1 rows of token ids, in order."""
        if not self.is_padded or len(rows) == 1:
            outputs = [self.run_one(ids) for ids in rows]
            order = np.arange(len(rows))
        else:
            order = np.argsort([len(ids) for ids in rows], kind="stable")
            outputs = [
                self.session.run(*self._pad([rows[i] for i in order[start : start + BATCH_SIZE]]))
                for start in range(0, len(rows), BATCH_SIZE)
            ]
        logits, features = (np.concatenate(part) for part in zip(*outputs, strict=True))
        back = np.argsort(order, kind="stable")
        return logits[back], features[back]

    def raw(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Logits [n, classes] and features [n, dim] of texts as they are, for evaluation.

        Nothing is refused: of a text with more than `max_tokens` tokens the first ones and the
        end mark are read, one without tokens is read as padding.
        """
        if not texts:
            logits, features = self.run_one([self._pad_id])
            return logits[:0], features[:0]
        return self.run_many([self._fitted(ids) for ids in self.tokenizer.encode_many(texts)])

    def _fitted(self, ids: list[int]) -> list[int]:
        if len(ids) > self._max_tokens:
            return [*ids[: self._max_tokens - 1], ids[-1]]
        return ids or [self._pad_id]

    def _pad(self, rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        width = max(len(ids) for ids in rows)
        input_ids = np.full((len(rows), width), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for row, ids in enumerate(rows):
            input_ids[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        return input_ids, mask
