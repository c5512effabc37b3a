"""The control without a teacher: TF-IDF of tokens and hashed token pairs, and a linear classifier.

What anyone would try first: if a distilled student is not better than this, it is not worth its
trouble. Fitted by scikit-learn, then written as a network, so that it is exported, compressed
and measured like every other student.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from edgedistill.core.artefacts import Encoded
from edgedistill.core.protocols import ModelOutput
from edgedistill.models.students.family import Material, StudentFamily
from edgedistill.models.students.ngrams import bigram_buckets


class LinearConfig(BaseModel):
    """Settings of the linear control."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    num_buckets: int = Field(default=8192, ge=0)
    """Buckets that pairs of neighbouring tokens are hashed into; 0: single tokens only."""
    penalty: float = Field(default=1.0, gt=0)
    """Inverse strength of the L2 penalty (C of scikit-learn's LinearSVC)."""


class LinearStudent(nn.Module):
    """Linear classifier on L2-normalised TF-IDF, computed inside the graph.

    With tf the count of a term in a text, its squared norm is the sum of (tf · idf)² over
    distinct terms. Every occurrence adds tf · idf², so the sum over occurrences is the same.

    `weights` [terms, classes] hold idf · coefficient, `idf` [terms, 1].
    """

    vocabulary_map: Tensor

    def __init__(
        self, vocabulary_map: Tensor, num_rows: int, num_buckets: int, num_labels: int
    ) -> None:
        super().__init__()
        self.num_rows, self.num_buckets = num_rows, num_buckets
        self.register_buffer("vocabulary_map", vocabulary_map)
        self.weights = nn.Embedding(num_rows + num_buckets, num_labels)
        self.idf = nn.Embedding(num_rows + num_buckets, 1)
        self.bias = nn.Parameter(torch.zeros(num_labels))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> ModelOutput:
        """Answer ids and mask [batch, seq]; features are the normalised scores without bias."""
        terms, mask = self.terms(input_ids, attention_mask)
        weights = self.weights(terms) * mask[..., None]
        equal = (terms[:, :, None] == terms[:, None, :]).to(weights.dtype) * mask[:, None, :]
        square = self.idf(terms).squeeze(-1) ** 2 * equal.sum(-1) * mask
        scores = weights.sum(1) / square.sum(1, keepdim=True).clamp(min=1e-12).sqrt()
        return ModelOutput(scores + self.bias, scores)

    def terms(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Row of every term and whether it counts: tokens, then pairs."""
        rows = self.vocabulary_map[input_ids].long()
        mask = attention_mask.to(self.bias.dtype)
        if not self.num_buckets:
            return rows, mask
        pairs = bigram_buckets(rows, self.num_buckets) + self.num_rows
        first = torch.zeros_like(mask[:, :1])
        return torch.cat([rows, pairs], 1), torch.cat([mask, torch.cat([first, mask[:, 1:]], 1)], 1)


def build(material: Material, config: LinearConfig) -> LinearStudent:
    """Fit on the labelled training texts."""
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.svm import LinearSVC

    num_rows = len(material.kept.token_ids)
    model = LinearStudent(
        material.kept.vocabulary_map, num_rows, config.num_buckets, material.num_labels
    )
    counts = term_counts(model, material.train, material.pad_id)
    transformer = TfidfTransformer()
    features = transformer.fit_transform(counts)
    svm = LinearSVC(C=config.penalty, random_state=material.seed).fit(features, material.targets)
    coefficients, bias = _one_row_a_class(svm.coef_, svm.intercept_)
    with torch.no_grad():
        idf = torch.from_numpy(transformer.idf_).float()
        model.idf.weight.copy_(idf[:, None])
        model.weights.weight.copy_(torch.from_numpy(coefficients.T).float() * idf[:, None])
        model.bias.copy_(torch.from_numpy(bias))
    return model


def term_counts(model: LinearStudent, texts: Encoded, pad_id: int) -> Any:
    """How often each term stands in each text, sparse [num_texts, num_terms]."""
    from scipy.sparse import csr_matrix

    rows, columns = [], []
    for start in range(0, len(texts), 256):
        block = np.arange(start, min(start + 256, len(texts)))
        ids, mask = (torch.from_numpy(a) for a in texts.padded(block, pad_id))
        terms, counted = (t.numpy() for t in model.terms(ids, mask))
        text, place = np.nonzero(counted)
        rows.append(block[text])
        columns.append(terms[text, place])
    ones = np.ones(sum(len(r) for r in rows))
    place_of = (np.concatenate(rows), np.concatenate(columns))
    shape = (len(texts), model.weights.num_embeddings)
    return csr_matrix((ones, place_of), shape=shape)


def _one_row_a_class(
    coefficients: np.ndarray, intercept: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn gives one row for two classes: the second one's."""
    if len(coefficients) > 1:
        return coefficients, intercept
    return np.concatenate([-coefficients, coefficients]), np.concatenate([-intercept, intercept])


def _size_bytes(
    config: LinearConfig, num_rows: int, num_labels: int, teacher: Mapping[str, Any]
) -> int:
    return (num_rows + config.num_buckets) * (num_labels + 8)


FAMILY = StudentFamily(
    config=LinearConfig,
    presets={"pairs": {}},
    build=build,
    recipe=None,
    size_bytes=_size_bytes,
)
