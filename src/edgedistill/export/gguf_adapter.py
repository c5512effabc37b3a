"""A PEFT LoRA adapter of a Llama as a GGUF file that llama.cpp lays over the base's file."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgedistill.core.errors import MissingExtra, ModelError
from edgedistill.core.files import read_json, storage_errors
from edgedistill.export.gguf import interleaved
from edgedistill.runtime.generation.gguf_header import GgufHeader, read_header

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
#: A matrix by its name in PEFT's file: layer in the model, A or B.
_NAME = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<part>[AB])\.weight")
_HEADS = {"attn_q": "llama.attention.head_count", "attn_k": "llama.attention.head_count_kv"}


def write_gguf_adapter(
    adapter: nn.Module | Path, *, base: Path, to: Path, name: str = "adapter"
) -> Path:
    """Write a LoRA adapter as the one file `to`, replaced only when it is whole.

    llama.cpp adds alpha / rank · B A to each matrix while it runs; weights are F32. The base may
    be of any type: the adapter then rests on its rounded weights.

    Args:
        adapter: a `PeftModel`, or the folder of one (adapter_config.json and
            adapter_model.safetensors).
        base: the GGUF file of the model that the adapter was trained on.

    Raises:
        MissingExtra: the `gguf` package is not installed.
        ModelError: no LoRA adapter, a form of it that llama.cpp does not know (DoRA, ranks or
            alphas by layer, trained biases or whole modules), weights that are not finite, or one
            of another base: other layers or shapes.
        BundleError: `base` is no whole Llama file.
    """
    try:
        import gguf
    except ImportError as error:
        raise MissingExtra("writing a GGUF file", "llm") from error
    header = read_header(base)
    config, weights = _read(adapter)
    _require_plain(config)
    tensors = _tensors(config, weights, header)
    temporary = to.with_name(f".{to.name}.{os.getpid()}.tmp")
    with storage_errors(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            writer = gguf.GGUFWriter(temporary, "llama")
            writer.add_type(gguf.GGUFType.ADAPTER)
            writer.add_name(name)
            writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
            writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, _alpha(config))
            for tensor, values in tensors.items():
                writer.add_tensor(tensor, values)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            temporary.replace(to)
        finally:
            temporary.unlink(missing_ok=True)
    return to


def _read(adapter: nn.Module | Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Configuration and weights, by their names in PEFT's file."""
    if isinstance(adapter, Path):
        from safetensors.torch import load_file

        if not all((adapter / file).is_file() for file in (_CONFIG, _WEIGHTS)):
            raise ModelError(
                "not an adapter's folder", where=str(adapter), fix=f"{_CONFIG} and {_WEIGHTS}"
            )
        return read_json(adapter / _CONFIG), load_file(adapter / _WEIGHTS)
    from peft import PeftModel, get_peft_model_state_dict

    if not isinstance(adapter, PeftModel):
        raise ModelError(f"a {type(adapter).__name__} has no adapter", fix="a PeftModel")
    config = adapter.peft_config[adapter.active_adapter]
    state: dict[str, torch.Tensor] = get_peft_model_state_dict(adapter)
    return config.to_dict(), state


def _require_plain(config: Mapping[str, Any]) -> None:
    """Refuse what llama.cpp would load and then add wrongly."""
    kind = config.get("peft_type")
    if str(getattr(kind, "value", kind)) != "LORA":
        raise ModelError("only LoRA adapters are written as GGUF", fix="peft_type: LORA")
    refused = {
        "use_dora": bool(config.get("use_dora")),
        "rank_pattern": bool(config.get("rank_pattern")),
        "alpha_pattern": bool(config.get("alpha_pattern")),
        "bias": config.get("bias", "none") != "none" or bool(config.get("lora_bias")),
        "modules_to_save": bool(config.get("modules_to_save")),
        "fan_in_fan_out": bool(config.get("fan_in_fan_out")),
        # llama.cpp reads an alpha of 0 as "no scaling at all".
        "lora_alpha": not float(config.get("lora_alpha", 0)) > 0,
    }
    wrong = [key for key, is_wrong in refused.items() if is_wrong]
    if wrong:
        raise ModelError(
            f"this adapter's {', '.join(wrong)} is not translated to GGUF",
            fix="merge it into the model and write that",
        )


def _alpha(config: Mapping[str, Any]) -> float:
    """What llama.cpp divides by the rank; rank-stabilised adapters divide by its root."""
    alpha = float(config["lora_alpha"])
    return alpha * math.sqrt(config["r"]) if config.get("use_rslora") else alpha


def _tensors(
    config: Mapping[str, Any], weights: Mapping[str, torch.Tensor], header: GgufHeader
) -> dict[str, np.ndarray]:
    """float32 matrices by their names in GGUF, checked against the base's shapes."""
    import gguf

    blocks = header.metadata["llama.block_count"]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, blocks)
    found: dict[str, np.ndarray] = {}
    for source, tensor in sorted(weights.items()):
        known = _NAME.fullmatch(source)
        name = names.get_name(known["layer"]) if known else None
        matrix = f"{name}.weight"
        if known is None or matrix not in header.shapes or name == "token_embd":
            raise ModelError(
                f"the base has no matrix that {source} could adapt", fix=_of_another(header)
            )
        values = tensor.detach().to("cpu", torch.float32).numpy()
        if not np.isfinite(values).all():
            raise ModelError(f"{source} holds weights that are not finite")
        part = known["part"].lower()
        # Shapes of a file name the fastest axis, the inputs, first.
        width, rows = header.shapes[matrix]
        wanted = (config["r"], width) if part == "a" else (rows, config["r"])
        if values.shape != wanted:
            raise ModelError(
                f"{source} has the shape {values.shape}, the base takes {wanted}",
                fix=_of_another(header),
            )
        if part == "b" and (key := _HEADS.get(str(name).rpartition(".")[2])):
            values = interleaved(values, header.metadata[key])
        found[f"{matrix}.lora_{part}"] = np.ascontiguousarray(values)
    _require_complete(config, found, header)
    return found


def _require_complete(
    config: Mapping[str, Any], found: Mapping[str, np.ndarray], header: GgufHeader
) -> None:
    """Both halves of every pair, in every block: a model of fewer blocks has other ones."""
    if not found:
        raise ModelError("the adapter has no matrices", fix=f"{_WEIGHTS} as PEFT writes it")
    pairs = {name.removesuffix(".lora_a").removesuffix(".lora_b") for name in found}
    halves = {f"{pair}.lora_{part}" for pair in pairs for part in "ab"}
    if missing := sorted(halves - set(found)):
        raise ModelError(f"{missing[0]} is missing", fix="a whole adapter")
    blocks = header.metadata["llama.block_count"]
    adapted = {int(pair.split(".")[1]) for pair in pairs if pair.startswith("blk.")}
    if adapted and config.get("layers_to_transform") is None and len(adapted) < blocks:
        raise ModelError(
            f"the adapter was trained on {len(adapted)} blocks, the base has {blocks}",
            fix=_of_another(header),
        )


def _of_another(header: GgufHeader) -> str:
    numbers = header.metadata
    return (
        "the base that it was trained on; this one has "
        f"{numbers['llama.block_count']} blocks of width {numbers['llama.embedding_length']}"
    )
