"""The config of a small Llama, for plans of sizes."""

from __future__ import annotations

import json
from typing import Any

from edgedistill.sizing.architectures.catalogue import network_of
from edgedistill.sizing.config_file import parsed
from edgedistill.sizing.network import Network

LLAMA: dict[str, Any] = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 97,
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "torch_dtype": "bfloat16",
}  # fmt: skip


def network(**changes: Any) -> Network:
    """Its network, with other values; `...` leaves a key out."""
    values = {key: value for key, value in (LLAMA | changes).items() if value is not ...}
    return network_of(parsed(json.dumps(values), where="config.json"))
