"""Nodes that make a matrix again out of what is stored for it.

Of constants alone, so the runtime works them out once, when it loads the file: a call costs what it
costs in full precision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgedistill.compress.refusal import nothing_to_take, readers_of
from edgedistill.compress.symmetric import is_large_matrix


class Expansion:
    """Collects nodes and constants, named after the value `name` that they make."""

    def __init__(self, graph: onnx.GraphProto, name: str) -> None:
        self.graph, self.name = graph, name
        self.nodes: list[onnx.NodeProto] = []

    def keep(self, part: str, values: np.ndarray | np.generic) -> str:
        """Store a constant; returns its name."""
        tensor = numpy_helper.from_array(np.array(values, order="C"), f"{self.name}/{part}")
        self.graph.initializer.append(tensor)
        return tensor.name

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """One node; returns the name of its output."""
        output = f"{self.name}/{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def insert(self, place: int, output: str) -> None:
        """Put the nodes into the graph, the last one's output under the name `output`."""
        self.nodes[-1].output[0] = output
        for offset, node in enumerate(self.nodes):
            self.graph.node.insert(place + offset, node)


def take_out(graph: onnx.GraphProto, matrix: onnx.TensorProto) -> tuple[np.ndarray, Expansion]:
    """A matrix out of the graph, and the expansion that is to make it again under its name."""
    values = numpy_helper.to_array(matrix)
    graph.initializer.remove(matrix)
    return values, Expansion(graph, matrix.name)


def plain_matrices(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Large FP32 matrices but tables whose rows are looked up: those widen row by row."""
    readers = readers_of(graph)
    looked_up = {
        name
        for name, uses in readers.items()
        if all(node.op_type == "Gather" and place == 0 for node, place in uses)
    }
    return [t for t in graph.initializer if is_large_matrix(t) and t.name not in looked_up]


def with_matrices(artefact: Path) -> tuple[onnx.ModelProto, list[onnx.TensorProto]]:
    """An ONNX file with its `plain_matrices`.

    Raises:
        CannotApply: it has none.
    """
    model = onnx.load(artefact)
    matrices = plain_matrices(model.graph)
    if not matrices:
        raise nothing_to_take(model.graph, "matrices beside tables")
    return model, matrices


def row_tables(graph: onnx.GraphProto) -> list[tuple[onnx.NodeProto, onnx.TensorProto]]:
    """Row look-ups in FP32 tables that no other operator reads."""
    tables = {t.name: t for t in graph.initializer if is_large_matrix(t)}
    readers = readers_of(graph)
    return [
        (node, tables[node.input[0]])
        for node in graph.node
        if node.op_type == "Gather"
        and node.input[0] in tables
        and len(readers[node.input[0]]) == 1
        and all(a.i == 0 for a in node.attribute if a.name == "axis")
    ]


def spanned_axis(graph: onnx.GraphProto, name: str) -> int:
    """The axis that one scale of a matrix spans: all inputs of an output of a MatMul or Gemm; of
    any other matrix a row."""
    for node, place in readers_of(graph).get(name, ()):
        if place == 1 and node.op_type in ("MatMul", "Gemm"):
            is_transposed = any(a.name == "transB" and a.i == 1 for a in node.attribute)
            return 1 if is_transposed else 0
    return 1
