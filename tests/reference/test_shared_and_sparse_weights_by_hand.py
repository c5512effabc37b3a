"""Palettes, INT4 tables and left-out weights: what the runtime makes of them is what was stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgedistill.compress.half import Bfloat16Weights, Float16Weights
from edgedistill.compress.palette import (
    Palette16,
    Palette256,
    nearest,
    packed,
    palette_bytes,
    palette_of,
    stored_bytes,
)
from edgedistill.compress.sparse import SparseHalf, SparseTwoOfFour, larger_half, two_of_four
from edgedistill.compress.symmetric import in_bfloat, quantise
from edgedistill.compress.tables import Int4Tables, Int8Tables
from edgedistill.core.errors import CannotApply
from edgedistill.runtime.session import session_options

RNG = np.random.default_rng(3)


def save(kind: str, weights: np.ndarray, path: Path) -> Path:
    """y = x · W (Gemm: x · Wᵀ) of `x` [n, in], or the rows of W that `x` [n, m] names."""
    is_table = kind == "Gather"
    turned = {"transB": 1} if kind == "Gemm" else {}
    node = helper.make_node(kind, ["w", "x"] if is_table else ["x", "w"], ["y"], **turned)
    given = (TensorProto.INT64, ["n", "m"]) if is_table else (TensorProto.FLOAT, ["n", "k"])
    graph = helper.make_graph(
        [node], "test", [helper.make_tensor_value_info("x", *given)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path


def read_back(file: Path, kind: str, num_rows: int) -> np.ndarray:
    """The matrix as the runtime sees it."""
    session = onnxruntime.InferenceSession(file.read_bytes(), session_options(1))
    if kind == "Gather":
        return np.asarray(session.run(None, {"x": np.arange(num_rows)[None]})[0][0])
    return np.asarray(session.run(None, {"x": np.eye(num_rows, dtype=np.float32)})[0])


def brute_force_colours(values: np.ndarray, num: int) -> float:
    """Least squared error of any `num` colours: the best cuts of the sorted values."""
    ordered = np.sort(values)
    cost = np.full((num + 1, len(ordered) + 1), np.inf)
    cost[0, 0] = 0.0
    for stop in range(1, len(ordered) + 1):
        for start in range(stop):
            own = ordered[start:stop]
            spread = float(((own - own.mean()) ** 2).sum())
            for k in range(1, num + 1):
                cost[k, stop] = min(cost[k, stop], cost[k - 1, start] + spread)
    return float(cost[num, len(ordered)])


def test_a_palette_is_nearly_the_best_there_is() -> None:
    for seed in range(4):
        values = np.random.default_rng(seed).standard_t(4, 60)
        colours = palette_of(values, 6).astype(np.float64)
        found = float(((values - colours[nearest(values, colours)]) ** 2).sum())
        assert found <= 1.35 * brute_force_colours(values, 6)
        # No value has a nearer colour than its own.
        assert np.array_equal(
            colours[nearest(values, colours)],
            colours[np.abs(values[:, None] - colours).argmin(axis=1)],
        )


@pytest.mark.parametrize("num", [16, 256])
def test_fewer_values_than_colours_are_kept_exactly(num: int) -> None:
    values = np.tile(np.array([-2.5, 0.0, 0.125, 7.0], np.float32), (3, 50))
    colours = palette_of(values, num)
    assert colours.shape == (num,)
    assert np.array_equal(colours[nearest(values, colours)], values)


def test_even_steps_are_no_better_than_colours() -> None:
    values = RNG.standard_t(3, (200, 64)).astype(np.float32)
    colours = palette_of(values, 16)
    even = np.linspace(values.min(), values.max(), 16)
    wrong = [float(((values - c[nearest(values, c)]) ** 2).mean()) for c in (colours, even)]
    assert wrong[0] < 0.2 * wrong[1]


@pytest.mark.parametrize("width", [64, 65])
@pytest.mark.parametrize("kind", ["Gather", "MatMul"])
@pytest.mark.parametrize("made", [Palette16, Palette256])
def test_a_palette_reads_back_exactly_and_takes_the_bytes_computed(
    tmp_path: Path, made: type[Palette16], kind: str, width: int
) -> None:
    weights = RNG.standard_t(4, (100, width)).astype(np.float32)
    full = save(kind, weights, tmp_path / "full.onnx")
    small = made()(full, to=tmp_path / "small.onnx", calibration=[])
    colours = palette_of(weights, made.num_colours)
    expected = colours[nearest(weights, colours)]
    np.testing.assert_allclose(read_back(small, kind, 100), expected, rtol=1e-6)
    computed = palette_bytes((100, width), made.num_colours)
    assert (
        computed == {16: 100 * ((width + 1) // 2) + 64, 256: 100 * width + 1024}[made.num_colours]
    )
    # Two bytes to part the nibbles, 24 to cut an odd row.
    assert 0 <= stored_bytes(small) - computed <= 26
    assert small.stat().st_size <= computed + 1_200


def test_two_indices_share_a_byte() -> None:
    indices = RNG.integers(0, 16, (5, 7)).astype(np.uint8)
    found = packed(indices)
    assert found.shape == (5, 4)
    both = np.concatenate([found & 15, found >> 4], axis=1)[:, :7]
    assert np.array_equal(both, indices)


@pytest.mark.parametrize("width", [64, 70])
def test_int4_tables_read_back_within_a_step_of_their_group(tmp_path: Path, width: int) -> None:
    table = (RNG.normal(size=(100, width)) * np.logspace(-4, 2, 100)[:, None]).astype(np.float32)
    table[5], table[6, 3] = 0.0, 1e9
    full = save("Gather", table, tmp_path / "full.onnx")
    small = Int4Tables()(full, to=tmp_path / "small.onnx", calibration=[])
    found = read_back(small, "Gather", 100)
    padded = np.pad(np.clip(table, -65504, 65504), ((0, 0), (0, -width % 32)))
    step = np.abs(padded).reshape(100, -1, 32).max(-1) / 8
    step = np.repeat(step, 32, axis=1)[:, :width]
    wrong = np.abs(found - np.clip(table, -65504, 65504))
    # FP16 rounds scale and product: two parts in 2048 of up to eight steps.
    assert (wrong <= step * 1.02 + 1e-6).all()
    assert (found[5] == 0).all()
    assert np.isfinite(found).all()
    assert small.stat().st_size < 0.2 * full.stat().st_size + 1000


def test_tables_too_narrow_for_groups_of_int4_are_refused(tmp_path: Path) -> None:
    for width, pays in ((5, False), (14, False), (15, True), (32, True), (40, True)):
        table = RNG.normal(size=(2000, width)).astype(np.float32)
        full = save("Gather", table, tmp_path / "full.onnx")
        if not pays:
            with pytest.raises(CannotApply, match="wide enough for INT4"):
                Int4Tables()(full, to=tmp_path / "small.onnx", calibration=[])
            continue
        small = Int4Tables()(full, to=tmp_path / "small.onnx", calibration=[])
        in_int8 = Int8Tables()(full, to=tmp_path / "int8.onnx", calibration=[])
        assert stored_bytes(small) < stored_bytes(in_int8) + 40


def test_float16_matrices_read_back_to_eleven_bits(tmp_path: Path) -> None:
    weights = RNG.normal(size=(100, 64)).astype(np.float32)
    weights[0, 0] = 1e30
    full = save("MatMul", weights, tmp_path / "full.onnx")
    small = Float16Weights()(full, to=tmp_path / "small.onnx", calibration=[])
    expected = np.clip(weights, -65504, 65504)
    np.testing.assert_allclose(read_back(small, "MatMul", 100), expected, rtol=2**-11, atol=1e-7)
    assert small.stat().st_size < 0.55 * full.stat().st_size


def float_of(bits: list[int]) -> np.ndarray:
    return np.array(bits, np.uint32).view(np.float32)


def torch_bfloat(values: np.ndarray) -> np.ndarray:
    """torch's own rounding to bfloat16, widened again."""
    return np.asarray(torch.from_numpy(values.copy()).to(torch.bfloat16).float())


def test_bfloat16_rounds_as_torch_does() -> None:
    edges = float_of([
        0, 1 << 31, 1, 0x7FFF, 0x8000, 0x8001, 0x18000, 0x7F8000,  # zeros, denormals, their ties
        0x3F808000, 0x3F818000, 0x3F808001, 0xBF807FFF,  # ties to even, up and down; beside ties
        0x7F7F7FFF, 0x7F7F8000, 0x7F7FFFFF, 0xFF7FFFFF,  # the largest that stays finite, and beyond
        0x7F800000, 0xFF800000,
    ])  # fmt: skip
    any_finite = RNG.integers(0, 0x7F800000, 200_000).astype(np.uint32).view(np.float32)
    values = np.concatenate([edges, any_finite, -any_finite, [np.float32(np.nan)]])
    found = in_bfloat(values).astype(np.float32)
    expected = torch_bfloat(values)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found[:-1]), np.signbit(expected[:-1]))
    assert found[:8].tolist() == float_of(
        [0, 1 << 31, 0, 0, 0, 0x10000, 0x20000, 0x800000]
    ).tolist()  # fmt: skip
    assert found[12] < np.inf
    assert np.isposinf(found[13])


def test_bfloat16_matrices_read_back_as_torch_rounds_them(tmp_path: Path) -> None:
    weights = RNG.normal(size=(100, 64)).astype(np.float32)
    weights[0, :3] = [1e30, 1e-30, -1e-40]
    full = save("MatMul", weights, tmp_path / "full.onnx")
    small = Bfloat16Weights()(full, to=tmp_path / "small.onnx", calibration=[])
    rounded = torch_bfloat(weights)
    np.testing.assert_array_equal(read_back(small, "MatMul", 100), rounded)
    assert stored_bytes(small) == weights.size * 2
    assert not np.array_equal(rounded, weights)
    again = save("MatMul", rounded, tmp_path / "full.onnx")
    kept = Bfloat16Weights()(again, to=tmp_path / "small.onnx", calibration=[])
    np.testing.assert_array_equal(read_back(kept, "MatMul", 100), rounded)


@pytest.mark.parametrize("width", [64, 65, 67])
@pytest.mark.parametrize("kind", ["MatMul", "Gemm"])
@pytest.mark.parametrize("made", [SparseHalf, SparseTwoOfFour])
def test_half_of_the_weights_is_left_out_and_the_file_is_smaller_for_it(
    tmp_path: Path, made: type[SparseHalf], kind: str, width: int
) -> None:
    weights = RNG.normal(size=(101, width)).astype(np.float32)
    full = save(kind, weights, tmp_path / "full.onnx")
    small = made()(full, to=tmp_path / "small.onnx", calibration=[])
    outputs = weights if kind == "Gemm" else weights.T
    codes, scale = quantise(outputs, axis=1)
    found = read_back(small, "MatMul", outputs.shape[1]).T
    kept = found != 0
    np.testing.assert_allclose(found[kept], (codes * scale)[kept], rtol=1e-6)
    # Of what stays, steps of INT8 around zero are zero, too.
    assert kept.mean() == pytest.approx(0.5, abs=0.01)
    if made is SparseHalf:
        assert np.abs(outputs[~kept & (codes != 0)]).max() <= np.abs(outputs[kept]).min()
    else:
        runs = np.pad(kept.ravel(), (0, -kept.size % 4)).reshape(-1, 4)
        assert (runs.sum(axis=1) <= 2).all()
    dense_int8 = codes.nbytes + scale.nbytes
    assert stored_bytes(small) < 0.68 * dense_int8 + 200
    assert small.stat().st_size < 0.25 * full.stat().st_size + 1_500


@pytest.mark.parametrize("kind", ["MatMul", "Gemm"])
@pytest.mark.parametrize("made", [SparseHalf, SparseTwoOfFour])
def test_what_is_zero_in_a_matrix_of_the_pattern_is_what_is_left_out(
    tmp_path: Path, made: type[SparseHalf], kind: str
) -> None:
    outputs = RNG.normal(size=(70, 66)).astype(np.float32)
    outputs[::3] *= 1e-4  # rows of small weights lose no more than others
    keeps = np.tile([True, False, False, True], 70 * 66 // 4).reshape(outputs.shape)
    outputs[~keeps] = 0.0
    outputs[0, 3] = 1e-9  # nearly nothing, and of equal size to none: it stays in its place
    full = save(kind, outputs if kind == "Gemm" else outputs.T, tmp_path / "full.onnx")
    small = made()(full, to=tmp_path / "small.onnx", calibration=[])
    codes, scale = quantise(outputs, axis=1)
    found = read_back(small, "MatMul", outputs.shape[1]).T
    np.testing.assert_allclose(found, codes * scale, rtol=1e-6)
    mask = larger_half(outputs)
    assert np.array_equal(mask, keeps)
    first = two_of_four(outputs)
    assert (first == [0, 3]).all()


def test_of_equal_weights_those_in_front_stay() -> None:
    values = np.array([[3, -3, 0, 0], [3, 3, 3, -128]], np.float32)
    assert larger_half(values).sum() == 4
    assert larger_half(values)[1, 3]
    assert two_of_four(values).tolist() == [[0, 1], [0, 3]]
    # Rows of three: runs go on into the next, and the last is short.
    narrow = np.array([[1, 2, 3], [4, 0, 0], [0, 0, 5]], np.float32)
    assert two_of_four(narrow).tolist() == [[2, 3], [0, 1], [0, 1]]


def test_a_matrix_whose_scales_outweigh_its_zeros_is_refused(tmp_path: Path) -> None:
    weights = RNG.normal(size=(4, 2000)).astype(np.float32)
    full = save("MatMul", weights, tmp_path / "full.onnx")
    with pytest.raises(CannotApply, match="too narrow"):
        SparseHalf()(full, to=tmp_path / "small.onnx", calibration=[])
