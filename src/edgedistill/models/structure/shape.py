"""The sizes of a network: enough to build it again for weights that were saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from edgedistill.models.structure.factorise_linear import MATRICES
from edgedistill.models.structure.low_rank import LowRankLinear
from edgedistill.models.structure.surgery import head_size
from edgedistill.models.structure.whole import PooledStudent
from edgedistill.models.students.bert_blocks import (
    EncoderLayer,
    LabellingTagger,
    PrunedEmbedding,
    TransformerStudent,
    TransformerTagger,
)


@dataclass(frozen=True)
class LayerShape:
    """Heads, their width, neurons; ranks of the matrices that are products."""

    heads: int
    head_size: int
    neurons: int
    ranks: Mapping[str, int]


@dataclass(frozen=True)
class Shape:
    """All sizes of a network. `ids`: of the tokenizer; `rows`: with a vector of their own;
    `num_values`: outputs for whole texts of a tagger, None where the network is none."""

    ids: int
    rows: int
    rank: int
    hidden: int
    max_tokens: int
    num_labels: int
    pooler: int
    activation: str
    eps: float
    layers: tuple[LayerShape, ...]
    num_values: int | None = None

    @classmethod
    def of(cls, network: TransformerStudent) -> Shape:
        """The sizes of a network."""
        embedding, layers = network.embedding, network.encoder_layers()
        return cls(
            ids=len(embedding.vocabulary_map),
            rows=embedding.tokens.num_embeddings,
            rank=embedding.tokens.embedding_dim,
            hidden=embedding.positions.shape[1],
            max_tokens=len(embedding.positions),
            num_labels=network.head.out_features,
            pooler=network.pooler.out_features if isinstance(network, PooledStudent) else 0,
            activation=layers[0].activation,
            eps=embedding.norm.eps,
            layers=tuple(_shape_of(layer) for layer in layers),
            num_values=_num_values(network),
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Shape:
        """What `as_json` gave."""
        return cls(**{**value, "layers": tuple(LayerShape(**layer) for layer in value["layers"])})

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def network(self) -> TransformerStudent:
        """A network of these sizes with weights of chance."""
        # Tokens are told apart as the saved map says; its type follows from the number of rows.
        kind = torch.int16 if self.rows < 2**15 else torch.int32
        embedding = PrunedEmbedding(
            torch.zeros(self.ids, dtype=kind), rows=self.rows, rank=self.rank, hidden=self.hidden,
            max_tokens=self.max_tokens, eps=self.eps,
        )  # fmt: skip
        layers = [self._layer(layer) for layer in self.layers]
        if self.num_values is not None:
            head = nn.Linear(self.hidden, self.num_labels)
            if not self.num_values:
                return TransformerTagger(embedding, layers, head)
            values = nn.Linear(self.hidden, self.num_values)
            return LabellingTagger(embedding, layers, head, values)
        if not self.pooler:
            return TransformerStudent(embedding, layers, nn.Linear(self.hidden, self.num_labels))
        head = nn.Linear(self.pooler, self.num_labels)
        return PooledStudent(embedding, layers, head, nn.Linear(self.hidden, self.pooler))

    def _layer(self, shape: LayerShape) -> EncoderLayer:
        layer = EncoderLayer(
            hidden=self.hidden, heads=shape.heads, head_size=shape.head_size,
            intermediate=shape.neurons, activation=self.activation, eps=self.eps,
        )  # fmt: skip
        for name, rank in shape.ranks.items():
            whole: nn.Linear = getattr(layer, name)
            right = nn.Linear(whole.in_features, rank, bias=False)
            setattr(layer, name, LowRankLinear(right, nn.Linear(rank, whole.out_features)))
        return layer


def _num_values(network: TransformerStudent) -> int | None:
    if isinstance(network, LabellingTagger):
        return network.label_head.out_features
    return 0 if isinstance(network, TransformerTagger) else None


def _shape_of(layer: EncoderLayer) -> LayerShape:
    parts = {name: getattr(layer, name) for name in MATRICES}
    ranks = {name: part.rank for name, part in parts.items() if isinstance(part, LowRankLinear)}
    if isinstance(layer.attended, nn.Linear):
        size = head_size(layer)
    else:
        size = layer.attended.right.in_features // layer.heads
    up = parts["up"]
    neurons = up.left.out_features if isinstance(up, LowRankLinear) else up.out_features
    return LayerShape(layer.heads, size, neurons, ranks)


def num_parameters(network: TransformerStudent) -> tuple[int, int]:
    """(of all parts, of the layers)."""
    layers = sum(p.numel() for layer in network.encoder_layers() for p in layer.parameters())
    return sum(p.numel() for p in network.parameters()), layers
