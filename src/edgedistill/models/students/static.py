"""Static student: token vectors and hashed bigram vectors, averaged, and one hidden layer.

No attention, and a convolution only if asked for (on CLINC150 it cost 40 µs a text and gained
nothing): a text costs two table look-ups a token and two small matrix products. Vectors of
tokens start from a teacher's; bigrams are learned while distilling. Like fastText's bag of
n-grams (Joulin et al. 2017, arXiv 1607.01759), except that the bigrams are of word pieces, that
the mean is normalised, and that a hidden layer follows it.

Shapes: ``b`` texts, ``s`` tokens, ``v`` ids of the teacher's tokenizer, ``k`` kept rows,
``g`` buckets, ``d`` token size, ``h`` hidden size, ``c`` labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from edgedistill.core.errors import ModelError
from edgedistill.core.protocols import ModelOutput
from edgedistill.models.students.family import Material, Recipe, StudentFamily
from edgedistill.models.students.ngrams import bigram_buckets

_TOKEN_DEVIATION, _BIGRAM_DEVIATION = 0.5, 0.05


class StaticConfig(BaseModel):
    """Size of the student, and how it is regularised."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    token_size: Annotated[int, Field(ge=8)] = 128
    """Width of a token's and of a bigram's vector, at most that of the initial vectors."""
    num_buckets: Annotated[int, Field(ge=0, le=1_000_000)] = 6144
    """Buckets that bigrams are hashed into; 0: single tokens only."""
    hidden_size: Annotated[int, Field(ge=8)] = 384
    """Units of the hidden layer, the student's features."""
    num_channels: Annotated[int, Field(ge=0)] = 0
    """Channels of a convolution over three neighbouring vectors, max-pooled; 0: none."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Of the pooled vector and of the hidden units, in training."""
    token_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of tokens, and of bigrams, that are left out of a text in training."""


class StaticStudent(nn.Module):
    """Mean of token and bigram vectors, layer norm, one hidden layer, head.

    Args:
        vocabulary_map: Kept row of each full id, int16 or int32 ``[v]``.
        token_vectors: Initial token vectors, float ``[k, d]``; copied.
        num_labels: Number of labels ``c``.
        config: Sizes and dropout.
    """

    vocabulary_map: Tensor

    def __init__(
        self, vocabulary_map: Tensor, token_vectors: Tensor, num_labels: int, config: StaticConfig
    ) -> None:
        super().__init__()
        size = config.token_size
        self.token_dropout = config.token_dropout
        self.register_buffer("vocabulary_map", vocabulary_map.clone())
        self.tokens = nn.Embedding(len(token_vectors), size)
        with torch.no_grad():
            self.tokens.weight.copy_(token_vectors)
        self.bigrams: nn.Embedding | None = None
        if config.num_buckets:
            self.bigrams = nn.Embedding(config.num_buckets, size)
            nn.init.normal_(self.bigrams.weight, std=_BIGRAM_DEVIATION)
        self.convolution: nn.Conv1d | None = None
        if config.num_channels:
            self.convolution = nn.Conv1d(size, config.num_channels, kernel_size=3, padding=1)
        pooled = size + config.num_channels
        self.norm = nn.LayerNorm(pooled)
        self.hidden = nn.Linear(pooled, config.hidden_size)
        self.head = nn.Linear(config.hidden_size, num_labels)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> ModelOutput:
        """Classify texts; padding and batch-mates do not change an answer.

        Args:
            input_ids: Full ids, int64 ``[b, s]``, padded at the end.
            attention_mask: 1 for tokens and 0 for padding, int64 ``[b, s]``; a text has one token.

        Returns:
            Logits ``[b, c]`` and features ``[b, h]``.
        """
        rows = self.vocabulary_map[input_ids].long()
        vectors = self._drop(self.tokens(rows))
        if self.bigrams is not None:
            buckets = bigram_buckets(rows, self.bigrams.num_embeddings)
            vectors = vectors + self._drop(self.bigrams(buckets))
        mask = attention_mask.to(vectors.dtype).unsqueeze(1)
        # The norm that follows makes a mean of the sum; beside a maximum it has to be one here.
        pooled = (mask @ vectors).squeeze(1)
        if self.convolution is not None:
            pooled = pooled / mask.sum(-1)
            # Masked before, so that padding is zero to its neighbours, and after, since a ReLU's
            # zero never is the maximum of anything but zeros.
            found = F.relu(self.convolution(vectors.transpose(1, 2) * mask)) * mask
            pooled = torch.cat([pooled, found.amax(-1)], dim=-1)
        features = F.relu(self.hidden(self.dropout(self.norm(pooled))))
        return ModelOutput(self.head(self.dropout(features)), features)

    def _drop(self, vectors: Tensor) -> Tensor:
        """Zero whole vectors of ``[b, s, d]`` in training; the others are not scaled."""
        if not self.training or not self.token_dropout:
            return vectors
        kept = torch.rand(vectors.shape[:2], device=vectors.device) >= self.token_dropout
        return vectors * kept.to(vectors.dtype).unsqueeze(-1)


def project_vectors(vectors: Tensor, size: int) -> Tensor:
    """Principal components of token vectors ``[k, h]`` as ``[k, size]``, of a set deviation.

    Raises:
        ModelError: There are fewer than ``size`` components.
    """
    if size > min(vectors.shape):
        raise ModelError(
            f"token_size {size} is above the {min(vectors.shape)} components of the vectors",
            fix="lower token_size",
        )
    centred = vectors.detach().float() - vectors.detach().float().mean(0)
    _, _, components = torch.linalg.svd(centred, full_matrices=False)
    projected: Tensor = centred @ components[:size].T
    return projected * (_TOKEN_DEVIATION / projected.std())


def build(
    vocabulary_map: Tensor,
    token_vectors: Tensor,
    num_labels: int,
    config: StaticConfig,
    *,
    seed: int = 0,
) -> StaticStudent:
    """Build a student that is ready to be trained; the caller's random state is left as it is.

    Args:
        vocabulary_map: Kept row of each full id, int16 or int32 ``[v]``
            (``KeptVocabulary.vocabulary_map``).
        token_vectors: The teacher's vectors of the kept tokens, float ``[k, h]``, projected here.
        num_labels: Number of labels ``c``.
        config: Sizes and dropout.
        seed: Seed of the random weights.

    Raises:
        ModelError: The map names a row that has no vector, or the vectors are too few or narrow.
    """
    if int(vocabulary_map.max()) >= len(token_vectors) or int(vocabulary_map.min()) < 0:
        raise ModelError(
            f"vocabulary_map names rows outside the {len(token_vectors)} token vectors",
            fix="pass the vectors of exactly the kept tokens, in the order of the map's rows",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vectors = project_vectors(token_vectors, config.token_size)
        return StaticStudent(vocabulary_map, vectors, num_labels, config)


def _build(material: Material, config: StaticConfig) -> StaticStudent:
    table: Tensor = material.teacher.encoder.get_input_embeddings().weight  # type: ignore[union-attr, operator]
    vectors = table.detach()[material.kept.token_ids]
    return build(
        material.kept.vocabulary_map, vectors, material.num_labels, config, seed=material.seed
    )


def _size_bytes(
    config: StaticConfig, num_rows: int, num_labels: int, teacher: Mapping[str, Any]
) -> int:
    tables = (num_rows + config.num_buckets) * (config.token_size + 4)
    pooled = config.token_size + config.num_channels
    layers = (pooled + num_labels) * config.hidden_size + 3 * config.token_size * 4 * (
        config.num_channels
    )
    return tables + layers + 4 * (config.hidden_size + num_labels) + 10_000


FAMILY = StudentFamily(
    config=StaticConfig,
    presets={
        "tokens": {"token_size": 64, "num_buckets": 0, "hidden_size": 256},
        "bigrams": {},
        "wide": {"token_size": 256, "num_buckets": 8192, "hidden_size": 512},
    },
    build=_build,
    recipe=Recipe(
        num_epochs=8, control_epochs=20, learning_rate=3e-3, batch_size=512,
        least_steps=1200, temperature=1.0,
        control_batch_size=128, label_smoothing=0.1, patience=6,
    ),
    size_bytes=_size_bytes,
)  # fmt: skip
