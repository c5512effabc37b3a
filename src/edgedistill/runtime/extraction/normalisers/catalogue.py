"""The catalogue of normalisers."""

from __future__ import annotations

from edgedistill.core.catalogue import Catalogue

NORMALISERS = Catalogue(
    "normaliser",
    {
        "text": "edgedistill.runtime.extraction.normalisers.text:Text",
        "number": "edgedistill.runtime.extraction.normalisers.number:Number",
        "money": "edgedistill.runtime.extraction.normalisers.money:Money",
        "date": "edgedistill.runtime.extraction.normalisers.date:Date",
        "enumeration": "edgedistill.runtime.extraction.normalisers.enumeration:Enumeration",
        "pattern": "edgedistill.runtime.extraction.normalisers.pattern:Pattern",
    },
)
