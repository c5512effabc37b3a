"""Tokens to text as they come: no half characters, and nothing of a stop string."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Sequence
from typing import Any

from tokenizers import Tokenizer

from edgedistill.core.errors import BundleError


def token_bytes(tokenizer_json: str, num_rows: int) -> list[bytes]:
    """The UTF-8 bytes that each id of a model spells; none for special tokens.

    Args:
        tokenizer_json: of a byte-level BPE, or of a SentencePiece BPE with byte fallback.
        num_rows: ids of the model; those beyond the tokenizer's spell nothing.

    Raises:
        BundleError: another kind of tokenizer, or ids that the model does not have.
    """
    content: dict[str, Any] = json.loads(tokenizer_json)
    model, added = content["model"], content.get("added_tokens", [])
    if model.get("byte_fallback"):
        spelled = _sentencepiece
    elif model["type"] == "BPE" and '"ByteLevel"' in json.dumps(content.get("decoder")):
        spelled = _byte_level
    else:
        raise BundleError(
            "the tokens of this tokenizer cannot be told as bytes",
            fix="a byte-level BPE, or a SentencePiece BPE with byte fallback",
        )
    highest = max([*model["vocab"].values(), *(entry["id"] for entry in added)], default=-1)
    if highest >= num_rows:
        raise BundleError(
            f"the tokenizer's ids reach {highest}, the model has {num_rows}",
            fix="the tokenizer that the model was trained with",
        )
    found = [b""] * num_rows
    for token, i in model["vocab"].items():
        found[i] = spelled(token)
    for entry in added:
        found[entry["id"]] = b"" if entry["special"] else entry["content"].encode()
    return found


def begins_with_space(tokenizer_json: str) -> bool:
    """Whether a tokenizer puts a space before every text, as SentencePiece's do."""
    if not json.loads(tokenizer_json)["model"].get("byte_fallback"):
        return False
    first = Tokenizer.from_str(tokenizer_json).encode("a", add_special_tokens=False).tokens[0]
    return first.startswith("\u2581")


def _sentencepiece(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace("\u2581", " ").encode()


def _byte_level(token: str) -> bytes:
    return bytes(_BYTES[character] for character in token)


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's characters for bytes: printable ones stand for themselves, others from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {
        chr(256 + number): byte for number, byte in enumerate(others)
    }


_BYTES = _byte_alphabet()


class TextStream:
    """Gathers the text of an answer, token by token.

    Args:
        spelled: bytes of each id.
        stop: texts that end the answer and are not part of it.
        on_text: is given each piece as soon as it is certain.
        drop_space: a space at the very beginning is no part of the text.
    """

    def __init__(
        self,
        spelled: Sequence[bytes],
        stop: Sequence[str] = (),
        on_text: Callable[[str], None] | None = None,
        *,
        drop_space: bool = False,
    ) -> None:
        self._drop_space = drop_space
        self._spelled, self._stop, self._on_text = spelled, stop, on_text
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._told: list[str] = []
        self._held = ""
        """What may yet turn out to begin a stop string."""
        self._is_stopped = False

    @property
    def text(self) -> str:
        """The text so far, as far as it is certain."""
        return "".join(self._told)

    def take(self, token: int) -> bool:
        """Add a token; True where a stop string ends the answer."""
        return self._add(self._decoder.decode(self._spelled[token]))

    def end(self, *, by_limit: bool) -> None:
        """No more tokens come; what was held back is text after all.

        Bytes of an unfinished character become U+FFFD where the model itself ended there, and
        nothing where the limit did.
        """
        if self._is_stopped or (not by_limit and self._add(self._decoder.decode(b"", final=True))):
            return
        self._tell(len(self._held))

    def _add(self, text: str) -> bool:
        if text and self._drop_space:
            text, self._drop_space = text.removeprefix(" "), False
        self._held += text
        ends = [at for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if ends:
            self._tell(min(ends))
            self._held, self._is_stopped = "", True
            return True
        self._tell(len(self._held) - max((self._begun(stop) for stop in self._stop), default=0))
        return False

    def _begun(self, stop: str) -> int:
        """Characters at the end of what is held that may begin `stop`."""
        longest = min(len(stop) - 1, len(self._held))
        return next((size for size in range(longest, 0, -1) if self._held.endswith(stop[:size])), 0)

    def _tell(self, num_characters: int) -> None:
        piece, self._held = self._held[:num_characters], self._held[num_characters:]
        if piece:
            self._told.append(piece)
            if self._on_text is not None:
                self._on_text(piece)
