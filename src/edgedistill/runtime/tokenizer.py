"""The tokenizer of a bundle: text to token ids, special tokens included."""

from __future__ import annotations

import gzip
from collections.abc import Sequence

import tokenizers

from edgedistill.core.errors import BundleError


def pack_tokenizer(tokenizer_json: str) -> bytes:
    """A `tokenizers` JSON as it stands in a bundle: gzip without a date, so bytes repeat."""
    return gzip.compress(tokenizer_json.encode(), compresslevel=9, mtime=0)


class Tokenizer:
    """Encodes whole texts: never cuts, never pads. Safe to call from several threads.

    Args:
        packed: the bytes of `tokenizer.json.gz`.

    Raises:
        BundleError: the bytes are not a tokenizer.
    """

    def __init__(self, packed: bytes) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(gzip.decompress(packed).decode())
        except Exception as error:  # tokenizers raises plain Exception
            raise BundleError(
                f"the tokenizer cannot be read: {error}",
                where="tokenizer.json.gz",
                fix="a gzip file that holds the JSON of a `tokenizers` tokenizer",
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._encode_batch = self._tokenizer.encode_batch_fast
        self.num_special = len(self.encode(""))
        """Tokens that every text gets (start and end marks)."""

    def encode(self, text: str) -> list[int]:
        """Token ids of one text; raises TypeError for a lone surrogate."""
        # For one text the batch call without offsets is a fifth faster than `encode`, and it
        # stays on this thread, which a call with several texts does not.
        ids: list[int] = self._encode_batch([text])[0].ids
        return ids

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of many texts, in order, on this thread."""
        return [self.encode(text) for text in texts]
