"""DeBERTa 2 and 3 with positions relative to each other, as those of up to 24 blocks have them."""

from __future__ import annotations

from collections.abc import Iterator

from edgedistill.core.errors import ModelError
from edgedistill.sizing.architectures.decoders import MOST_BLOCKS
from edgedistill.sizing.architectures.encoders import Head
from edgedistill.sizing.config_file import ModelConfig
from edgedistill.sizing.network import Network, Tensor, linear, norm


def network(config: ModelConfig) -> Network:
    """The network of a config whose `model_type` is deberta-v2.

    Raises:
        ModelError: a feature of the largest DeBERTa 2, or of none that is published.
    """
    head = Head(config, "deberta")
    hidden, units = config.count("hidden_size"), config.count("intermediate_size")
    _require_published(config, hidden)
    blocks = config.count("num_hidden_layers", most=MOST_BLOCKS)
    vocabulary, prefix = config.count("vocab_size"), head.prefix
    positions = config.count("max_position_embeddings", default=512)

    def tensors() -> Iterator[Tensor]:
        yield from _embeddings(config, prefix, vocabulary, positions, hidden)
        for index in range(blocks):
            yield from _block(f"{prefix}encoder.layer.{index}", hidden, units)
        yield Tensor(
            f"{prefix}encoder.rel_embeddings.weight",
            (2 * _num_distances(config, positions), hidden),
            "position",
        )
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
        blocks=blocks, positions=positions, vocabulary=vocabulary,
        table=f"{prefix}embeddings.word_embeddings.weight",
        decoder="cls.predictions.decoder.weight",
    )  # fmt: skip


def _embeddings(
    config: ModelConfig, prefix: str, vocabulary: int, positions: int, hidden: int
) -> Iterator[Tensor]:
    place = f"{prefix}embeddings"
    yield Tensor(f"{place}.word_embeddings.weight", (vocabulary, hidden), "embedding")
    if config.flag("position_biased_input", default=True):
        yield Tensor(f"{place}.position_embeddings.weight", (positions, hidden), "position")
    if config.values.get("type_vocab_size"):
        types = config.count("type_vocab_size")
        yield Tensor(f"{place}.token_type_embeddings.weight", (types, hidden), "position")
    yield from norm(f"{place}.LayerNorm", hidden, bias=True)


def _block(place: str, hidden: int, units: int) -> Iterator[Tensor]:
    attention = f"{place}.attention"
    for part in ("self.query_proj", "self.key_proj", "self.value_proj", "output.dense"):
        yield from linear(f"{attention}.{part}", hidden, hidden, "attention", bias=True)
    yield from norm(f"{attention}.output.LayerNorm", hidden, bias=True)
    yield from linear(f"{place}.intermediate.dense", units, hidden, "mlp", bias=True)
    yield from linear(f"{place}.output.dense", hidden, units, "mlp", bias=True)
    yield from norm(f"{place}.output.LayerNorm", hidden, bias=True)


def _num_distances(config: ModelConfig, positions: int) -> int:
    """Distances that have a vector, in each direction; without buckets one for each position."""
    buckets = config.values.get("position_buckets")
    if isinstance(buckets, int) and buckets > 0:
        return buckets
    farthest = config.values.get("max_relative_positions")
    return farthest if isinstance(farthest, int) and farthest > 0 else positions


def _require_published(config: ModelConfig, hidden: int) -> None:
    fixed = {"relative_attention": True, "share_att_key": True}
    wrong = {key: config.values.get(key) for key in fixed if config.values.get(key) is not True}
    if config.values.get("embedding_size", hidden) != hidden:
        wrong["embedding_size"] = config.values["embedding_size"]
    if wrong:
        raise ModelError(
            f"this DeBERTa's {', '.join(wrong)} is not known here",
            where=config.where,
            fix="relative_attention and share_att_key true, embedding_size as hidden_size",
        )
    config.refuse("conv_kernel_size", because="0, or left out: its convolution is not known here")
