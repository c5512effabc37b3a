"""Decoders of the Llama kind: rotary positions, grouped queries, mostly gated feed-forwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from edgedistill.core.errors import ModelError
from edgedistill.export.gguf_architecture import rope_of
from edgedistill.sizing.architectures.catalogue import (
    class_and_ending,
    num_labels,
    stored_as,
)
from edgedistill.sizing.architectures.windows import windows
from edgedistill.sizing.config_file import ModelConfig
from edgedistill.sizing.network import (
    CacheLayer,
    Network,
    Tensor,
    Widths,
    linear,
    norm,
)

_TWO = ("input_layernorm", "post_attention_layernorm")
_FOUR = (*_TWO, "pre_feedforward_layernorm", "post_feedforward_layernorm")
ENDINGS = ("ForCausalLM", "Model", "ForSequenceClassification", "ForTokenClassification")

#: Blocks, and experts in all blocks together, that are listed tensor by tensor.
MOST_BLOCKS, MOST_EXPERTS = 2_000, 20_000


@dataclass(frozen=True)
class Traits:
    """How one architecture differs from Llama.

    A bias is always there, never, or where the config's key of that name says so.
    """

    norms: tuple[str, ...] = _TWO
    norm_bias: bool = False
    final_norm: str | None = "norm"
    query_bias: str | bool = False
    out_bias: str | bool = False
    mlp_bias: str | bool = False
    head_bias: bool = False
    query_norm: Literal["none", "head", "whole"] = "none"
    out: str = "o_proj"
    mlp: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
    """The last leads back; all before it lead to the feed-forward's units."""
    is_fused: bool = False
    """Queries, keys and values are one matrix, and so are gate and up."""
    experts: tuple[str, str] | None = None
    """Names of the module of experts and of the key of their units."""
    is_tied: bool = False
    """Where the config does not say."""
    head_dim: int | None = None
    """Where the config does not say; None: hidden size over heads."""


_BIAS = "attention_bias"
_LLAMA = Traits(query_bias=_BIAS, out_bias=_BIAS, mlp_bias="mlp_bias")
_GEMMA = Traits(query_bias=_BIAS, out_bias=_BIAS, is_tied=True, head_dim=256)
_LAYER_NORM = Traits(norm_bias=True, query_bias="use_bias", out_bias="use_bias",
                     mlp_bias="use_bias", mlp=("c_fc", "c_proj"), is_tied=True)  # fmt: skip
TRAITS: dict[str, Traits] = {
    "cohere": Traits(norms=_TWO[:1], query_bias=_BIAS, out_bias=_BIAS, is_tied=True),
    "gemma": _GEMMA,
    "gemma2": Traits(norms=_FOUR, query_bias=_BIAS, out_bias=_BIAS, is_tied=True, head_dim=256),
    "gemma3_text": Traits(
        norms=_FOUR, query_bias=_BIAS, out_bias=_BIAS, is_tied=True, head_dim=256,
        query_norm="head",
    ),
    "granite": _LLAMA,
    "llama": _LLAMA,
    "mistral": Traits(),
    "mixtral": Traits(experts=("block_sparse_moe", "intermediate_size"), mlp=("w1", "w3", "w2")),
    "olmo": Traits(norms=(), final_norm=None, query_bias=_BIAS, out_bias=_BIAS),
    "olmo2": Traits(
        norms=("post_attention_layernorm", "post_feedforward_layernorm"), query_bias=_BIAS,
        out_bias=_BIAS, query_norm="whole",
    ),
    "phi": Traits(
        norms=_TWO[:1], norm_bias=True, final_norm="final_layernorm", query_bias=True,
        out_bias=True, mlp_bias=True, head_bias=True, out="dense", mlp=("fc1", "fc2"),
    ),
    "phi3": Traits(is_fused=True),
    "qwen2": Traits(query_bias=True),
    "qwen3": Traits(query_bias=_BIAS, out_bias=_BIAS, query_norm="head", head_dim=128),
    "qwen3_moe": Traits(
        query_bias=_BIAS, out_bias=_BIAS, query_norm="head",
        experts=("mlp", "moe_intermediate_size"),
    ),
    "smollm3": Traits(query_bias=_BIAS, out_bias=_BIAS, mlp_bias="mlp_bias", is_tied=True),
    "stablelm": Traits(norm_bias=True, query_bias="use_qkv_bias"),
    "starcoder2": _LAYER_NORM,
}  # fmt: skip
"""Checked against what `transformers` 5.23 writes, each architecture and flag."""

#: Where a flag is not in the config.
_SET_BY_DEFAULT = {"use_bias"}


class _Decoder:
    """The tensors of one decoder, in the order of its layers."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.kind = str(config.values["model_type"])
        self.traits = traits = TRAITS[self.kind]
        for key in ("qk_layernorm", "use_qk_norm"):
            config.refuse(key, because=f"a {self.kind} without {key}: its tensors are not known")
        self.hidden = config.count("hidden_size")
        self.heads = config.count("num_attention_heads")
        self.kv_heads = config.count("num_key_value_heads", default=self.heads)
        self.head_dim = config.count("head_dim", default=traits.head_dim or self._whole_head())
        self.units = config.count(traits.experts[1] if traits.experts else "intermediate_size")
        self.num_blocks = config.count("num_hidden_layers", most=MOST_BLOCKS)
        self.vocabulary = config.count("vocab_size")
        self.is_tied = config.flag("tie_word_embeddings", default=traits.is_tied)

    def _whole_head(self) -> int:
        if self.hidden % self.heads and self.config.values.get("head_dim") is None:
            raise ModelError(
                f"hidden_size {self.hidden} over {self.heads} heads is not whole",
                where=self.config.where,
                fix="a config with head_dim, or numbers that divide",
            )
        return max(1, self.hidden // self.heads)

    def _has(self, bias: str | bool) -> bool:
        if isinstance(bias, bool):
            return bias
        return self.config.flag(bias, default=bias in _SET_BY_DEFAULT)

    def network(self) -> Network:
        name, ending = class_and_ending(self.config, ENDINGS, default="ForCausalLM")
        prefix = "" if ending == "Model" else "model."
        causal = ending == "ForCausalLM"
        head = f"{prefix}embed_tokens.weight" if self.is_tied else "lm_head.weight"
        width = self.kv_heads * self.head_dim
        cached = windows(self.config, self.kind, self.num_blocks)
        return Network(
            architecture=self.kind,
            model_class=name,
            tensors=(*self._body(prefix), *self._head(ending)),
            cache=tuple(CacheLayer(width, window) for window in cached),
            widths=Widths(
                self.hidden, (self.heads + 2 * self.kv_heads) * self.head_dim, self.heads,
                self._units_alive(), self.vocabulary if causal else 0,
            ),
            max_positions=self.config.count("max_position_embeddings", default=2048),
            num_blocks=self.num_blocks,
            head_name=head if causal else None,
            stored_as=stored_as(self.config),
            num_rotary_factors=self._rotary_factors(),
        )  # fmt: skip

    def _rotary_factors(self) -> int:
        """As many as the exporter writes: one a frequency where the frequencies are scaled."""
        for key in ("rope_parameters", "rope_scaling"):
            if not isinstance(self.config.values.get(key) or {}, dict):
                raise ModelError(
                    f"{key} is {self.config.values[key]!r}",
                    where=self.config.where,
                    fix="a mapping, or nothing",
                )
        kind = rope_of(self.config.values).get("rope_type", "default")
        return self.head_dim // 2 if kind in ("linear", "llama3") else 0

    def _units_alive(self) -> int:
        """Of experts, as many as a token asks."""
        asked = self.config.count("num_experts_per_tok", default=1) if self.traits.experts else 1
        return asked * self.units * (len(self.traits.mlp) - 1)

    def _body(self, prefix: str) -> Iterator[Tensor]:
        traits, hidden = self.traits, self.hidden
        yield Tensor(f"{prefix}embed_tokens.weight", (self.vocabulary, hidden), "embedding")
        for index in range(self.num_blocks):
            block = f"{prefix}layers.{index}"
            for each in traits.norms:
                if not self._is_parallel(each):
                    yield from norm(f"{block}.{each}", hidden, bias=traits.norm_bias)
            yield from self._attention(f"{block}.self_attn")
            yield from self._experts(block) if traits.experts else self._mlp(f"{block}.mlp")
        if traits.final_norm:
            yield from norm(f"{prefix}{traits.final_norm}", hidden, bias=traits.norm_bias)

    def _is_parallel(self, name: str) -> bool:
        """StableLM may run both halves of a block on one norm."""
        parallel = self.config.flag("use_parallel_residual", default=False)
        return self.kind == "stablelm" and parallel and name == "post_attention_layernorm"

    def _attention(self, place: str) -> Iterator[Tensor]:
        traits, hidden = self.traits, self.hidden
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        bias = self._has(traits.query_bias)
        if traits.is_fused:
            yield from linear(f"{place}.qkv_proj", queries + 2 * keys, hidden, "attention")
        else:
            yield from linear(f"{place}.q_proj", queries, hidden, "attention", bias=bias)
            yield from linear(f"{place}.k_proj", keys, hidden, "attention", bias=bias)
            yield from linear(f"{place}.v_proj", keys, hidden, "attention", bias=bias)
        out = self._has(traits.out_bias)
        yield from linear(f"{place}.{traits.out}", hidden, queries, "attention", bias=out)
        if traits.query_norm != "none":
            whole = traits.query_norm == "whole"
            yield from norm(f"{place}.q_norm", queries if whole else self.head_dim)
            yield from norm(f"{place}.k_norm", keys if whole else self.head_dim)

    def _mlp(self, place: str) -> Iterator[Tensor]:
        *into, back = self.traits.mlp
        bias, units = self._has(self.traits.mlp_bias), self.units
        if self.traits.is_fused:
            into, units = ["gate_up_proj"], 2 * units
        for name in into:
            yield from linear(f"{place}.{name}", units, self.hidden, "mlp", bias=bias)
        yield from linear(f"{place}.{back}", self.hidden, self.units, "mlp", bias=bias)

    def _experts(self, block: str) -> Iterator[Tensor]:
        config = self.config
        if config.values.get("mlp_only_layers") or config.values.get("decoder_sparse_step", 1) != 1:
            raise ModelError(
                "some layers have experts and some have not",
                where=config.where,
                fix="decoder_sparse_step 1 and no mlp_only_layers; others are not known here",
            )
        place = f"{block}.{self.traits.experts[0]}" if self.traits.experts else block
        most = MOST_EXPERTS // self.num_blocks
        count = config.count("num_local_experts", "num_experts", most=most)
        yield from linear(f"{place}.gate", count, self.hidden, "mlp")
        for index in range(count):
            yield from self._mlp(f"{place}.experts.{index}")

    def _head(self, ending: str) -> Iterator[Tensor]:
        if ending == "ForCausalLM":
            head = Tensor("lm_head.weight", (self.vocabulary, self.hidden), "head")
            if not self.is_tied:
                yield head
            if self.traits.head_bias:
                yield Tensor("lm_head.bias", (self.vocabulary,), "vector")
        elif ending != "Model":
            bias = ending == "ForTokenClassification"
            yield from linear("score", num_labels(self.config), self.hidden, "head", bias=bias)


def network(config: ModelConfig) -> Network:
    """The network of a config whose `model_type` is in `TRAITS`."""
    return _Decoder(config).network()
