"""INT4 and INT8 by group, AWQ and GPTQ against what they must equal: numpy, and brute force."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from clipped_by_hand import clipped_by_hand
from edgedistill.compress.awq import AwqInt4, scales_at, searched
from edgedistill.compress.blocks import Blocks, scales_of, to_blocks
from edgedistill.compress.gptq import GptqInt4, compensated, spread_errors
from edgedistill.compress.groups import GroupInt4, GroupInt8
from edgedistill.compress.products import Seen, factors, opened, seen_inputs
from edgedistill.core.errors import CannotApply
from edgedistill.core.weight_groups import group_size
from edgedistill.runtime.session import session_options

RNG = np.random.default_rng(7)


def seen_of(rows: np.ndarray) -> Seen:
    wide = rows.astype(np.float64)
    return Seen(wide.T @ wide, np.abs(wide).mean(axis=0), len(rows))


def skewed(num_rows: int, width: int) -> np.ndarray:
    """Inputs that depend on each other, a few of them much larger."""
    rows = RNG.normal(size=(num_rows, width)) @ RNG.normal(size=(width, width)) / width**0.5
    rows[:, :: max(width // 4, 1)] *= 8
    return rows.astype(np.float32)


def save(form: str, weights: np.ndarray, path: Path) -> Path:
    """y = x · W + b from `x` [n, in], with W stored plainly or the other way round."""
    constants = {"w": weights, "b": np.linspace(-1, 1, weights.shape[1], dtype=np.float32)}
    if form == "matmul":
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["p"]),
            helper.make_node("Add", ["p", "b"], ["y"]),
        ]
    else:
        turned = form == "transposed"
        constants["w"] = np.ascontiguousarray(weights.T) if turned else weights
        nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=int(turned))]
    graph = helper.make_graph(
        nodes, "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", weights.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", weights.shape[1]])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path


def run(file: Path, rows: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(file.read_bytes(), session_options(1))
    return np.asarray(session.run(None, {"x": rows})[0])


def texts(rows: np.ndarray) -> list[Mapping[str, np.ndarray]]:
    return [{"x": part} for part in np.array_split(rows, 10)]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("width", [5, 16, 96, 128, 300])
def test_rounded_weights_are_within_a_step_and_within_half_of_it_inside_the_range(
    bits: int, width: int
) -> None:
    values = RNG.normal(size=(width, 9)).astype(np.float32) * np.logspace(-3, 2, 9)
    values[:, 4] = 0.0
    blocks = to_blocks(values.astype(np.float32), bits)
    assert blocks.codes.max() < 2**bits
    size = group_size(width)
    assert size >= min(width, 128)
    step = np.repeat(np.abs(blocks.scales), size, axis=1)[:, :width].T
    wrong = np.abs(blocks.values - values)
    inside = np.abs(values) <= (2 ** (bits - 1) - 1) * step
    assert (wrong <= step * (1 + 1e-5)).all()
    assert (wrong[inside] <= 0.5 * step[inside] * (1 + 1e-5)).all()
    assert (blocks.values[:, 4] == 0).all()
    assert np.isfinite(blocks.scales).all()


def test_the_largest_weight_of_a_group_is_kept_whichever_its_sign() -> None:
    for values in (np.array([[-3.0, 1.0, 2.0]]), np.array([[3.0, 1.0, -2.0]])):
        scale = scales_of(values, 4)
        assert -8 * scale[0] == pytest.approx(values[0, 0])
    assert scales_of(np.zeros((2, 3)), 4).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("form", ["matmul", "gemm", "transposed"])
@pytest.mark.parametrize("width", [96, 200])
@pytest.mark.parametrize("made", [GroupInt4, GroupInt8])
def test_the_runtime_multiplies_with_the_codes_that_are_stored(
    tmp_path: Path, made: type[GroupInt4], form: str, width: int
) -> None:
    weights = RNG.normal(size=(width, 64)).astype(np.float32)
    full = save(form, weights, tmp_path / "full.onnx")
    small = made()(full, to=tmp_path / "small.onnx", calibration=[])
    rows = RNG.normal(size=(7, width)).astype(np.float32)
    blocks = to_blocks(weights, made.bits)
    expected = rows @ blocks.values + np.linspace(-1, 1, 64, dtype=np.float32)
    # Activations are rounded to eight bits by group: at most half a step each.
    steps = np.abs(rows).max(axis=1, keepdims=True) / 127
    allowed = 0.5 * steps * np.abs(blocks.values).sum(axis=0) + 1e-4
    assert (np.abs(run(small, rows) - expected) <= allowed).all()
    constants = onnx.load(small).graph.initializer
    assert sum(numpy_helper.to_array(t).nbytes for t in constants) == blocks.size_bytes + 4 * 64
    assert small.stat().st_size <= blocks.size_bytes + 1_500


def test_a_matrix_that_two_products_share_is_stored_once(tmp_path: Path) -> None:
    weights = RNG.normal(size=(96, 96)).astype(np.float32)
    model = onnx.load(save("matmul", weights, tmp_path / "full.onnx"))
    model.graph.node[1].input[0] = "q"
    model.graph.node.insert(1, helper.make_node("MatMul", ["p", "w"], ["q"]))
    onnx.save(model, tmp_path / "twice.onnx")
    rows = RNG.normal(size=(40, 96)).astype(np.float32)
    for made in (GroupInt8(), AwqInt4(), GptqInt4()):
        small = made(tmp_path / "twice.onnx", to=tmp_path / "small.onnx", calibration=texts(rows))
        assert small.stat().st_size < 0.5 * weights.nbytes
        full = run(tmp_path / "twice.onnx", rows)
        share = np.linalg.norm(run(small, rows) - full) / np.linalg.norm(full)
        assert share < 0.25


@pytest.mark.parametrize("at_once", [3, 4096])
def test_what_a_matrix_meets_is_what_was_put_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("edgedistill.compress.products._ROWS_AT_ONCE", at_once)
    weights, rows = RNG.normal(size=(96, 64)).astype(np.float32), skewed(50, 96)
    model, matrices = opened(save("matmul", weights, tmp_path / "full.onnx"))
    graph = helper.make_node("Relu", ["x"], ["positive"])
    model.graph.node.insert(0, graph)
    model.graph.node[1].input[0] = "positive"
    matrices = factors(model.graph)
    seen = seen_inputs(model, matrices, texts(rows))["w"]
    met = np.maximum(rows, 0).astype(np.float64)
    np.testing.assert_allclose(seen.gram, met.T @ met, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(seen.mean_abs, np.abs(met).mean(axis=0), rtol=1e-6)
    assert seen.num_rows == 50
    wrong = RNG.normal(size=weights.shape)
    np.testing.assert_allclose(
        seen.output_error(wrong), ((met @ wrong) ** 2).mean(axis=0), rtol=1e-4
    )


def output_error(rows: np.ndarray, found: np.ndarray, values: np.ndarray) -> float:
    return float(((rows.astype(np.float64) @ (found - values)) ** 2).sum())


def test_awq_takes_the_best_power_there_is() -> None:
    values, rows = RNG.normal(size=(32, 12)).astype(np.float32), skewed(200, 32)
    seen = seen_of(rows)
    scales, blocks = searched(values, seen)
    found = output_error(rows, blocks.values / scales[:, None], values)
    every = []
    for power in np.arange(0, 1, 0.05):
        s = seen.mean_abs**power
        s = (s / np.sqrt(s.max() * s.min())).astype(np.float32)
        rounded = to_blocks(values * s[:, None], 4).values / s[:, None]
        every.append((output_error(rows, rounded, values), s))
    least, best = min(every, key=lambda tried: tried[0])
    np.testing.assert_allclose(scales, best, rtol=1e-6)
    by_hand = clipped_by_hand(rows / best, values * best[:, None]) / best[:, None]
    assert found == pytest.approx(output_error(rows, by_hand, values), rel=2e-3)
    assert found < 0.95 * least < 0.9 * every[0][0]


def test_awq_comes_near_the_best_of_all_scales() -> None:
    """On layers so small that every choice of scales, in steps of √2, can be tried."""
    gained = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=(4, 6)).astype(np.float32)
        rows = rng.normal(size=(100, 4)).astype(np.float32) * [1, 20, 1, 4]
        seen = seen_of(rows)

        def error(scales: np.ndarray, values: np.ndarray = values, seen: Seen = seen) -> float:
            found = to_blocks(values * scales[:, None], 4).values / scales[:, None]
            return float(seen.output_error(found - values).sum())

        # What all inputs are scaled by changes nothing: the first one's scale is 1.
        tried = itertools.product(2.0 ** np.arange(-2, 5, 0.5), repeat=3)
        best = min(error(np.array([1.0, *s], np.float32)) for s in tried)
        found, plain = error(searched(values, seen)[0]), error(np.ones(4, np.float32))
        assert found <= plain
        gained.append((plain - found) / (plain - best))
    # Of what the best scales gain on plain rounding, most.
    assert np.mean(gained) >= 0.6


def test_scales_of_inputs_that_are_never_there_stay_finite() -> None:
    means = np.array([0.0, 1e-30, 2.0, 0.5])
    for power in (0.0, 0.5, 0.95):
        assert np.isfinite(scales_at(means, power)).all()
        assert (scales_at(means, power) > 0).all()
    assert scales_at(np.zeros(3), 0.5).tolist() == [1.0, 1.0, 1.0]


def naive_gptq(values: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Column after column, with the inverse over those that are left worked out anew each time."""
    width = len(values)
    hessian = gram + 0.01 * np.trace(gram) / width * np.eye(width)
    weights, size = values.astype(np.float64).copy(), group_size(width)
    for i in range(width):
        if i % size == 0:
            scales = scales_of(weights[i : i + size].T, 4).astype(np.float64)
        left = np.linalg.inv(hessian[i:, i:])
        rounded = np.clip(np.rint(weights[i] / scales), -8, 7) * scales
        wrong = (weights[i] - rounded) / left[0, 0]
        weights[i:] -= np.outer(left[:, 0], wrong)
        weights[i] = rounded
    return weights


@pytest.mark.parametrize("width", [12, 150])
def test_gptq_equals_the_naive_way(width: int) -> None:
    values, rows = RNG.normal(size=(width, 6)).astype(np.float32), skewed(4 * width, width)
    seen = seen_of(rows)
    found = spread_errors(values, seen.gram, 4).values
    np.testing.assert_allclose(found, naive_gptq(values, seen.gram), rtol=1e-4, atol=1e-4)


def test_gptq_is_never_worse_than_rounding_and_better_where_inputs_depend_on_each_other() -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(300, 40)) @ rng.normal(size=(40, 40))
        rows[:, 3] = 0.0
        values = rng.normal(size=(40, 10)).astype(np.float32)
        seen = seen_of(rows)
        plain = seen.output_error(to_blocks(values, 4).values - values)
        ours = seen.output_error(compensated(values, seen).values - values)
        assert (ours <= plain * (1 + 1e-9)).all()
        assert ours.sum() < 0.7 * plain.sum()


def test_gptq_keeps_plain_rounding_where_that_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    values, seen = RNG.normal(size=(16, 4)).astype(np.float32), seen_of(skewed(64, 16))
    spread = spread_errors(values, seen.gram, 4)
    spoilt = Blocks(spread.codes.copy(), spread.scales.copy(), 4, 16)
    spoilt.codes[2] = 0
    monkeypatch.setattr("edgedistill.compress.gptq.spread_errors", lambda *_: spoilt)
    found = compensated(values, seen)
    assert np.array_equal(found.codes[2], to_blocks(values, 4).codes[2])
    assert np.array_equal(found.codes[1], spread.codes[1])


def test_tied_weights_are_refused_in_words(tmp_path: Path) -> None:
    table = RNG.normal(size=(96, 96)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["w", "ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "tied", [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 96])],
        [numpy_helper.from_array(table, "w")],
    )  # fmt: skip
    with pytest.raises(CannotApply, match="tied weights"):
        factors(graph)
