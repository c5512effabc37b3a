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
    ids, offsets, words = tokenizer.locate(text)
    starts, ends, is_content, begins_word = list[int](), list[int](), list[bool](), list[bool]()
    before: int | None = -1
    for (start, end), word in zip(offsets, words, strict=True):
        start, end = _trimmed(text, start, end)
        starts.append(start)
        ends.append(end)
        is_content.append(word is not None and end > start)
        begins_word.append(word != before)
        before = word
    return TokenGrid(
        np.array(ids, dtype=np.int32), np.array(is_content, dtype=bool),
        np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64),
        np.array(begins_word, dtype=bool),
    )  # fmt: skip


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A token's characters without the blanks that some tokenizers count in."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
