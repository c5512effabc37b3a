"""The catalogue of student families."""

from __future__ import annotations

from edgedistill.core.catalogue import Catalogue

FAMILIES = Catalogue(
    "student family",
    {
        "truncated": "edgedistill.models.students.truncated:FAMILY",
        "compressed": "edgedistill.models.students.compressed:FAMILY",
        "small_transformer": "edgedistill.models.students.small_transformer:FAMILY",
        "static": "edgedistill.models.students.static:FAMILY",
        "linear": "edgedistill.models.students.linear:FAMILY",
    },
)
