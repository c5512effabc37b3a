"""Types of weights that a language model can ship in."""

from __future__ import annotations

from typing import Literal, get_args

WeightType = Literal[
    "f32", "f16", "q8_0_f16", "q8_0", "q6_k", "q5_1", "q5_k", "q5_0", "q4_1", "q4_k", "q4_0",
    "onnx_f32", "onnx_int8", "onnx_int4", "onnx_awq_int4", "onnx_gptq_int4",
]  # fmt: skip

ONNX_TYPES: tuple[str, ...] = tuple(k for k in get_args(WeightType) if k.startswith("onnx_"))
#: Those with the products of the layers in four bits by group.
FOUR_BITS = ("onnx_int4", "onnx_awq_int4", "onnx_gptq_int4")
#: Those of them that are fitted to training rows.
FITTED = FOUR_BITS[1:]
#: A protobuf message holds no more; weights beside the file would not be covered by its digest.
MOST_ONNX_BYTES = 2**31 - 2**20
