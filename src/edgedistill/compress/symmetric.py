"""Symmetric INT8 and sixteen bits: the arithmetic that the passes share."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from edgedistill.core.weight_groups import is_large

_BFLOAT16 = helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)


def is_large_matrix(tensor: onnx.TensorProto) -> bool:
    """A matrix in FP32 of at least MIN_BYTES."""
    is_matrix = len(tensor.dims) == 2 and tensor.data_type == onnx.TensorProto.FLOAT
    return is_matrix and is_large(*tensor.dims)


def quantise(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """(int8, scale) with values ≈ scale · int8 to within half a scale.

    Args:
        values: float32 matrix.
        axis: the axis that one scale spans; scale = max|values| / 127 along it, kept as 1.

    Returns:
        int8 of the shape of `values`, float32 scale; a vector of zeros has the scale 1.
    """
    scale = np.abs(values).max(axis=axis, keepdims=True) / 127.0
    scale = np.where(scale == 0, 1.0, scale).astype(np.float32)
    return np.clip(np.rint(values / scale), -127, 127).astype(np.int8), scale


def in_half(values: np.ndarray) -> np.ndarray:
    """Half precision; what is beyond its range is cut to it."""
    limit = np.finfo(np.float16).max
    return np.asarray(np.clip(values, -limit, limit), np.float16)


def in_bfloat(values: np.ndarray) -> np.ndarray:
    """bfloat16, the nearest one, of two equally near the even one; NaN and infinities stay, and
    the few floats nearer to 2^128 than to its largest become infinite, as the format has it."""
    return np.asarray(values.astype(_BFLOAT16))
