"""Small weights left out of the file: what is kept in INT8, and where it stood.

Zeros in a dense file save nothing. Here a matrix of which half is left out takes 5 bits a weight (8
for each that is kept, 1 for each to say whether it is), less than INT8's 8. The runtime fills the
zeros in when it loads the file: a call is not faster, for no product here skips zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx

from edgedistill.compress.expansion import Expansion, spanned_axis, take_out, with_matrices
from edgedistill.compress.symmetric import quantise
from edgedistill.core.errors import CannotApply
from edgedistill.core.weight_groups import KEPT_OF_RUN, RUN


class SparseHalf:
    """The smaller half of each matrix is left out, wherever it stands (Han et al. 2015)."""

    needs_calibration: ClassVar[bool] = False

    def __call__(
        self, artefact: Path, *, to: Path, calibration: Sequence[Mapping[str, np.ndarray]]
    ) -> Path:
        model, matrices = with_matrices(artefact)
        for matrix in matrices:
            axis = spanned_axis(model.graph, matrix.name)
            values, make = take_out(model.graph, matrix)
            small, scale = quantise(values, axis)
            if scale.nbytes + 5 * small.size // 8 >= small.size:
                raise CannotApply(
                    f"{matrix.name} is too narrow: kept weights, places and scales would take "
                    "more than all weights in INT8",
                    fix="take weight_int8",
                )
            # Neighbours are inputs of one output, whichever way round the matrix is stored.
            is_turned = axis == 0
            rows = (values.T, small.T) if is_turned else (values, small)
            flat = _cut(make, self._stored(make, *rows), values.size)
            _fill(make, flat, scale, rows[0].shape, is_turned=is_turned)
            make.insert(0, matrix.name)
        onnx.save(model, to)
        return to

    def _stored(self, make: Expansion, values: np.ndarray, small: np.ndarray) -> str:
        """Store what is kept of `small`, int8 [outputs, inputs] of float32 `values`; the value that
        has all again, flat."""
        mask = larger_half(values)
        # One bit a weight; what is kept stands in the order of the bits.
        bits = make.keep("bits", np.packbits(mask.ravel(), bitorder="little"))
        stays = make.keep("kept", small[mask])
        places = make.keep("places", np.arange(8, dtype=np.uint8)[None])
        column = make.add("Unsqueeze", [bits, make.keep("last", np.array([1], np.int64))])
        shifted = make.add("BitShift", [column, places], direction="RIGHT")
        is_kept = make.add("BitwiseAnd", [shifted, make.keep("one", np.uint8(1))])
        is_kept = make.add("Cast", [is_kept], to=onnx.TensorProto.INT32)
        flat = make.add("Reshape", [is_kept, make.keep("flat", np.array([-1], np.int64))])
        counted = make.add("CumSum", [flat, make.keep("axis", np.int64(0))])
        # The weight before the first that is kept reads place -1, the last: its bit is 0.
        index = make.add("Sub", [counted, make.keep("unit", np.int32(1))])
        found = make.add("Gather", [stays, index])
        found = make.add("Cast", [found], to=onnx.TensorProto.FLOAT)
        bits_wide = make.add("Cast", [flat], to=onnx.TensorProto.FLOAT)
        return make.add("Mul", [found, bits_wide])


class SparseTwoOfFour(SparseHalf):
    """Of every four neighbours in a row the two smaller are left out (2:4)."""

    def _stored(self, make: Expansion, values: np.ndarray, small: np.ndarray) -> str:
        places = two_of_four(values)
        runs = np.take_along_axis(_in_runs(small), places.astype(np.intp), axis=1)
        pairs = places[:, 0] | (places[:, 1] << np.uint8(2))
        pairs = np.pad(pairs, (0, len(pairs) % 2)).reshape(-1, 2)
        stored = make.keep("places", pairs[:, 0] | (pairs[:, 1] << np.uint8(4)))
        kept = make.keep("kept", runs)
        column = make.add("Unsqueeze", [stored, make.keep("last", np.array([1], np.int64))])
        shifts = make.keep("shifts", np.array([[0, 2, 4, 6]], np.uint8))
        shifted = make.add("BitShift", [column, shifts], direction="RIGHT")
        found = make.add("BitwiseAnd", [shifted, make.keep("three", np.uint8(3))])
        found = make.add("Cast", [found], to=onnx.TensorProto.INT32)
        found = make.add(
            "Reshape", [found, make.keep("pairs", np.array([-1, KEPT_OF_RUN, 1], np.int64))]
        )
        if len(runs) % 2:
            ends = (("first", 0), ("num", len(runs)), ("axis", 0))
            cut = [make.keep(part, np.array([at], np.int64)) for part, at in ends]
            found = make.add("Slice", [found, *cut])
        stands = make.add("Equal", [found, make.keep("run", np.arange(RUN, dtype=np.int32))])
        stands = make.add("Cast", [stands], to=onnx.TensorProto.FLOAT)
        wide = make.add("Cast", [kept], to=onnx.TensorProto.FLOAT)
        wide = make.add("Unsqueeze", [wide, make.keep("behind", np.array([2], np.int64))])
        spread = make.add("Mul", [stands, wide])
        summed = make.add(
            "ReduceSum", [spread, make.keep("pair", np.array([1], np.int64))], keepdims=0
        )
        return make.add("Reshape", [summed, make.keep("flat", np.array([-1], np.int64))])


def larger_half(values: np.ndarray) -> np.ndarray:
    """True where a weight is among the larger half of its matrix; ties go to those in front."""
    order = np.argsort(-np.abs(values.ravel()), kind="stable")
    mask = np.zeros(values.size, bool)
    mask[order[: values.size - values.size // 2]] = True
    return mask.reshape(values.shape)


def two_of_four(values: np.ndarray) -> np.ndarray:
    """Places of the two larger of every four, uint8 [runs, 2] ascending; ties go to those in front.

    Runs go along the rows; a row whose width is no multiple of four runs on into the next.
    """
    order = np.argsort(-np.abs(_in_runs(values)), axis=1, kind="stable")[:, :KEPT_OF_RUN]
    return np.sort(order, axis=1).astype(np.uint8)


def _in_runs(values: np.ndarray) -> np.ndarray:
    """[runs, 4], the last filled up with zeros."""
    flat = values.ravel()
    return np.pad(flat, (0, -len(flat) % RUN)).reshape(-1, RUN)


def _cut(make: Expansion, flat: str, num: int) -> str:
    """The first `num` of what was stored."""
    ends = (("first", 0), ("num", num), ("axis", 0))
    cut = [make.keep(f"cut/{part}", np.array([at], np.int64)) for part, at in ends]
    return make.add("Slice", [flat, *cut])


def _fill(
    make: Expansion, flat: str, scale: np.ndarray, shape: tuple[int, ...], *, is_turned: bool
) -> None:
    """Make the matrix of what is stored row by row, and multiply by its scales."""
    matrix = make.add("Reshape", [flat, make.keep("shape", np.array(shape, np.int64))])
    if is_turned:
        matrix = make.add("Transpose", [matrix])
    make.add("Mul", [matrix, make.keep("scale", scale)])
