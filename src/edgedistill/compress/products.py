"""Products with a constant matrix: which of them a pass may take, and what is multiplied there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from edgedistill.compress.refusal import nothing_to_take, readers_of
from edgedistill.compress.symmetric import is_large_matrix
from edgedistill.runtime.session import session_options

#: Tokens whose products are summed at a time.
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Factor:
    """A matrix that nothing reads but products x · W, and those products.

    `values` float32 [in, out]: as it multiplies, whichever way round it is stored.
    """

    name: str
    values: np.ndarray
    nodes: tuple[onnx.NodeProto, ...]


@dataclass(frozen=True)
class Seen:
    """What a matrix is multiplied with: `gram` float64 [in, in], the sum of xᵀx over all rows x;
    `mean_abs` float64 [in]; `num_rows`: how many tokens that were."""

    gram: np.ndarray
    mean_abs: np.ndarray
    num_rows: int

    def output_error(self, difference: np.ndarray) -> np.ndarray:
        """Mean squared error that `difference` [in, out] of the weights makes, float64 [out]."""
        # Single precision does for sums of squares, and the products are large.
        wrong = difference.astype(np.float32)
        weighed = self.gram.astype(np.float32) @ wrong
        sums = np.einsum("io,io->o", wrong, weighed, dtype=np.float64)
        return np.asarray(sums / self.num_rows)


def factors(graph: onnx.GraphProto) -> list[Factor]:
    """Every large FP32 matrix that is the right factor of products and nothing else, in order.

    Raises:
        CannotApply: there is none.
    """
    large = {t.name: t for t in graph.initializer if is_large_matrix(t)}
    readers = readers_of(graph)
    found, shared = [], []
    for name, tensor in large.items():
        forms = {_form(node, place) for node, place in readers.get(name, ())}
        if len(forms) == 1 and None not in forms:
            values = numpy_helper.to_array(tensor)
            nodes = tuple(node for node, _ in readers[name])
            found.append(Factor(name, values.T if forms == {"transposed"} else values, nodes))
        elif len(readers.get(name, ())) > 1:
            shared.append(name)
    if not found:
        raise nothing_to_take(graph, "matrix products with constant matrices", shared=shared)
    return found


def _form(node: onnx.NodeProto, place: int) -> str | None:
    """How a node multiplies with the matrix at `place` of its inputs; None: in no plain way."""
    if place != 1 or node.op_type not in ("MatMul", "Gemm"):
        return None
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if given.get("transA", 0) or given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0:
        return None
    return "transposed" if given.get("transB", 0) else "plain"


def seen_inputs(
    model: onnx.ModelProto,
    matrices: Sequence[Factor],
    calibration: Sequence[Mapping[str, np.ndarray]],
) -> dict[str, Seen]:
    """Run the calibration inputs through the model; what each matrix met, by its name."""
    taken = {node.input[0] for factor in matrices for node in factor.nodes}
    graph = onnx.ModelProto()
    graph.CopyFrom(model)
    given = {value.name for value in model.graph.input}
    for name in sorted(taken - given - {value.name for value in model.graph.output}):
        graph.graph.output.add().name = name
    # Fusions would swallow the values that are asked for.
    options = session_options(1)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = sorted(taken - given)
    sums = {name: _Sums() for name in taken}
    for inputs in calibration:
        values_of = dict(zip(names, session.run(names, dict(inputs)), strict=True))
        for name, values in (values_of | {n: inputs[n] for n in taken & given}).items():
            sums[name].add(values.reshape(-1, values.shape[-1]))
    return {
        factor.name: _together([sums[node.input[0]].seen() for node in factor.nodes])
        for factor in matrices
    }


class _Sums:
    """Gathers rows, and sums them up a few thousand at a time: a row by itself is slow."""

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []
        self._done: list[Seen] = []

    def add(self, rows: np.ndarray) -> None:
        self._rows.append(rows.astype(np.float32))
        if sum(map(len, self._rows)) >= _ROWS_AT_ONCE:
            self._done = [self.seen()]

    def seen(self) -> Seen:
        """What all rows so far sum up to."""
        if self._rows:
            rows = np.concatenate(self._rows)
            mean = np.abs(rows).mean(axis=0, dtype=np.float64)
            self._done.append(Seen((rows.T @ rows).astype(np.float64), mean, len(rows)))
            self._rows = []
        return _together(self._done)


def _together(parts: Sequence[Seen]) -> Seen:
    if len(parts) == 1:
        return parts[0]
    num_rows = sum(part.num_rows for part in parts)
    mean = np.sum([part.mean_abs * part.num_rows for part in parts], axis=0) / num_rows
    return Seen(np.sum([part.gram for part in parts], axis=0), mean, num_rows)


def opened(artefact: Path) -> tuple[onnx.ModelProto, list[Factor]]:
    """The file, and the matrices in it that `factors` finds."""
    model = onnx.load(artefact)
    return model, factors(model.graph)
