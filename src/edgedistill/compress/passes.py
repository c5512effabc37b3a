"""The catalogue of compression passes, and the sequences of them that are tried."""

from __future__ import annotations

from edgedistill.core.catalogue import Catalogue

PASSES = Catalogue(
    "compression pass",
    {
        "float16_tables": "edgedistill.compress.tables:Float16Tables",
        "int8_tables": "edgedistill.compress.tables:Int8Tables",
        "int4_tables": "edgedistill.compress.tables:Int4Tables",
        "dynamic_int8": "edgedistill.compress.int8:DynamicInt8",
        "static_int8": "edgedistill.compress.int8:StaticInt8",
        "static_int8_entropy": "edgedistill.compress.int8:StaticInt8Entropy",
        "static_int8_percentile": "edgedistill.compress.int8:StaticInt8Percentile",
        "group_int8": "edgedistill.compress.groups:GroupInt8",
        "group_int4": "edgedistill.compress.groups:GroupInt4",
        "awq_int4": "edgedistill.compress.awq:AwqInt4",
        "gptq_int4": "edgedistill.compress.gptq:GptqInt4",
        "mixed_int4_int8": "edgedistill.compress.mixed:MixedInt4Int8",
        "weight_int8": "edgedistill.compress.weights:WeightInt8",
        "float16_weights": "edgedistill.compress.half:Float16Weights",
        "bfloat16_weights": "edgedistill.compress.half:Bfloat16Weights",
        "sparse_half": "edgedistill.compress.sparse:SparseHalf",
        "sparse_two_of_four": "edgedistill.compress.sparse:SparseTwoOfFour",
        "palette_16": "edgedistill.compress.palette:Palette16",
        "palette_256": "edgedistill.compress.palette:Palette256",
    },
)

#: What rounds activations by scales of its own making, anew in every call. Batch-mates change the
#: scale, or the order in which a product is summed, and that tips a rounding further on: logits
#: moved by up to 0.03 on CLINC150. A file under these runs one text a call.
ROUND_AS_THEY_RUN = frozenset({
    "dynamic_int8", "group_int8", "group_int4", "awq_int4", "gptq_int4", "mixed_int4_int8",
})  # fmt: skip

#: Mildest first; each starts from the full-precision export.
SEQUENCES: tuple[tuple[str, ...], ...] = (
    (),
    ("float16_tables",),
    ("int8_tables",),
    ("int8_tables", "weight_int8"),
    ("int4_tables", "weight_int8"),
    ("int4_tables", "group_int4", "weight_int8"),
    ("int8_tables", "static_int8", "weight_int8"),
    ("int8_tables", "dynamic_int8", "weight_int8"),
)
