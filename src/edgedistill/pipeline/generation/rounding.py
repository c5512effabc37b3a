"""A language model in ONNX with products of four bits: written wide, rounded by a pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedistill.core.errors import CannotApply, DataError
from edgedistill.core.files import storage_errors
from edgedistill.core.generation_task import GenerationSpec
from edgedistill.core.weight_groups import GROUP, MIN_BYTES, is_large
from edgedistill.core.weight_types import FITTED

if TYPE_CHECKING:
    from edgedistill.export.onnx_language import OnnxFile

#: The pass that rounds, by the type of weights.
PASSES = {
    "onnx_int4": "group_int4",
    "onnx_awq_int4": "awq_int4",
    "onnx_gptq_int4": "gptq_int4",
}
#: How `export/onnx_weights.py` names matrices of eight bits.
_EIGHT_BITS = ".q8"


def write_rounded(model: Any, *, to: Path, kind: str, rows: Sequence[Sequence[int]]) -> OnnxFile:
    """Write a `LlamaForCausalLM` with the matrices of its layers in four bits by group.

    The table of tokens and the head stay in eight bits: what they are off by, every token and
    every answer is off by, and scales of a tied table would have to suit its rows and columns.

    Args:
        kind: a type of `PASSES`.
        rows: token ids of training rows, which AWQ and GPTQ are fitted to.

    Raises:
        CannotApply: every matrix is too small, or there are too few rows for a fit.
        ModelError: as `write_onnx_language` raises it.
    """
    import onnx

    from edgedistill.compress.passes import PASSES as ALL_PASSES
    from edgedistill.export.onnx_language import OnnxFile, write_onnx_language
    from edgedistill.export.onnx_weights import WIDE_PRODUCTS

    apply = ALL_PASSES.load(PASSES[kind])()
    wide, rounded = (to.with_name(f".{to.name}.{part}") for part in ("wide", "rounded"))
    try:
        write_onnx_language(model, to=wide, kind=WIDE_PRODUCTS)
        _require_large(model.config)
        inputs = _inputs(model.config, rows) if apply.needs_calibration else []
        with storage_errors(to):
            apply(wide, to=rounded, calibration=inputs)
            found = onnx.load(rounded)
            onnx.checker.check_model(found)
            rounded.replace(to)
    finally:
        for path in (wide, rounded):
            path.unlink(missing_ok=True)
    return OnnxFile(to, kind, to.stat().st_size, _fallbacks(found))


def require_rows_to_fit(spec: GenerationSpec, num_rows: int) -> None:
    """Refuse before any training what so few training rows cannot be fitted to."""
    fitted = [kind for kind in spec.student.weight_types if kind in FITTED]
    if not fitted:
        return
    from edgedistill.compress.refusal import LEAST_CALIBRATION

    if num_rows < LEAST_CALIBRATION:
        raise DataError(
            f"{num_rows} training rows, to which {fitted[0]} cannot be fitted",
            where=str(spec.data.files.train),
            fix=f"at least {LEAST_CALIBRATION} rows, or onnx_int4 in student.weight_types",
        )


def _inputs(config: Any, rows: Sequence[Sequence[int]]) -> list[Mapping[str, np.ndarray]]:
    """One run of the file a row: its ids, nothing read before, the log-odds of one place."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    nothing = np.zeros((1, config.num_key_value_heads, 0, width), np.float32)
    past = {
        f"past_{part}.{number}": nothing
        for number in range(config.num_hidden_layers)
        for part in ("key", "value")
    }
    cut = [list(row)[: config.max_position_embeddings] for row in rows]
    return [
        {"input_ids": np.array([ids], np.int64), "positions": np.zeros(1, np.int64), **past}
        for ids in cut
        if ids
    ]


def _require_large(config: Any) -> None:
    """The two matrices of gated units, stored as one, are the largest of a layer."""
    width, units = config.hidden_size, config.intermediate_size
    if not is_large(2 * units, width):
        raise CannotApply(
            f"of {width} x {units} no matrix has the {MIN_BYTES // 4:,} weights from which four "
            "bits pay",
            fix="onnx_int8 in student.weight_types",
        )


def _fallbacks(model: Any) -> dict[str, str]:
    """What stands otherwise than in four bits and whole groups of `GROUP`, by the matrix' name."""
    from onnx import helper

    tables = {t.name: t.dims[2] for t in model.graph.initializer if t.name.endswith(_EIGHT_BITS)}
    found = {
        name.removesuffix(_EIGHT_BITS): f"8 bits in groups of {size}"
        for name, size in tables.items()
    }
    constants = {t.name for t in model.graph.initializer} - set(tables)
    for node in model.graph.node:
        if node.op_type not in ("MatMul", "MatMulNBits") or node.input[1] not in constants:
            continue
        has = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        name = node.input[1].partition("/")[0]
        if node.op_type == "MatMul":
            found[name] = "fp32"
        elif has["K"] % GROUP:
            part = has["K"] % has["block_size"]
            filled = f", the last with {part} weights" if part else ""
            found[name] = f"{has['bits']} bits in groups of {has['block_size']}{filled}"
    return found
