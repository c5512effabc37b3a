"""Matrices in IEEE half precision on the disk, widened once when the model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx

from edgedistill.compress.expansion import take_out, with_matrices
from edgedistill.compress.symmetric import in_half


class Float16Weights:
    """Half the bytes, eleven bits of each weight; values beyond half precision's range are cut."""

    needs_calibration: ClassVar[bool] = False

    def __call__(
        self, artefact: Path, *, to: Path, calibration: Sequence[Mapping[str, np.ndarray]]
    ) -> Path:
        model, matrices = with_matrices(artefact)
        for matrix in matrices:
            values, make = take_out(model.graph, matrix)
            make.add("Cast", [make.keep("half", in_half(values))], to=onnx.TensorProto.FLOAT)
            make.insert(0, matrix.name)
        onnx.save(model, to)
        return to
