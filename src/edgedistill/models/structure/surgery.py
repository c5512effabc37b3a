"""Parts of a network with fewer heads, neurons, channels or rows; what they are cut from is left
as it is. Indices are ascending, int64."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgedistill.models.students.bert_blocks import (
    EncoderLayer,
    PrunedEmbedding,
    TransformerStudent,
)
from edgedistill.models.students.vocabulary import KeptVocabulary


def taken(
    linear: nn.Linear, rows: Tensor | None = None, columns: Tensor | None = None
) -> nn.Linear:
    """A linear layer with some outputs (rows) and some inputs (columns) of another."""
    weight: Tensor = linear.weight
    bias: Tensor | None = linear.bias
    if rows is not None:
        weight, bias = weight[rows], None if bias is None else bias[rows]
    if columns is not None:
        weight = weight[:, columns]
    return linear_of(weight, bias)


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer with a copy of these weights ``[out, in]``."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone())
    return made


def num_left(num: int, share: float) -> int:
    """How many of so many stay when a share goes: at least one."""
    return max(1, num - round(share * num))


def with_layers(network: TransformerStudent, layers: Sequence[EncoderLayer]) -> TransformerStudent:
    """A copy of the network with these layers, which become its own, in place of its own."""
    own, network.layers = network.layers, nn.ModuleList()
    try:
        changed = copy.deepcopy(network)
    finally:
        network.layers = own
    changed.layers = nn.ModuleList(layers)
    return changed


def head_size(layer: EncoderLayer) -> int:
    """Width of each of its heads."""
    return layer.attended.in_features // layer.heads


def keep_heads(layer: EncoderLayer, heads: Tensor) -> EncoderLayer:
    """The layer with some of its heads."""
    size, inner = head_size(layer), layer.attended.in_features
    units = (heads[:, None] * size + torch.arange(size)).flatten()
    fewer = copy.deepcopy(layer)
    fewer.heads = len(heads)
    fewer.qkv = taken(layer.qkv, rows=torch.cat([units, inner + units, 2 * inner + units]))
    fewer.attended = taken(layer.attended, columns=units)
    return fewer


def keep_neurons(layer: EncoderLayer, neurons: Tensor) -> EncoderLayer:
    """The layer with some of its feed-forward neurons."""
    fewer = copy.deepcopy(layer)
    fewer.up = taken(layer.up, rows=neurons)
    fewer.down = taken(layer.down, columns=neurons)
    return fewer


def keep_layer_channels(layer: EncoderLayer, channels: Tensor) -> EncoderLayer:
    """The layer on states with some of their channels."""
    fewer = copy.deepcopy(layer)
    fewer.qkv, fewer.up = taken(layer.qkv, columns=channels), taken(layer.up, columns=channels)
    fewer.attended = taken(layer.attended, rows=channels)
    fewer.down = taken(layer.down, rows=channels)
    fewer.attention_norm = keep_norm_channels(layer.attention_norm, channels)
    fewer.output_norm = keep_norm_channels(layer.output_norm, channels)
    return fewer


def keep_norm_channels(norm: nn.LayerNorm, channels: Tensor) -> nn.LayerNorm:
    """A layer norm over some channels alone: mean and deviation are theirs."""
    fewer = nn.LayerNorm(len(channels), eps=norm.eps)
    fewer.weight = nn.Parameter(norm.weight.detach()[channels].clone())
    fewer.bias = nn.Parameter(norm.bias.detach()[channels].clone())
    return fewer


def keep_embedding_channels(embedding: PrunedEmbedding, channels: Tensor) -> PrunedEmbedding:
    """An embedding, not factorised, with some channels."""
    fewer = copy.deepcopy(embedding)
    fewer.tokens = _table(embedding.tokens.weight.detach()[:, channels])
    fewer.positions = nn.Parameter(embedding.positions.detach()[:, channels].clone())
    fewer.norm = keep_norm_channels(embedding.norm, channels)
    return fewer


def keep_rows(embedding: PrunedEmbedding, kept: KeptVocabulary) -> PrunedEmbedding:
    """The embedding of a whole vocabulary with the kept rows alone."""
    fewer = copy.deepcopy(embedding)
    fewer.vocabulary_map = kept.vocabulary_map.clone()
    fewer.tokens = _table(embedding.tokens.weight.detach()[kept.token_ids])
    return fewer


def _table(weight: Tensor) -> nn.Embedding:
    table = nn.Embedding(weight.shape[0], weight.shape[1], device="meta")
    table.weight = nn.Parameter(weight.clone())
    return table
