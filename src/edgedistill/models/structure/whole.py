"""A fine-tuned classifier of texts or tokens as a network of our blocks, with everything it has.

Without a pass it *is* the classifier: the same answers, and the same weights, copied. Weights that
layers share are copied for each: passes change layers one by one.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from edgedistill.core.errors import ModelError
from edgedistill.core.protocols import ModelOutput
from edgedistill.models.internals import ENCODERS
from edgedistill.models.structure.surgery import linear_of
from edgedistill.models.students.bert_blocks import (
    ACTIVATIONS,
    EncoderLayer,
    LabellingTagger,
    PrunedEmbedding,
    TransformerStudent,
    TransformerTagger,
    token_mean,
)


class PooledStudent(TransformerStudent):
    """A student whose head reads the first token, through a layer of its own: as the sequence
    classifiers of transformers do. Features are the mean over the tokens, as of any other."""

    readers: ClassVar[tuple[str, ...]] = ("pooler",)

    def __init__(
        self,
        embedding: PrunedEmbedding,
        layers: list[EncoderLayer],
        head: nn.Linear,
        pooler: nn.Linear,
    ) -> None:
        super().__init__(embedding, layers, head)
        self.pooler: nn.Linear = pooler

    def _answer(self, states: Tensor, mask: Tensor) -> ModelOutput:
        logits = self.head(self.pooler(states[:, 0]).tanh())
        return ModelOutput(logits, token_mean(states, mask))


def whole_network(teacher: nn.Module, *, max_tokens: int) -> TransformerStudent:
    """Every weight of a classifier with an ``encoder`` of the family BERT, which is left as it is.

    Args:
        teacher: of texts; or with ``num_tags``, of tokens: then that many of its outputs are tags.
        max_tokens: rows of the position table.

    Raises:
        ModelError: the encoder is of another family, or its head of an unknown form.
    """
    encoder: Any = teacher.encoder
    require_known(encoder.config.model_type, encoder.config.hidden_act)
    embedding = whole_embedding(encoder, max_tokens)
    layers = [whole_layer(layer, encoder.config) for layer in encoder.encoder.layer]
    head = getattr(teacher, "head", None)
    if isinstance(head, nn.Linear):
        network = TransformerStudent(embedding, layers, linear_of(head.weight, head.bias))
        return _tagging(network, getattr(teacher, "num_tags", None))
    pooler, head, order = _stock_head(teacher)
    parts = (head.weight[order], head.bias[order])
    return PooledStudent(
        embedding, layers, linear_of(*parts), linear_of(pooler.weight, pooler.bias)
    )


def _tagging(network: TransformerStudent, num_tags: int | None) -> TransformerStudent:
    """The network as a tagger, where its first outputs are tags of every token."""
    if num_tags is None:
        return network
    if num_tags < network.head.out_features:
        return LabellingTagger.split(network, num_tags)
    return TransformerTagger.of(network)


def require_known(family: str, activation: str) -> None:
    """Refuse an encoder that our blocks cannot stand for."""
    if family == "albert":
        raise ModelError(
            "the layers of an 'albert' encoder share their weights: no layer can be changed alone",
            fix=f"use one of {', '.join(ENCODERS)}, or distil a student of another family",
        )
    if family not in ENCODERS or activation not in ACTIVATIONS:
        raise ModelError(
            f"no student can be cut out of a {family!r} encoder ({activation!r})",
            fix=f"use one of {', '.join(ENCODERS)}, or a student that is built from nothing",
        )


def whole_embedding(encoder: Any, max_tokens: int) -> PrunedEmbedding:
    """All rows; token type 0 is folded into the positions."""
    source, hidden = encoder.embeddings, encoder.config.hidden_size
    table = source.word_embeddings.weight.detach()
    kind = torch.int16 if len(table) < 2**15 else torch.int32
    embedding = PrunedEmbedding(
        torch.arange(len(table), dtype=kind), rows=len(table), rank=hidden, hidden=hidden,
        max_tokens=max_tokens, eps=encoder.config.layer_norm_eps,
    )  # fmt: skip
    # RoBERTa's family counts positions from its padding id plus one.
    start = 0 if encoder.config.model_type == "bert" else source.padding_idx + 1
    with torch.no_grad():
        embedding.load_table(table)
        positions = source.position_embeddings.weight[start : start + max_tokens]
        if len(positions) < max_tokens:
            raise ModelError(
                f"the teacher reads {len(positions)} tokens, the task up to {max_tokens}",
                where="input.max_tokens",
                fix=f"set it to {len(positions)} at most",
            )
        embedding.positions.copy_(positions + source.token_type_embeddings.weight[0])
    embedding.norm.load_state_dict(source.LayerNorm.state_dict())
    return embedding


def whole_layer(source: Any, config: Any) -> EncoderLayer:
    """One layer with all its heads and neurons."""
    attention, up, down = source.attention, source.intermediate.dense, source.output.dense
    attended, size = attention.output.dense, attention.self.attention_head_size
    layer = EncoderLayer(
        hidden=config.hidden_size, heads=attended.in_features // size, head_size=size,
        intermediate=up.out_features, activation=config.hidden_act, eps=config.layer_norm_eps,
    )  # fmt: skip
    parts = (attention.self.query, attention.self.key, attention.self.value)
    with torch.no_grad():
        layer.qkv.weight.copy_(torch.cat([part.weight for part in parts]))
        layer.qkv.bias.copy_(torch.cat([part.bias for part in parts]))
    layer.attended.load_state_dict(attended.state_dict())
    layer.up.load_state_dict(up.state_dict())
    layer.down.load_state_dict(down.state_dict())
    layer.attention_norm.load_state_dict(attention.output.LayerNorm.state_dict())
    layer.output_norm.load_state_dict(source.output.LayerNorm.state_dict())
    return layer


def _stock_head(teacher: Any) -> tuple[nn.Linear, nn.Linear, Tensor]:
    """(layer on the first token, head, its outputs in the task's order) of a sequence classifier
    of transformers."""
    model = getattr(getattr(teacher, "classifier", None), "model", None)
    order = getattr(teacher, "order", None)
    head = getattr(model, "classifier", None)
    pooler = getattr(getattr(teacher.encoder, "pooler", None), "dense", None)
    if pooler is None:
        # RoBERTa's family keeps both in the head.
        pooler, head = getattr(head, "dense", None), getattr(head, "out_proj", None)
    if not (isinstance(pooler, nn.Linear) and isinstance(head, nn.Linear) and order is not None):
        raise ModelError("the teacher has no linear head to start from")
    return pooler, head, order
