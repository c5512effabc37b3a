"""Texts as token grids, and many of them as arrays without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgedistill.core.artefacts import Encoded
from edgedistill.core.extraction import Document, TextLabel
from edgedistill.runtime.extraction.grid import TokenGrid, token_grid
from edgedistill.runtime.tokenizer import Tokenizer
from edgedistill.tasks.classification import TextEncoder
from edgedistill.tasks.extraction.alignment import (
    NO_TAG,
    OffGridError,
    keeps_words_whole,
    tags_of_spans,
)


@dataclass(frozen=True)
class EncodedDocuments:
    """Many texts as tokens.

    `texts`: their ids. Per token, in the order of `texts.ids`: `is_content` bool [num_tokens],
    whether it stands for characters; `tags` int16 [num_tokens], -1 where it has none. `labels`
    int16 [n, labels]: index of each label's value, -1 where a text has none.
    """

    texts: Encoded
    is_content: np.ndarray
    tags: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def part(self, num: int) -> EncodedDocuments:
        """The first `num` texts."""
        texts = self.texts.part(0, num)
        tokens = len(texts.ids)
        return EncodedDocuments(
            texts, self.is_content[:tokens], self.tags[:tokens], self.labels[:num]
        )


class DocumentEncoder:
    """The teacher's tokenizer as it will ship, for texts whose tokens are tagged.

    Args:
        encoder: of the same tokenizer.
        fields: names, in the order of the tags.
        labels: of whole texts.
    """

    def __init__(
        self, encoder: TextEncoder, fields: Sequence[str], labels: Sequence[TextLabel] = ()
    ) -> None:
        self.encoder = encoder
        self.fields = tuple(fields)
        self.labels = tuple(labels)
        self._tokenizer = Tokenizer(encoder.packed)

    def grid(self, text: str) -> TokenGrid:
        """The grid of a text, uncut."""
        return token_grid(self._tokenizer, text)

    def fault(self, document: Document) -> str | None:
        """Why a row cannot be tagged; None where it can."""
        grid = self.grid(document.text)
        limit = self.encoder.max_tokens
        if len(grid.ids) > limit:
            return f"{len(grid.ids)} tokens, at most {limit} (input.max_tokens)"
        if not grid.is_content.any():
            return "the tokenizer reads no token in it"
        try:
            tags_of_spans(grid, document.spans, self.fields, document.text)
        except OffGridError as error:
            return str(error)
        return None

    def fits(self, text: str) -> bool:
        """Whether a text without spans can be read whole."""
        grid = self.grid(text)
        return len(grid.ids) <= self.encoder.max_tokens and bool(grid.is_content.any())

    def encode(self, documents: Sequence[Document]) -> EncodedDocuments:
        """Texts with the tags of their spans; each must be without `fault`."""
        grids = [self.grid(document.text) for document in documents]
        tags = [
            tags_of_spans(grid, document.spans, self.fields, document.text)
            for grid, document in zip(grids, documents, strict=True)
        ]
        return _packed(grids, tags, self._label_indices(documents))

    def encode_texts(self, texts: Sequence[str]) -> EncodedDocuments:
        """Texts without tags and labels."""
        grids = [self.grid(text) for text in texts]
        labels = np.full((len(texts), len(self.labels)), NO_TAG)
        return _packed(grids, [np.full(len(grid.ids), NO_TAG) for grid in grids], labels)

    def _label_indices(self, documents: Sequence[Document]) -> np.ndarray:
        if not self.labels:
            return np.zeros((len(documents), 0))
        indices = [{value: i for i, value in enumerate(label.values)} for label in self.labels]
        rows = [
            [index[value] for index, value in zip(indices, document.labels, strict=True)]
            for document in documents
        ]
        return np.array(rows).reshape(len(documents), len(self.labels))

    def whole_words(self, documents: Sequence[Document]) -> bool:
        """Whether no span of these begins or ends within a word."""
        for document in documents:
            grid = self.grid(document.text)
            tags = tags_of_spans(grid, document.spans, self.fields, document.text)
            if not keeps_words_whole(grid, tags):
                return False
        return True


def joined(first: EncodedDocuments, second: EncodedDocuments) -> EncodedDocuments:
    """The texts of both, in order."""
    starts = np.concatenate([first.texts.starts, second.texts.starts[1:] + first.texts.starts[-1]])
    ids = np.concatenate([first.texts.ids, second.texts.ids])
    return EncodedDocuments(
        Encoded(ids, starts),
        np.concatenate([first.is_content, second.is_content]),
        np.concatenate([first.tags, second.tags]),
        np.concatenate([first.labels, second.labels]),
    )


def _packed(
    grids: Sequence[TokenGrid], tags: Sequence[np.ndarray], labels: np.ndarray
) -> EncodedDocuments:
    starts = np.zeros(len(grids) + 1, dtype=np.int64)
    np.cumsum([len(grid.ids) for grid in grids], out=starts[1:])
    none = np.zeros(0, dtype=np.int32)
    return EncodedDocuments(
        Encoded(np.concatenate([none, *(grid.ids for grid in grids)]), starts),
        np.concatenate([none.astype(bool), *(grid.is_content for grid in grids)]),
        np.concatenate([none, *tags]).astype(np.int16),
        labels.astype(np.int16),
    )
