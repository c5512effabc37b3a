"""Encoders with blocks of their own: DistilBERT, ALBERT, DeBERTa (2 and 3), ModernBERT."""

from __future__ import annotations

from collections.abc import Iterator

from edgedistill.core.errors import ModelError
from edgedistill.pipeline.sizing.architectures.catalogue import (
    class_not_known,
    model_class,
    num_labels,
    stored_as,
)
from edgedistill.pipeline.sizing.architectures.decoders import MOST_BLOCKS
from edgedistill.pipeline.sizing.config_file import ModelConfig
from edgedistill.pipeline.sizing.network import Network, Tensor, Widths, linear, norm

ENDINGS = (
    "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering",
    "Model",
)  # fmt: skip


class _Head:
    """Class, ending and prefix of a checkpoint; the token table is the head of masked tokens."""

    def __init__(self, config: ModelConfig, prefix: str) -> None:
        self.config = config
        self.name = model_class(config, default="Model")
        found = next((each for each in ENDINGS if self.name.endswith(each)), None)
        if found is None:
            raise class_not_known(config, self.name, ENDINGS)
        self.ending = found
        self.prefix = "" if found == "Model" else f"{prefix}."
        self.is_masked = found == "ForMaskedLM"
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
    head = _Head(config, "distilbert")
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
    head = _Head(config, "albert")
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


def deberta_v2(config: ModelConfig) -> Network:
    """DeBERTa 2 and 3 with positions relative to each other, as the published ones have them."""
    head = _Head(config, "deberta")
    hidden, units = config.count("hidden_size"), config.count("intermediate_size")
    blocks = config.count("num_hidden_layers", most=MOST_BLOCKS)
    positions = config.count("max_position_embeddings", default=512)
    vocabulary, prefix = config.count("vocab_size"), head.prefix
    table = f"{prefix}embeddings.word_embeddings.weight"
    _require_published_deberta(config, hidden)
    buckets = config.values.get("position_buckets")
    rows = buckets if isinstance(buckets, int) and buckets > 0 else positions

    def tensors() -> Iterator[Tensor]:
        yield Tensor(table, (vocabulary, hidden), "embedding")
        if config.flag("position_biased_input", default=True):
            name = f"{prefix}embeddings.position_embeddings.weight"
            yield Tensor(name, (positions, hidden), "position")
        if config.values.get("type_vocab_size"):
            name = f"{prefix}embeddings.token_type_embeddings.weight"
            yield Tensor(name, (config.count("type_vocab_size"), hidden), "position")
        yield from norm(f"{prefix}embeddings.LayerNorm", hidden, bias=True)
        for index in range(blocks):
            place = f"{prefix}encoder.layer.{index}"
            for part in ("query_proj", "key_proj", "value_proj"):
                yield from linear(f"{place}.attention.self.{part}", hidden, hidden, "attention",
                                  bias=True)  # fmt: skip
            yield from linear(f"{place}.attention.output.dense", hidden, hidden, "attention",
                              bias=True)  # fmt: skip
            yield from norm(f"{place}.attention.output.LayerNorm", hidden, bias=True)
            yield from linear(f"{place}.intermediate.dense", units, hidden, "mlp", bias=True)
            yield from linear(f"{place}.output.dense", hidden, units, "mlp", bias=True)
            yield from norm(f"{place}.output.LayerNorm", hidden, bias=True)
        name = f"{prefix}encoder.rel_embeddings.weight"
        yield Tensor(name, (2 * rows, hidden), "position")
        if "layer_norm" in str(config.values.get("norm_rel_ebd", "none")):
            yield from norm(f"{prefix}encoder.LayerNorm", hidden, bias=True)
        if head.is_masked:
            place = "cls.predictions"
            yield from linear(f"{place}.transform.dense", hidden, hidden, "head", bias=True)
            yield from norm(f"{place}.transform.LayerNorm", hidden, bias=True)
            yield Tensor(f"{place}.bias", (vocabulary,), "vector")
        if head.ending == "ForSequenceClassification":
            pooled = config.count("pooler_hidden_size", default=hidden)
            yield from linear("pooler.dense", pooled, pooled, "head", bias=True)
        yield from head.classifying(hidden)

    return head.network(
        tensors(), hidden=hidden, heads=config.count("num_attention_heads"), units=units,
        blocks=blocks, positions=positions, vocabulary=vocabulary, table=table,
        decoder="cls.predictions.decoder.weight",
    )  # fmt: skip


def _require_published_deberta(config: ModelConfig, hidden: int) -> None:
    """Refuse what the published DeBERTa 2 and 3 of up to 24 layers do not have."""
    fixed = {"relative_attention": True, "share_att_key": True, "embedding_size": hidden}
    for key, value in fixed.items():
        if config.values.get(key, None if key != "embedding_size" else hidden) != value:
            raise ModelError(
                f"{key} is {config.values.get(key)!r}", where=config.where,
                fix=f"{key} {value!r}: others are not known here",
            )  # fmt: skip
    config.refuse("conv_kernel_size", because="0, or left out: its convolution is not known here")


def modernbert(config: ModelConfig) -> Network:
    """ModernBERT: rotary positions, one matrix each for queries, keys, values and for the gate."""
    head = _Head(config, "model")
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
