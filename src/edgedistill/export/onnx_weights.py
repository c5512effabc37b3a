"""How the matrices of a language model stand in an ONNX file: as they are, or in eight bits.

Four bits are made of a file with wide products by the passes of `compress`, which this room does
not know.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgedistill.core.errors import ModelError
from edgedistill.core.weight_groups import EIGHT_BIT_GROUP as BLOCK

#: Bits that stand for a weight of zero.
ZERO = 128
#: Where ONNX Runtime keeps operators that are not in the standard.
DOMAIN = "com.microsoft"


@dataclass
class Graph:
    """Nodes and initializers as they are added; values are named after what makes them."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def add(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """One node with one output; returns the output's name."""
        return self.add_many(kind, inputs, [name], **attributes)[0]

    def add_many(
        self, kind: str, inputs: list[str], names: list[str], **attributes: Any
    ) -> list[str]:
        """One node with several outputs."""
        self.nodes.append(helper.make_node(kind, inputs, names, name=names[0], **attributes))
        return names

    def keep(self, name: str, values: np.ndarray) -> str:
        """Store an array once; the same name again is the same array."""
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name


class FullWeights:
    """Matrices as they are, in fp32. `graph`: where they are added."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def product(self, x: str, weight: np.ndarray, name: str) -> str:
        """x [batch, sequence, in] times the transpose of weight [out, in]."""
        return self.graph.add("MatMul", [x, self.graph.keep(name, weight.T)], f"{name}.product")

    def rows(self, ids: str, table: np.ndarray, name: str) -> str:
        """Rows of a table [rows, width] by ids [batch, sequence]."""
        return self.graph.add("Gather", [self.graph.keep(name, table), ids], f"{name}.rows")

    def scores(self, x: str, table: np.ndarray, name: str) -> str:
        """x times the transpose of a table that `rows` may read too: it is stored once."""
        graph, (num_rows, width) = self.graph, table.shape
        flat = graph.keep("flat", np.array([-1, width], np.int64))
        shape = graph.add("Shape", [x], f"{name}.shape", end=2)
        whole = graph.add(
            "Concat", [shape, graph.keep("num_rows", np.array([num_rows], np.int64))],
            f"{name}.whole", axis=0,
        )  # fmt: skip
        rows = graph.add("Reshape", [x, flat], f"{name}.flat")
        scores = graph.add("Gemm", [rows, graph.keep(name, table)], f"{name}.scores", transB=1)
        return graph.add("Reshape", [scores, whole], f"{name}.product")


class EightBitWeights:
    """Matrices in blocks of eight-bit integers with one scale each, symmetric around `ZERO`.

    Activations are rounded to eight bits by blocks too, each token by itself, so that an answer
    does not depend on its neighbours in a batch.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def product(self, x: str, weight: np.ndarray, name: str) -> str:
        """x [batch, sequence, in] times the transpose of weight [out, in]."""
        num_rows, width = weight.shape
        return self.graph.add(
            "MatMulNBits", [x, *self._keep(weight, name)], f"{name}.product", domain=DOMAIN,
            K=width, N=num_rows, bits=8, block_size=BLOCK, accuracy_level=4,
        )  # fmt: skip

    scores = product

    def rows(self, ids: str, table: np.ndarray, name: str) -> str:
        """Rows of a table [rows, width] by ids [batch, sequence], as `product` sees them."""
        graph, width = self.graph, table.shape[1]
        blocks, scales = self._keep(table, name)
        found = graph.add("Gather", [blocks, ids], f"{name}.blocks.rows")
        wide = graph.add("Cast", [found], f"{name}.wide", to=onnx.TensorProto.FLOAT)
        zero = graph.keep("zero", np.array(ZERO, np.float32))
        signed = graph.add("Sub", [wide, zero], f"{name}.signed")
        scale = graph.add("Gather", [scales, ids], f"{name}.scales.rows")
        last = graph.keep("last", np.array([-1], np.int64))
        scale = graph.add("Unsqueeze", [scale, last], f"{name}.scale")
        values = graph.add("Mul", [signed, scale], f"{name}.values")
        merged = graph.keep("merged", np.array([0, 0, -1], np.int64))
        rows = graph.add("Reshape", [values, merged], f"{name}.rows")
        if width % BLOCK == 0:
            return rows
        ends = [graph.keep(f"{name}.{part}", np.array([at], np.int64))
                for part, at in (("first", 0), ("width", width), ("axis", 2))]  # fmt: skip
        return graph.add("Slice", [rows, *ends], f"{name}.cut")

    def _keep(self, weight: np.ndarray, name: str) -> list[str]:
        blocks, scales = eight_bits(weight)
        return [self.graph.keep(f"{name}.q8", blocks), self.graph.keep(f"{name}.scales", scales)]


class WideProducts(EightBitWeights):
    """Table of tokens and head in eight bits, other matrices as they are: to be rounded next."""

    def product(self, x: str, weight: np.ndarray, name: str) -> str:
        """x [batch, sequence, in] times the transpose of weight [out, in]."""
        return FullWeights(self.graph).product(x, weight, name)


def eight_bits(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(blocks uint8 [rows, blocks, BLOCK], scales float32 [rows, blocks]) of weight [rows, width].

    weight ≈ (blocks - ZERO) · scale; a last block that is not full is filled with zeros.
    """
    rows, width = weight.shape
    padded = np.pad(weight, ((0, 0), (0, -width % BLOCK))).reshape(rows, -1, BLOCK)
    scales = np.abs(padded).max(-1) / 127
    steps = np.round(padded / np.where(scales == 0, 1, scales)[:, :, None])
    return (steps + ZERO).astype(np.uint8), scales.astype(np.float32)


Weights = FullWeights | EightBitWeights
#: Of a file whose products are still to be rounded.
WIDE_PRODUCTS = "onnx_int8_tables"
WEIGHTS: dict[str, type[FullWeights] | type[EightBitWeights]] = {
    "onnx_f32": FullWeights,
    "onnx_int8": EightBitWeights,
    WIDE_PRODUCTS: WideProducts,
}
"""Ways to store the matrices, by the type of weights."""


def finite(name: str, values: np.ndarray) -> np.ndarray:
    """The values; raises ModelError where one is not finite."""
    if not np.isfinite(values).all():
        raise ModelError(f"{name} holds weights that are not finite")
    return values
