"""Which Llamas a GGUF file can hold, by their config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgedistill.core.errors import ModelError


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
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    refused = {
        "hidden_act": config.get("hidden_act", "silu") != "silu",
        "attention_bias": bool(config.get("attention_bias")),
        "mlp_bias": bool(config.get("mlp_bias")),
        "rope_type": rope.get("rope_type", "default") != "default",
        "head_dim": head_dim_of(config) % 2 == 1,
    }
    wrong = [key for key, is_wrong in refused.items() if is_wrong]
    if wrong:
        raise ModelError(
            f"this Llama's {', '.join(wrong)} is not translated to GGUF",
            fix="silu, no biases, plain rotary positions, an even head dimension",
        )


def head_dim_of(config: Mapping[str, Any]) -> int:
    """Width of an attention head."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
