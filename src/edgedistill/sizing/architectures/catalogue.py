"""The catalogue of architectures, by `model_type` of config.json."""

from __future__ import annotations

from edgedistill.core.catalogue import Catalogue
from edgedistill.core.errors import ModelError
from edgedistill.sizing.config_file import ModelConfig
from edgedistill.sizing.network import Network

_HERE = "edgedistill.sizing.architectures"
_DECODERS = (
    "cohere", "gemma", "gemma2", "gemma3_text", "granite", "llama", "mistral", "mixtral", "olmo",
    "olmo2", "phi", "phi3", "qwen2", "qwen3", "qwen3_moe", "smollm3", "stablelm", "starcoder2",
)  # fmt: skip
_OLDER = ("gpt2", "gpt_neox", "opt")
_BERTS = ("bert", "camembert", "electra", "mpnet", "roberta", "xlm-roberta")
_ENCODERS = ("albert", "distilbert", "modernbert")

ARCHITECTURES = Catalogue(
    "architecture",
    dict.fromkeys(_DECODERS, f"{_HERE}.decoders:network")
    | {name: f"{_HERE}.older_decoders:{name}" for name in _OLDER}
    | dict.fromkeys(_BERTS, f"{_HERE}.berts:network")
    | {name: f"{_HERE}.encoders:{name}" for name in _ENCODERS}
    | {"deberta-v2": f"{_HERE}.deberta:network"},
)


def network_of(config: ModelConfig) -> Network:
    """The network that a config describes.

    Raises:
        ModelError: an architecture, class or feature that is not known, a key that is missing.
    """
    kind = config.values["model_type"]
    if kind not in ARCHITECTURES:
        inner = next((key for key in ("text_config", "decoder") if key in config.values), None)
        hint = f"; save its {inner!r} as a file of its own, if that is one of these"
        raise ModelError(
            f"architecture {kind!r} is not known here",
            where=config.where,
            fix=f"one of: {', '.join(sorted(ARCHITECTURES))}{hint if inner else ''}",
        )
    found: Network = ARCHITECTURES.load(kind)(config)
    return found


def class_and_ending(
    config: ModelConfig, endings: tuple[str, ...], *, default: str
) -> tuple[str, str]:
    """The class that the checkpoint was written from, as the config names it, and which of
    `endings` its name has; `Model` alone stands for a network without a head.

    Raises:
        ModelError: the class has another ending: its head is not known.
    """
    names = config.texts("architectures")
    name = names[0] if names else default
    for ending in endings:
        # GPT2DoubleHeadsModel is no plain model.
        if name.endswith(ending) and not (ending == "Model" and "Head" in name):
            return name, ending
    raise ModelError(
        f"architectures names the class {name!r}, whose head is not known here",
        where=config.where,
        fix=f"a class that ends in one of: {', '.join(endings)}",
    )


def num_labels(config: ModelConfig) -> int:
    """Labels of a classifying head; 2 where the config does not say, as in `transformers`."""
    labels = config.values.get("id2label")
    if isinstance(labels, dict) and labels:
        return len(labels)
    return config.count("num_labels", default=2)


def stored_as(config: ModelConfig) -> str:
    """The type of the checkpoint's numbers."""
    return config.text("dtype") or config.text("torch_dtype") or "float32"
