"""A byte-level BPE tokenizer of a task's own: any text comes back as it went in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from edgedistill.core.errors import ModelError
from edgedistill.core.files import write_bytes

BOS, USER, ASSISTANT, END, PAD = SPECIAL = (
    "<|bos|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>",
)  # fmt: skip
#: What llama.cpp calls the way in which texts are cut into words before the merges.
PRE_TOKENIZER = "gpt-2"
_FEWEST = len(SPECIAL) + 256


class LanguageTokenizer:
    """Texts to ids and back. Marks in a text are text: only `bos` and the like are marks."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        absent = [mark for mark in SPECIAL if tokenizer.token_to_id(mark) is None]
        if absent:
            raise ModelError(f"the tokenizer lacks the special tokens {', '.join(absent)}")
        # Otherwise a user who writes "<|end|>" could end the user's own turn.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        ids: list[Any] = [tokenizer.token_to_id(mark) for mark in SPECIAL]
        self.bos, self.user, self.assistant, self.end, self.pad = ids

    def __len__(self) -> int:
        """Ids of the vocabulary, marks included."""
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without marks."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without marks."""
        found = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; marks are left out, broken characters are U+FFFD."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def save(self, path: Path) -> None:
        """Write as tokenizer.json, atomically."""
        write_bytes(path, self._tokenizer.to_str(pretty=True).encode())

    @classmethod
    def load(cls, path: Path) -> LanguageTokenizer:
        """Read a tokenizer.json with the five marks.

        Raises:
            ModelError: there is none, it is damaged, or it lacks a mark.
        """
        try:
            # tokenizers raises bare Exception for files that it cannot read.
            tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:
            raise ModelError(
                f"the tokenizer cannot be loaded ({error})", where=str(path)
            ) from error
        return cls(tokenizer)


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> LanguageTokenizer:
    """Learn merges from texts; the same texts give the same tokenizer.

    Args:
        vocabulary_size: most ids, marks and the 256 bytes included; few texts give fewer.

    Raises:
        ModelError: the marks and bytes alone are more.
    """
    if vocabulary_size < _FEWEST:
        raise ModelError(
            f"a vocabulary of {vocabulary_size} has no room for {len(SPECIAL)} marks and 256 bytes",
            fix=f"at least {_FEWEST}",
        )
    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size, special_tokens=list(SPECIAL), show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), min_frequency=2,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return LanguageTokenizer(tokenizer)
