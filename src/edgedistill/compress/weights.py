"""Matrices in INT8 on the disk, widened once when the model is loaded.

One scale an output channel. The runtime folds the widening into a constant, so a call costs what
it costs in full precision, activations are not rounded, and an answer cannot depend on its
batch-mates. For models whose matrices are small, this beats INT8 arithmetic in everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
from onnx import numpy_helper

from edgedistill.compress.symmetric import is_large_matrix, quantise


class WeightInt8:
    """Symmetric INT8 for every FP32 matrix but look-up tables, which widen row by row.

    A factor of a MatMul or Gemm has a scale an output channel, any other (positions) one a row.
    """

    needs_calibration: ClassVar[bool] = False

    def __call__(
        self, artefact: Path, *, to: Path, calibration: Sequence[Mapping[str, np.ndarray]]
    ) -> Path:
        model = onnx.load(artefact)
        tables = {node.input[0] for node in model.graph.node if node.op_type == "Gather"}
        by_row = {
            node.input[1]: _is_transposed(node)
            for node in model.graph.node
            if node.op_type in ("MatMul", "Gemm")
        }
        for matrix in list(model.graph.initializer):
            if is_large_matrix(matrix) and matrix.name not in tables:
                _narrow(model.graph, matrix, axis=1 if by_row.get(matrix.name, True) else 0)
        onnx.save(model, to)
        return to


def _is_transposed(node: onnx.NodeProto) -> bool:
    return any(a.name == "transB" and a.i == 1 for a in node.attribute)


def _narrow(graph: onnx.GraphProto, matrix: onnx.TensorProto, axis: int) -> None:
    """Store `matrix` as INT8 with a scale that spans `axis`."""
    small, scale = quantise(numpy_helper.to_array(matrix), axis)
    name = matrix.name
    graph.initializer.remove(matrix)
    graph.initializer.append(numpy_helper.from_array(small, f"{name}/int8"))
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}/scale"))
    make = onnx.helper.make_node
    graph.node.insert(0, make("Mul", [f"{name}/wide", f"{name}/scale"], [name]))
    graph.node.insert(
        0, make("Cast", [f"{name}/int8"], [f"{name}/wide"], to=onnx.TensorProto.FLOAT)
    )
