"""Matrices in sixteen bits on the disk, widened once when the model is loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx

from edgedistill.compress.expansion import take_out, with_matrices
from edgedistill.compress.symmetric import in_bfloat, in_half


class _SixteenBits(ABC):
    """Stores matrices narrow and widens them by an operator that plain ONNX has."""

    needs_calibration: ClassVar[bool] = False

    def __call__(
        self, artefact: Path, *, to: Path, calibration: Sequence[Mapping[str, np.ndarray]]
    ) -> Path:
        model, matrices = with_matrices(artefact)
        for matrix in matrices:
            values, make = take_out(model.graph, matrix)
            make.add("Cast", [make.keep("half", self._narrow(values))], to=onnx.TensorProto.FLOAT)
            make.insert(0, matrix.name)
        onnx.save(model, to)
        return to

    @abstractmethod
    def _narrow(self, values: np.ndarray) -> np.ndarray:
        """The values in sixteen bits."""


class Float16Weights(_SixteenBits):
    """IEEE half precision: eleven bits of each weight; what is beyond its range is cut."""

    def _narrow(self, values: np.ndarray) -> np.ndarray:
        return in_half(values)


class Bfloat16Weights(_SixteenBits):
    """bfloat16: eight bits of each weight and FP32's range; what was trained in it stays exact."""

    def _narrow(self, values: np.ndarray) -> np.ndarray:
        return in_bfloat(values)
