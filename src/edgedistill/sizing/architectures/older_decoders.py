"""GPT-2, GPT-NeoX (Pythia) and OPT: learned or rotary positions, plain feed-forwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edgedistill.sizing.architectures.catalogue import (
    class_and_ending,
    num_labels,
    stored_as,
)
from edgedistill.sizing.architectures.decoders import MOST_BLOCKS
from edgedistill.sizing.config_file import ModelConfig
from edgedistill.sizing.network import (
    CacheLayer,
    Network,
    Tensor,
    Widths,
    linear,
    norm,
)

ENDINGS = ("LMHeadModel", "ForCausalLM", "ForSequenceClassification", "Model")

#: OPT's table of positions begins with two rows that nothing reads.
_OPT_OFFSET = 2


def gpt2(config: ModelConfig) -> Network:
    """GPT-2; its matrices stand as [in, out], and one has queries, keys and values."""
    name, ending = class_and_ending(config, ENDINGS, default="GPT2LMHeadModel")
    hidden = config.count("n_embd", "hidden_size")
    heads = config.count("n_head", "num_attention_heads")
    blocks = config.count("n_layer", "num_hidden_layers", most=MOST_BLOCKS)
    positions = config.count("n_positions", "max_position_embeddings", default=1024)
    units = config.count("n_inner", default=4 * hidden)
    vocabulary = config.count("vocab_size")
    config.refuse("add_cross_attention", because="a decoder alone: cross-attention is not known")
    prefix = "" if ending == "Model" else "transformer."

    def conv(place: str, into: int, out: int, *, attention: bool) -> Iterator[Tensor]:
        yield Tensor(f"{place}.weight", (into, out), "attention" if attention else "mlp")
        yield Tensor(f"{place}.bias", (out,), "vector")

    def body() -> Iterator[Tensor]:
        yield Tensor(f"{prefix}wte.weight", (vocabulary, hidden), "embedding")
        yield Tensor(f"{prefix}wpe.weight", (positions, hidden), "position")
        for index in range(blocks):
            block = f"{prefix}h.{index}"
            yield from norm(f"{block}.ln_1", hidden, bias=True)
            yield from conv(f"{block}.attn.c_attn", hidden, 3 * hidden, attention=True)
            yield from conv(f"{block}.attn.c_proj", hidden, hidden, attention=True)
            yield from norm(f"{block}.ln_2", hidden, bias=True)
            yield from conv(f"{block}.mlp.c_fc", hidden, units, attention=False)
            yield from conv(f"{block}.mlp.c_proj", units, hidden, attention=False)
        yield from norm(f"{prefix}ln_f", hidden, bias=True)

    return _network(
        config, name, ending, body(), f"{prefix}wte.weight",
        ("lm_head.weight", vocabulary, hidden), tied=True, heads=heads, units=units,
        positions=positions, blocks=blocks,
    )  # fmt: skip


def gpt_neox(config: ModelConfig) -> Network:
    """GPT-NeoX: rotary positions, one matrix for queries, keys and values."""
    name, ending = class_and_ending(config, ENDINGS, default="GPTNeoXForCausalLM")
    hidden, heads = config.count("hidden_size"), config.count("num_attention_heads")
    blocks = config.count("num_hidden_layers", most=MOST_BLOCKS)
    units, vocabulary = config.count("intermediate_size"), config.count("vocab_size")
    bias = config.flag("attention_bias", default=True)
    prefix = "" if ending == "Model" else "gpt_neox."

    def body() -> Iterator[Tensor]:
        yield Tensor(f"{prefix}embed_in.weight", (vocabulary, hidden), "embedding")
        for index in range(blocks):
            block = f"{prefix}layers.{index}"
            yield from norm(f"{block}.input_layernorm", hidden, bias=True)
            yield from norm(f"{block}.post_attention_layernorm", hidden, bias=True)
            place = f"{block}.attention"
            yield from linear(f"{place}.query_key_value", 3 * hidden, hidden, "attention",
                              bias=bias)  # fmt: skip
            yield from linear(f"{place}.dense", hidden, hidden, "attention", bias=bias)
            yield from linear(f"{block}.mlp.dense_h_to_4h", units, hidden, "mlp", bias=True)
            yield from linear(f"{block}.mlp.dense_4h_to_h", hidden, units, "mlp", bias=True)
        yield from norm(f"{prefix}final_layer_norm", hidden, bias=True)

    return _network(
        config, name, ending, body(), f"{prefix}embed_in.weight",
        ("embed_out.weight", vocabulary, hidden), tied=False, heads=heads, units=units,
        positions=config.count("max_position_embeddings", default=2048), blocks=blocks,
    )  # fmt: skip


def opt(config: ModelConfig) -> Network:
    """OPT, its norms before the blocks' halves or after."""
    name, ending = class_and_ending(config, ENDINGS, default="OPTForCausalLM")
    hidden, heads = config.count("hidden_size"), config.count("num_attention_heads")
    blocks = config.count("num_hidden_layers", most=MOST_BLOCKS)
    units, vocabulary = config.count("ffn_dim"), config.count("vocab_size")
    table = config.count("word_embed_proj_dim", default=hidden)
    positions = config.count("max_position_embeddings", default=2048)
    bias = config.flag("enable_bias", default=True)
    scaled = config.flag("layer_norm_elementwise_affine", default=True)
    prefix = "decoder." if ending == "Model" else "model.decoder."

    def norms(place: str) -> Iterator[Tensor]:
        if scaled:
            yield from norm(place, hidden, bias=True)

    def body() -> Iterator[Tensor]:
        yield Tensor(f"{prefix}embed_tokens.weight", (vocabulary, table), "embedding")
        shape = (positions + _OPT_OFFSET, hidden)
        yield Tensor(f"{prefix}embed_positions.weight", shape, "position")
        if table != hidden:
            yield from linear(f"{prefix}project_out", table, hidden, "position")
            yield from linear(f"{prefix}project_in", hidden, table, "position")
        for index in range(blocks):
            block = f"{prefix}layers.{index}"
            for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
                yield from linear(f"{block}.self_attn.{part}", hidden, hidden, "attention",
                                  bias=bias)  # fmt: skip
            yield from norms(f"{block}.self_attn_layer_norm")
            yield from linear(f"{block}.fc1", units, hidden, "mlp", bias=bias)
            yield from linear(f"{block}.fc2", hidden, units, "mlp", bias=bias)
            yield from norms(f"{block}.final_layer_norm")
        before = config.flag("do_layer_norm_before", default=True)
        if before and not config.flag("_remove_final_layer_norm", default=False):
            yield from norms(f"{prefix}final_layer_norm")

    return _network(
        config, name, ending, body(), f"{prefix}embed_tokens.weight",
        ("lm_head.weight", vocabulary, table), tied=True, heads=heads, units=units,
        positions=positions, blocks=blocks,
    )  # fmt: skip


def _network(
    config: ModelConfig,
    name: str,
    ending: str,
    body: Iterable[Tensor],
    table: str,
    head: tuple[str, int, int],
    *,
    tied: bool,
    heads: int,
    units: int,
    positions: int,
    blocks: int,
) -> Network:
    """The network with its head; none of these architectures groups its queries."""
    tensors = list(body)
    head_name, vocabulary, width = head
    writes = ending in ("LMHeadModel", "ForCausalLM")
    is_tied = config.flag("tie_word_embeddings", default=tied)
    if writes and not is_tied:
        tensors.append(Tensor(head_name, (vocabulary, width), "head"))
    elif ending == "ForSequenceClassification":
        tensors += linear("score", num_labels(config), width, "head")
    hidden = config.count("n_embd", "hidden_size")
    return Network(
        architecture=str(config.values["model_type"]),
        model_class=name,
        tensors=tuple(tensors),
        cache=(CacheLayer(hidden, None),) * blocks,
        widths=Widths(hidden, 3 * hidden, heads, units, vocabulary if writes else 0),
        max_positions=positions,
        num_blocks=blocks,
        head_name=(table if is_tied else head_name) if writes else None,
        stored_as=stored_as(config),
    )
