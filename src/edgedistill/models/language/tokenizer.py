"""The tokenizer of a language model: one of a task's own, or the one a pretrained model brings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from edgedistill.core.errors import ModelError
from edgedistill.core.files import read_json, write_bytes

BOS, USER, ASSISTANT, END, PAD = SPECIAL = (
    "<|bos|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>",
)  # fmt: skip
#: What llama.cpp calls the way in which texts are cut into words before the merges.
PRE_TOKENIZER = "gpt-2"


@dataclass(frozen=True)
class Marks:
    """The special tokens of a vocabulary that is learned here.

    `bos` begins a conversation (None: nothing does), `end` ends an answer, `pad` fills shorter
    rows; `others` are what else the template writes.
    """

    bos: str | None
    others: tuple[str, ...]
    end: str
    pad: str = PAD

    @property
    def special(self) -> tuple[str, ...]:
        """All of them, in the order of their ids."""
        begin = () if self.bos is None else (self.bos,)
        return (*begin, *self.others, self.end, self.pad)


PLAIN = Marks(BOS, (USER, ASSISTANT), END)


class LanguageTokenizer:
    """Texts to ids and back. Marks in a text are text.

    Args:
        bos, end, pad: ids of what begins a conversation (None: nothing), ends an answer, and
            fills shorter rows.
        num_rows: rows of the model's token table; left out: as many as the vocabulary has ids.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, bos: int | None, end: int, pad: int,
        num_rows: int | None = None,
    ) -> None:  # fmt: skip
        # A copy: whoever gave it may want to read marks with it.
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        # Otherwise a user who writes "<|end|>" could end the user's own turn.
        self._tokenizer.encode_special_tokens = True
        self.bos, self.end, self.pad = bos, end, pad
        self._num_rows = num_rows or self._tokenizer.get_vocab_size()

    @classmethod
    def with_marks(cls, tokenizer: Tokenizer, marks: Marks) -> LanguageTokenizer:
        """With the ids of these marks.

        Raises:
            ModelError: a mark is no token.
        """
        absent = [mark for mark in marks.special if tokenizer.token_to_id(mark) is None]
        if absent:
            raise ModelError(f"the tokenizer lacks the special tokens {', '.join(absent)}")
        bos: Any = None if marks.bos is None else tokenizer.token_to_id(marks.bos)
        end: Any = tokenizer.token_to_id(marks.end)
        pad: Any = tokenizer.token_to_id(marks.pad)
        return cls(tokenizer, bos=bos, end=end, pad=pad)

    def __len__(self) -> int:
        """Rows of the token table: ids of the vocabulary, and those that no token uses."""
        return self._num_rows

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
    def load(cls, path: Path, marks: Marks = PLAIN) -> LanguageTokenizer:
        """Read a tokenizer.json with these marks.

        Raises:
            ModelError: there is none, it is damaged, or it lacks a mark.
        """
        return cls.with_marks(_read(path), marks)

    @classmethod
    def of_model(cls, folder: Path) -> LanguageTokenizer:
        """The tokenizer.json of a model's folder, with the marks that config.json names.

        Raises:
            ModelError: the tokenizer cannot be read.
        """
        config = read_json(folder / "config.json")
        return cls(
            _read(folder / "tokenizer.json"), bos=config["bos_token_id"],
            end=config["eos_token_id"], pad=config["pad_token_id"], num_rows=config["vocab_size"],
        )  # fmt: skip


def _read(path: Path) -> Tokenizer:
    try:
        # tokenizers raises bare Exception for files that it cannot read.
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:
        raise ModelError(f"the tokenizer cannot be loaded ({error})", where=str(path)) from error


def train_tokenizer(
    texts: Iterable[str],
    vocabulary_size: int,
    marks: Marks = PLAIN,
    *,
    bare_words: bool = False,
) -> LanguageTokenizer:
    """Learn merges of bytes from texts: any text comes back as it went in. The same texts give the
    same tokenizer.

    Args:
        vocabulary_size: most ids, marks and the 256 bytes included; few texts give fewer.
        bare_words: a blank is a token of its own. A word then has the same ids behind a blank as
            behind a quotation mark, which a model that copies words into JSON would otherwise
            have to learn word by word; texts take more tokens.

    Raises:
        ModelError: the marks and bytes alone are more.
    """
    fewest = len(marks.special) + 256
    if vocabulary_size < fewest:
        raise ModelError(
            f"a vocabulary of {vocabulary_size} has no room for {len(marks.special)} marks and "
            "256 bytes",
            fix=f"at least {fewest}",
        )
    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size, special_tokens=list(marks.special), show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), min_frequency=2,
    )  # fmt: skip
    as_runtimes_read = tokenizer.pre_tokenizer
    if bare_words:
        # Only while merges are learned: none of them holds a blank then, so the usual way of
        # cutting words, which llama.cpp knows, gives the same tokens.
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(" ", "isolated"), as_runtimes_read]
        )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.pre_tokenizer = as_runtimes_read
    return LanguageTokenizer.with_marks(tokenizer, marks)
