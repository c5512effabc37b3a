"""Blocks of the transformer students: BERT's arithmetic with one fused projection a layer.

Shapes: ``b`` texts, ``s`` tokens, ``h`` hidden size, ``v`` ids of the teacher's tokenizer,
``k`` kept rows, ``r`` rank of the embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgedistill.core.protocols import ModelOutput, Signal

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "gelu": F.gelu,
        "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
        "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "relu": F.relu,
        "silu": F.silu,
    }
)


class PrunedEmbedding(nn.Module):
    """Sum of a pruned, optionally factorised token table and a position table, normalised.

    Args:
        vocabulary_map: Row of each full id, int16 ``[v]`` (int32 where ``k`` is above 32,767).
        rows: Number of kept rows ``k``.
        rank: Width ``r`` of the token table; ``hidden`` means no factorisation.
        hidden: Hidden size ``h``.
        max_tokens: Rows of the position table.
        eps: Epsilon of the layer norm.
    """

    vocabulary_map: Tensor

    def __init__(
        self,
        vocabulary_map: Tensor,
        *,
        rows: int,
        rank: int,
        hidden: int,
        max_tokens: int,
        eps: float,
    ) -> None:
        super().__init__()
        self.register_buffer("vocabulary_map", vocabulary_map)
        self.tokens = nn.Embedding(rows, rank)
        self.projection = None if rank == hidden else nn.Linear(rank, hidden, bias=False)
        self.positions = nn.Parameter(torch.zeros(max_tokens, hidden))
        self.norm = nn.LayerNorm(hidden, eps=eps)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return ``[b, s, h]`` for full ids ``[b, s]``."""
        rows = self.vocabulary_map[input_ids].long()
        tokens = self.tokens(rows)
        if self.projection is not None:
            tokens = self.projection(tokens)
        states: Tensor = self.norm(tokens + self.positions[: input_ids.shape[1]])
        return states

    @torch.no_grad()
    def load_table(self, table: Tensor) -> None:
        """Take over a token table ``[k, h]``, factorised where the rank is below ``h``."""
        if self.projection is None:
            self.tokens.weight.copy_(table)
            return
        left, right = factorise(table, self.tokens.embedding_dim)
        self.tokens.weight.copy_(left)
        self.projection.weight.copy_(right)


def factorise(table: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Best factors ``[k, r]``, ``[h, r]`` of ``[k, h]``: ``left @ right.T`` is near ``table``."""
    left, values, right = torch.linalg.svd(table.float(), full_matrices=False)
    scale = values[:rank].sqrt()
    return left[:, :rank] * scale, right[:rank].T * scale


class EncoderLayer(nn.Module):
    """One post-norm BERT layer; queries, keys and values come from one linear layer."""

    def __init__(
        self,
        *,
        hidden: int,
        heads: int,
        head_size: int,
        intermediate: int,
        activation: str,
        eps: float,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.activation = activation
        self.qkv = nn.Linear(hidden, 3 * heads * head_size)
        self.attended = nn.Linear(heads * head_size, hidden)
        self.attention_norm = nn.LayerNorm(hidden, eps=eps)
        self.up = nn.Linear(hidden, intermediate)
        self.down = nn.Linear(intermediate, hidden)
        self.output_norm = nn.LayerNorm(hidden, eps=eps)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """Return ``[b, s, h]``; ``bias`` ``[b, 1, 1, s]`` is added to the attention scores."""
        return self.read(states, bias)[Signal.STATES]

    def read(self, states: Tensor, bias: Tensor) -> dict[Signal, Tensor]:
        """The same, and what was computed on the way (shapes: see `models.internals`)."""
        batch, length, _ = states.shape
        qkv = self.qkv(states).view(batch, length, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        # Not scaled_dot_product_attention: on a CPU its bf16 kernel takes 9 times as long here.
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2) + bias.to(query.dtype)
        activate = ACTIVATIONS[self.activation]
        attention = scores.softmax(-1)
        mixed = attention.to(value.dtype) @ value
        mixed = mixed.transpose(1, 2).reshape(batch, length, -1)
        states = self.attention_norm(states + self.attended(mixed))
        return {
            Signal.STATES: self.output_norm(states + self.down(activate(self.up(states)))),
            Signal.ATTENTIONS: attention,
            Signal.QUERIES: query,
            Signal.KEYS: key,
            Signal.VALUES: value,
        }


class TransformerStudent(nn.Module):
    """Embedding, layers, mean over the tokens of the mask, linear head; no dropout anywhere."""

    #: Names of the linear layers that read the last states.
    readers: ClassVar[tuple[str, ...]] = ("head",)

    def __init__(
        self, embedding: PrunedEmbedding, layers: Sequence[EncoderLayer], head: nn.Linear
    ) -> None:
        super().__init__()
        self.embedding: PrunedEmbedding = embedding
        self.layers = nn.ModuleList(layers)
        self.head: nn.Linear = head

    def encoder_layers(self) -> list[EncoderLayer]:
        """The layers, typed."""
        return [cast(EncoderLayer, layer) for layer in self.layers]

    def reading_layers(self) -> dict[str, nn.Linear]:
        """What reads the last states, by its name."""
        return {name: cast(nn.Linear, getattr(self, name)) for name in self.readers}

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> ModelOutput:
        """Answer ``[b, s]`` ids and mask with logits ``[b, labels]`` and features ``[b, h]``."""
        states, mask, bias = self._embedded(input_ids, attention_mask)
        for layer in self.encoder_layers():
            states = layer(states, bias)
        return self._answer(states, mask)

    def read(
        self, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[ModelOutput, dict[Signal, list[Tensor]]]:
        """The answer, and of every layer what it computed (shapes: see `models.internals`)."""
        states, mask, bias = self._embedded(input_ids, attention_mask)
        readings = []
        for layer in self.encoder_layers():
            readings.append(layer.read(states, bias))
            states = readings[-1][Signal.STATES]
        internals = {s: [reading[s] for reading in readings] for s in readings[0]}
        return self._answer(states, mask), internals

    def _embedded(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """States before the first layer, the mask in their type, and what attention adds."""
        states = self.embedding(input_ids)
        mask = attention_mask.to(states.dtype)
        return states, mask, (1.0 - mask)[:, None, None, :] * -1e4

    def _answer(self, states: Tensor, mask: Tensor) -> ModelOutput:
        features = token_mean(states, mask)
        return ModelOutput(self.head(features), features)


class TransformerTagger(TransformerStudent):
    """The same network with its head on every token: logits ``[b, s, tags]``, features
    ``[b, h]``."""

    @classmethod
    def of(cls, student: TransformerStudent) -> TransformerTagger:
        """A tagger of a student's own parts."""
        return cls(student.embedding, student.encoder_layers(), student.head)

    def _answer(self, states: Tensor, mask: Tensor) -> ModelOutput:
        return ModelOutput(self.head(states), token_mean(states, mask))


class LabellingTagger(TransformerTagger):
    """A tagger that labels whole texts too: logits ``[b, s, tags]``, features ``[b, h]``, logits of
    the values of its labels ``[b, values]``, of the features."""

    readers: ClassVar[tuple[str, ...]] = ("head", "label_head")

    def __init__(
        self,
        embedding: PrunedEmbedding,
        layers: Sequence[EncoderLayer],
        head: nn.Linear,
        label_head: nn.Linear,
    ) -> None:
        super().__init__(embedding, layers, head)
        self.label_head: nn.Linear = label_head

    @classmethod
    def split(cls, student: TransformerStudent, num_tags: int) -> LabellingTagger:
        """One of a student whose head is for tags and values together, tags first."""
        heads = [_rows(student.head, slice(num_tags)), _rows(student.head, slice(num_tags, None))]
        return cls(student.embedding, student.encoder_layers(), *heads)

    def _answer(self, states: Tensor, mask: Tensor) -> ModelOutput:
        features = token_mean(states, mask)
        return ModelOutput(self.head(states), features, self.label_head(features))


def _rows(head: nn.Linear, rows: slice) -> nn.Linear:
    """A head of some of another's outputs."""
    weight, bias = head.weight.detach()[rows], head.bias.detach()[rows]
    part = nn.Linear(weight.shape[1], weight.shape[0])
    part.load_state_dict({"weight": weight, "bias": bias})
    return part


def token_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens of the mask, ``[b, h]``."""
    return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1.0)
