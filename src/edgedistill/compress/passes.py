"""The catalogue of compression passes, and the sequences of them that are tried."""

from __future__ import annotations

from edgedistill.core.catalogue import Catalogue

PASSES = Catalogue(
    "compression pass",
    {
        "float16_tables": "edgedistill.compress.tables:Float16Tables",
        "int8_tables": "edgedistill.compress.tables:Int8Tables",
        "dynamic_int8": "edgedistill.compress.int8:DynamicInt8",
        "static_int8": "edgedistill.compress.int8:StaticInt8",
        "weight_int8": "edgedistill.compress.weights:WeightInt8",
    },
)

#: Mildest first; each starts from the full-precision export.
SEQUENCES: tuple[tuple[str, ...], ...] = (
    (),
    ("float16_tables",),
    ("int8_tables",),
    ("int8_tables", "weight_int8"),
    ("int8_tables", "static_int8", "weight_int8"),
    ("int8_tables", "dynamic_int8", "weight_int8"),
)
