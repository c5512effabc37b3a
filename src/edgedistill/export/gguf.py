"""Export to GGUF: a Llama model of `transformers` with its tokenizer as one file for llama.cpp."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from edgedistill.core.errors import MissingExtra, ModelError
from edgedistill.core.files import read_json, storage_errors
from edgedistill.export.gguf_architecture import (
    head_dim_of,
    require_llama,
    rope_of,
    rotary_factors,
)
from edgedistill.export.gguf_quantise.matrix import BLOCK_TYPES, quantise
from edgedistill.export.gguf_tokenizer import GgufVocabulary, gguf_vocabulary
from edgedistill.export.gguf_types import GgufType, gguf_type, type_for_width

if TYPE_CHECKING:
    import gguf
    from tokenizers import Tokenizer

_ROTARY_BUFFERS = ".rotary_emb.inv_freq"


@dataclass(frozen=True)
class GgufFile:
    """A file that was written.

    `fallbacks`: tensors whose width the block of `type` does not divide, and their own formats.
    """

    path: Path
    type: str
    size_bytes: int
    fallbacks: dict[str, str]


def write_gguf(
    model: nn.Module | Path,
    tokenizer: Tokenizer,
    *,
    to: Path,
    kind: str = "f16",
    name: str = "model",
    chat_template: str | None = None,
    importance: Mapping[str, np.ndarray] | None = None,
) -> GgufFile:
    """Write `model` with `tokenizer` as the one file `to`, replaced only when it is whole.

    Args:
        model: a `LlamaForCausalLM`, or the folder of one (config.json, *.safetensors).
        kind: a name of `GGUF_TYPES`.
        chat_template: Jinja text for those who run the file elsewhere.
        importance: mean squared inputs by the names of linear layers in `transformers`
            (`models.language.importance`); block types then round by them.

    Raises:
        MissingExtra: the `gguf` package is not installed.
        ModelError: another architecture, a feature of Llama that is not translated, weights that
            are not finite, a tokenizer that llama.cpp does not know.
        SpecError: an unknown `kind`, or one that cannot be written.
    """
    formats = gguf_type(kind)
    try:
        import gguf
    except ImportError as error:
        raise MissingExtra("writing a GGUF file", "llm") from error
    config, weights = _read(model)
    require_llama(config)
    temporary = to.with_name(f".{to.name}.{os.getpid()}.tmp")
    with storage_errors(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            writer = gguf.GGUFWriter(temporary, "llama")
            _add_architecture(writer, config, name, gguf.LlamaFileType[formats.file])
            _add_vocabulary(writer, config, tokenizer, chat_template)
            fallbacks = _add_tensors(writer, config, weights, formats, importance or {})
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            temporary.replace(to)
        finally:
            temporary.unlink(missing_ok=True)
    return GgufFile(to, kind, to.stat().st_size, fallbacks)


def _read(model: nn.Module | Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Configuration and weights by their names in `transformers`."""
    if isinstance(model, Path):
        from safetensors.torch import load_file

        files = sorted(model.glob("*.safetensors"))
        if not files or not (model / "config.json").is_file():
            raise ModelError(
                "not a model folder", where=str(model), fix="config.json and *.safetensors"
            )
        parts = [load_file(file) for file in files]
        return read_json(model / "config.json"), {k: v for part in parts for k, v in part.items()}
    config = getattr(model, "config", None)
    if config is None:
        raise ModelError(f"a {type(model).__name__} has no configuration", fix="a LlamaForCausalLM")
    return config.to_dict(), dict(model.state_dict())


def _add_architecture(
    writer: gguf.GGUFWriter, config: dict[str, Any], name: str, file_type: int
) -> None:
    """The numbers that llama.cpp builds the network from."""
    import gguf

    heads, head_dim = config["num_attention_heads"], head_dim_of(config)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(rope_of(config)["rope_theta"])
    if (factors := rotary_factors(config)) is not None:
        writer.add_tensor("rope_freqs.weight", factors)


def _add_vocabulary(
    writer: gguf.GGUFWriter,
    config: dict[str, Any],
    tokenizer: Tokenizer,
    chat_template: str | None,
) -> None:
    """Tokenizer, special ids and template. Of several end ids the second is the end of a turn."""
    ends = config.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if len(ends) > 2:
        raise ModelError("a GGUF file holds two end tokens", fix=f"name two at most, not {ends}")
    bos = config.get("bos_token_id")
    vocabulary: GgufVocabulary = gguf_vocabulary(
        tokenizer, num_rows=config["vocab_size"], bos_id=bos, eos_id=ends[0] if ends else None
    )
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    if vocabulary.scores is not None:
        writer.add_token_scores(vocabulary.scores)
    add_ids: list[tuple[Callable[[int], None], int | None]] = [
        (writer.add_bos_token_id, bos),
        (writer.add_eos_token_id, ends[0] if ends else None),
        (writer.add_eot_token_id, ends[1] if len(ends) > 1 else None),
        (writer.add_pad_token_id, config.get("pad_token_id")),
        (writer.add_unk_token_id, vocabulary.unknown_id),
    ]
    for add, token_id in add_ids:
        if token_id is not None and token_id >= 0:
            add(token_id)
    writer.add_add_bos_token(vocabulary.add_bos)
    writer.add_add_eos_token(vocabulary.add_eos)
    writer.add_add_space_prefix(vocabulary.add_prefix)
    if chat_template:
        writer.add_chat_template(chat_template)


def _add_tensors(
    writer: gguf.GGUFWriter,
    config: dict[str, Any],
    weights: dict[str, torch.Tensor],
    formats: GgufType,
    importance: Mapping[str, np.ndarray],
) -> dict[str, str]:
    """Every weight in its format; returns the formats of those that another was meant for."""
    import gguf

    fallbacks = {}
    tied = bool(config.get("tie_word_embeddings"))
    head = "token_embd.weight" if tied else "output.weight"
    columns = _by_tensor(importance, config, head)
    for name, values in _tensors(config, weights):
        wanted = formats.format_of(name, head=head, num_blocks=config["num_hidden_layers"])
        wanted = wanted if values.ndim > 1 else "F32"
        stored = type_for_width(wanted, values.shape[-1])
        if stored != wanted:
            fallbacks[name] = stored
        if stored == "F16" and np.abs(values).max() > 65504:
            raise ModelError(f"{name} holds weights beyond the range of F16", fix="f32 or bf16")
        kind = gguf.GGMLQuantizationType[stored]
        encoded = (
            quantise(values, stored, columns.get(name))
            if stored in BLOCK_TYPES
            else gguf.quants.quantize(values, kind)
        )
        writer.add_tensor(name, encoded, raw_dtype=kind)
    return fallbacks


def _by_tensor(
    importance: Mapping[str, np.ndarray], config: dict[str, Any], head: str
) -> dict[str, np.ndarray]:
    """Importance by names in GGUF; a table that is also the head is read by the head's inputs."""
    import gguf

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    found = {f"{names.get_name(layer)}.weight": squares for layer, squares in importance.items()}
    if "output.weight" in found:
        found[head] = found.pop("output.weight")
    return found


def _tensors(
    config: dict[str, Any], weights: dict[str, torch.Tensor]
) -> Iterator[tuple[str, np.ndarray]]:
    """(name in GGUF, float32 array), the query and key rows in llama.cpp's order."""
    import gguf

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    tied = bool(config.get("tie_word_embeddings"))
    heads = config["num_attention_heads"]
    rows = {"q_proj": heads, "k_proj": config.get("num_key_value_heads") or heads}
    seen = set()
    for source, tensor in sorted(weights.items()):
        if source.endswith(_ROTARY_BUFFERS) or (tied and source == "lm_head.weight"):
            continue
        name = names.get_name(source, try_suffixes=(".weight",))
        if name is None:
            raise ModelError(f"{source} has no place in a llama GGUF file")
        values = tensor.detach().to("cpu", torch.float32).numpy()
        if not np.isfinite(values).all():
            raise ModelError(f"{source} holds weights that are not finite")
        for projection, num_heads in rows.items():
            if source.endswith(f".{projection}.weight"):
                values = interleaved(values, num_heads)
        seen.add(name)
        yield name, np.ascontiguousarray(values)
    _require_complete(seen, config, tied)


def interleaved(values: np.ndarray, num_heads: int) -> np.ndarray:
    """Rows of each head [2, half] as [half, 2].

    `transformers` rotates row i of a head with row i + half, llama.cpp row 2i with row 2i + 1.
    """
    num_rows, width = values.shape
    halves = values.reshape(num_heads, 2, num_rows // num_heads // 2, width)
    return halves.swapaxes(1, 2).reshape(num_rows, width)


def _require_complete(seen: set[str], config: dict[str, Any], tied: bool) -> None:
    """llama.cpp would fail at loading, far from here."""
    parts = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output",
             "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")  # fmt: skip
    layers = range(config["num_hidden_layers"])
    needed = {f"blk.{layer}.{part}.weight" for layer in layers for part in parts}
    needed |= {"token_embd.weight", "output_norm.weight"} | (set() if tied else {"output.weight"})
    if missing := sorted(needed - seen):
        raise ModelError(
            f"weights are missing: {', '.join(missing[:3])} ({len(missing)} in all)",
            fix="a whole LlamaForCausalLM",
        )
