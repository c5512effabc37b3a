"""Token ids of whole words, remembered: most texts are made of words that were met before.

A tokenizer that splits at white space and punctuation first and then cuts each word by itself
gives a word the same ids, at the same characters of it, in every text. For plain ASCII text that
splitting is one regular expression, and remembered words take a third of the time of tokenizing
them anew, with their places or without.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

#: Words remembered, some 200 bytes each; further ones are tokenized every time.
MOST_WORDS = 20_000
#: A longer run of letters is no word that comes again.
LONGEST_WORD = 32

_word = re.compile(r"[A-Za-z0-9]+|[^ A-Za-z0-9]")
_split, _find = _word.findall, _word.finditer

Offset = tuple[int, int]
Located = tuple[list[int], list[Offset], list[int | None]]
"""Ids of a text's tokens; their characters, (start, end); the numbers of their words, None for
special tokens."""


class WordCache:
    """Encodes printable ASCII text word by word, exactly as the tokenizer would.

    Safe to call from several threads.

    Args:
        encode: the tokenizer: text to token ids, special tokens included.
        offsets: characters (start, end) of the same tokens.
        reserved: characters that begin an added token, which is found before words are split.
        lowercase: the tokenizer folds case.
    """

    def __init__(
        self, encode: Callable[[str], list[int]], offsets: Callable[[str], list[Offset]], *,
        reserved: str, lowercase: bool,
    ) -> None:  # fmt: skip
        around, framed = encode(""), encode("a")
        self._num_before = next(
            (i for i, pair in enumerate(zip(around, framed, strict=False)) if pair[0] != pair[1]),
            len(around),
        )
        self._before, self._after = around[: self._num_before], around[self._num_before :]
        self._inner = slice(self._num_before, -len(self._after) or None)
        self._encode, self._offsets = encode, offsets
        self._reserved, self._lowercase = reserved, lowercase
        self._words: dict[str, list[int]] = {}
        self._pieces: dict[str, list[Offset]] = {}

    def encode(self, text: str) -> list[int] | None:
        """Token ids of `text`, special tokens included; None where only the tokenizer knows."""
        if not self._is_plain(text):
            return None
        words, ids = self._words, self._before.copy()
        for word in _split(text.lower() if self._lowercase else text):
            ids += words.get(word) or self._learn(word)
        ids += self._after
        return ids

    def locate(self, text: str) -> Located | None:
        """The same ids, with their places in `text`; None where only the tokenizer knows."""
        if not self._is_plain(text):
            return None
        learned, ids = self._words, self._before.copy()
        offsets: list[Offset] = [(0, 0)] * self._num_before
        words: list[int | None] = [None] * self._num_before
        for number, found in enumerate(_find(text.lower() if self._lowercase else text)):
            word, (start, end) = found.group(), found.span()
            own = learned.get(word) or self._learn(word)
            ids += own
            if len(own) == 1:
                offsets.append((start, end))
                words.append(number)
                continue
            pieces = self._pieces.get(word) or self._learn_pieces(word)
            offsets += [(start + first, start + last) for first, last in pieces]
            words += [number] * len(own)
        ids += self._after
        offsets += [(0, 0)] * len(self._after)
        words += [None] * len(self._after)
        return ids, offsets, words

    def _is_plain(self, text: str) -> bool:
        if not (text.isascii() and text.isprintable()):
            return False
        # A loop: for the one or two characters of a tokenizer a generator takes twice as long.
        for character in self._reserved:  # noqa: SIM110
            if character in text:
                return False
        return True

    def _learn(self, word: str) -> list[int]:
        ids = self._encode(word)[self._inner]
        if len(word) <= LONGEST_WORD and len(self._words) < MOST_WORDS:
            self._words[word] = ids
        return ids

    def _learn_pieces(self, word: str) -> list[Offset]:
        pieces = self._offsets(word)[self._inner]
        if word in self._words:
            self._pieces[word] = pieces
        return pieces


def word_cache(
    settings: dict[str, Any],
    encode: Callable[[str], list[int]],
    offsets: Callable[[str], list[Offset]],
) -> WordCache | None:
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
        encode,
        offsets,
        reserved="".join(sorted(reserved)),
        lowercase=bool(normalizer.get("lowercase")),
    )
