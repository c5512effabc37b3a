"""The token grid of a text: which characters each token stands for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgedistill.runtime.tokenizer import Tokenizer


@dataclass(frozen=True, eq=False)
class TokenGrid:
    """Token ids of a text and their places in it.

    `ids` int32 [s], special tokens included. `is_content` bool [s]: the token stands for characters
    of the text. `starts`, `ends` int64 [s]: its characters, blanks at its edges apart.
    `begins_word` bool [s]: no token of the same word stands before it.
    """

    ids: np.ndarray
    is_content: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    begins_word: np.ndarray

    @property
    def places(self) -> np.ndarray:
        """Positions of the tokens with characters, int64."""
        return np.flatnonzero(self.is_content)


def token_grid(tokenizer: Tokenizer, text: str) -> TokenGrid:
    """The grid of a text, uncut; raises TypeError for a lone surrogate."""
    ids, offsets, words = tokenizer.encode_with_offsets(text)
    places = np.array([_trimmed(text, *pair) for pair in offsets], np.int64).reshape(-1, 2)
    numbers = np.array([-1 if word is None else word for word in words], dtype=np.int64)
    starts, ends = places.T
    before = np.concatenate([[-2], numbers[:-1]])
    return TokenGrid(
        np.array(ids, dtype=np.int32), (numbers >= 0) & (ends > starts), starts, ends,
        numbers != before,
    )  # fmt: skip


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A token's characters without the blanks that some tokenizers count in."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
