"""Matrices in groups of few bits, as ONNX Runtime's MatMulNBits reads them.

The runtime keeps such a matrix small in memory and multiplies in INT8: each token's activations
are rounded by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from edgedistill.compress.products import Factor
from edgedistill.core.weight_groups import group_size

#: Activations in INT8 by groups, as the weights are.
_INT8_PRODUCTS = 4
DOMAIN = "com.microsoft"


@dataclass(frozen=True)
class Blocks:
    """`codes` uint8 [out, groups, size], `scales` float32 [out, groups].

    weight[i, o] ≈ (codes - 2^(bits - 1)) · scale of its group; the last group is filled with
    zeros where `width`, the number of inputs, is no multiple of its size.
    """

    codes: np.ndarray
    scales: np.ndarray
    bits: int
    width: int

    @property
    def values(self) -> np.ndarray:
        """The weights that the codes stand for, float32 [in, out]."""
        signed = self.codes.astype(np.float32) - 2 ** (self.bits - 1)
        wide = (signed * self.scales[..., None]).reshape(len(self.codes), -1)
        return np.ascontiguousarray(wide[:, : self.width].T)

    @property
    def size_bytes(self) -> int:
        """Bytes in the file."""
        return self.codes.size * self.bits // 8 + self.scales.nbytes


def to_blocks(values: np.ndarray, bits: int) -> Blocks:
    """Round each weight of [in, out] to the nearest step of its group."""
    groups = in_groups(values)
    scales = scales_of(groups, bits)
    return Blocks(codes_of(groups, scales[..., None], bits), scales, bits, len(values))


def in_groups(values: np.ndarray) -> np.ndarray:
    """[in, out] as [out, groups, size], the last group filled with zeros."""
    width, num_out = values.shape
    size = group_size(width)
    return np.pad(values.T, ((0, 0), (0, -width % size))).reshape(num_out, -1, size)


def scales_of(groups: np.ndarray, bits: int) -> np.ndarray:
    """One scale for the last axis, float32; never 0.

    Of an even number of steps one side has one more: it goes to the side of the largest weight,
    by a scale of that sign. Other weights of that size on the other side lose up to a step.
    """
    largest = np.take_along_axis(groups, np.abs(groups).argmax(-1)[..., None], -1)[..., 0]
    scales = (largest / -(2 ** (bits - 1))).astype(np.float32)
    return np.where(scales == 0, np.float32(1.0), scales)


def codes_of(values: np.ndarray, scales: np.ndarray, bits: int) -> np.ndarray:
    """The nearest codes, uint8."""
    half = 2 ** (bits - 1)
    return np.asarray(np.clip(np.rint(values / scales), -half, half - 1) + half, np.uint8)


def write_blocks(model: onnx.ModelProto, factor: Factor, blocks: Blocks) -> None:
    """Let the products of `factor` read `blocks` instead of its matrix."""
    graph, name = model.graph, factor.name
    graph.initializer.remove(next(t for t in graph.initializer if t.name == name))
    codes = blocks.codes
    if blocks.bits == 4:
        codes = codes[..., 0::2] | (codes[..., 1::2] << 4)
    for part, array in ((f"{name}/codes", codes), (f"{name}/scales", blocks.scales)):
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), part))
    for node in factor.nodes:
        bias = [*node.input[2:3]]
        product = f"{node.output[0]}/product" if bias else node.output[0]
        new = [
            onnx.helper.make_node(
                "MatMulNBits", [node.input[0], f"{name}/codes", f"{name}/scales"], [product],
                name=f"{product}/{blocks.bits}bits", domain=DOMAIN, K=blocks.width,
                N=len(blocks.codes), bits=blocks.bits, block_size=blocks.codes.shape[2],
                accuracy_level=_INT8_PRODUCTS,
            )
        ]  # fmt: skip
        if bias:
            new.append(onnx.helper.make_node("Add", [product, *bias], list(node.output)))
        replace_node(graph, node, new)
    use_domain(model)


def replace_node(graph: onnx.GraphProto, node: onnx.NodeProto, new: list[onnx.NodeProto]) -> None:
    """Put `new` in the place of `node`."""
    place = list(graph.node).index(node)
    graph.node.remove(node)
    for offset, each in enumerate(new):
        graph.node.insert(place + offset, each)


def use_domain(model: onnx.ModelProto) -> None:
    """Declare the runtime's own operators, once."""
    if DOMAIN not in {opset.domain for opset in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
