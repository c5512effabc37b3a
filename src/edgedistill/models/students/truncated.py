"""A student cut out of its teacher: some of its layers, kept tokens, kept feed-forward units.

Everything is initialised from the teacher's weights. With all layers, all tokens, the full rank
and all units, the student *is* the teacher.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from edgedistill.core.errors import ModelError
from edgedistill.models.internals import ENCODERS, NetworkShape
from edgedistill.models.students.bert_blocks import (
    ACTIVATIONS,
    EncoderLayer,
    PrunedEmbedding,
    TransformerStudent,
)
from edgedistill.models.students.family import Material, Recipe, StudentFamily
from edgedistill.models.students.vocabulary import KeptVocabulary

Index = Annotated[int, Field(ge=0)]


class TruncatedConfig(BaseModel):
    """What is kept of the teacher."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    layers: Annotated[tuple[Index, ...], Field(min_length=1)] = (1, 3, 5)
    """The teacher's layers, counted from 0, in the student's order."""
    embedding_rank: Annotated[int, Field(ge=1)] | None = None
    """Rank of the token table; left out: the table is not factorised."""
    num_heads: Annotated[int, Field(ge=1)] | None = None
    """Kept heads of each attention; left out: all."""
    intermediate_size: Annotated[int, Field(ge=1)] | None = None
    """Kept units of each feed-forward; left out: all."""


def build(
    teacher: nn.Module, kept: KeptVocabulary, config: TruncatedConfig, *, max_tokens: int = 64
) -> TransformerStudent:
    """Cut a student out of ``teacher``, which is left as it is.

    Args:
        teacher: A module with ``encoder`` (a BERT-like model of transformers with learned
            absolute positions) and, to start the head from, a linear ``head`` ``[labels, h]``.
        kept: The kept tokens, and the row that each full id is read as.
        config: What is kept.
        max_tokens: Rows of the position table.

    Raises:
        ModelError: The encoder is of another family, or has no such layer.
    """
    encoder: Any = teacher.encoder
    _check(encoder, config)
    layers = [copy_layer(encoder.encoder.layer[i], encoder.config, config) for i in config.layers]
    embedding = copy_embedding(encoder, kept, config, max_tokens)
    return TransformerStudent(embedding, layers, copy_head(teacher))


def copy_embedding(
    encoder: Any, kept: KeptVocabulary, config: TruncatedConfig, max_tokens: int
) -> PrunedEmbedding:
    """Copy the kept rows, factorised where a rank is given; fold token type 0 into positions."""
    source, hidden = encoder.embeddings, encoder.config.hidden_size
    table = source.word_embeddings.weight.detach()[kept.token_ids]
    rank = min(config.embedding_rank or hidden, hidden)
    embedding = PrunedEmbedding(
        kept.vocabulary_map, rows=len(table), rank=rank, hidden=hidden,
        max_tokens=max_tokens, eps=encoder.config.layer_norm_eps,
    )  # fmt: skip
    # RoBERTa's family counts positions from its padding id plus one.
    start = 0 if encoder.config.model_type == "bert" else source.padding_idx + 1
    with torch.no_grad():
        embedding.load_table(table)
        positions = source.position_embeddings.weight[start : start + max_tokens]
        embedding.positions.copy_(positions + source.token_type_embeddings.weight[0])
    embedding.norm.load_state_dict(source.LayerNorm.state_dict())
    return embedding


def copy_layer(source: Any, teacher_config: Any, config: TruncatedConfig) -> EncoderLayer:
    """Copy one layer, with the heads and feed-forward units of the largest weights."""
    attention, up, down = source.attention, source.intermediate.dense, source.output.dense
    attended, size = attention.output.dense, attention.self.attention_head_size
    heads = largest(group_norms(attention.self.value, attended, size), config.num_heads)
    units = largest(group_norms(up, down, 1), config.intermediate_size)
    layer = EncoderLayer(
        hidden=teacher_config.hidden_size, heads=len(heads), head_size=size,
        intermediate=len(units), activation=teacher_config.hidden_act,
        eps=teacher_config.layer_norm_eps,
    )  # fmt: skip
    inner = (heads[:, None] * size + torch.arange(size)).flatten()
    parts = (attention.self.query, attention.self.key, attention.self.value)
    with torch.no_grad():
        layer.qkv.weight.copy_(torch.cat([part.weight[inner] for part in parts]))
        layer.qkv.bias.copy_(torch.cat([part.bias[inner] for part in parts]))
        layer.attended.weight.copy_(attended.weight[:, inner])
        layer.attended.bias.copy_(attended.bias)
        layer.up.weight.copy_(up.weight[units])
        layer.up.bias.copy_(up.bias[units])
        layer.down.weight.copy_(down.weight[:, units])
        layer.down.bias.copy_(down.bias)
    layer.attention_norm.load_state_dict(attention.output.LayerNorm.state_dict())
    layer.output_norm.load_state_dict(source.output.LayerNorm.state_dict())
    return layer


def group_norms(into: nn.Linear, out: nn.Linear, size: int) -> Tensor:
    """Norm of the weights into times that of the weights out of each group of ``size`` units."""
    ingoing = into.weight.detach().reshape(into.out_features // size, -1)
    outgoing = out.weight.detach().T.reshape(out.in_features // size, -1)
    return ingoing.square().sum(1).sqrt() * outgoing.square().sum(1).sqrt()


def largest(norms: Tensor, num: int | None) -> Tensor:
    """Ids of the ``num`` largest, ascending; all where ``num`` is left out."""
    return norms.topk(min(num or len(norms), len(norms))).indices.sort().values


def copy_head(teacher: nn.Module) -> nn.Linear:
    """Copy the teacher's linear head."""
    head = getattr(teacher, "head", None)
    if not isinstance(head, nn.Linear):
        raise ModelError("the teacher has no linear head to start from")
    copy = nn.Linear(head.in_features, head.out_features)
    copy.load_state_dict(head.state_dict())
    return copy


def _check(encoder: Any, config: TruncatedConfig) -> None:
    """Refuse an encoder that the blocks cannot stand for."""
    known = encoder.config
    if known.model_type not in ENCODERS or known.hidden_act not in ACTIVATIONS:
        raise ModelError(
            f"no student can be cut out of a {known.model_type!r} encoder ({known.hidden_act!r})",
            fix=f"use one of {ENCODERS}, or a student that is built from nothing",
        )
    if max(config.layers) >= known.num_hidden_layers:
        raise ModelError(f"the teacher has {known.num_hidden_layers} layers, not {config.layers}")


def _build(material: Material, config: TruncatedConfig) -> TransformerStudent:
    return build(material.teacher, material.kept, config, max_tokens=material.max_tokens)


def transformer_bytes(
    hidden: int, num_layers: int, intermediate: int, rank: int, num_rows: int, num_labels: int
) -> int:
    """Bytes of a transformer student with INT8 weights and a scale a row or channel."""
    layer = 4 * hidden * hidden + 2 * hidden * intermediate + 40 * hidden
    table = num_rows * (rank + 4) + (4 * rank * hidden if rank < hidden else 0)
    positions_and_head = 4 * 64 * hidden + hidden * num_labels
    return num_layers * layer + table + positions_and_head + 40_000


def _size_bytes(config: TruncatedConfig, num_rows: int, num_labels: int, hidden: int) -> int:
    inner = min(config.intermediate_size or 4 * hidden, 4 * hidden)
    rank = min(config.embedding_rank or hidden, hidden)
    return transformer_bytes(hidden, len(config.layers), inner, rank, num_rows, num_labels)


def _shape(config: TruncatedConfig, teacher: NetworkShape) -> NetworkShape:
    heads = min(config.num_heads or teacher.num_heads, teacher.num_heads)
    return NetworkShape(len(config.layers), teacher.hidden_size, heads, teacher.head_size)


RECIPE = Recipe(
    num_epochs=3, control_epochs=5, learning_rate=5e-4, batch_size=64,
    least_steps=300, temperature=2.0,
    precision="bf16",
)  # fmt: skip

FAMILY = StudentFamily(
    config=TruncatedConfig,
    presets={"2-layers": {"layers": (3, 5)}, "3-layers": {"layers": (1, 3, 5)}},
    build=_build,
    recipe=RECIPE,
    size_bytes=_size_bytes,
    shape=_shape,
)
