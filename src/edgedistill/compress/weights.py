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

from edgedistill.compress.expansion import spanned_axis, take_out, with_matrices
from edgedistill.compress.symmetric import quantise


class WeightInt8:
    """Symmetric INT8 for every FP32 matrix but look-up tables, which widen row by row.

    A factor of a MatMul or Gemm has a scale an output channel, any other (positions) one a row.
    """

    needs_calibration: ClassVar[bool] = False

    def __call__(
        self, artefact: Path, *, to: Path, calibration: Sequence[Mapping[str, np.ndarray]]
    ) -> Path:
        model, matrices = with_matrices(artefact)
        for matrix in matrices:
            axis = spanned_axis(model.graph, matrix.name)
            values, make = take_out(model.graph, matrix)
            small, scale = quantise(values, axis)
            wide = make.add("Cast", [make.keep("int8", small)], to=onnx.TensorProto.FLOAT)
            make.add("Mul", [wide, make.keep("scale", scale)])
            make.insert(0, matrix.name)
        onnx.save(model, to)
        return to
