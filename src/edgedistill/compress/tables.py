"""Embedding tables in fewer bits: INT8 with one scale a row, or FP16.

The rows stay small in memory too: only the rows that a text needs are widened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
from onnx import numpy_helper

from edgedistill.compress.symmetric import is_large_matrix, quantise


class Int8Tables:
    """Symmetric INT8 with a scale a row: row ≈ scale · int8, scale = max|row| / 127."""

    needs_calibration: ClassVar[bool] = False

    def __call__(
        self, artefact: Path, *, to: Path, calibration: Sequence[Mapping[str, np.ndarray]]
    ) -> Path:
        model = onnx.load(artefact)
        for node, table in _gathers(model.graph):
            small, scale = quantise(numpy_helper.to_array(table), axis=1)
            _replace(model.graph, node, table, small, scale)
        onnx.save(model, to)
        return to


class Float16Tables:
    """IEEE half precision, widened to FP32 after the look-up."""

    needs_calibration: ClassVar[bool] = False

    def __call__(
        self, artefact: Path, *, to: Path, calibration: Sequence[Mapping[str, np.ndarray]]
    ) -> Path:
        model = onnx.load(artefact)
        for node, table in _gathers(model.graph):
            limit = np.finfo(np.float16).max
            values = np.clip(numpy_helper.to_array(table), -limit, limit)
            _replace(model.graph, node, table, values.astype(np.float16), None)
        onnx.save(model, to)
        return to


def _gathers(graph: onnx.GraphProto) -> list[tuple[onnx.NodeProto, onnx.TensorProto]]:
    """Row look-ups in FP32 tables that no other operator reads."""
    tables = {t.name: t for t in graph.initializer if is_large_matrix(t)}
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    return [
        (node, tables[node.input[0]])
        for node in graph.node
        if node.op_type == "Gather"
        and node.input[0] in tables
        and readers[node.input[0]] == 1
        and all(a.i == 0 for a in node.attribute if a.name == "axis")
    ]


def _replace(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    table: onnx.TensorProto,
    small: np.ndarray,
    scale: np.ndarray | None,
) -> None:
    """Gather narrow rows, widen them, and multiply by their scales where there are any."""
    rows, output, name = node.input[1], node.output[0], table.name
    position = list(graph.node).index(node)
    graph.node.remove(node)
    graph.initializer.remove(table)
    graph.initializer.append(numpy_helper.from_array(small, f"{name}/narrow"))
    make = onnx.helper.make_node
    nodes = [make("Gather", [f"{name}/narrow", rows], [f"{name}/rows"], name=f"{name}/gather")]
    if scale is None:
        nodes.append(make("Cast", [f"{name}/rows"], [output], to=onnx.TensorProto.FLOAT))
    else:
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}/scale"))
        nodes += [
            make("Cast", [f"{name}/rows"], [f"{name}/wide"], to=onnx.TensorProto.FLOAT),
            make("Gather", [f"{name}/scale", rows], [f"{name}/scales"]),
            make("Mul", [f"{name}/wide", f"{name}/scales"], [output]),
        ]
    for offset, new in enumerate(nodes):
        graph.node.insert(position + offset, new)
