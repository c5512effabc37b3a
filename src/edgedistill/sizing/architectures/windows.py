"""How far each layer of a decoder looks back."""

from __future__ import annotations

from edgedistill.core.errors import ModelError
from edgedistill.sizing.config_file import ModelConfig

_KINDS = ("full_attention", "sliding_attention")
#: Every how many layers one looks back all the way, where config.json does not list the layers.
_EVERY = {"gemma2": 2, "gemma3_text": 6}
#: Architectures whose layers all have the window that the config names.
_ALL = ("mistral", "mixtral", "phi3", "starcoder2")
#: Those where the window needs a second key, and begins at the layer `max_window_layers`.
_ASKED = ("qwen2", "qwen3", "qwen3_moe", "smollm3")


def windows(config: ModelConfig, kind: str, num_layers: int) -> list[int | None]:
    """For each layer the most tokens that it keeps; None: all.

    Raises:
        ModelError: layers of another kind than full and sliding attention, or not one for each.
    """
    listed = config.texts("layer_types")
    if listed:
        return _of_list(config, listed, num_layers)
    if config.values.get("sliding_window") is None:
        return [None] * num_layers
    window = config.count("sliding_window")
    if kind in _EVERY:
        every = config.count("sliding_window_pattern", default=_EVERY[kind])
        return [window if (index + 1) % every else None for index in range(num_layers)]
    if kind in _ASKED:
        first = config.values.get("max_window_layers", num_layers)
        asked = config.flag("use_sliding_window", default=False)
        starts = first if isinstance(first, int) else num_layers
        return [window if asked and index >= starts else None for index in range(num_layers)]
    return [window if kind in _ALL else None] * num_layers


def _of_list(config: ModelConfig, listed: list[str], num_layers: int) -> list[int | None]:
    if len(listed) != num_layers:
        raise ModelError(
            f"layer_types names {len(listed)} layers of {num_layers}",
            where=config.where,
            fix="one for each layer, or none at all",
        )
    if strange := sorted(set(listed) - set(_KINDS)):
        raise ModelError(
            f"layer_types has {', '.join(strange)}", where=config.where, fix=" or ".join(_KINDS)
        )
    if "sliding_attention" not in listed:
        return [None] * num_layers
    window = config.count("sliding_window")
    return [window if each == "sliding_attention" else None for each in listed]
