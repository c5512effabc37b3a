"""Tables and matrices in INT8 and FP16: what the runtime widens is the original, nearly.

The reference reads the graph with onnx's own evaluator, in no way the code under test.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgedistill.compress.symmetric import quantise
from edgedistill.compress.tables import Float16Tables, Int4Tables, Int8Tables
from edgedistill.compress.weights import WeightInt8
from edgedistill.core.errors import CannotApply
from edgedistill.core.weight_groups import MIN_BYTES

ROWS, WIDTH = 160, 48
RNG = np.random.default_rng(0)


def values(num_rows: int = ROWS, width: int = WIDTH) -> np.ndarray:
    """Rows and columns of very different sizes, one of each zero."""
    table = RNG.normal(size=(num_rows, width)) * np.logspace(-3, 1, num_rows)[:, None]
    table *= np.logspace(-1, 1, width)
    table[3], table[:, 5] = 0.0, 0.0
    return table.astype(np.float32)


def save(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], path: Path) -> Path:
    """A graph from `ids` int64 [n] or `x` float [n, k] to `y`."""
    reads = {name for node in nodes for name in node.input}
    given = "ids" if "ids" in reads else "x"
    kind = TensorProto.INT64 if given == "ids" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "test",
        [helper.make_tensor_value_info(given, kind, ["n"] if given == "ids" else ["n", "k"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "m"])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


def evaluate(file: Path, **inputs: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(onnx.load(file), full_check=True)
    return np.asarray(ReferenceEvaluator(str(file)).run(None, inputs)[0])


@pytest.mark.parametrize("axis", [0, 1])
def test_quantised_values_are_within_half_a_step(axis: int) -> None:
    original = values()
    small, scale = quantise(original, axis)
    assert small.dtype == np.int8
    assert scale.dtype == np.float32
    assert scale.shape == ((1, WIDTH) if axis == 0 else (ROWS, 1))
    step = np.abs(original).max(axis=axis, keepdims=True) / 127
    assert (np.abs(small * scale - original) <= 0.5 * step * (1 + 1e-5)).all()
    # The largest of each vector takes the whole range, and -128 is not used.
    assert small.min() == -127 or small.max() == 127
    largest = np.abs(small.astype(int)).max(axis=axis)
    assert set(largest.tolist()) == {0, 127}
    assert np.isfinite(scale).all()
    assert (scale > 0).all()


def test_int8_table_reads_back_within_half_a_step_of_its_row(tmp_path: Path) -> None:
    table = values()
    node = helper.make_node("Gather", ["table", "ids"], ["y"])
    full = save([node], {"table": table}, tmp_path / "full.onnx")
    small = Int8Tables()(full, to=tmp_path / "small.onnx", calibration=[])
    ids = np.arange(ROWS)[::-1].copy()
    found = evaluate(small, ids=ids)
    step = np.abs(table).max(axis=1, keepdims=True) / 127
    assert (np.abs(found - table[ids]) <= (0.5 * step * (1 + 1e-5))[ids]).all()
    assert not np.array_equal(found, table[ids])
    assert small.stat().st_size < 0.4 * full.stat().st_size


def test_float16_table_reads_back_to_eleven_bits(tmp_path: Path) -> None:
    table = values()
    table[7, 7], table[8, 8] = 1e30, -1e30
    node = helper.make_node("Gather", ["table", "ids"], ["y"])
    full = save([node], {"table": table}, tmp_path / "full.onnx")
    small = Float16Tables()(full, to=tmp_path / "small.onnx", calibration=[])
    found = evaluate(small, ids=np.arange(ROWS))
    expected = np.clip(table, -65504, 65504)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=2**-11, atol=2**-25)
    assert small.stat().st_size < 0.6 * full.stat().st_size


def matmul(weights: np.ndarray) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    return [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weights}


def gemm(weights: np.ndarray) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    bias = np.arange(weights.shape[1], dtype=np.float32)
    return [helper.make_node("Gemm", ["x", "w", "b"], ["y"])], {"w": weights, "b": bias}


def transposed(weights: np.ndarray) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    return [node], {"w": np.ascontiguousarray(weights.T)}


@pytest.mark.parametrize("form", [matmul, gemm, transposed], ids=lambda f: f.__name__)
def test_matrices_read_back_within_half_a_step_of_their_output_channel(
    tmp_path: Path, form: object
) -> None:
    weights = values()
    nodes, constants = form(weights)  # type: ignore[operator]
    full = save(nodes, constants, tmp_path / "full.onnx")
    small = WeightInt8()(full, to=tmp_path / "small.onnx", calibration=[])
    # The identity makes the product the matrix itself.
    eye = np.eye(ROWS, dtype=np.float32)
    found = evaluate(small, x=eye) - constants.get("b", np.float32(0))
    step = np.abs(weights).max(axis=0, keepdims=True) / 127
    assert (np.abs(found - weights) <= 0.5 * step * (1 + 1e-4) + 1e-5).all()
    assert not np.array_equal(found, weights)
    assert small.stat().st_size < 0.4 * full.stat().st_size


def test_small_matrices_and_those_that_are_computed_stay(tmp_path: Path) -> None:
    width = MIN_BYTES // 4 // ROWS
    tiny = RNG.normal(size=(ROWS, width)).astype(np.float32)
    assert tiny.nbytes < MIN_BYTES
    full = save(*matmul(tiny), tmp_path / "full.onnx")
    with pytest.raises(CannotApply, match="no matrices beside tables of at least 16,384 bytes"):
        WeightInt8()(full, to=tmp_path / "small.onnx", calibration=[])


def test_a_table_that_something_else_reads_too_stays(tmp_path: Path) -> None:
    table = values(ROWS, ROWS)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "table"], ["y"]),
    ]
    full = save(nodes, {"table": table}, tmp_path / "full.onnx")
    for made in (Int8Tables(), Float16Tables(), Int4Tables()):
        with pytest.raises(CannotApply, match="shared with another operator"):
            made(full, to=tmp_path / "small.onnx", calibration=[])


def test_a_look_up_of_columns_stays(tmp_path: Path) -> None:
    node = helper.make_node("Gather", ["table", "ids"], ["y"], axis=1)
    full = save([node], {"table": values()}, tmp_path / "full.onnx")
    with pytest.raises(CannotApply, match="no tables of rows"):
        Int8Tables()(full, to=tmp_path / "small.onnx", calibration=[])
