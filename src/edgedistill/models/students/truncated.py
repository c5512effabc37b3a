"""A student cut out of its teacher: some of its layers, kept tokens, kept feed-forward units.

Everything is initialised from the teacher's weights. With all layers, all tokens, the full rank
and all units, the student *is* the teacher.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from edgedistill.core.errors import ModelError
from edgedistill.models.internals import NetworkShape
from edgedistill.models.structure.factorise_embeddings import factorised
from edgedistill.models.structure.importance import head_site, largest, neuron_site
from edgedistill.models.structure.surgery import keep_heads, keep_neurons, keep_rows, linear_of
from edgedistill.models.structure.whole import require_known, whole_embedding, whole_layer
from edgedistill.models.students.bert_blocks import EncoderLayer, TransformerStudent
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
    require_known(encoder.config.model_type, encoder.config.hidden_act)
    if max(config.layers) >= encoder.config.num_hidden_layers:
        raise ModelError(
            f"the teacher has {encoder.config.num_hidden_layers} layers, not {config.layers}"
        )
    layers = [_cut(whole_layer(encoder.encoder.layer[i], encoder.config), config)
              for i in config.layers]  # fmt: skip
    embedding = keep_rows(whole_embedding(encoder, max_tokens), kept)
    rank = config.embedding_rank
    if rank is not None and rank < encoder.config.hidden_size:
        embedding = factorised(embedding, rank)
    return TransformerStudent(embedding, layers, copy_head(teacher))


def _cut(layer: EncoderLayer, config: TruncatedConfig) -> EncoderLayer:
    """The layer with the heads and feed-forward units of the largest weights."""
    heads = largest(head_site(layer).norms, config.num_heads)
    units = largest(neuron_site(layer).norms, config.intermediate_size)
    return keep_neurons(keep_heads(layer, heads), units)


def copy_head(teacher: nn.Module) -> nn.Linear:
    """Copy the teacher's linear head."""
    head = getattr(teacher, "head", None)
    if not isinstance(head, nn.Linear):
        raise ModelError("the teacher has no linear head to start from")
    return linear_of(head.weight, head.bias)


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


def _size_bytes(
    config: TruncatedConfig, num_rows: int, num_labels: int, teacher: Mapping[str, Any]
) -> int:
    hidden = int(teacher["hidden_size"])
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
