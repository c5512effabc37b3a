"""A small Llama of random weights with a byte-level BPE tokenizer trained here, and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEXTS = [
    "Summarise: the parcel is late, the customer wants a refund of 12.50 € today.",
    '{"intent": "refund", "amount": 12.5, "urgent": true}',
    "Zusammenfassung: Die Kundin möchte ihr Geld zurück; größere Beträge prüft Jürgen.",
    "the a i to for what how much can you help? they're we've I'll it's don't \n\n  ok \t!",
    "Привет, как дела? 你好，世界。 🙂",
]
CONTEXT = 128
BOS, EOS, PAD = 0, 1, 2
#: Characters beyond ASCII, escapes, a format, limits, keys that may be left out.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "intent": {"enum": ["refund", 'he said "no"\n', "größer/✓"]},
        "note": {"type": "string", "maxLength": 6},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "due": {"type": ["string", "null"], "format": "date"},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["intent", "days", "due"],
    "additionalProperties": False,
}
#: What sets Llamas apart, as changes of `make_model`; every runtime must follow each.
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"tied": False},
    {"num_key_value_heads": 4},
    {"num_key_value_heads": 1},
    {"head_dim": 32},
    {"rms_norm_eps": 1e-3, "rope_theta": 100.0},
    {"rope_parameters": {
        "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
    }},
    {"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}},
)  # fmt: skip


def make_tokenizer() -> Tokenizer:
    """Byte-level BPE of 400 pieces, split by GPT-2's expression."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|begin|>", "<|finish|>", "<|nothing|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return tokenizer


def make_model(*, tied: bool = True, width: int = 64, **changes: Any) -> Any:
    """A `LlamaForCausalLM`, 2 layers, 4 query and 2 key heads; weights large enough to decide."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "vocab_size": make_tokenizer().get_vocab_size(), "hidden_size": width,
        "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "initializer_range": 0.3,
        "rope_theta": 5000.0, "tie_word_embeddings": tied, "bos_token_id": BOS,
        "eos_token_id": EOS, "pad_token_id": PAD,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**settings | changes)).eval()


def write_small(folder: Path, kind: str = "f32", **changes: Any) -> Path:
    """The small model as `model.gguf` in `folder`."""
    from edgedistill.export.gguf import write_gguf

    file = folder / "model.gguf"
    return write_gguf(make_model(**changes), make_tokenizer(), to=file, kind=kind).path


def write_small_onnx(folder: Path, kind: str = "onnx_f32", **changes: Any) -> Path:
    """The small model as `model.onnx` in `folder`."""
    from edgedistill.export.onnx_language import write_onnx_language

    return write_onnx_language(make_model(**changes), to=folder / "model.onnx", kind=kind).path
