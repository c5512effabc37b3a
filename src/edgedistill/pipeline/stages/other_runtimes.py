"""Files of a student for LiteRT, beside those for ONNX Runtime that passes make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgedistill.core.errors import CannotApply, MissingExtra
from edgedistill.core.events import Event
from edgedistill.pipeline.context import Context

#: Bits of the weights, by the name that a file for LiteRT goes under.
_ROUNDED: Mapping[str, Literal[4, 8]] = {"litert_int8": 8, "litert_int4": 4}
_FULL = "litert_float"


def only_other(spec: Any) -> bool:
    """Whether a task wants no file for ONNX Runtime."""
    return spec.compress is not None and spec.compress.runtime == "litert"


def litert_files(
    context: Context[Any],
    name: str,
    model: Any,
    folder: Path,
    inputs: Sequence[Mapping[str, np.ndarray]],
    most_tokens: int,
) -> dict[tuple[str, ...], Path]:
    """The student for LiteRT, in full precision and rounded, where the task wants that.

    Args:
        name: of the stage, for those who listen. model: the student.
        inputs: of the graph, a text each: their lengths choose those of the file.
        most_tokens: longest input.

    Returns:
        Files by what was done to them. Empty where the task leaves the runtime as it is, and, with
        a note, where it is one of several and cannot be.

    Raises:
        MissingExtra, CannotApply: of a runtime that the task names.
    """
    if context.spec.compress is None or context.spec.compress.runtime == "onnxruntime":
        return {}
    from edgedistill.export.litert import lengths_for, round_litert, write_litert

    lengths = lengths_for([values["input_ids"].shape[1] for values in inputs], most_tokens)
    try:
        full = write_litert(model, lengths=lengths, to=folder / f"{_FULL}.tflite")
        files: dict[tuple[str, ...], Path] = {(_FULL,): full}
        for rounded, bits in _ROUNDED.items():
            target = folder / f"{rounded}.tflite"
            files[(rounded,)] = round_litert(full, bits=bits, to=target)
    except (MissingExtra, CannotApply) as error:
        if only_other(context.spec):
            raise
        context.listener(Event(name, "note", f"LiteRT left out: {error.what}: {error.fix}"))
        return {}
    told = ", ".join(str(length) for length in lengths)
    context.listener(Event(name, "note", f"for LiteRT, texts are padded to {told} tokens"))
    return files
