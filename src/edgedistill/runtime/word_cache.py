"""Token ids of whole words, remembered: most texts are made of words that were met before.

A tokenizer that splits at white space and punctuation first and then cuts each word by itself
gives a word the same ids in every text. For plain ASCII text that splitting is one regular
expression, and remembered words take a third of the time of tokenizing them anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

#: Words remembered, some 200 bytes each; further ones are tokenized every time.
MOST_WORDS = 20_000
#: A longer run of letters is no word that comes again.
LONGEST_WORD = 32

_split = re.compile(r"[A-Za-z0-9]+|[^ A-Za-z0-9]").findall


class WordCache:
    """Encodes printable ASCII text word by word, exactly as the tokenizer would.

    Safe to call from several threads.

    Args:
        encode: the tokenizer: text to token ids, special tokens included.
        reserved: characters that begin an added token, which is found before words are split.
        lowercase: the tokenizer folds case.
    """

    def __init__(
        self, encode: Callable[[str], list[int]], *, reserved: str, lowercase: bool
    ) -> None:
        around, framed = encode(""), encode("a")
        self._num_before = next(
            (i for i, pair in enumerate(zip(around, framed, strict=False)) if pair[0] != pair[1]),
            len(around),
        )
        self._before, self._after = around[: self._num_before], around[self._num_before :]
        self._encode, self._reserved, self._lowercase = encode, reserved, lowercase
        self._words: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int] | None:
        """Token ids of `text`, special tokens included; None where only the tokenizer knows."""
        if not (text.isascii() and text.isprintable()):
            return None
        for character in self._reserved:
            if character in text:
                return None
        words, ids = self._words, self._before.copy()
        for word in _split(text.lower() if self._lowercase else text):
            ids += words.get(word) or self._learn(word)
        ids += self._after
        return ids

    def _learn(self, word: str) -> list[int]:
        whole = self._encode(word)
        ids = whole[self._num_before : len(whole) - len(self._after)]
        if len(word) <= LONGEST_WORD and len(self._words) < MOST_WORDS:
            self._words[word] = ids
        return ids


def word_cache(settings: dict[str, Any], encode: Callable[[str], list[int]]) -> WordCache | None:
    """A cache for the tokenizer of these settings (its JSON), or None where words depend on
    their neighbours, or might.

    Known to be exact for BERT's: its normalizer and splitter before WordPiece.
    """
    model = settings.get("model") or {}
    normalizer = settings.get("normalizer") or {}
    pre_tokenizer = settings.get("pre_tokenizer") or {}
    kinds = (normalizer.get("type"), pre_tokenizer.get("type"), model.get("type"))
    if kinds != ("BertNormalizer", "BertPreTokenizer", "WordPiece"):
        return None
    reserved = {token["content"][:1] for token in settings.get("added_tokens") or ()}
    if any(character.isalnum() or character == " " for character in reserved):
        return None
    return WordCache(
        encode, reserved="".join(sorted(reserved)), lowercase=bool(normalizer.get("lowercase"))
    )
