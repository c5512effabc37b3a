"""INT8 matrix products through ONNX Runtime's quantiser: dynamic or static activations."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

# Asked for by the quantiser where shape inference found no type (dynamo exports).
OPTIONS: dict[str, Any] = {"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True}
onnxruntime.set_default_logger_severity(3)  # unused initializers of its own making
logging.getLogger("root").addFilter(lambda record: "pre-processing" not in record.getMessage())


class DynamicInt8:
    """INT8 weights a channel; activations get their scale from each batch as it runs.

    The scale spans the whole batch, so answers can depend on batch-mates: the runtime gives
    such a model one text at a time.
    """

    needs_calibration: ClassVar[bool] = False

    def __call__(
        self, artefact: Path, *, to: Path, calibration: Sequence[Mapping[str, np.ndarray]]
    ) -> Path:
        quantize_dynamic(
            artefact, to, op_types_to_quantize=["MatMul"], per_channel=True,
            weight_type=QuantType.QInt8, extra_options=OPTIONS,
        )  # fmt: skip
        return to


class StaticInt8:
    """INT8 weights a channel; activation ranges are fixed from calibration texts (min-max).

    Answers do not depend on batch-mates.
    """

    needs_calibration: ClassVar[bool] = True

    def __call__(
        self, artefact: Path, *, to: Path, calibration: Sequence[Mapping[str, np.ndarray]]
    ) -> Path:
        if not calibration:
            raise ValueError("static INT8 needs calibration inputs")
        quantize_static(
            artefact, to, _Reader(calibration), quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm", "Conv"], per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax, extra_options=OPTIONS,
        )  # fmt: skip
        return to


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands calibration inputs to the quantiser, one run at a time."""

    def __init__(self, inputs: Sequence[Mapping[str, np.ndarray]]) -> None:
        self._inputs: Iterator[Mapping[str, np.ndarray]] = iter(inputs)

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        return next(self._inputs, None)
