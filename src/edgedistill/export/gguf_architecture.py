"""Which Llamas a GGUF file can hold, by their config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgedistill.core.errors import ModelError

#: How positions may be rotated.
ROTATIONS = ("default", "linear", "llama3")


def require_llama(config: Mapping[str, Any]) -> None:
    """Refuse what would load and then answer wrongly.

    Args:
        config: the model's config.json.

    Raises:
        ModelError: another architecture, or a feature of Llama that is not translated.
    """
    if config.get("model_type") != "llama":
        raise ModelError(
            f"GGUF files are written for the llama architecture, not {config.get('model_type')!r}",
            fix="a transformers LlamaForCausalLM",
        )
    refused = {
        "hidden_act": config.get("hidden_act", "silu") != "silu",
        "attention_bias": bool(config.get("attention_bias")),
        "mlp_bias": bool(config.get("mlp_bias")),
        "rope_type": rope_of(config).get("rope_type", "default") not in ROTATIONS,
        "head_dim": head_dim_of(config) % 2 == 1,
    }
    wrong = [key for key, is_wrong in refused.items() if is_wrong]
    if wrong:
        raise ModelError(
            f"this Llama's {', '.join(wrong)} is not translated to GGUF",
            fix=f"silu, no biases, rotary positions of {', '.join(ROTATIONS)}, an even head "
            "dimension",
        )


def rope_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Its rotary positions; older files keep the scaling and the base apart."""
    found = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = found.get("rope_theta") or config.get("rope_theta") or 10000.0
    return {**found, "rope_theta": theta}


def rotary_factors(config: Mapping[str, Any]) -> np.ndarray | None:
    """What each rotary frequency is divided by, float32 [head_dim / 2]; None where by nothing.

    Llama 3.1's scaling (Grattafiori et al. 2024, arXiv 2407.21783) leaves the fast frequencies
    alone, divides the slow ones by `factor`, and blends between; "linear" divides all.
    """
    rope, half = rope_of(config), head_dim_of(config) // 2
    kind, factor = rope.get("rope_type", "default"), float(rope.get("factor", 1.0))
    if kind == "linear":
        return np.full(half, factor, dtype=np.float32)
    if kind != "llama3":
        return None
    context = float(rope["original_max_position_embeddings"])
    slow, fast = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    wavelengths = 2 * np.pi * float(rope["rope_theta"]) ** (np.arange(half) / half)
    blend = np.clip((context / wavelengths - slow) / (fast - slow), 0.0, 1.0)
    return np.asarray(1.0 / ((1.0 - blend) / factor + blend), dtype=np.float32)


def head_dim_of(config: Mapping[str, Any]) -> int:
    """Width of an attention head."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
