"""Replace the token table by a product of two matrices."""

from __future__ import annotations

import copy

from torch import nn

from edgedistill.core.structural import FactoriseEmbeddingsSettings
from edgedistill.models.structure.given import Given
from edgedistill.models.students.bert_blocks import PrunedEmbedding, TransformerStudent


def factorise_embeddings(
    network: TransformerStudent, settings: FactoriseEmbeddingsSettings, given: Given
) -> TransformerStudent:
    """The network with the nearest product of the asked rank for its table: its squared error is
    the sum of the squared singular values that are left out."""
    table = network.embedding.tokens.weight
    rank = max(1, round(settings.rank * min(table.shape)))
    fewer = copy.deepcopy(network)
    fewer.embedding = factorised(network.embedding, rank)
    return fewer


def factorised(embedding: PrunedEmbedding, rank: int) -> PrunedEmbedding:
    """The embedding with a table of this rank, below its width."""
    table = embedding.tokens.weight.detach()
    fewer = copy.deepcopy(embedding)
    fewer.tokens = nn.Embedding(len(table), rank)
    fewer.projection = nn.Linear(rank, table.shape[1], bias=False)
    fewer.load_table(table)
    return fewer
