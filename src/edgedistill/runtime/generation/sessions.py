"""The session that runs a file: llama.cpp for GGUF, ONNX Runtime for ONNX."""

from __future__ import annotations

from pathlib import Path

from edgedistill.runtime.generation.completion import LanguageSession

ONNX = ".onnx"


def open_session(path: Path, *, tokenizer: str, threads: int = 1, context: int) -> LanguageSession:
    """Load a language model. What the other format needs is not imported.

    Args:
        path: a GGUF file, or one whose name ends in `.onnx`.
        tokenizer: the JSON of its `tokenizers` tokenizer; a GGUF file has its own.
        threads, context: see the sessions.

    Raises:
        BundleError, MissingExtra, SpecError: as the sessions raise them.
    """
    if path.suffix == ONNX:
        from edgedistill.runtime.generation.onnx_llama import OnnxLlamaSession

        return OnnxLlamaSession(
            path.read_bytes(), tokenizer=tokenizer, threads=threads, context=context
        )
    from edgedistill.runtime.generation.llama_cpp import LlamaCppSession

    return LlamaCppSession(path, threads=threads, context=context)
