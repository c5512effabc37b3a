"""INT8 matrix products through ONNX Runtime's quantiser: dynamic or static activations."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
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

from edgedistill.compress.refusal import nothing_to_take, require_calibration

#: What is quantised with fixed ranges.
STATIC = ("MatMul", "Gemm", "Conv")
# Asked for by the quantiser where shape inference found no type (dynamo exports).
OPTIONS: dict[str, Any] = {"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True}
#: Histograms are merged text by text: the quantiser stacks what it sees at a time, and texts differ
#: in length. The option is named after min-max and read for every method.
TEXT_BY_TEXT: dict[str, Any] = {"CalibStridedMinMax": 1}
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
        _require_products(artefact, ("MatMul",))
        quantize_dynamic(
            artefact, to, op_types_to_quantize=["MatMul"], per_channel=True,
            weight_type=QuantType.QInt8, extra_options=OPTIONS,
        )  # fmt: skip
        return to


class StaticInt8:
    """INT8 weights a channel; activation ranges are fixed from calibration texts: their least and
    largest values (min-max).

    Answers do not depend on batch-mates.
    """

    needs_calibration: ClassVar[bool] = True
    method: ClassVar[Any] = CalibrationMethod.MinMax
    options: ClassVar[dict[str, Any]] = OPTIONS

    def __call__(
        self, artefact: Path, *, to: Path, calibration: Sequence[Mapping[str, np.ndarray]]
    ) -> Path:
        require_calibration(calibration, "ranges of activations")
        _require_products(artefact, STATIC)
        with redirect_stdout(StringIO()):  # the calibrators print what they are at
            quantize_static(
                artefact, to, _Reader(calibration), quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(STATIC), per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=self.method, extra_options=self.options,
            )  # fmt: skip
        return to


class StaticInt8Entropy(StaticInt8):
    """Ranges whose INT8 histogram is nearest to the activations' own (least divergence): far
    values are cut where that keeps more of the others."""

    method: ClassVar[Any] = CalibrationMethod.Entropy
    options: ClassVar[dict[str, Any]] = OPTIONS | TEXT_BY_TEXT


class StaticInt8Percentile(StaticInt8):
    """Ranges that hold 99.999 % of the calibration texts' values; what lies beyond is cut."""

    method: ClassVar[Any] = CalibrationMethod.Percentile
    options: ClassVar[dict[str, Any]] = OPTIONS | TEXT_BY_TEXT


def _require_products(artefact: Path, kinds: Sequence[str]) -> None:
    """Raise CannotApply where no operator of these kinds has constant FP32 weights."""
    graph = onnx.load(artefact).graph
    full = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    if not any(
        node.op_type in kinds and len(node.input) > 1 and node.input[1] in full
        for node in graph.node
    ):
        raise nothing_to_take(graph, "operators with constant weights")


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands calibration inputs to the quantiser, one run at a time."""

    def __init__(self, inputs: Sequence[Mapping[str, np.ndarray]]) -> None:
        self._inputs = inputs
        self.set_range(0, len(inputs))

    def __len__(self) -> int:
        return len(self._inputs)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Hand out these only."""
        self._left: Iterator[Mapping[str, np.ndarray]] = iter(self._inputs[start_index:end_index])

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        return next(self._left, None)
