"""The tokenizer of a bundle: text to token ids, special tokens included."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from typing import Any

import tokenizers

from edgedistill.core.errors import BundleError
from edgedistill.runtime.word_cache import Located, word_cache

_ORDERED = "tokens by id"
"""Stands in place of a vocabulary's tokens; with a list as its value, which no token has."""


def pack_tokenizer(tokenizer_json: str) -> bytes:
    """A `tokenizers` JSON as it stands in a bundle: gzip without a date, so bytes repeat.

    A vocabulary whose ids count from 0 is stored as the list of its tokens in their order: the
    ids are half of the compressed bytes otherwise.
    """
    content = json.loads(tokenizer_json)
    vocabulary = content.get("model", {}).get("vocab")
    if isinstance(vocabulary, dict):
        tokens = sorted(vocabulary, key=vocabulary.__getitem__)
        if [vocabulary[token] for token in tokens] == list(range(len(tokens))):
            content["model"]["vocab"] = {_ORDERED: tokens}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


def _unpacked(packed: bytes) -> Any:
    content = json.loads(gzip.decompress(packed))
    vocabulary = content["model"].get("vocab")
    if isinstance(vocabulary, dict) and isinstance(vocabulary.get(_ORDERED), list):
        ordered = vocabulary[_ORDERED]
        content["model"]["vocab"] = {token: i for i, token in enumerate(ordered)}
    return content


class Tokenizer:
    """Encodes whole texts: never cuts, never pads. Safe to call from several threads.

    Args:
        packed: the bytes of `tokenizer.json.gz`.
        literal: a mark such as "<|end|>" in a text is read as its characters, and nothing is put
            around a text: whoever frames prompts with ids adds the marks.

    Raises:
        BundleError: the bytes are not a tokenizer.
    """

    def __init__(self, packed: bytes, *, literal: bool = False) -> None:
        try:
            settings = _unpacked(packed)
            self._tokenizer = tokenizers.Tokenizer.from_str(
                json.dumps(settings, ensure_ascii=False)
            )
        except Exception as error:  # tokenizers raises plain Exception
            raise BundleError(
                f"the tokenizer cannot be read: {error}",
                where="tokenizer.json.gz",
                fix="a gzip file that holds the JSON of a `tokenizers` tokenizer",
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = literal
        self._add_special_tokens = not literal
        self._encode_batch = self._tokenizer.encode_batch_fast
        self._words = (
            None
            if literal
            else word_cache(settings, self._encode_whole, lambda word: self._locate_whole(word)[1])
        )
        self.num_special = len(self._encode_whole(""))
        """Tokens that every text gets (start and end marks)."""
        self.num_tokens = self._tokenizer.get_vocab_size(with_added_tokens=True)

    def to_json(self) -> str:
        """The tokenizer as `tokenizers` writes it."""
        content: str = self._tokenizer.to_str()
        return content

    def encode(self, text: str) -> list[int]:
        """Token ids of one text; raises TypeError for a lone surrogate."""
        known = self._words.encode(text) if self._words is not None else None
        return self._encode_whole(text) if known is None else known

    def _encode_whole(self, text: str) -> list[int]:
        # For one text the batch call without offsets is a fifth faster than `encode`, and it
        # stays on this thread, which a call with several texts does not.
        ids: list[int] = self._encode_batch([text], add_special_tokens=self._add_special_tokens)[
            0
        ].ids
        return ids

    def locate(self, text: str) -> Located:
        """Token ids of one text, and of each token its characters (start, end) and the number of
        its word (None for special tokens); raises TypeError for a lone surrogate."""
        known = self._words.locate(text) if self._words is not None else None
        return self._locate_whole(text) if known is None else known

    def _locate_whole(self, text: str) -> Located:
        found = self._tokenizer.encode(text, add_special_tokens=self._add_special_tokens)
        return found.ids, found.offsets, found.word_ids

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of many texts, in order, on this thread."""
        return [self.encode(text) for text in texts]
