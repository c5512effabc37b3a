"""A narrow student: a truncated one, projected onto the directions that its teacher uses most.

``h`` is the teacher's hidden size, ``n`` the student's. States of the student stand for
``scale * basis.T @ states`` of the teacher; layer norms make this approximate, so the result is
a start for training, not a model by itself.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from edgedistill.core.errors import ModelError
from edgedistill.models.students import truncated
from edgedistill.models.students.bert_blocks import EncoderLayer, PrunedEmbedding, TransformerStudent
from edgedistill.models.students.truncated import Index, TruncatedConfig
from edgedistill.models.students.vocabulary import KeptVocabulary


class SmallTransformerConfig(BaseModel):
    """Size of the student."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    hidden_size: Annotated[int, Field(ge=8)] = 256
    """Width of the states, below the teacher's."""
    layers: Annotated[tuple[Index, ...], Field(min_length=1)] = (1, 3, 5)
    """The teacher's layers to start from, counted from 0, in the student's order."""
    num_heads: Annotated[int, Field(ge=1)] | None = None
    """Kept heads of each attention, of the teacher's head size; left out: `hidden_size`'s worth."""
    intermediate_size: Annotated[int, Field(ge=1)] | None = 768
    """Kept units of each feed-forward; left out: all."""
    embedding_rank: Annotated[int, Field(ge=1)] | None = 128
    """Rank of the token table; left out: the table is not factorised."""
    max_tokens: Annotated[int, Field(ge=4, le=512)] = 64
    """Rows of the position table."""


def build(
    teacher: nn.Module, kept: KeptVocabulary, config: SmallTransformerConfig
) -> TransformerStudent:
    """Cut a student out of ``teacher`` (see `truncated.build`) and make it narrow.

    Raises:
        ModelError: As `truncated.build`, or the student would not be narrower than the teacher.
    """
    wide = truncated.build(teacher, kept, _truncation(teacher, config))
    hidden = wide.head.in_features
    if config.hidden_size >= hidden:
        raise ModelError(
            f"hidden_size must be below the teacher's {hidden}, not {config.hidden_size}",
            fix="use the truncated student",
        )
    with torch.no_grad():
        basis = shared_basis(wide, config.hidden_size)
        # A layer norm gives each state the norm sqrt(size): this is how far states shrink.
        scale = (config.hidden_size / hidden) ** 0.5
        layers = [project_layer(layer, basis, scale) for layer in wide.layers]
        embedding = project_embedding(wide.embedding, kept, config, basis, scale)
        head = _linear(wide.head.weight @ basis / scale, wide.head.bias)
    return TransformerStudent(embedding, layers, head)


def shared_basis(model: TransformerStudent, size: int) -> Tensor:
    """Orthonormal ``[h, n]``: the directions that weights write to and the head reads, pooled.

    Each matrix counts alike, whatever its norm.
    """
    written = [model.embedding.tokens.weight, model.head.weight]
    for layer in model.layers:
        written += [layer.attended.weight.T, layer.down.weight.T]
    moments = [(matrix.T @ matrix) / matrix.square().sum() for matrix in written]
    return torch.linalg.eigh(torch.stack(moments).sum(0)).eigenvectors[:, -size:].flip(1)


def project_layer(layer: EncoderLayer, basis: Tensor, scale: float) -> EncoderLayer:
    """Project a layer's weights; heads and feed-forward units stay."""
    small = EncoderLayer(
        hidden=basis.shape[1], heads=layer.heads,
        head_size=layer.attended.in_features // layer.heads,
        intermediate=layer.up.out_features, activation="gelu", eps=layer.output_norm.eps,
    )  # fmt: skip
    small.activation = layer.activation
    for name in ("qkv", "up"):
        source = getattr(layer, name)
        setattr(small, name, _linear(source.weight @ basis / scale, source.bias))
    for name in ("attended", "down"):
        source = getattr(layer, name)
        weight, bias = basis.T @ source.weight, basis.T @ source.bias
        setattr(small, name, _linear(scale * weight, scale * bias))
    for name in ("attention_norm", "output_norm"):
        _project_norm(getattr(layer, name), getattr(small, name), basis, scale)
    return small


def project_embedding(
    wide: PrunedEmbedding,
    kept: KeptVocabulary,
    config: SmallTransformerConfig,
    basis: Tensor,
    scale: float,
) -> PrunedEmbedding:
    """Project the token table, as two factors where a smaller rank is given, and the positions."""
    rank = min(config.embedding_rank or config.hidden_size, config.hidden_size)
    small = PrunedEmbedding(
        kept.vocabulary_map, rows=wide.tokens.num_embeddings, rank=rank,
        hidden=config.hidden_size, max_tokens=config.max_tokens, eps=wide.norm.eps,
    )  # fmt: skip
    table = scale * wide.tokens.weight @ basis
    if rank < config.hidden_size:
        left, right = truncated.factorise(table, rank)
        small.tokens.weight.copy_(left)
        small.projection.weight.copy_(right)
    else:
        small.tokens.weight.copy_(table)
    small.positions.copy_(scale * wide.positions @ basis)
    _project_norm(wide.norm, small.norm, basis, scale)
    return small


def _project_norm(source: nn.LayerNorm, target: nn.LayerNorm, basis: Tensor, scale: float) -> None:
    target.weight.copy_(basis.square().T @ source.weight)
    target.bias.copy_(scale * basis.T @ source.bias)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    return layer


def _truncation(teacher: nn.Module, config: SmallTransformerConfig) -> TruncatedConfig:
    size = teacher.encoder.config.hidden_size // teacher.encoder.config.num_attention_heads  # type: ignore[union-attr]
    return TruncatedConfig(
        layers=config.layers,
        num_heads=config.num_heads or max(1, config.hidden_size // size),
        intermediate_size=config.intermediate_size,
        max_tokens=config.max_tokens,
    )
