"""Why a pass does not apply: said in words, before a file is made that is no better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx

from edgedistill.compress.symmetric import is_large_matrix
from edgedistill.core.errors import CannotApply
from edgedistill.core.weight_groups import MIN_BYTES

#: Ranges and second moments of fewer texts say more of the texts than of the task.
LEAST_CALIBRATION = 8

#: Operators that only a quantised file has.
_QUANTISED = {
    "DequantizeLinear", "DynamicQuantizeLinear", "GatherBlockQuantized", "MatMulInteger",
    "MatMulNBits", "QLinearMatMul",
}  # fmt: skip
#: Types that weights have in a file that a pass has been over.
_NARROW = {
    onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
}  # fmt: skip


def nothing_to_take(
    graph: onnx.GraphProto, what: str, *, shared: Sequence[str] = ()
) -> CannotApply:
    """Why there is none of `what` in the graph.

    Args:
        what: what was looked for, in the plural.
        shared: names of those that something else reads too.
    """
    if shared:
        return CannotApply(
            f"{shared[0]} is shared with another operator that needs it in full precision (tied "
            f"weights), and there are no other {what}",
            fix="palette_16, palette_256 and weight_int8 store a shared matrix once",
        )
    narrow = [t for t in graph.initializer if t.data_type in _NARROW and _num_bytes(t) >= 4096]
    if narrow or any(node.op_type in _QUANTISED for node in graph.node):
        return CannotApply(
            f"no {what} in full precision are left: an earlier pass took them, and what is rounded "
            "twice loses twice",
            fix="leave one of the passes out",
        )
    return CannotApply(
        f"the model has no {what} of at least {MIN_BYTES:,} bytes: what they would save, the extra "
        "operators would take",
        fix="leave the pass out for so small a model",
    )


def require_calibration(calibration: Sequence[Any], what: str) -> None:
    """Refuse to fit `what` to too few texts."""
    if len(calibration) < LEAST_CALIBRATION:
        given = {0: "an empty calibration set", 1: "a calibration set of one text"}.get(
            len(calibration), f"{len(calibration)} calibration texts"
        )
        raise CannotApply(
            f"{what} cannot be fitted to {given}",
            fix=f"give at least {LEAST_CALIBRATION} training texts",
        )


def shared_matrices(graph: onnx.GraphProto) -> list[str]:
    """Names of large matrices that several operators read."""
    readers = readers_of(graph)
    large = (t.name for t in graph.initializer if is_large_matrix(t))
    return [name for name in large if len(readers.get(name, ())) > 1]


def readers_of(graph: onnx.GraphProto) -> dict[str, list[tuple[onnx.NodeProto, int]]]:
    """By value: the nodes that read it, each with the place among its inputs."""
    found: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            found.setdefault(name, []).append((node, place))
    return found


def _num_bytes(tensor: onnx.TensorProto) -> int:
    return len(tensor.raw_data)
