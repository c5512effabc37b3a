"""Classification: text -> one of a closed list of labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tokenizers

from edgedistill.core.artefacts import Encoded
from edgedistill.core.errors import ModelError
from edgedistill.runtime.tokenizer import Tokenizer, pack_tokenizer


class TextEncoder:
    """The teacher's tokenizer as it will ship: the runtime's own code, trained on and shipped.

    Args:
        tokenizer_file: a `tokenizers` JSON.
        max_tokens: longer texts are cut in training; the runtime refuses them.
    """

    def __init__(self, tokenizer_file: Path, max_tokens: int) -> None:
        self.packed = pack_tokenizer(_without_padding(tokenizer_file))
        self.max_tokens = max_tokens
        self._tokenizer = Tokenizer(self.packed)
        raw = tokenizers.Tokenizer.from_file(str(tokenizer_file))
        added = raw.get_added_tokens_decoder()
        self.special_ids = tuple(sorted(i for i, token in added.items() if token.special))
        self.num_tokens = raw.get_vocab_size(with_added_tokens=True)
        self.pad_id = _pad_id(raw)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Token ids of every text, cut to `max_tokens` with the closing special token kept."""
        return Encoded.from_lists([self._cut(ids) for ids in self._tokenizer.encode_many(texts)])

    def ids(self, text: str) -> list[int]:
        """Token ids of one text, uncut."""
        return self._tokenizer.encode(text)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of every text, uncut."""
        return [len(ids) for ids in self._tokenizer.encode_many(texts)]

    def _cut(self, ids: list[int]) -> list[int]:
        if len(ids) <= self.max_tokens:
            return ids
        return [*ids[: self.max_tokens - 1], ids[-1]]


def predicted(logits: np.ndarray) -> np.ndarray:
    """Label indices int64 [n] of logits [n, classes]; ties go to the lower index."""
    return np.asarray(np.argmax(logits, axis=1))


def _without_padding(tokenizer_file: Path) -> str:
    """The tokenizer without the truncation and padding that its training set it to."""
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_file))
    except Exception as error:  # tokenizers raises plain Exception
        raise ModelError(
            f"the tokenizer cannot be read: {error}",
            where=str(tokenizer_file),
            fix="save the fast tokenizer again (tokenizer.save_pretrained)",
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer.to_str()


def _pad_id(tokenizer: tokenizers.Tokenizer) -> int:
    """The padding token's id; 0 where the tokenizer names none (the mask hides it anyway)."""
    padding = tokenizer.padding
    if padding is not None:
        return int(padding["pad_id"])
    for name in ("[PAD]", "<pad>"):
        if (found := tokenizer.token_to_id(name)) is not None:
            return int(found)
    return 0
