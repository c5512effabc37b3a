"""What a model says to a split, whatever form it has: module, file or bundle."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from edgedistill.core.extraction import Document
from edgedistill.evaluate.guard_arrays import Outputs
from edgedistill.evaluate.span_metrics import LabelledSpan
from edgedistill.pipeline.extraction.teacher import Teacher
from edgedistill.runtime.extraction.grid import TokenGrid
from edgedistill.runtime.extraction.labels import best_values
from edgedistill.runtime.extraction.reading import Reading, labelled, read_tags
from edgedistill.runtime.extraction.tagging import best_tags, document_logits
from edgedistill.runtime.networks import Network
from edgedistill.tasks.extraction.encoding import EncodedDocuments

TextLogits = Sequence[np.ndarray]
"""Logits of each text, float [tokens with characters, tags]."""


@dataclass(frozen=True)
class Said:
    """What a model says to texts: `tags` of their tokens, `labels` float [n, values] of the labels
    of the whole texts (no columns where there are none)."""

    tags: TextLogits
    labels: np.ndarray


@dataclass(frozen=True)
class GoldTexts:
    """Texts with the right spans, on the token grid of a teacher."""

    documents: Sequence[Document]
    teacher: Teacher

    @cached_property
    def grids(self) -> list[TokenGrid]:
        """The grid of each text."""
        return [self.teacher.encoder.grid(document.text) for document in self.documents]

    @cached_property
    def tags(self) -> np.ndarray:
        """The right tag of every token with characters, text after text, int64."""
        encoded = self.teacher.encoder.encode(self.documents)
        return np.asarray(encoded.tags[encoded.is_content], dtype=np.int64)

    @cached_property
    def labels(self) -> np.ndarray:
        """Index of the right value of each label, int64 [n, labels]."""
        return np.asarray(self.teacher.encoder.encode(self.documents).labels, dtype=np.int64)

    @cached_property
    def spans(self) -> list[set[LabelledSpan]]:
        """The right spans of each text."""
        return [{(s.label, s.start, s.end) for s in row.spans} for row in self.documents]

    def labelled(self, logits: np.ndarray) -> np.ndarray:
        """Index of the likeliest value of each label, int64 [n, labels], of logits [n, values]."""
        return best_values(self.teacher.encoder.labels, logits)

    def read(self, logits: TextLogits) -> list[Reading]:
        """The spans that logits say."""
        whole = self.teacher.whole_words
        return [
            read_tags(grid, rows, whole_words=whole)
            for grid, rows in zip(self.grids, logits, strict=True)
        ]

    def found(self, logits: TextLogits) -> list[set[LabelledSpan]]:
        """The same as (field, start, end)."""
        names = self.teacher.encoder.fields
        return [labelled(reading.spans, names) for reading in self.read(logits)]

    def decoded(self, logits: TextLogits) -> np.ndarray:
        """The likeliest legal tag of every token, text after text, int64."""
        whole = self.teacher.whole_words
        return np.concatenate([
            best_tags(rows, grid.begins_word[grid.places], whole_words=whole)
            for grid, rows in zip(self.grids, logits, strict=True)
        ])  # fmt: skip


def said_by_module(model: Any, gold: GoldTexts) -> Said:
    """Logits of a PyTorch tagger."""
    from edgedistill.models.inference import tagger_outputs

    documents = gold.teacher.encoder.encode(gold.documents)
    logits, _, labels = tagger_outputs(model, documents.texts, pad_id=gold.teacher.pad_id)
    return said_by_rows(documents, logits, labels)


def said_by_rows(documents: EncodedDocuments, logits: np.ndarray, labels: np.ndarray) -> Said:
    """Logits of every token, [num_tokens, tags], and of the labels of the texts, text by text."""
    tags = [
        logits[start:stop][documents.is_content[start:stop]]
        for start, stop in itertools.pairwise(documents.texts.starts)
    ]
    return Said(tags, labels)


def said_by_file(session: Network, grids: Sequence[TokenGrid]) -> tuple[Said, Outputs]:
    """Logits of a model file, one text a call, and what its guard reads of each text."""
    found, features, labels = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    for grid in grids:
        ids = grid.ids[None].astype(np.int64)
        logits, vector, values = session.run_all(ids, np.ones_like(ids))
        found.append(logits[0][grid.is_content])
        features.append(vector)
        labels.append(values)
    profiles = np.concatenate([document_logits(logits) for logits in found])
    said = Said(found, np.concatenate(labels))
    return said, Outputs(profiles, np.concatenate(features))
