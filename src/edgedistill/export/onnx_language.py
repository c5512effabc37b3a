"""Export to ONNX: a Llama of `transformers` as one file that reads a prompt and writes a token.

Both are the same graph: it takes ids, the keys and values of what was read before (none at
first), and gives log-odds and the keys and values so far. Built from the weights, node by node,
of operators of opset 23 (`Attention`, `RotaryEmbedding`, `RMSNormalization`) and, for eight bits,
ONNX Runtime's `MatMulNBits`: nothing is traced, so lengths are free and no version of
`transformers` changes the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from edgedistill.core.errors import ModelError, SpecError
from edgedistill.core.files import storage_errors
from edgedistill.core.weight_types import MOST_ONNX_BYTES
from edgedistill.export.onnx_weights import DOMAIN, WEIGHTS, Graph, Weights, finite

OPSET, IR_VERSION = 23, 11
ARCHITECTURE = "llama"
_ROTATIONS = ("default", "linear", "llama3")


@dataclass(frozen=True)
class OnnxFile:
    """A file that was written. `fallbacks`: matrices in another format than asked, by name."""

    path: Path
    type: str
    size_bytes: int
    fallbacks: Mapping[str, str] = field(default_factory=dict)


def write_onnx_language(model: Any, *, to: Path, kind: str = "onnx_f32") -> OnnxFile:
    """Write a `LlamaForCausalLM` as the one file `to`, replaced only when it is whole.

    Inputs: `input_ids` int64 [batch, sequence]; `positions` int64 [n], places of the sequence
    whose log-odds are asked for; `past_key.i`, `past_value.i` float32 [batch, heads, past, width]
    a layer. Outputs: `logits` float32 [batch, n, vocabulary]; `present_key.i`, `present_value.i`.
    All rows of a batch are equally long: there is no mask. The file's metadata says
    `architecture`, `context` (tokens) and `end_ids`.

    Args:
        kind: `onnx_f32`; `onnx_int8`: every matrix in eight bits, norms as they are; or
            `onnx_int8_tables`: the table of tokens and the head alone.

    Raises:
        ModelError: another architecture, a feature of Llama that is not translated, weights that
            are not finite, a file beyond 2 GB.
        SpecError: an unknown `kind`.
    """
    if kind not in WEIGHTS:
        raise SpecError(f"the type of weights {kind!r}", fix=f"one of: {', '.join(WEIGHTS)}")
    _require_llama(model)
    graph = Graph()
    outputs = _add_network(graph, model, WEIGHTS[kind](graph))
    proto = _model(graph, model.config, outputs)
    if proto.ByteSize() > MOST_ONNX_BYTES:
        raise ModelError(
            f"{proto.ByteSize():,} bytes do not fit into one ONNX file", fix="a GGUF type"
        )
    onnx.checker.check_model(proto)
    temporary = to.with_name(f".{to.name}.{os.getpid()}.tmp")
    with storage_errors(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            onnx.save(proto, temporary)
            temporary.replace(to)
        finally:
            temporary.unlink(missing_ok=True)
    return OnnxFile(to, kind, to.stat().st_size)


def _require_llama(model: Any) -> None:
    """Refuse what would be written and then answer wrongly."""
    config = getattr(model, "config", None)
    if getattr(config, "model_type", None) != ARCHITECTURE or not hasattr(model, "lm_head"):
        raise ModelError(
            f"a {type(model).__name__} is not written as an ONNX language model",
            fix="a transformers LlamaForCausalLM",
        )
    refused = {
        "hidden_act": model.config.hidden_act != "silu",
        "attention_bias": model.config.attention_bias,
        "mlp_bias": model.config.mlp_bias,
        "rope_type": model.model.rotary_emb.rope_type not in _ROTATIONS,
    }
    wrong = [key for key, is_wrong in refused.items() if is_wrong]
    if wrong:
        raise ModelError(
            f"this Llama's {', '.join(wrong)} is not translated to ONNX",
            fix=f"silu, no biases, rotary positions of type {', '.join(_ROTATIONS)}",
        )


def _array(tensor: torch.Tensor, name: str) -> np.ndarray:
    return finite(name, tensor.detach().to("cpu", torch.float32).numpy())


def _add_network(graph: Graph, model: Any, weights: Weights) -> list[str]:
    """Every node; returns the names of the outputs."""
    table = _array(model.model.embed_tokens.weight, "embed_tokens")
    tied = bool(model.config.tie_word_embeddings)
    x = weights.rows("input_ids", table, "embed_tokens")
    angles = _add_angles(graph, model.model.rotary_emb)
    presents = []
    for number, layer in enumerate(model.model.layers):
        x, *present = _add_layer(graph, weights, layer, number, x, angles)
        presents += present
    x = graph.add("Gather", [x, "positions"], "asked", axis=1)
    x = _add_norm(graph, model.model.norm, x, "norm")
    head = table if tied else _array(model.lm_head.weight, "lm_head")
    logits = weights.scores(x, head, "embed_tokens" if tied else "lm_head")
    graph.add("Identity", [logits], "logits")
    return ["logits", *presents]


def _add_angles(graph: Graph, rotary: Any) -> tuple[str, str]:
    """Cosine and sine of the rotary positions, [batch, sequence, half a head]."""

    def size(of: str, axis: int, name: str) -> str:
        return graph.add("Shape", [of], name, start=axis, end=axis + 1)

    batch, length = size("input_ids", 0, "batch"), size("input_ids", 1, "length")
    past = size("past_key.0", 2, "past")
    scalar = graph.keep("scalar", np.array([], np.int64))
    first = graph.add("Reshape", [past, scalar], "first")
    end = graph.add("Add", [first, graph.add("Reshape", [length, scalar], "count")], "end")
    numbers = graph.add("Range", [first, end, graph.keep("one", np.array(1, np.int64))], "numbers")
    wide = graph.add("Cast", [numbers], "numbers.wide", to=TensorProto.FLOAT)
    column = graph.add("Unsqueeze", [wide, graph.keep("second", np.array([1], np.int64))], "column")
    frequencies = graph.keep("frequencies", _array(rotary.inv_freq, "inv_freq")[None])
    angles = graph.add("Mul", [column, frequencies], "angles")
    half = graph.keep("half", np.array([rotary.inv_freq.shape[0]], np.int64))
    shape = graph.add("Concat", [batch, length, half], "angles.shape", axis=0)
    cosine, sine = (
        graph.add("Expand", [graph.add(kind, [angles], kind.lower()), shape], f"{kind}.rows")
        for kind in ("Cos", "Sin")
    )
    return cosine, sine


def _add_norm(graph: Graph, norm: Any, x: str, name: str) -> str:
    weight = graph.keep(f"{name}.weight", _array(norm.weight, name))
    return graph.add("RMSNormalization", [x, weight], name, epsilon=float(norm.variance_epsilon))


def _add_layer(
    graph: Graph, weights: Weights, layer: Any, number: int, x: str, angles: tuple[str, str]
) -> list[str]:
    """Attention and feed-forward; returns the stream, the keys and the values."""
    attention, feed, name = layer.self_attn, layer.mlp, f"layer.{number}"

    def matrix(modules: list[Any], part: str) -> np.ndarray:
        return np.concatenate([_array(m.weight, f"{name}.{part}") for m in modules])

    def split(values: str, sizes: list[int], parts: list[str]) -> list[str]:
        named = graph.keep("sizes." + ".".join(map(str, sizes)), np.array(sizes, np.int64))
        return graph.add_many(
            "Split", [values, named], [f"{name}.{part}" for part in parts], axis=-1
        )

    projections = [attention.q_proj, attention.k_proj, attention.v_proj]
    normed = _add_norm(graph, layer.input_layernorm, x, f"{name}.attention.norm")
    both = weights.product(normed, matrix(projections, "qkv"), f"{name}.qkv")
    query, key, value = split(
        both, [p.out_features for p in projections], ["query", "key", "value"]
    )
    width = attention.head_dim
    heads, groups = (p.out_features // width for p in projections[:2])
    query, key = (
        graph.add("RotaryEmbedding", [part, *angles], f"{part}.turned", num_heads=many)
        for part, many in ((query, heads), (key, groups))
    )
    mixed, *present = graph.add_many(
        "Attention",
        [query, key, value, "", f"past_key.{number}", f"past_value.{number}"],
        [f"{name}.mixed", f"present_key.{number}", f"present_value.{number}"],
        is_causal=1, q_num_heads=heads, kv_num_heads=groups,
    )  # fmt: skip
    out = weights.product(mixed, matrix([attention.o_proj], "out"), f"{name}.out")
    x = graph.add("Add", [x, out], f"{name}.attended")
    normed = _add_norm(graph, layer.post_attention_layernorm, x, f"{name}.feed.norm")
    both = weights.product(normed, matrix([feed.gate_proj, feed.up_proj], "units"), f"{name}.units")
    gate, up = split(both, [feed.gate_proj.out_features] * 2, ["gate", "up"])
    opened = graph.add("Sigmoid", [gate], f"{name}.opened")
    silu = graph.add("Mul", [gate, opened], f"{name}.silu")
    units = graph.add("Mul", [silu, up], f"{name}.gated")
    down = weights.product(units, matrix([feed.down_proj], "down"), f"{name}.down")
    return [graph.add("Add", [x, down], f"{name}.fed"), *present]


def _model(graph: Graph, config: Any, outputs: list[str]) -> onnx.ModelProto:
    """The graph with its interface and its metadata."""
    groups = config.num_key_value_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads

    def value(name: str, kind: int, shape: list[Any]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    def cache(name: str, length: str) -> onnx.ValueInfoProto:
        return value(name, TensorProto.FLOAT, ["batch", groups, length, width])

    pasts = [name.replace("present", "past") for name in outputs[1:]]
    proto = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "language-model",
            [
                value("input_ids", TensorProto.INT64, ["batch", "sequence"]),
                value("positions", TensorProto.INT64, ["asked"]),
                *(cache(name, "past") for name in pasts),
            ],
            [
                value("logits", TensorProto.FLOAT, ["batch", "asked", config.vocab_size]),
                *(cache(name, "present") for name in outputs[1:]),
            ],
            list(graph.initializers.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
        ir_version=IR_VERSION,
        producer_name="edgedistill",
    )
    ends = config.eos_token_id
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    helper.set_model_props(
        proto,
        {
            "architecture": ARCHITECTURE,
            "context": str(config.max_position_embeddings),
            "end_ids": json.dumps(ends),
        },
    )
    return proto
