"""Bytes of public checkpoints as others report them, for tests and the benchmark of sizes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint.

    Args:
        size_bytes: of `model.safetensors`, or `total_size` of `model.safetensors.index.json`,
            which counts the numbers without headers, where `is_sharded`.
        source: repository on Hugging Face, and the file that the figure is of.
        is_as_written_today: tensors are named and saved as `transformers` does it now, so that
            the header agrees to the byte.
        more_bytes: of tensors that the file holds and its class does not read.
        more: what they are.
    """

    size_bytes: int
    source: str
    is_sharded: bool = False
    is_as_written_today: bool = True
    more_bytes: int = 0
    more: str = ""


def _file(size_bytes: int, repository: str, **more: bool) -> Checkpoint:
    return Checkpoint(size_bytes, f"{repository}, model.safetensors", **more)


def _index(size_bytes: int, repository: str) -> Checkpoint:
    return Checkpoint(size_bytes, f"{repository}, total_size of its index", is_sharded=True)


WHOLE: dict[str, Checkpoint] = {
    "all-minilm-l6-v2": _file(
        90_868_376, "sentence-transformers/all-MiniLM-L6-v2", is_as_written_today=False
    ),
    "distilbert-base-uncased": _file(267_954_768, "distilbert/distilbert-base-uncased"),
    "modernbert-base": _file(598_635_032, "answerdotai/ModernBERT-base"),
    "smollm2-135m": _file(269_060_552, "HuggingFaceTB/SmolLM2-135M"),
    "qwen2.5-0.5b": _file(988_097_824, "Qwen/Qwen2.5-0.5B-Instruct"),
    "tinyllama-1.1b": _file(2_200_119_864, "TinyLlama/TinyLlama-1.1B-Chat-v1.0"),
    "llama-3.2-1b": _file(2_471_645_608, "meta-llama/Llama-3.2-1B-Instruct"),
    "gemma-2-2b": _index(5_228_683_776, "google/gemma-2-2b-it"),
    "phi-3-mini": _index(7_642_159_104, "microsoft/Phi-3-mini-4k-instruct"),
    "mistral-7b": _index(14_483_464_192, "mistralai/Mistral-7B-v0.1"),
    "qwen2.5-7b": _index(15_231_233_024, "Qwen/Qwen2.5-7B-Instruct"),
    "llama-3.1-8b": _index(16_060_522_496, "meta-llama/Llama-3.1-8B"),
}
"""By the names of known configs."""

BEYOND_THE_CLASS: dict[str, Checkpoint] = {
    "bert-base-uncased": Checkpoint(
        440_449_768, "google-bert/bert-base-uncased, model.safetensors",
        more_bytes=4 * (768 * 768 + 768 + 2 * 768 + 2),
        more="the pooled vector's matrix and the head for the next sentence",
    ),
    "xlm-roberta-base": Checkpoint(
        1_115_567_652, "FacebookAI/xlm-roberta-base, model.safetensors",
        more_bytes=4 * (768 * 768 + 768), more="the pooled vector's matrix",
    ),
    "gpt2": Checkpoint(
        548_105_171, "openai-community/gpt2, model.safetensors",
        more_bytes=12 * 1024 * 1024 * 4, more="the causal mask of each block, as a table",
    ),
    "qwen3-0.6b": Checkpoint(
        1_503_300_328, "Qwen/Qwen3-0.6B, model.safetensors", more_bytes=2 * 151_936 * 1024,
        more="the tied head a second time",
    ),
}  # fmt: skip
"""Those that hold tensors which their class does not read."""
