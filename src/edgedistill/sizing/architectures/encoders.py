"""Encoders with blocks of their own: DistilBERT, ALBERT, ModernBERT."""

from __future__ import annotations

from collections.abc import Iterator

from edgedistill.sizing.architectures.catalogue import (
    class_and_ending,
    num_labels,
    stored_as,
)
from edgedistill.sizing.architectures.decoders import MOST_BLOCKS
from edgedistill.sizing.config_file import ModelConfig
from edgedistill.sizing.network import Network, Tensor, Widths, linear, norm

ENDINGS = (
    "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering",
    "Model",
)  # fmt: skip


class Head:
    """Class, ending and prefix of a checkpoint; the token table is the head of masked tokens."""

    def __init__(self, config: ModelConfig, prefix: str) -> None:
        self.config = config
        self.name, self.ending = class_and_ending(config, ENDINGS, default="Model")
        self.prefix = "" if self.ending == "Model" else f"{prefix}."
        self.is_masked = self.ending == "ForMaskedLM"
        self.is_tied = config.flag("tie_word_embeddings", default=True)

    def classifying(self, hidden: int, *, bias: bool = True) -> Iterator[Tensor]:
        """The last matrix of a classifier, a tagger or a reader of answers."""
        if self.ending == "ForQuestionAnswering":
            yield from linear("qa_outputs", 2, hidden, "head", bias=True)
        elif self.ending in ("ForSequenceClassification", "ForTokenClassification"):
            yield from linear("classifier", num_labels(self.config), hidden, "head", bias=bias)

    def network(
        self, tensors: Iterator[Tensor], *, hidden: int, heads: int, units: int, blocks: int,
        positions: int, vocabulary: int, table: str, decoder: str, width: int | None = None,
    ) -> Network:  # fmt: skip
        listed = list(tensors)
        if self.is_masked and not self.is_tied:
            listed.append(Tensor(decoder, (vocabulary, width or hidden), "head"))
            if decoder.startswith(("predictions", "cls")):  # these have the bias a second time
                name = decoder.replace(".weight", ".bias")
                listed.append(Tensor(name, (vocabulary,), "vector"))
        return Network(
            architecture=str(self.config.values["model_type"]),
            model_class=self.name,
            tensors=tuple(listed),
            cache=(),
            widths=Widths(hidden, 3 * hidden, heads, units, vocabulary if self.is_masked else 0),
            max_positions=positions,
            num_blocks=blocks,
            head_name=(table if self.is_tied else decoder) if self.is_masked else None,
            stored_as=stored_as(self.config),
        )


def distilbert(config: ModelConfig) -> Network:
    """DistilBERT: BERT without text types and without the pooled vector."""
    head = Head(config, "distilbert")
    hidden, units = config.count("dim", "hidden_size"), config.count("hidden_dim")
    blocks = config.count("n_layers", "num_hidden_layers", most=MOST_BLOCKS)
    positions = config.count("max_position_embeddings", default=512)
    vocabulary, prefix = config.count("vocab_size"), head.prefix
    table = f"{prefix}embeddings.word_embeddings.weight"

    def tensors() -> Iterator[Tensor]:
        yield Tensor(table, (vocabulary, hidden), "embedding")
        name = f"{prefix}embeddings.position_embeddings.weight"
        yield Tensor(name, (positions, hidden), "position")
        yield from norm(f"{prefix}embeddings.LayerNorm", hidden, bias=True)
        for index in range(blocks):
            place = f"{prefix}transformer.layer.{index}"
            for part in ("q_lin", "k_lin", "v_lin", "out_lin"):
                yield from linear(f"{place}.attention.{part}", hidden, hidden, "attention",
                                  bias=True)  # fmt: skip
            yield from norm(f"{place}.sa_layer_norm", hidden, bias=True)
            yield from linear(f"{place}.ffn.lin1", units, hidden, "mlp", bias=True)
            yield from linear(f"{place}.ffn.lin2", hidden, units, "mlp", bias=True)
            yield from norm(f"{place}.output_layer_norm", hidden, bias=True)
        if head.is_masked:
            yield from linear("vocab_transform", hidden, hidden, "head", bias=True)
            yield from norm("vocab_layer_norm", hidden, bias=True)
            yield Tensor("vocab_projector.bias", (vocabulary,), "vector")
        if head.ending == "ForSequenceClassification":
            yield from linear("pre_classifier", hidden, hidden, "head", bias=True)
        yield from head.classifying(hidden)

    return head.network(
        tensors(), hidden=hidden, heads=config.count("n_heads", "num_attention_heads"),
        units=units, blocks=blocks, positions=positions, vocabulary=vocabulary, table=table,
        decoder="vocab_projector.weight",
    )  # fmt: skip


def albert(config: ModelConfig) -> Network:
    """ALBERT: a narrow token table, and blocks that share their weights in groups."""
    head = Head(config, "albert")
    hidden, units = config.count("hidden_size"), config.count("intermediate_size")
    width = config.count("embedding_size", default=128)
    positions = config.count("max_position_embeddings", default=512)
    vocabulary, prefix = config.count("vocab_size"), head.prefix
    groups = config.count("num_hidden_groups", default=1, most=MOST_BLOCKS)
    inner = config.count("inner_group_num", default=1, most=MOST_BLOCKS)
    table = f"{prefix}embeddings.word_embeddings.weight"

    def tensors() -> Iterator[Tensor]:
        yield Tensor(table, (vocabulary, width), "embedding")
        for name, rows in (
            ("position", positions),
            ("token_type", config.count("type_vocab_size")),
        ):
            place = f"{prefix}embeddings.{name}_embeddings.weight"
            yield Tensor(place, (rows, width), "position")
        yield from norm(f"{prefix}embeddings.LayerNorm", width, bias=True)
        encoder = f"{prefix}encoder"
        yield from linear(f"{encoder}.embedding_hidden_mapping_in", hidden, width, "position",
                          bias=True)  # fmt: skip
        for index in range(groups * inner):
            group, layer = divmod(index, inner)
            place = f"{encoder}.albert_layer_groups.{group}.albert_layers.{layer}"
            yield from norm(f"{place}.full_layer_layer_norm", hidden, bias=True)
            for part in ("query", "key", "value", "dense"):
                yield from linear(f"{place}.attention.{part}", hidden, hidden, "attention",
                                  bias=True)  # fmt: skip
            yield from norm(f"{place}.attention.LayerNorm", hidden, bias=True)
            yield from linear(f"{place}.ffn", units, hidden, "mlp", bias=True)
            yield from linear(f"{place}.ffn_output", hidden, units, "mlp", bias=True)
        if head.ending in ("Model", "ForSequenceClassification"):
            yield from linear(f"{prefix}pooler", hidden, hidden, "head", bias=True)
        if head.is_masked:
            yield from linear("predictions.dense", width, hidden, "head", bias=True)
            yield from norm("predictions.LayerNorm", width, bias=True)
            yield Tensor("predictions.bias", (vocabulary,), "vector")
        yield from head.classifying(hidden)

    return head.network(
        tensors(), hidden=hidden, heads=config.count("num_attention_heads"), units=units,
        blocks=config.count("num_hidden_layers", most=MOST_BLOCKS), positions=positions,
        vocabulary=vocabulary, table=table, decoder="predictions.decoder.weight", width=width,
    )  # fmt: skip


def modernbert(config: ModelConfig) -> Network:
    """ModernBERT: rotary positions, one matrix each for queries, keys, values and for the gate."""
    head = Head(config, "model")
    hidden, units = config.count("hidden_size"), config.count("intermediate_size")
    blocks = config.count("num_hidden_layers", most=MOST_BLOCKS)
    vocabulary, prefix = config.count("vocab_size"), head.prefix
    table = f"{prefix}embeddings.tok_embeddings.weight"
    shift = config.flag("norm_bias", default=False)
    attention = config.flag("attention_bias", default=False)
    mlp = config.flag("mlp_bias", default=False)

    def tensors() -> Iterator[Tensor]:
        yield Tensor(table, (vocabulary, hidden), "embedding")
        yield from norm(f"{prefix}embeddings.norm", hidden, bias=shift)
        for index in range(blocks):
            place = f"{prefix}layers.{index}"
            if index:  # the first has the norm of the embeddings
                yield from norm(f"{place}.attn_norm", hidden, bias=shift)
            yield from linear(f"{place}.attn.Wqkv", 3 * hidden, hidden, "attention", bias=attention)
            yield from linear(f"{place}.attn.Wo", hidden, hidden, "attention", bias=attention)
            yield from norm(f"{place}.mlp_norm", hidden, bias=shift)
            yield from linear(f"{place}.mlp.Wi", 2 * units, hidden, "mlp", bias=mlp)
            yield from linear(f"{place}.mlp.Wo", hidden, units, "mlp", bias=mlp)
        yield from norm(f"{prefix}final_norm", hidden, bias=shift)
        if head.ending != "Model":
            bias = config.flag("classifier_bias", default=False)
            yield from linear("head.dense", hidden, hidden, "head", bias=bias)
            yield from norm("head.norm", hidden, bias=shift)
        if head.is_masked and config.flag("decoder_bias", default=True):
            yield Tensor("decoder.bias", (vocabulary,), "vector")
        if head.ending == "ForQuestionAnswering":
            yield from linear("classifier", num_labels(config), hidden, "head", bias=True)
        else:
            yield from head.classifying(hidden)

    return head.network(
        tensors(), hidden=hidden, heads=config.count("num_attention_heads"), units=2 * units,
        blocks=blocks, positions=config.count("max_position_embeddings", default=8192),
        vocabulary=vocabulary, table=table, decoder="decoder.weight",
    )  # fmt: skip
