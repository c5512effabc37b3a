"""A narrow student: a truncated one, projected onto the directions that its teacher uses most.

``h`` is the teacher's hidden size, ``n`` the student's. States of the student stand for
``scale * basis.T @ states`` of the teacher; layer norms make this approximate, so the result is
a start for training, not a model by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from edgedistill.core.errors import ModelError
from edgedistill.models.internals import NetworkShape
from edgedistill.models.students import truncated
from edgedistill.models.students.bert_blocks import (
    EncoderLayer,
    PrunedEmbedding,
    TransformerStudent,
)
from edgedistill.models.students.family import Material, StudentFamily
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
    """Kept units of each feed-forward; null: all."""
    embedding_rank: Annotated[int, Field(ge=1)] | None = 128
    """Rank of the token table; null: the table is not factorised."""


def build(
    teacher: nn.Module,
    kept: KeptVocabulary,
    config: SmallTransformerConfig,
    *,
    max_tokens: int = 64,
) -> TransformerStudent:
    """Cut a student out of ``teacher`` (see `truncated.build`) and make it narrow.

    Raises:
        ModelError: As `truncated.build`, or the student would not be narrower than the teacher.
    """
    wide = truncated.build(teacher, kept, _truncation(teacher, config), max_tokens=max_tokens)
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
        layers = [project_layer(layer, basis, scale) for layer in wide.encoder_layers()]
        embedding = project_embedding(wide.embedding, kept, config, basis, scale)
        head = _linear(wide.head.weight @ basis / scale, wide.head.bias)
    return TransformerStudent(embedding, layers, head)


def shared_basis(model: TransformerStudent, size: int) -> Tensor:
    """Orthonormal ``[h, n]``: the directions that weights write to and the head reads, pooled.

    Each matrix counts alike, whatever its norm.
    """
    written = [model.embedding.tokens.weight, model.head.weight]
    for layer in model.encoder_layers():
        written += [layer.attended.weight.T, layer.down.weight.T]
    moments = [(matrix.T @ matrix) / matrix.square().sum() for matrix in written]
    _, vectors = torch.linalg.eigh(torch.stack(moments).sum(0))
    return torch.as_tensor(vectors)[:, -size:].flip(1)


def project_layer(layer: EncoderLayer, basis: Tensor, scale: float) -> EncoderLayer:
    """Project a layer's weights; heads and feed-forward units stay."""
    small = EncoderLayer(
        hidden=basis.shape[1], heads=layer.heads,
        head_size=layer.attended.in_features // layer.heads,
        intermediate=layer.up.out_features, activation=layer.activation, eps=layer.output_norm.eps,
    )  # fmt: skip
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
    """Project the token table, factorised where a smaller rank is given, and the positions."""
    rank = min(config.embedding_rank or config.hidden_size, config.hidden_size)
    small = PrunedEmbedding(
        kept.vocabulary_map, rows=wide.tokens.num_embeddings, rank=rank,
        hidden=config.hidden_size, max_tokens=len(wide.positions), eps=wide.norm.eps,
    )  # fmt: skip
    small.load_table(scale * wide.tokens.weight @ basis)
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
    encoder: Any = teacher.encoder
    head_size = encoder.config.hidden_size // encoder.config.num_attention_heads
    return TruncatedConfig(
        layers=config.layers,
        num_heads=_num_heads(config, head_size),
        intermediate_size=config.intermediate_size,
    )


def _num_heads(config: SmallTransformerConfig, head_size: int) -> int:
    return config.num_heads or max(1, config.hidden_size // head_size)


def _shape(config: SmallTransformerConfig, teacher: NetworkShape) -> NetworkShape:
    heads = min(_num_heads(config, teacher.head_size), teacher.num_heads)
    return NetworkShape(len(config.layers), config.hidden_size, heads, teacher.head_size)


def _build(material: Material, config: SmallTransformerConfig) -> TransformerStudent:
    return build(material.teacher, material.kept, config, max_tokens=material.max_tokens)


def _size_bytes(
    config: SmallTransformerConfig, num_rows: int, num_labels: int, teacher: Mapping[str, Any]
) -> int:
    inner = config.intermediate_size or 4 * int(teacher["hidden_size"])
    rank = config.embedding_rank or config.hidden_size
    return truncated.transformer_bytes(
        config.hidden_size, len(config.layers), inner, rank, num_rows, num_labels
    )


FAMILY = StudentFamily(
    config=SmallTransformerConfig,
    presets={"2x192": {"hidden_size": 192, "layers": (2, 5), "intermediate_size": 512}},
    build=_build,
    recipe=truncated.RECIPE,
    size_bytes=_size_bytes,
    shape=_shape,
)
